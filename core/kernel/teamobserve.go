package kernel

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file reads bonds and their members.

// bondAttributes is what a message says of a bond.
type bondAttributes struct {
	options plan.BondOptions
	primary int // index
	active  int // index
	partner vswitch.MAC
	ports   int    // members that LACP has in use
	group   uint32 // LACP's aggregator in use
}

// memberAttributes is what a message says of a bond's member.
type memberAttributes struct {
	member   bool
	backup   bool
	down     bool // as the monitor sees it
	failures uint32
	hasPrio  bool
	prio     int32
	group    uint32 // LACP's aggregator
	own      vswitch.MAC
}

func (b *bondAttributes) parse(data []byte) {
	var hash, reselect string
	for kind, v := range attributes(data) {
		switch kind {
		case nl.IFLA_BOND_MODE:
			b.options.Mode = word(bondModes(), number(v))
		case nl.IFLA_BOND_ACTIVE_SLAVE:
			b.active = int(number(v))
		case nl.IFLA_BOND_MIIMON:
			b.options.Monitor = int(number(v))
		case nl.IFLA_BOND_UPDELAY:
			b.options.UpDelay = int(number(v))
		case nl.IFLA_BOND_DOWNDELAY:
			b.options.DownDelay = int(number(v))
		case nl.IFLA_BOND_PRIMARY:
			b.primary = int(number(v))
		case nl.IFLA_BOND_PRIMARY_RESELECT:
			reselect = word(bondReselects(), number(v))
		case nl.IFLA_BOND_XMIT_HASH_POLICY:
			hash = word(bondHashes(), number(v))
		case nl.IFLA_BOND_MIN_LINKS:
			b.options.MinLinks = int(number(v))
		case nl.IFLA_BOND_AD_LACP_RATE:
			b.options.LACPSlow = number(v) == 0
		case nl.IFLA_BOND_AD_INFO:
			b.parseLACP(v)
		}
	}
	// Of the other modes the kernel shows defaults of no effect.
	switch b.options.Mode {
	case "active-backup":
		b.options.Reselect, b.options.MinLinks, b.options.LACPSlow = reselect, 0, false
	case "802.3ad":
		b.options.Hash = hash
	default:
		b.options.Hash, b.options.MinLinks, b.options.LACPSlow = hash, 0, false
	}
}

func (b *bondAttributes) parseLACP(info []byte) {
	for kind, v := range attributes(info) {
		switch {
		case kind == nl.IFLA_BOND_AD_INFO_AGGREGATOR:
			b.group = number(v)
		case kind == nl.IFLA_BOND_AD_INFO_NUM_PORTS:
			b.ports = int(number(v))
		case kind == nl.IFLA_BOND_AD_INFO_PARTNER_MAC && len(v) == len(b.partner):
			b.partner = vswitch.MAC(v)
		}
	}
}

func (m *memberAttributes) parse(data []byte) {
	m.member = true
	for kind, v := range attributes(data) {
		switch kind {
		case nl.IFLA_BOND_SLAVE_STATE:
			m.backup = number(v) == 1
		case nl.IFLA_BOND_SLAVE_MII_STATUS:
			m.down = number(v) == bondLinkDown || number(v) == bondLinkBack
		case nl.IFLA_BOND_SLAVE_LINK_FAILURE_COUNT:
			m.failures = number(v)
		case nl.IFLA_BOND_SLAVE_AD_AGGREGATOR_ID:
			m.group = number(v)
		case nl.IFLA_BOND_SLAVE_PERM_HWADDR:
			if len(v) == len(m.own) {
				m.own = vswitch.MAC(v)
			}
		case bondSlavePrio:
			m.hasPrio, m.prio = true, int32(number(v))
		}
	}
}

// bond reads a bond that is there, with all its members, also those that scope lacks.
func (o *observer) bond(name string, scope plan.Bond, seen *plan.State) error {
	l, err := o.host.link(name)
	if isAbsent(err) || err == nil && l.kind != "bond" {
		return nil
	}
	if err != nil {
		return err
	}
	b := plan.Bond{
		Name: name, MAC: l.mac, MTU: l.mtu, Alias: l.alias, Up: l.up, Options: l.bond.options,
		LinkLocal: !l.noAddrGen && noLinkLocal(l.mtu) != nil,
	}
	members, err := o.host.members(l.index)
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.index == l.bond.primary {
			b.Options.Primary = m.name
		}
		found := plan.Member{Name: m.name, Prio: int(m.member.prio)}
		for _, wanted := range slices.Concat(scope.Held, scope.Members) {
			if wanted.Name == m.name {
				found.Released = wanted.Released
				if !m.member.hasPrio {
					found.Prio = wanted.Prio
				}
			}
		}
		b.Members = append(b.Members, found)
	}
	for _, wanted := range scope.Held {
		nic, err := o.host.link(wanted.Name)
		if err != nil && !isAbsent(err) {
			return err
		}
		if err == nil && nic.up && nic.master == 0 {
			b.Held = append(b.Held, wanted)
		}
	}
	if seen.Bonds == nil {
		seen.Bonds = make(map[string]plan.Bond)
	}
	seen.Bonds[name] = b
	return nil
}

// Team reads a bond and its members as they are now.
func (l *Linux) Team(ctx context.Context, name string) (TeamState, error) {
	var t TeamState
	err := l.host(func(c *rtnl) error {
		bond, err := c.link(name)
		if isAbsent(err) || err == nil && bond.kind != "bond" {
			return &vswitch.Error{Kind: vswitch.NotFound, Object: "team " + name, Err: errors.New("its netdev is not there")}
		}
		if err != nil {
			return err
		}
		members, err := c.members(bond.index)
		inOrder(name, members)
		t = teamState(bond, members)
		return err
	})
	if err == nil {
		err = ctx.Err()
	}
	return t, err
}

// counted is a link with what it has counted.
type counted struct {
	link
	carrier bool
	Counters
}

// members lists the netdevs that have a master, in the order of their numbers.
func (c *rtnl) members(master int) (all []counted, err error) {
	r := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	r.AddData(uint32Attribute(unix.IFLA_MASTER, master))
	err = c.dump(r, func() { all = nil }, func(b []byte) {
		m := counted{link: parseLink(b)}
		if m.master != master {
			return
		}
		m.carrier = nl.DeserializeIfInfomsg(b).Flags&unix.IFF_LOWER_UP != 0
		for kind, v := range attributes(b[unix.SizeofIfInfomsg:]) {
			if kind == unix.IFLA_STATS64 {
				m.Counters = parseCounters(v)
			}
		}
		all = append(all, m)
	})
	return all, err
}

// parseCounters reads the first eight of struct rtnl_link_stats64.
func parseCounters(v []byte) (c Counters) {
	for i, field := range []*uint64{&c.RxPackets, &c.TxPackets, &c.RxBytes, &c.TxBytes, &c.RxErrors, &c.TxErrors, &c.RxDropped, &c.TxDropped} {
		if len(v) >= 8*(i+1) {
			*field = nl.NativeEndian().Uint64(v[8*i:])
		}
	}
	return c
}

func teamState(bond link, members []counted) TeamState {
	t := TeamState{Up: bond.up, Partner: bond.bond.partner}
	for _, m := range members {
		s := MemberState{
			Name: m.name, MAC: m.member.own, Up: m.up, Link: m.carrier && !m.member.down, Failures: int(m.member.failures),
			Speed: linkSpeed(m.name), Counters: m.Counters,
		}
		switch bond.bond.options.Mode {
		case "active-backup":
			s.InUse = m.index == bond.bond.active
		case "802.3ad":
			s.InUse = s.Link && !m.member.backup && m.member.group == bond.bond.group
		default:
			s.InUse = s.Link
		}
		if m.index == bond.bond.active {
			t.Active = m.name
		}
		t.Members = append(t.Members, s)
	}
	return t
}

// inOrder sorts members by when they joined, which netlink does not tell: bonding's own
// file lists them so.
func inOrder(bond string, members []counted) {
	file, err := os.ReadFile("/proc/thread-self/net/bonding/" + bond)
	if err != nil {
		return // by number, then
	}
	turn := make(map[string]int)
	for line := range strings.Lines(string(file)) {
		if name, is := strings.CutPrefix(line, "Slave Interface: "); is {
			turn[strings.TrimSpace(name)] = len(turn)
		}
	}
	slices.SortStableFunc(members, func(a, b counted) int { return cmp.Compare(turn[a.name], turn[b.name]) })
}
