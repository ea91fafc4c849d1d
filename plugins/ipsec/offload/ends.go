package offload

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// ends hears of network namespaces whose path is gone. What is open in one keeps it alive,
// with all hardware in it: it has to be closed as soon as nobody else is there.
type ends struct {
	gone func(path string) // may be called once too often

	mu      sync.Mutex
	inotify *os.File
	dirs    map[int32][]string // by number of the watch: a directory may have several names
	paths   map[string]int     // those asked for, with how often
	pidfds  map[string]*os.File
}

func newEnds(gone func(string)) *ends {
	return &ends{gone: gone, dirs: map[int32][]string{}, paths: map[string]int{}, pidfds: map[string]*os.File{}}
}

// ofProcess is a path that ends with a process.
var ofProcess = regexp.MustCompile(`^/proc/([0-9]+)/(?:task/[0-9]+/)?ns/net$`)

// await has gone called when the path is no more; once for all who asked.
func (e *ends) await(path string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.paths[path]++; e.paths[path] > 1 {
		return nil
	}
	var err error
	if m := ofProcess.FindStringSubmatch(path); m != nil {
		err = e.awaitProcess(path, m[1])
	} else {
		err = e.awaitRemoval(path)
	}
	if err != nil {
		delete(e.paths, path)
	}
	return err
}

func (e *ends) awaitProcess(path, number string) error {
	pid, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(pid, unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), path)
	raw, err := f.SyscallConn()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	e.pidfds[path] = f
	go func() {
		asked := false
		err := raw.Read(func(uintptr) bool { // it is readable when the process has ended
			again := asked
			asked = true
			return again
		})
		if err == nil {
			e.over(path)
		}
	}()
	return nil
}

func (e *ends) awaitRemoval(path string) error {
	if e.inotify == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return err
		}
		e.inotify = os.NewFile(uintptr(fd), "inotify")
		go e.read(e.inotify)
	}
	raw, err := e.inotify.SyscallConn()
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	var number int
	var addErr error
	err = raw.Control(func(fd uintptr) {
		number, addErr = unix.InotifyAddWatch(int(fd), dir, unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_DELETE_SELF)
	})
	if err = errors.Join(err, addErr); err == nil && !slices.Contains(e.dirs[int32(number)], dir) {
		e.dirs[int32(number)] = append(e.dirs[int32(number)], dir)
	}
	return err
}

// read goes through what inotify tells, until it is closed.
func (e *ends) read(f *os.File) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := f.Read(buffer)
		if err != nil {
			return
		}
		for b := buffer[:n]; len(b) >= unix.SizeofInotifyEvent; {
			number, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			name := string(bytes.TrimRight(b[unix.SizeofInotifyEvent:size], "\x00"))
			b = b[size:]
			e.changed(number, mask, name)
		}
	}
}

func (e *ends) changed(number int32, mask uint32, name string) {
	e.mu.Lock()
	var over []string
	for path := range e.paths {
		here := slices.Contains(e.dirs[number], filepath.Dir(path)) && (filepath.Base(path) == name || mask&unix.IN_DELETE_SELF != 0)
		if here || mask&unix.IN_Q_OVERFLOW != 0 {
			over = append(over, path)
		}
	}
	e.mu.Unlock()
	for _, path := range over {
		e.over(path)
	}
}

// over says that a path is no more, or another thing's by now, to who still wants to know.
func (e *ends) over(path string) {
	e.mu.Lock()
	asked := e.paths[path] > 0
	e.mu.Unlock()
	if asked {
		e.gone(path)
	}
}

// forget ends one await. A directory stays watched: namespaces have few.
func (e *ends) forget(path string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.paths[path]--; e.paths[path] > 0 {
		return
	}
	delete(e.paths, path)
	if f, ok := e.pidfds[path]; ok {
		_ = f.Close() // nothing was written
		delete(e.pidfds, path)
	}
}

func (e *ends) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.paths)
	for _, f := range e.pidfds {
		_ = f.Close()
	}
	if e.inotify != nil {
		_ = e.inotify.Close()
	}
}
