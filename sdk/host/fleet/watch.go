package fleet

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// settling is how long a change on disk may take: what is installed is a program, its
// owner and its settings.
const settling = 200 * time.Millisecond

// tells is what can make another plugin of one. What is written is looked at when it is closed.
const tells = syscall.IN_CREATE | syscall.IN_CLOSE_WRITE | syscall.IN_ATTRIB | syscall.IN_MOVE | syscall.IN_DELETE | syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF

// watch hears from the kernel what becomes of plugins on disk, also of directories that are
// not there yet.
type watch struct {
	paths   []string // of files and directories
	inotify *os.File
	// names are, by watch, the entries that matter of a directory; "" is all.
	names map[int32][]string
}

func newWatch(c Config) (*watch, error) {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	w := &watch{paths: append(slices.Clone(c.Dirs), c.Settings), inotify: os.NewFile(uintptr(fd), "inotify")}
	if c.Checksums != "" {
		w.paths = append(w.paths, c.Checksums)
	}
	if err := w.arm(); err != nil {
		_ = w.inotify.Close() // nothing was heard by it
		return nil, err
	}
	return w, nil
}

// arm watches what there is by now of the paths.
func (w *watch) arm() error {
	w.names = make(map[int32][]string)
	for _, path := range w.paths {
		path, err := filepath.Abs(path)
		if err == nil {
			err = w.armPath(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// armPath watches a directory, or the nearest one above what is not there, or is a file.
func (w *watch) armPath(path string) error {
	dir, below := path, ""
	for {
		wd, err := w.add(dir)
		switch {
		case (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) && dir != "/":
			dir, below = filepath.Dir(dir), filepath.Base(dir)
			continue
		case err != nil:
			return &os.PathError{Op: "watch", Path: dir, Err: err}
		}
		w.names[wd] = append(w.names[wd], below)
		if info, err := os.Stat(filepath.Join(dir, below)); below == "" || err != nil || !info.IsDir() {
			return nil
		}
		dir, below = path, "" // it came in between
	}
}

func (w *watch) add(dir string) (wd int32, err error) {
	raw, err := w.inotify.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	if controlErr := raw.Control(func(fd uintptr) { n, err = syscall.InotifyAddWatch(int(fd), dir, tells|syscall.IN_ONLYDIR) }); controlErr != nil {
		return 0, controlErr
	}
	return int32(n), err
}

// run calls changed a moment after something has, until ctx ends.
func (w *watch) run(ctx context.Context, changed func()) error {
	defer w.inotify.Close() //nolint:errcheck // it was only read
	stop := context.AfterFunc(ctx, func() { _ = w.inotify.SetReadDeadline(time.Now()) })
	defer stop()
	buffer := make([]byte, 64<<10)
	for {
		n, err := w.inotify.Read(buffer)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if !w.matters(buffer[:n]) {
			continue
		}
		select {
		case <-time.After(settling):
		case <-ctx.Done():
			return nil
		}
		if err := w.arm(); err != nil {
			return err
		}
		changed()
	}
}

// matters reports whether an event is about one of the paths, or about all there is.
func (w *watch) matters(events []byte) bool {
	for len(events) >= syscall.SizeofInotifyEvent {
		number, mask := int32(binary.NativeEndian.Uint32(events)), binary.NativeEndian.Uint32(events[4:])
		end := syscall.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(events[12:]))
		name := string(bytes.TrimRight(events[syscall.SizeofInotifyEvent:end], "\x00"))
		names, known := w.names[number]
		if mask&syscall.IN_Q_OVERFLOW != 0 || known && (name == "" || slices.Contains(names, "") || slices.Contains(names, name)) {
			return true
		}
		events = events[end:]
	}
	return false
}
