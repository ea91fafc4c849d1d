package offload

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// hostNetns is where this program is.
const hostNetns = "/proc/thread-self/ns/net"

// netnsAt opens the network namespace at a path, "" for the host's, and says which it is.
func netnsAt(path string) (ns *os.File, inode uint64, err error) {
	at := path
	if at == "" {
		at = hostNetns
	}
	inode, err = netnsInode(at)
	if err != nil {
		return nil, 0, err
	}
	ns, err = os.OpenFile(at, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, noNetns(path, err)
	}
	if kind, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		return nil, 0, errors.Join(noNetns(path, errors.New("it is no network namespace")), ns.Close())
	}
	return ns, inode, nil
}

// netnsInode says which namespace is at a path, without opening what else may be there.
func netnsInode(path string) (uint64, error) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	err := unix.Statfs(path, &fs)
	if err == nil && fs.Type != unix.NSFS_MAGIC {
		err = errors.New("it is no namespace")
	}
	if err == nil {
		err = unix.Stat(path, &st)
	}
	if err != nil {
		return 0, noNetns(path, err)
	}
	return st.Ino, nil
}

func noNetns(path string, cause error) error {
	return &vswitch.Error{
		Kind: vswitch.NetnsNotFound, Object: fmt.Sprintf("network namespace %.256q", path), Err: cause,
		Hint: "give the path of a running owner's network namespace, like /run/netns/NAME or /proc/PID/ns/net",
	}
}

// within runs fn on a thread inside the namespace. What it opens stays there.
func within(ns *os.File, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open(hostNetns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			done <- fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
			return // and the thread ends
		}
		err = fn()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		} // else the thread ends with the goroutine
		done <- errors.Join(err, unix.Close(home))
	}()
	return <-done
}
