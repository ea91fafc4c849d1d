package host

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// StartNotifying starts a daemon in the namespace and returns when it says that
// it is ready, in the way of sd_notify(3).
func StartNotifying(n *Netns, c *exec.Cmd) error {
	dir, err := os.MkdirTemp(n.shared(), "notify")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a socket at most
	addr := &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"}
	socket, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		return err
	}
	defer func() { _ = socket.Close() }() // read only
	if c.Env == nil {
		c.Env = os.Environ()
	}
	c.Env = append(c.Env, "NOTIFY_SOCKET="+addr.Name)
	if err := n.Do(c.Start); err != nil {
		return err
	}
	if err := socket.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if err := atEnd(c.Process.Pid, func() { _ = socket.SetReadDeadline(time.Now()) }); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		size, err := socket.Read(buf)
		if err != nil {
			return fmt.Errorf("%s does not become ready: %w", c.Path, err)
		}
		if strings.Contains(string(buf[:size]), "READY=1") {
			return nil
		}
	}
}

// atEnd calls fn when the process ends, which is a child that nobody has waited for.
func atEnd(pid int, fn func()) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	go func() {
		defer func() { _ = unix.Close(fd) }() // nothing to flush
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if err != unix.EINTR {
				break
			}
		}
		fn()
	}()
	return nil
}
