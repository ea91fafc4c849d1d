package kernel

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// PortCounters are what was counted at one netdev.
type PortCounters struct {
	Counters
	Guards  GuardDrops
	Sources Sources
}

// GuardDrops are the frames that came in by a netdev and that guards have dropped.
type GuardDrops struct{ DHCP, Router, Address, Storm uint64 }

// PortCounters reads all netdevs in one dump, and each set that counts in one.
func (l *Linux) PortCounters(ctx context.Context) (map[string]PortCounters, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all := make(map[string]PortCounters)
	sources, err := l.sources()
	if err != nil {
		return nil, err
	}
	err = l.host(func(c *rtnl) error {
		r := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
		r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		return c.dump(r, func() { clear(all) }, func(b []byte) {
			name, index, counters := parseCounted(b)
			all[name] = PortCounters{Counters: counters, Sources: sources[index]}
		})
	})
	if err != nil {
		return nil, err
	}
	drops, err := l.guardDrops()
	for netdev, d := range drops {
		if c, there := all[netdev]; there {
			c.Guards = d
			all[netdev] = c
		}
	}
	return all, err
}

// parseCounted reads no more of an RTM_NEWLINK message than it needs.
func parseCounted(b []byte) (name string, index uint32, c Counters) {
	if len(b) < unix.SizeofIfInfomsg {
		return "", 0, c
	}
	index = uint32(nl.DeserializeIfInfomsg(b).Index)
	for kind, v := range attributes(b[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			name = text(v)
		case unix.IFLA_STATS64:
			c = parseCounters(v)
		}
	}
	return name, index, c
}

// guardDrops reads what the elements of guarded ports have counted, by netdev. On a
// kernel that has no such sets there is nothing.
func (l *Linux) guardDrops() (map[string]GuardDrops, error) {
	drops := make(map[string]GuardDrops)
	err := l.ruleset(func(c *rtnl) error {
		clear(drops)
		for set, of := range map[string]func(*GuardDrops) *uint64{
			setDHCP:        func(d *GuardDrops) *uint64 { return &d.DHCP },
			setRouterGuard: func(d *GuardDrops) *uint64 { return &d.Router },
			setBound:       func(d *GuardDrops) *uint64 { return &d.Address },
			setStorm:       func(d *GuardDrops) *uint64 { return &d.Storm },
		} {
			err := eachElement(c, guardTable(), set, func(element []byte) {
				key, _ := parseElement(element)
				d := drops[text(key)]
				*of(&d) = elementCount(element)
				drops[text(key)] = d
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, vswitch.CapabilityMissing) {
		return nil, nil
	}
	return drops, err
}

// elementCount reads how many packets an element of a set has counted.
func elementCount(element []byte) (packets uint64) {
	for kind, v := range attributes(element) {
		switch kind {
		case unix.NFTA_SET_ELEM_EXPR:
			packets += countOf(v)
		case setElementExpressions:
			for _, expr := range attributes(v) {
				packets += countOf(expr)
			}
		}
	}
	return packets
}

// countOf reads a counter's packets; 0 of anything else.
func countOf(expr []byte) uint64 {
	name, data := exprParts(expr)
	for kind, v := range attributes(data) {
		if name == exprCounter && kind == unix.NFTA_COUNTER_PACKETS && len(v) == 8 {
			return binary.BigEndian.Uint64(v)
		}
	}
	return 0
}
