package kernel

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// twinBond is the bond of a twin. Its group tells it from one that the owner has made: it
// has that from birth.
func twinBond(e plan.Endpoint) plan.Bond {
	return plan.Bond{
		Name: e.Name, MAC: e.MAC, MTU: e.MTU,
		Options: plan.BondOptions{Mode: "active-backup", Monitor: plan.TwinMonitor, Reselect: "always"},
	}
}

func (l link) isTwin() bool { return l.kind == "bond" && l.group == vswitch.UplinkGroup }

// twinStep queues a step about a twin.
func (a *applier) twinStep(i int, s plan.Step) error {
	switch s := s.(type) {
	case plan.MakeTwin:
		return a.queue(s.Endpoint.Netns, request{
			NetlinkRequest: newBond(twinBond(s.Endpoint)), step: i,
			explain: func(err error) error { return explainTwin(s.Endpoint, err) },
		})
	case plan.JoinTwin:
		return a.joinTwin(i, s)
	case plan.AwaitTwin:
		return a.outside(func() error { return awaitTwin(s.Endpoint, s.Patience) })
	case plan.DeleteTwin:
		return a.outside(func() error { return a.deleteTwin(i, s.Endpoint) })
	}
	return a.spreadStep(i, s)
}

func explainTwin(e plan.Endpoint, err error) error {
	if errors.Is(err, unix.EEXIST) {
		return &vswitch.Error{
			Kind: vswitch.EndpointExists, Err: fmt.Errorf("the container already has an interface %s: %w", e.Name, err),
			Hint: "give the attachment another interface name (CNI_IFNAME)",
		}
	}
	return explainBond(err)
}

func (a *applier) joinTwin(step int, s plan.JoinTwin) error {
	e := s.Endpoint
	bond, err := a.index(step, e.Netns, e.Bond)
	if err != nil {
		return err
	}
	messages := []*nl.NetlinkRequest{byName(unix.RTM_NEWLINK, 0, e.Name, downHeader()), setMaster(e.Name, bond)}
	if s.Port == "" {
		vf, err := a.index(step, e.Netns, e.Name)
		if err != nil {
			return err
		}
		messages = append(messages, primaryMessage(e.Bond, vf))
	}
	for _, m := range messages {
		if err := a.queue(e.Netns, request{NetlinkRequest: m, step: step, explain: explainBond}); err != nil {
			return err
		}
	}
	return nil
}

// deleteTwin removes a twin, unless the name is another netdev's.
func (a *applier) deleteTwin(step int, e plan.Endpoint) error {
	owner, err := a.conn(e.Netns)
	if errors.Is(err, vswitch.NetnsNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	l, err := owner.link(e.Name)
	if isAbsent(err) || err == nil && !l.isTwin() {
		return nil
	}
	if err != nil {
		return err
	}
	return owner.do([]request{{NetlinkRequest: byName(unix.RTM_DELLINK, 0, e.Name, noHeader()), step: step, absent: true}})
}

// awaitTwin returns once the VF is what the bond carries all by, has gone, or has had no
// link for as long as somebody has patience.
func awaitTwin(e plan.Endpoint, patience time.Duration) error {
	ns, err := openNetns(e.Netns)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	c, err := dialRTNLAt(ns)
	if err != nil {
		return err
	}
	defer c.close()
	watch, err := dialRTNLAt(ns)
	if err != nil {
		return err
	}
	defer watch.close()
	if err := unix.SetsockoptInt(watch.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.RTNLGRP_LINK); err != nil {
		return fmt.Errorf("watch netdevs: %w", err)
	}
	for deadline := time.Now().Add(patience); ; {
		vf, err := c.link(e.Name)
		if isAbsent(err) {
			return nil
		}
		bond, err2 := c.link(e.Bond)
		if err := errors.Join(err, err2); err != nil || bond.bond.active == vf.index {
			return err
		}
		if err := watch.notified(time.Until(deadline)); err != nil {
			if !time.Now().Before(deadline) {
				return nil
			}
			return err
		}
	}
}

// twin reads a bond in an owner's namespace; none if it has no such.
func (o *observer) twin(id string, scope plan.Endpoint, seen *plan.State) error {
	e, err := o.owned(scope, link.isTwin)
	if e == nil || err != nil {
		return err
	}
	if seen.Twins == nil {
		seen.Twins = make(map[string]plan.Endpoint)
	}
	seen.Twins[id] = *e
	return nil
}

// bondOf is the bond that an end is in, if it is the one that is meant.
func (c *rtnl) bondOf(l link, meant string) (string, error) {
	if meant == "" || l.master == 0 {
		return "", nil
	}
	bond, err := c.link(meant)
	if isAbsent(err) || err == nil && bond.index != l.master {
		return "", nil
	}
	return meant, err
}
