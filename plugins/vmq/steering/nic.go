package steering

import (
	"cmp"
	"log/slog"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel/ethtool"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// nic is a NIC as its driver says it is.
type nic struct {
	ethtool.Adapter
	id       string
	driver   string
	readable bool           // what is below is what the driver said
	hopeless bool           // it never has queues for ports, whatever anybody sets
	missing  vswitch.Reason // why it has no queues for ports; "" where it has
	detail   string         // what that is about
	queues   int
	ntuple   ethtool.Switch
	rules    ethtool.Rules
	table    []uint32
}

// identify says what each NIC is called for ever: where it is, and which one of several
// there.
func identify(adapters []ethtool.Adapter) []string {
	there := map[string]int{}
	for _, a := range adapters {
		there[a.Address]++
	}
	ids := make([]string, len(adapters))
	for i, a := range adapters {
		if ids[i] = a.Address; there[a.Address] > 1 {
			ids[i] += "/" + cmp.Or(a.Port, a.Netdev)
		}
	}
	return ids
}

// examine asks a NIC's driver for everything. One that is gone meanwhile is not there.
func (p *Provider) examine(id string, a ethtool.Adapter) (nic, bool) {
	n := nic{Adapter: a, id: id}
	var err error
	if n.driver, err = p.hardware.Driver(a.Netdev); ethtool.Gone(err) {
		return nic{}, false
	}
	cannot := func(reason vswitch.Reason, detail string) (nic, bool) {
		n.missing, n.detail = reason, detail
		return n, true
	}
	if n.ntuple, err = p.hardware.NTuple(a.Netdev); err == nil && n.ntuple.Fixed && !n.ntuple.On {
		n.hopeless = true
		return cannot(vswitch.NoDriverSupport, "its driver has no n-tuple filters")
	}
	for _, read := range []func() error{
		func() (err error) { n.rules, err = p.hardware.Rules(a.Netdev); return err },
		func() (err error) { n.queues, err = p.hardware.Queues(a.Netdev); return err },
		func() (err error) { n.table, err = p.hardware.Indirection(a.Netdev); return err },
	} {
		if err == nil {
			err = read()
		}
	}
	n.readable = err == nil
	switch {
	case ethtool.Gone(err):
		return nic{}, false
	case ethtool.Unsupported(err):
		return cannot(vswitch.NoDriverSupport, "its driver has no rules for received frames")
	case err != nil:
		slog.Warn("ask a NIC's driver", "nic", a.Netdev, "err", err)
		return cannot(vswitch.Refused, err.Error())
	case n.queues < 2:
		return cannot(vswitch.NoDriverSupport, "it receives with one queue; see `ethtool -L "+a.Netdev+"`")
	case n.rules.Slots == 0 && !n.rules.Placed:
		return cannot(vswitch.NoDriverSupport, "its driver says neither how many rules there can be, nor places them itself")
	case p.unfit[a.Index]:
		return cannot(vswitch.NoDriverSupport, "its driver does not steer by MAC address")
	}
	return n, true
}

// find is the rule that serves a grant, if it is there.
func (n nic) find(g grant) (ethtool.Rule, bool) {
	i := slices.IndexFunc(n.rules.All, func(r ethtool.Rule) bool {
		return r.Plain && r.MAC == g.MAC && r.VLAN == g.RuleVLAN && r.Queue == g.Queue
	})
	if i < 0 || g.Queue >= n.queues {
		return ethtool.Rule{}, false
	}
	return n.rules.All[i], true
}

// foreign are the rules of others.
func (n nic) foreign(held []grant) []ethtool.Rule {
	ours := map[uint32]bool{}
	for _, g := range held {
		if r, there := n.find(g); there {
			ours[r.Location] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(n.rules.All), func(r ethtool.Rule) bool { return ours[r.Location] })
}

// free is the queue for one more port: the one that it had before, or the last that nobody's
// rule steers to, so that those for everybody else stay together at the front. There is none
// where rules have run out.
func (n nic) free(held []grant, before int) (int, bool) {
	if n.rules.Slots > 0 && len(n.rules.All) >= n.rules.Slots {
		return 0, false
	}
	taken := map[int]bool{}
	for _, g := range held {
		taken[g.Queue] = true
	}
	for _, r := range n.foreign(held) {
		taken[r.Queue] = true
	}
	if before >= 1 && before < n.queues && !taken[before] {
		return before, true
	}
	for q := n.queues - 1; q >= 1; q-- {
		if !taken[q] {
			return q, true
		}
	}
	return 0, false
}

// capability is what the NIC can do for ports. Queue 0 is nobody's own.
func (n nic) capability(held []grant) vswitch.Capability {
	if n.missing != "" {
		return vswitch.Capability{Missing: n.missing}
	}
	foreign := n.foreign(held)
	queues := map[int]bool{}
	for _, r := range foreign {
		if r.Queue >= 1 && r.Queue < n.queues {
			queues[r.Queue] = true
		}
	}
	capacity, free := n.queues-1, n.queues-1-len(queues)
	if n.rules.Slots > 0 {
		capacity = min(capacity, n.rules.Slots)
		free = max(0, min(free, n.rules.Slots-len(foreign)))
	}
	return vswitch.Capability{Capacity: capacity, Foreign: max(0, capacity-free)}
}

// told is the NIC as the host sees it.
func (n nic) told(held []grant) sdk.NIC {
	return sdk.NIC{
		ID: n.id, Netdev: n.Netdev, Driver: n.driver, Link: n.Link,
		Capabilities: vswitch.Capabilities{VMQ: n.capability(held)},
	}
}
