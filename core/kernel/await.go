package kernel

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// awaitPort returns once the bridge forwards on the port. A port whose owner's
// end came up a moment ago is disabled until the kernel's link watch has run:
// frames sent meanwhile are lost, and the owner's first ARP request costs a
// second. Since Linux 6.8 reading the netdev runs the link watch; on an older
// kernel the notification is waited for.
func awaitPort(host *rtnl, name string) error {
	l, err := host.link(name)
	if err != nil || l.port.forwarding {
		return err
	}
	watch, err := dialRTNL()
	if err != nil {
		return err
	}
	defer watch.close()
	if err := unix.SetsockoptInt(watch.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.RTNLGRP_LINK); err != nil {
		return fmt.Errorf("watch netdevs: %w", err)
	}
	const patience = 5 // seconds without any notification
	_ = unix.SetsockoptTimeval(watch.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: patience})
	for {
		if l, err := host.link(name); err != nil || l.port.forwarding {
			return err
		}
		if err := watch.notified(); err != nil {
			return err
		}
	}
}

// notified waits for a notification; which one does not matter, since the caller
// looks for itself.
func (c *rtnl) notified() error {
	_, _, err := unix.Recvfrom(c.fd, c.buf, 0)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return &vswitch.Error{Kind: vswitch.KernelFailed, Err: fmt.Errorf("the bridge does not forward on the port"), Hint: "look at its state with `bridge -d link`"}
	case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.EINTR):
		return nil
	}
	return err
}
