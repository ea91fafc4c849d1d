package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// awaitLocal returns once the host answers to IPv6 addresses that have just been added
// to a netdev. The kernel makes the route by which it takes their packets in the
// background, even for an address whose duplicates it does not look for: whoever takes
// the address away from another netdev before that cuts the host off for a moment.
func awaitLocal(host *rtnl, index int, addresses []netip.Addr) error {
	if missing, err := host.withoutLocal(index, addresses); err != nil || missing == 0 {
		return err
	}
	watch, err := dialRTNL()
	if err != nil {
		return err
	}
	defer watch.close()
	if err := unix.SetsockoptInt(watch.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.RTNLGRP_IPV6_ROUTE); err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	deadline := time.Now().Add(awaitPatience)
	for {
		missing, err := host.withoutLocal(index, addresses)
		if err != nil || missing == 0 {
			return err
		}
		if patience := time.Until(deadline); patience <= 0 {
			return nil // a netdev without carrier, say: it is as good as it gets
		} else if err := watch.heard(patience); err != nil {
			return err
		}
	}
}

// heard waits for a notification, or until patience is over.
func (c *rtnl) heard(patience time.Duration) error {
	timeout := unix.NsecToTimeval(max(patience, time.Millisecond).Nanoseconds())
	_ = unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	_, _, err := unix.Recvfrom(c.fd, c.buf, 0)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

// withoutLocal counts the addresses that a netdev has no local route for yet. An
// address that the netdev does not have, or only tries out, is not waited for.
func (c *rtnl) withoutLocal(index int, addresses []netip.Addr) (missing int, err error) {
	waited := make(map[netip.Addr]bool)
	r := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	r.AddData(nl.NewIfAddrmsg(unix.AF_INET6))
	err = c.dump(r, func() { clear(waited) }, func(b []byte) {
		at, prefix, ok := parseAddress(b)
		if ok && at == index && addressFlags(b, parts(b, unix.SizeofIfAddrmsg))&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
			waited[prefix.Addr()] = true
		}
	})
	if err != nil {
		return 0, err
	}
	local := make(map[netip.Addr]bool)
	r = nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
	header := nl.NewRtMsg()
	header.Family = unix.AF_INET6
	r.AddData(header)
	err = c.dump(r, func() { clear(local) }, func(b []byte) {
		if len(b) < unix.SizeofRtMsg || b[7] != unix.RTN_LOCAL {
			return
		}
		all := parts(b, unix.SizeofRtMsg)
		if int(number(valueOf(all, unix.RTA_OIF))) == index {
			local[addrOf(valueOf(all, unix.RTA_DST))] = true
		}
	})
	for _, a := range addresses {
		if waited[a] && !local[a] {
			missing++
		}
	}
	return missing, err
}
