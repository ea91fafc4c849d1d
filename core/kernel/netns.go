package kernel

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// openNetns opens the network namespace at path. Whatever else is at path, or
// nothing, is vswitch.NetnsNotFound. It never waits and never opens a device: a
// path comes from outside, and what is there is asked for before it is opened.
func openNetns(path string) (*os.File, error) {
	if path == "" || len(path) >= unix.PathMax || strings.ContainsRune(path, 0) {
		return nil, noNetns(path, errors.New("not a path"))
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return nil, noNetns(path, err)
	}
	if fs.Type != unix.NSFS_MAGIC {
		return nil, noNetns(path, errors.New("not a namespace"))
	}
	// Without O_NONBLOCK a FIFO that has taken the place since would hold us.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, noNetns(path, err)
	} else if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		_ = unix.Close(fd)
		return nil, noNetns(path, errors.New("a namespace, but not a network namespace"))
	}
	_ = unix.SetNonblock(fd, false) // else os.NewFile would try to poll it
	return os.NewFile(uintptr(fd), path), nil
}

func noNetns(path string, cause error) error {
	return &vswitch.Error{
		Kind: vswitch.NetnsNotFound, Object: fmt.Sprintf("network namespace %.256q", path), Err: cause,
		Hint: "give the path of a running owner's network namespace, like /run/netns/NAME or /proc/PID/ns/net",
	}
}

// checkNetns fails with vswitch.NetnsNotFound unless path is a network namespace.
func checkNetns(path string) error {
	ns, err := openNetns(path)
	if err != nil {
		return err
	}
	return ns.Close()
}

// inNetns runs fn on an OS thread inside the namespace ns and returns its error.
// What fn opens stays in that namespace; fn must not start goroutines that count
// on it. A thread that cannot be brought back is never used again.
func inNetns(ns *os.File, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := enterNetns(ns)
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err = fn()
		if leaveNetns(home) == nil {
			runtime.UnlockOSThread()
		} // else the goroutine ends locked, and the runtime ends the thread with it
		done <- err
	}()
	return <-done
}

// enterNetns moves the calling thread and returns an fd of where it was.
func enterNetns(ns *os.File) (home int, err error) {
	home, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("own network namespace: %w", err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		_ = unix.Close(home)
		return -1, fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
	}
	return home, nil
}

func leaveNetns(home int) error {
	defer func() { _ = unix.Close(home) }()
	return unix.Setns(home, unix.CLONE_NEWNET)
}

// inNewNetns runs fn on an OS thread in a network namespace of its own, which
// ends with fn. The thread is not used again.
func inNewNetns(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("new network namespace: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}
