package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// maxItems bounds what the host may have on a NIC that we move: a table of the whole
// internet's routes is no work for one stroke.
const maxItems = 4096

// Addressing returns what the host has on one netdev.
func (l *Linux) Addressing(ctx context.Context, netdev string) (plan.Addressing, error) {
	var a plan.Addressing
	err := l.host(func(c *rtnl) (err error) {
		a, err = c.addressing(netdev)
		return err
	})
	if err == nil {
		err = ctx.Err()
	}
	return a, err
}

// addressing reads all that names a netdev. The lists are read one after the other:
// what changes meanwhile is missed, or seen twice in the verification.
func (c *rtnl) addressing(netdev string) (plan.Addressing, error) {
	link, err := c.link(netdev)
	if isAbsent(err) {
		return plan.Addressing{}, noNetdev(netdev)
	}
	if err != nil {
		return plan.Addressing{}, err
	}
	s := survey{conn: c, dev: netdev, index: link.index}
	for _, read := range []func() error{s.neighbours, s.addresses, s.nexthops, s.routes, s.rules} {
		if err := read(); err != nil {
			return plan.Addressing{}, fmt.Errorf("what the host has on %s: %w", netdev, err)
		}
	}
	if len(s.items) > maxItems {
		return plan.Addressing{}, &vswitch.Error{
			Kind: vswitch.UplinkInUse, Err: fmt.Errorf("the host has %d addresses, routes and rules on NIC %s, and no more than %d can be moved", len(s.items), netdev, maxItems),
			Hint: "name another NIC",
		}
	}
	settings, err := readSettings(netdev)
	return plan.Addressing{Items: s.items, Settings: settings}.With(plan.Addressing{}), err
}

// settings reads those alone.
func (c *rtnl) settings(netdev string) (plan.Addressing, error) {
	if _, err := c.link(netdev); isAbsent(err) {
		return plan.Addressing{}, noNetdev(netdev)
	} else if err != nil {
		return plan.Addressing{}, err
	}
	settings, err := readSettings(netdev)
	return plan.Addressing{Settings: settings}, err
}

// survey collects the items of one netdev.
type survey struct {
	conn  *rtnl
	dev   string
	index int
	items []plan.Item
}

// list hands every message of a dump to see, which returns an item or none. A kernel
// that lacks what is asked for has none of it.
func (s *survey) list(message int, header nl.NetlinkRequestData, see func([]byte) (plan.Item, bool)) error {
	r := nl.NewNetlinkRequest(message, unix.NLM_F_DUMP)
	r.AddData(header)
	var found []plan.Item
	err := s.conn.dump(r, func() { found = nil }, func(b []byte) {
		if i, ok := see(slices.Clone(b)); ok {
			i.Dev = s.dev
			found = append(found, i)
		}
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil
	}
	s.items = append(s.items, found...)
	return err
}
