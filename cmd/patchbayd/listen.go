package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
)

// firstFD is the first descriptor of socket activation (SD_LISTEN_FDS_START).
const firstFD = 3

// listener is the socket that systemd handed over, or one of our own.
func (d daemon) listener() (l *net.UnixListener, own bool, err error) {
	if d.getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) && d.getenv("LISTEN_FDS") != "" {
		l, err = inherited(d.getenv("LISTEN_FDS"))
		return l, false, err
	}
	l, err = listen(wire.SocketPath(d.dirs.Run))
	return l, true, err
}

func inherited(count string) (*net.UnixListener, error) {
	if count != "1" {
		return nil, &vswitch.Error{
			Kind: vswitch.Invalid, Op: "start", Err: fmt.Errorf("%.16s sockets are handed over, one is needed", count),
			Hint: "give patchbayd.socket one ListenStream",
		}
	}
	f := os.NewFile(firstFD, "LISTEN_FDS")
	defer func() { _ = f.Close() }() // FileListener has a copy
	any, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("the socket that was handed over: %w", err)
	}
	l, ok := any.(*net.UnixListener)
	if !ok {
		return nil, &vswitch.Error{
			Kind: vswitch.Invalid, Op: "start", Err: errors.Join(errors.New("the socket that was handed over is no unix stream socket"), any.Close()),
			Hint: "set ListenStream=/run/patchbay/patchbayd.sock in patchbayd.socket",
		}
	}
	return l, nil
}

// listen makes the socket. It is ready and root's alone when its name appears, and
// takes the place of one that a killed patchbayd left.
func listen(path string) (*net.UnixListener, error) {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, unusable(fresh, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, unusable(path, err)
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(fresh, 0o600); err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return nil, errors.Join(unusable(path, err), l.Close())
	}
	return l, nil
}
