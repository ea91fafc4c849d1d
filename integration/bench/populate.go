package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/integration/host"
)

// populate puts ports on every contender's switch, with their other ends up in
// one namespace, IPv6 left on, and waits until these have their addresses: until
// then duplicate address detection floods the switches.
func populate(cs []*contender, ports int) error {
	if ports == 0 {
		return nil
	}
	for _, c := range cs {
		parking, err := c.host.Neighbour("parking")
		if err != nil {
			return err
		}
		err = c.fill(ports, func(i int) error { return c.park(parking, i) })
		if err == nil {
			err = settled(parking, ports)
		}
		if err == nil && c.plain != "" {
			err = c.fill(ports, c.join)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// fill does something for each of many ports, several at a time.
func (c *contender) fill(ports int, do func(i int) error) error {
	const workers = 4
	var group sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		group.Go(func() {
			for i := w; i < ports && errs[w] == nil; i += workers {
				errs[w] = do(i)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// parkPlain makes a pair with the kernel's defaults, as the reference plugin's are.
// It joins the bridge when duplicate address detection is over, which on so many
// ports would take minutes, and what is measured later comes after it anyway.
func (c *contender) parkPlain(parking *host.Netns, i int) error {
	return host.Cable(c.host.Netns, fmt.Sprintf("park%d", i), parking, fmt.Sprintf("p%d", i))
}

// join makes the i-th parked pair a port of the bridge.
func (c *contender) join(i int) error {
	l, err := c.host.Links()
	if err != nil {
		return err
	}
	defer l.Close()
	port, err := l.LinkByName(fmt.Sprintf("park%d", i))
	if err != nil {
		return err
	}
	bridge, err := l.LinkByName(c.plain)
	if err != nil {
		return err
	}
	return l.LinkSetMaster(port, bridge)
}

// settled waits until as many netdevs of the namespace have a link-local address
// that is no longer tentative.
func settled(n *host.Netns, ports int) error {
	const limit = time.Minute
	done := make(chan struct{})
	defer close(done)
	updates := make(chan netlink.AddrUpdate, 1024)
	err := n.Do(func() error {
		here, err := netns.Get()
		if err != nil {
			return err
		}
		defer func() { _ = here.Close() }() // the subscription has its own
		return netlink.AddrSubscribeWithOptions(updates, done, netlink.AddrSubscribeOptions{
			Namespace: &here, ListExisting: true, ReceiveBufferSize: 8 << 20,
		})
	})
	if err != nil {
		return err
	}
	ready := map[int]bool{}
	for timeout := time.After(limit); len(ready) < ports; {
		select {
		case u, ok := <-updates:
			if !ok {
				return errors.New("the kernel's notifications ended")
			}
			if u.NewAddr && u.LinkAddress.IP.IsLinkLocalUnicast() && u.Flags&unix.IFA_F_TENTATIVE == 0 {
				ready[u.LinkIndex] = true
			}
		case <-timeout:
			return fmt.Errorf("after %s only %d of %d parked ports have their IPv6 address", limit, len(ready), ports)
		}
	}
	return nil
}
