package plan

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// State is a set of objects in the kernel, each under its name.
type State struct {
	Bridges map[string]Bridge
	Bonds   map[string]Bond
	Ports   map[string]Port // by netdev name
	Rules   Rules
	Spreads map[string]Spread // by team
	// Mirrors are those of switches, by the name of the switch's bridge. A switch that is to
	// have none is in here with none, so that those that it has are found.
	Mirrors map[string]Mirrors
	// Shares are those of uplinks, by netdev: also of one that is to have none, so that what
	// it has is found.
	Shares  map[string]Sharing
	Forward Families // IP forwarding of the host, never switched off by us
	// Hosts is what the host has on its netdevs, by their names, as far as we move it. A
	// netdev that is to have nothing of it is in here with nothing. One that is not there
	// may have rules that name it.
	Hosts map[string]Addressing
	// Lent are netdevs that owners have in their own namespaces, by port.
	Lent map[string]Lent
	// Twins are bonds in owners' namespaces, of the end of a pair and of what is lent, by port.
	Twins map[string]Endpoint
}

// Families is a choice of address families.
type Families struct{ IPv4, IPv6 bool }

// Bridge is a switch's bridge netdev. The last fields are the same for all of ours,
// and for all but VLANFiltering zero is what we want: they are here so that drift shows.
type Bridge struct {
	Name  string
	MAC   vswitch.MAC
	MTU   int
	Alias string
	Up    bool

	STP          bool
	ForwardDelay int  // seconds/USER_HZ; 0, or a new port is deaf for 30 s
	Snooping     bool // multicast snooping makes every ADD walk all ports
	DefaultPVID  int  // 0, or VLAN 1 leaks between ports
	LinkLocal    bool // an IPv6 link-local address would open the switch to the host

	// VLANFiltering keeps VLANs apart, where the kernel can.
	VLANFiltering bool
	// Member says that the bridge itself is in a VLAN, and with it the host: not wanted.
	Member bool
}

// Port is a netdev that is, or is to become, a port of a bridge.
type Port struct {
	Name   string
	Bridge string // "" while it is no bridge's port
	Alias  string
	Group  uint32
	MTU    int
	Up     bool
	// MAC is the netdev's own address; zero: leave it as it is.
	MAC vswitch.MAC
	// Learning, Flood (of unknown unicast) and Locked are the bridge's flags.
	Learning, Flood, Locked bool
	// Isolated ports do not hear each other, muted ones hear no broadcast or no
	// multicast: of ours only trunks are muted, for the sake of relays.
	Isolated, NoBroadcast, NoMulticast bool
	// VLANs are those that the port is in; zero: leave them as they are.
	VLANs vswitch.Membership
	// FDB are the addresses that static, sticky entries point to the port for, in all
	// VLANs that the port is in.
	FDB []vswitch.MAC
	// FDBIn are such entries in one VLAN alone: a trunk is in more than its guests are.
	FDBIn []Entry
	// Limits hold back what goes by the port; zero of a scope: do not look.
	Limits Limits
	// Endpoint is the other end of a veth pair that is ours to make and remove.
	// Nil for a netdev of somebody else: an uplink, a tap.
	Endpoint *Endpoint
	// Trunk marks the two ends of a pair that joins bridges of one switch. Both are
	// ports; the one that is the other's Endpoint has none itself. It is no property
	// of a netdev, and is not observed.
	Trunk bool
}

// Entry is an address in a VLAN.
type Entry struct {
	MAC  vswitch.MAC
	VLAN int
}

// Endpoint is the end of a veth pair that the owner sees.
type Endpoint struct {
	Netns string // path of the owner's namespace; "" for the host's own
	Name  string
	MAC   vswitch.MAC
	MTU   int
	Alias string
	Up    bool
	// Bond is the twin that the end is a member of, in the same namespace; "" for none.
	Bond string
	// NoLinkLocal keeps the kernel from making an IPv6 link-local address for it.
	NoLinkLocal bool
	Addresses   []Address
	Routes      []vswitch.Route
	// Shadowed are routes of the scope, observed to be another netdev's: the first
	// one to a destination stays. No part of what is desired.
	Shadowed []vswitch.Route
}

// Address is an address on an endpoint. NoDAD skips duplicate address detection
// (IFA_F_NODAD); it is how an address is added, and no part of its identity.
type Address struct {
	Prefix netip.Prefix
	NoDAD  bool
}

// Rules are the elements of the sets in Patchbay's nftables tables. The tables
// themselves and their chains are constant and belong to Base.
type Rules struct {
	// Base tells that the tables are there, whole.
	Base bool
	// NoNAT tells that the kernel can have no table for masquerade: Base is the other
	// one alone.
	NoNAT bool
	// Masquerade holds host ends whose traffic leaves under the host's address.
	Masquerade map[string]Families
	// Quiet holds the netdev groups of switches without an uplink: multicast
	// listener reports and duplicate address probes stop at their ports.
	Quiet map[uint32]bool
	// Router sends a group's router solicitations to one address.
	Router map[uint32]vswitch.MAC
	// Host holds the addresses of host ports. Frames to and from them are the
	// host's own stack's to track: where br_netfilter is on, a bridge that tracked
	// them first would settle their address translation as "none".
	Host map[vswitch.MAC]bool
	// Guard binds ports to a source address where the kernel cannot lock them.
	Guard map[string]vswitch.MAC
	// Guards are what is kept from leaving ports, in a table of its own, which GuardBase
	// tells to be there, whole. Without a guarded port there need be none.
	Guards    map[string]Guards
	GuardBase bool
	// ACLs are what passes of what ports send and get, in a table of its own, which
	// ACLBase tells to be there, whole. Without a port that has one there need be none.
	ACLs    map[string]ACL
	ACLBase bool
	// Apart holds the ports that do not hear each other. Where they are ports of one
	// bridge its flag is enough; this is for those on other segments.
	Apart map[string]bool
	// Priority holds the ports whose owners' tags keep their priority.
	Priority map[string]bool
	// ApartIn holds uplinks with the VLANs whose frames are from isolated ports
	// elsewhere: those of Apart do not hear them either.
	ApartIn map[Inlet]bool
	// Closed holds uplinks with the VLANs that no frame may name there: those of untagged
	// traffic, which a tag from outside would lead into.
	Closed map[Inlet]bool
	// Own holds what does not come in by a team a second time. In a scope one without an
	// address stands for all of its team.
	Own map[Own]bool
}

// Inlet is a VLAN on a netdev.
type Inlet struct {
	Netdev string
	VLAN   int
}

// Empty reports whether the state names nothing at all.
func (s State) Empty() bool {
	return len(s.Bridges) == 0 && len(s.Bonds) == 0 && len(s.Ports) == 0 && len(s.Hosts) == 0 &&
		len(s.Spreads) == 0 && len(s.Mirrors) == 0 && len(s.Shares) == 0 && s.Rules.Empty() && s.Forward == Families{}
}

// Empty reports whether there is no rule.
func (r Rules) Empty() bool {
	return !r.Base && !r.GuardBase && !r.ACLBase && len(r.ACLs) == 0 && len(r.Masquerade) == 0 && len(r.Quiet) == 0 && len(r.Router) == 0 && len(r.Host) == 0 && len(r.Guard) == 0 &&
		len(r.Guards) == 0 && len(r.Apart) == 0 && len(r.Priority) == 0 && len(r.ApartIn) == 0 && len(r.Closed) == 0 && len(r.Own) == 0
}

// Union names everything that a or b names; where both do, a's object stands,
// with b's addresses, routes and FDB entries beside its own. It is the scope to
// observe before going from b to a.
func Union(a, b State) State {
	u := State{
		Bridges: merge(a.Bridges, b.Bridges),
		Bonds:   mergeBonds(a.Bonds, b.Bonds),
		Ports:   merge(a.Ports, b.Ports),
		Hosts:   mergeHosts(a.Hosts, b.Hosts),
		Spreads: merge(a.Spreads, b.Spreads),
		Mirrors: merge(a.Mirrors, b.Mirrors),
		Shares:  merge(a.Shares, b.Shares),
		Lent:    merge(a.Lent, b.Lent),
		Twins:   merge(a.Twins, b.Twins),
		Forward: Families{a.Forward.IPv4 || b.Forward.IPv4, a.Forward.IPv6 || b.Forward.IPv6},
		Rules: Rules{
			Base:       a.Rules.Base || b.Rules.Base,
			NoNAT:      a.Rules.NoNAT || b.Rules.NoNAT,
			GuardBase:  a.Rules.GuardBase || b.Rules.GuardBase,
			Masquerade: merge(a.Rules.Masquerade, b.Rules.Masquerade),
			Quiet:      merge(a.Rules.Quiet, b.Rules.Quiet),
			Router:     merge(a.Rules.Router, b.Rules.Router),
			Host:       merge(a.Rules.Host, b.Rules.Host),
			Guard:      merge(a.Rules.Guard, b.Rules.Guard),
			Guards:     merge(a.Rules.Guards, b.Rules.Guards),
			ACLBase:    a.Rules.ACLBase || b.Rules.ACLBase,
			ACLs:       merge(a.Rules.ACLs, b.Rules.ACLs),
			Apart:      merge(a.Rules.Apart, b.Rules.Apart),
			Priority:   merge(a.Rules.Priority, b.Rules.Priority),
			ApartIn:    merge(a.Rules.ApartIn, b.Rules.ApartIn),
			Closed:     merge(a.Rules.Closed, b.Rules.Closed),
			Own:        merge(a.Rules.Own, b.Rules.Own),
		},
	}
	for name, p := range u.Ports {
		if other, ok := b.Ports[name]; ok {
			u.Ports[name] = p.with(other)
		}
	}
	return u
}

// with adds the addresses, routes and FDB entries of other that p lacks.
func (p Port) with(other Port) Port {
	p.FDB = appendNew(p.FDB, other.FDB, func(m vswitch.MAC) vswitch.MAC { return m })
	p.FDBIn = appendNew(p.FDBIn, other.FDBIn, func(e Entry) Entry { return e })
	if p.VLANs.IsZero() {
		p.VLANs = other.VLANs
	}
	if !p.Limits.Any() {
		p.Limits = other.Limits
	}
	if p.Endpoint == nil {
		p.Endpoint = other.Endpoint
	} else if other.Endpoint != nil {
		e := *p.Endpoint
		e.Addresses = appendNew(e.Addresses, other.Endpoint.Addresses, Address.key)
		e.Routes = appendNew(e.Routes, other.Endpoint.Routes, RouteKey)
		p.Endpoint = &e
	}
	return p
}

func (a Address) key() netip.Prefix { return a.Prefix }

// RouteID is what makes a route another one for the kernel.
type RouteID struct {
	Dst             netip.Prefix
	Table, Priority int
}

// MainTable is RT_TABLE_MAIN, where a route goes that names no table.
const MainTable = 254

// RouteKey returns a route's identity. Without a priority an IPv6 route gets
// the kernel's default metric, 1024 (IP6_RT_PRIO_USER).
func RouteKey(r vswitch.Route) RouteID {
	id := RouteID{Dst: r.Dst.Masked(), Table: MainTable, Priority: r.Priority}
	if r.Table != nil && *r.Table != 0 {
		id.Table = *r.Table
	}
	if id.Priority == 0 && r.Dst.Addr().Is6() {
		id.Priority = 1024
	}
	return id
}

func merge[K comparable, V any](a, b map[K]V) map[K]V {
	if len(a)+len(b) == 0 {
		return nil
	}
	m := maps.Clone(b)
	if m == nil {
		m = make(map[K]V, len(a))
	}
	maps.Copy(m, a)
	return m
}

func appendNew[T any, K comparable](have, more []T, key func(T) K) []T {
	out := slices.Clone(have)
	for _, m := range more {
		if !slices.ContainsFunc(out, func(o T) bool { return key(o) == key(m) }) {
			out = append(out, m)
		}
	}
	return out
}
