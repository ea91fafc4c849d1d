package kernel

import (
	"errors"
	"fmt"
	"syscall"
	"time"

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
	deadline := time.Now().Add(awaitPatience)
	for {
		l, err := host.link(name)
		if err != nil || l.port.forwarding {
			return err
		}
		if err := bridgeUp(host, l.master); err != nil {
			return err
		}
		if err := watch.notified(time.Until(deadline)); err != nil {
			return err
		}
	}
}

// awaitPatience bounds the wait: the link watch runs within milliseconds.
const awaitPatience = 5 * time.Second

// bridgeUp fails with vswitch.Drifted at a bridge that somebody has taken down:
// its ports never forward.
func bridgeUp(host *rtnl, index int) error {
	if index == 0 {
		return &vswitch.Error{Kind: vswitch.Drifted, Err: fmt.Errorf("the port is in no bridge any more")}
	}
	bridge, err := host.linkAt(index)
	if err == nil && !bridge.up {
		err = &vswitch.Error{Kind: vswitch.Drifted, Err: fmt.Errorf("bridge %s is down", bridge.name), Hint: fmt.Sprintf("run `ip link set %s up`", bridge.name)}
	}
	return err
}

// notified waits for a notification; which one does not matter, since the caller
// looks for itself.
func (c *rtnl) notified(patience time.Duration) error {
	timeout := unix.NsecToTimeval(max(patience, time.Millisecond).Nanoseconds())
	_ = unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	_, _, err := unix.Recvfrom(c.fd, c.buf, 0)
	switch {
	case patience <= 0, errors.Is(err, unix.EAGAIN):
		return &vswitch.Error{Kind: vswitch.KernelFailed, Err: fmt.Errorf("the bridge does not forward on the port"), Hint: "look at its state with `bridge -d link`"}
	case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.EINTR):
		return nil
	}
	return err
}
