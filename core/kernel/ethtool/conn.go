// Package ethtool asks drivers of NICs, and tells them, what the program of that name does:
// how many queues a NIC receives with, which rules steer frames to them, what was counted.
// Like all of core/kernel it is a door to the kernel, of the network namespace of the thread
// that calls Open.
//
// Commands are what linux/ethtool.h says they are, as bytes in the machine's order. Rules
// for steering can only be had by this ioctl; newer kernels have the rest by netlink too.
package ethtool

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn speaks to the drivers of one network namespace.
type Conn struct{ fd int }

// Open makes a Conn. It stays with the network namespace that the calling thread is in.
func Open() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &Conn{fd}, nil
}

// Close ends the Conn.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// do has the driver of a netdev carry out a command, which its answer replaces.
func (c *Conn) do(netdev string, command []byte) error {
	request := struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&command[0])}
	if len(netdev) >= unix.IFNAMSIZ {
		return unix.ENODEV
	}
	copy(request.name[:], netdev)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(command)
	if errno != 0 {
		return errno
	}
	return nil
}

// Unsupported reports whether a driver has no such thing at all.
func Unsupported(err error) bool { return errors.Is(err, unix.EOPNOTSUPP) }

// Full reports whether a driver has no room for another rule.
func Full(err error) bool { return errors.Is(err, unix.ENOSPC) }

// Unfit reports whether a driver has no rules of that form.
func Unfit(err error) bool { return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) }

// Gone reports whether what was asked about, a netdev or a rule, is not there.
func Gone(err error) bool { return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) }
