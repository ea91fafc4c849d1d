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

// This file reads and writes the tables of ports whose frames are copied.

// mirrors finds all tables of a switch, those that scope does not name too.
func (o *observer) mirrors(bridge string, scope plan.Mirrors, seen *plan.State) error {
	var found plan.Mirrors
	err := o.kernel.ruleset(func(c *rtnl) error {
		found = make(plan.Mirrors)
		netdevs, err := mirrored(c, bridge)
		for _, netdev := range netdevs {
			if err == nil {
				found[netdev], err = o.mirror(netdev, scope)
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
		NetlinkRequest: nftRequest(unix.NFT_MSG_GETTABLE, unix.NFPROTO_BRIDGE, unix.NLM_F_DUMP),
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

// mirror compares what copies a port's frames with what scope wants there.
func (o *observer) mirror(netdev string, scope plan.Mirrors) (plan.Mirror, error) {
	want, wanted := scope[netdev]
	indexes, err := o.host.indexes(want.Destinations)
	if err != nil || !wanted {
		return plan.Mirror{Altered: true}, err
	}
	port, err := o.host.link(netdev)
	if err != nil {
		return plan.Mirror{Altered: true}, ignoreAbsent(err)
	}
	slices.Sort(indexes)
	for _, at := range mirrorPlaces() {
		to, err := o.host.mirreds(at, port.index, mirredMirror)
		to = slices.DeleteFunc(to, func(index int) bool { return index == 0 }) // that is gone: nothing comes of it
		if slices.Sort(to); err != nil || !slices.Equal(to, indexes) {
			return plan.Mirror{Altered: true}, err
		}
	}
	return plan.Mirror{Destinations: want.Destinations}, nil
}

func mirrorPlaces() []filterPlace {
	return []filterPlace{{atIngress, plan.MirrorsIncoming}, {atEgress, plan.MirrorsOutgoing}}
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
		return a.netfilter(func(c *rtnl) error { return a.makeMirror(c, i, s) })
	case plan.DeleteMirror:
		return a.netfilter(func(c *rtnl) error { return a.deleteMirror(c, i, s) })
	}
	return a.endpointStep(i, s)
}

func (a *applier) makeMirror(c *rtnl, step int, s plan.MakeMirror) error {
	for _, name := range append(slices.Clone(s.Destinations), s.Bridge, s.Netdev) {
		if err := vswitch.ValidateNetdevName(name); err != nil {
			return fmt.Errorf("mirror: %w", err)
		}
	}
	indexes, err := a.host.indexes(s.Destinations)
	if err != nil {
		return err
	}
	port, err := a.host.link(s.Netdev)
	if err != nil {
		return ignoreAbsent(err)
	}
	var tx transaction
	mirrorTable(s.Bridge, s.Netdev).build(&tx, nil)
	if err := tx.send(c); err != nil {
		return explainMirror(err)
	}
	requests := []request{{NetlinkRequest: hook(port.index), explain: explainHook}}
	for _, at := range mirrorPlaces() {
		requests = append(requests, request{NetlinkRequest: at.filter(unix.RTM_DELTFILTER, 0, port.index), explain: noQueue})
		for _, to := range indexes {
			requests = append(requests, request{NetlinkRequest: copyTo(at, port.index, to), explain: explainMirror})
		}
	}
	for i := range requests {
		requests[i].step = step
	}
	err = a.host.do(requests)
	if _, gone := a.host.link(s.Netdev); isAbsent(gone) {
		return nil
	}
	return err
}

func (a *applier) deleteMirror(c *rtnl, step int, s plan.DeleteMirror) error {
	port, err := a.host.link(s.Netdev)
	switch {
	case err == nil:
		err = a.unhook(step, port.index, mirrorPlaces()...)
	case isAbsent(err):
		err = nil
	}
	if err == nil {
		err = a.flush()
	}
	if err != nil {
		return err
	}
	var tx transaction
	mirrorTable(s.Bridge, s.Netdev).remove(&tx)
	if err := tx.send(c); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete nftables table: %w", err)
	}
	return nil
}

// MirrorSymbols are what mirroring takes.
const MirrorSymbols = "CONFIG_NF_TABLES_BRIDGE, CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32, CONFIG_NET_CLS_ACT and CONFIG_NET_ACT_MIRRED"

// explainMirror knows a kernel that cannot copy, and a destination that has gone.
func explainMirror(err error) error {
	switch {
	case errors.Is(err, unix.ENODEV):
		return nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP), isUnsupported(err):
		return missingRules("one of "+MirrorSymbols, err)
	}
	return err
}
