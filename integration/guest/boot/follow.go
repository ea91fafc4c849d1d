package boot

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// follower copies a file that grows.
type follower struct {
	from  *os.File
	watch *os.File // of inotify
	to    io.Writer
	any   bool // something came
	done  chan error
}

// startFollower begins to copy what is in the file and what comes.
func startFollower(name string, to io.Writer) (*follower, error) {
	from, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		_, err = unix.InotifyAddWatch(fd, name, unix.IN_MODIFY)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", name, err), from.Close())
	}
	f := &follower{from: from, watch: os.NewFile(uintptr(fd), "inotify"), to: to, done: make(chan error, 1)}
	go func() { f.done <- f.copyAll() }()
	return f, nil
}

func (f *follower) copyAll() error {
	events := make([]byte, 4096)
	for {
		n, err := io.Copy(f.to, f.from)
		f.any = f.any || n > 0
		if err != nil {
			return err
		}
		if _, err := f.watch.Read(events); err != nil {
			return nil // stop was called
		}
	}
}

// stop copies the rest and reports whether there was anything in the file.
func (f *follower) stop() (bool, error) {
	err := errors.Join(f.watch.Close(), <-f.done)
	n, cerr := io.Copy(f.to, f.from)
	return f.any || n > 0, errors.Join(err, cerr, f.from.Close())
}
