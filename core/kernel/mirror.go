package kernel

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file reads and writes the tables of ports whose frames are copied, in the namespace
// of the calling thread.

// mirrors finds all tables of a switch, those that scope does not name too.
func (o *observer) mirrors(bridge string, scope plan.Mirrors, seen *plan.State) error {
	var found plan.Mirrors
	err := withRuleset(func(c *rtnl) error {
		found = make(plan.Mirrors)
		netdevs, err := mirrored(c, bridge)
		for _, netdev := range netdevs {
			if err == nil {
				found[netdev], err = o.mirror(c, bridge, netdev, scope)
			}
		}
		return err
	})
	if errors.Is(err, vswitch.CapabilityMissing) {
		err = nil // no nftables, no tables
	}
	if err != nil {
		return err
	}
	for netdev := range scope {
		_, err := o.host.link(netdev)
		if isAbsent(err) {
			_, there := found[netdev]
			found[netdev] = plan.Mirror{Absent: true, Altered: there}
		} else if err != nil {
			return err
		}
	}
	if len(found) == 0 {
		return nil
	}
	if seen.Mirrors == nil {
		seen.Mirrors = make(map[string]plan.Mirrors)
	}
	seen.Mirrors[bridge] = found
	return nil
}

// mirrored lists the ports of a switch that have a table.
func mirrored(c *rtnl, bridge string) (netdevs []string, err error) {
	err = dumpRules(c, request{
		NetlinkRequest: nftRequest(unix.NFT_MSG_GETTABLE, unix.NFPROTO_NETDEV, unix.NLM_F_DUMP),
		answer: func(b []byte) {
			for kind, v := range nftAttributes(b) {
				if netdev, ours := strings.CutPrefix(text(v), plan.MirrorTables(bridge)); kind == unix.NFTA_TABLE_NAME && ours {
					netdevs = append(netdevs, netdev)
				}
			}
		},
	})
	return netdevs, err
}

// mirror compares a port's table with what scope wants there.
func (o *observer) mirror(c *rtnl, bridge, netdev string, scope plan.Mirrors) (plan.Mirror, error) {
	want, wanted := scope[netdev]
	indexes, err := o.host.indexes(want.Destinations)
	if err != nil {
		return plan.Mirror{}, err
	}
	t := mirrorTable(bridge, netdev, indexes, want.Held)
	state, err := readRuleset(c, []ruleTable{t}, nil, false)
	if err != nil {
		return plan.Mirror{}, err
	}
	whole := wanted && state.whole()
	if whole {
		whole, err = o.copiesTo(c, t, indexes)
	}
	if whole && err == nil {
		whole, err = o.copiesHeld(netdev, want.Held, indexes)
	}
	if !whole {
		return plan.Mirror{Altered: true}, err
	}
	return plan.Mirror{Destinations: want.Destinations, Held: want.Held}, err
}

// copiesHeld compares the filters with what is wanted of them.
func (o *observer) copiesHeld(netdev string, held bool, indexes []int) (bool, error) {
	port, err := o.host.link(netdev)
	if err != nil {
		return isAbsent(err), ignoreAbsent(err)
	}
	to, some, err := o.host.mirreds(port.index, plan.MirrorPreference, mirredMirror)
	if err != nil || !held {
		return !some, err
	}
	to = slices.DeleteFunc(to, func(index int) bool { return index == 0 })
	return slices.Equal(slices.Sorted(slices.Values(to)), slices.Sorted(slices.Values(indexes))), nil
}

// copiesTo compares the rules of both chains. One to a netdev that is no more does nothing.
func (o *observer) copiesTo(c *rtnl, t ruleTable, indexes []int) (same bool, err error) {
	same = true
	copies := make(map[string][]int)
	r := nftRequest(unix.NFT_MSG_GETRULE, t.family, unix.NLM_F_DUMP, nameAttr(unix.NFTA_RULE_TABLE, t.name))
	err = dumpRules(c, request{NetlinkRequest: r, answer: func(b []byte) {
		var chain string
		for kind, v := range nftAttributes(b) {
			switch kind {
			case unix.NFTA_RULE_CHAIN:
				chain = text(v)
			case unix.NFTA_RULE_EXPRESSIONS:
				if index, ok := duplicatesTo(v); ok {
					copies[chain] = append(copies[chain], index)
				} else {
					same = false
				}
			}
		}
	}})
	for _, chain := range t.chains {
		rest := indexes
		if len(chain.rules()) == 0 {
			rest = nil
		}
		for _, index := range copies[chain.name] {
			if len(rest) > 0 && rest[0] == index {
				rest = rest[1:]
			} else if l, failed := o.host.linkAt(index); failed != nil || l.name != "" {
				same, err = false, errors.Join(err, failed)
			}
		}
		same = same && len(rest) == 0
	}
	return same && err == nil, err
}

// indexes are the numbers of those of the netdevs that are there.
func (c *rtnl) indexes(netdevs []string) (indexes []int, err error) {
	for _, name := range netdevs {
		l, err := c.link(name)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		indexes = append(indexes, l.index)
	}
	return indexes, nil
}

// mirrorStep carries out a step about a port's table of copies.
func (a *applier) mirrorStep(i int, s plan.Step) error {
	switch s := s.(type) {
	case plan.MakeMirror:
		return a.outside(func() error { return a.makeMirror(i, s) })
	case plan.DeleteMirror:
		return a.outside(func() error { return a.deleteMirror(i, s) })
	}
	return a.endpointStep(i, s)
}

func (a *applier) makeMirror(step int, s plan.MakeMirror) error {
	for _, name := range append(slices.Clone(s.Destinations), s.Bridge, s.Netdev) {
		if err := vswitch.ValidateNetdevName(name); err != nil {
			return fmt.Errorf("mirror: %w", err)
		}
	}
	indexes, err := a.host.indexes(s.Destinations)
	if err != nil {
		return err
	}
	there := func() (bool, error) {
		_, err := a.host.link(s.Netdev)
		return !isAbsent(err), ignoreAbsent(err)
	}
	if is, err := there(); !is || err != nil { // Linux 6.16 would wait for it
		return err
	}
	c, err := dialNetfilter()
	if err != nil {
		return err
	}
	defer c.close()
	var tx transaction
	mirrorTable(s.Bridge, s.Netdev, indexes, s.Held).build(&tx, nil)
	err = tx.send(c)
	switch {
	case err == nil:
		return a.copyHeld(step, s.Netdev, s.Held, indexes)
	case isAbsent(err): // the port has gone meanwhile, or the kernel has no such expression
		if is, failed := there(); !is || failed != nil {
			return failed
		}
		fallthrough
	case isUnsupported(err):
		return missingMirror(err)
	}
	return fmt.Errorf("nftables: %w", err)
}

// copyHeld has filters copy what comes by a port, or not any more.
func (a *applier) copyHeld(step int, netdev string, held bool, destinations []int) error {
	port, err := a.host.link(netdev)
	if err != nil {
		return ignoreAbsent(err)
	}
	if !held {
		_, some, err := a.host.mirreds(port.index, plan.MirrorPreference, mirredMirror)
		if err == nil && some {
			err = a.unhook(step, port.index, plan.MirrorPreference)
		}
		return err
	}
	requests := []request{
		{NetlinkRequest: hook(port.index), explain: explainHook},
		{NetlinkRequest: filterAt(unix.RTM_DELTFILTER, 0, port.index, plan.MirrorPreference), explain: noQueue},
	}
	for _, to := range destinations {
		requests = append(requests, request{NetlinkRequest: copyIncoming(port.index, to), explain: explainShaping})
	}
	for _, r := range requests {
		r.step, r.absent = step, true // the port, or a destination, may go at any time
		if err := a.queue("", r); err != nil {
			return err
		}
	}
	return a.flush()
}

func (a *applier) deleteMirror(step int, s plan.DeleteMirror) error {
	if err := a.copyHeld(step, s.Netdev, false, nil); err != nil {
		return err
	}
	c, err := dialNetfilter()
	if err != nil {
		return err
	}
	defer c.close()
	var tx transaction
	mirrorTable(s.Bridge, s.Netdev, nil, false).remove(&tx)
	if err := tx.send(c); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete nftables table: %w", err)
	}
	return nil
}

// missingMirror is the error of a kernel that cannot hold such a table, if it cannot.
func missingMirror(cause error) error {
	err := inNewNetns(func() error {
		c, err := dialRTNL()
		if err != nil {
			return err
		}
		defer c.close()
		return tryTable(mirrorTable("probe", "lo", []int{1}, false))
	})
	if err == nil {
		return fmt.Errorf("nftables: %w", cause)
	}
	return missingRules("CONFIG_NF_TABLES_NETDEV, CONFIG_NFT_DUP_NETDEV or CONFIG_NETFILTER_EGRESS", cause)
}
