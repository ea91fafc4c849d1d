package plan

import (
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Diff returns the steps that turn observed into desired, in an order in which
// each can be carried out. What observed has and desired lacks is removed, so
// observed must hold only what the caller answers for. Diff(s, s) is empty, and
// after the steps have been applied Diff of the two is empty.
func Diff(desired, observed State) []Step {
	d := differ{
		desired: desired, observed: observed, done: make(map[string]bool), left: make(map[string]bool),
		lost: lostHalves(desired.Ports, observed.Ports), taken: takenAlong(desired.Ports, observed.Ports),
	}
	d.rulesFirst(desired.Rules, observed.Rules)
	d.bridges(desired.Bridges, observed.Bridges)
	d.bonds()
	d.opens()
	d.twinsGone()
	d.twins()
	coming := d.goings(moves(desired.Hosts, d.observed.Hosts))
	for _, name := range sorted(observed.Ports) {
		want, keep := desired.Ports[name]
		switch have := observed.Ports[name]; {
		case !keep && d.taken[name]:
			// With its other end.
		case !keep:
			d.removePort(have)
		case elsewhere(want, have) || d.lost[name]:
			d.doomed = append(d.doomed, name)
		default:
			d.staleRoutes(want, have)
		}
	}
	d.returns()
	d.deleteDoomed() // before any new pair wants the name that an owner's end has
	for _, name := range inOrder(desired.Ports) {
		if have, exists := observed.Ports[name]; !d.joins(name) {
			d.port(desired.Ports[name], have, exists && !d.lost[name])
		}
	}
	d.awaitTrunks()
	d.lends()
	d.twinsUp()
	d.comings(coming)
	d.lateMembers()
	d.spreads()
	d.holds()
	d.spreadsGone()
	d.mirrors()
	d.shares()
	d.bondsGone()
	for _, name := range sorted(observed.Bridges) {
		if _, keep := desired.Bridges[name]; !keep {
			d.add(DeleteBridge{Name: name})
		}
	}
	d.rulesLast(desired.Rules, observed.Rules)
	if f := (Families{desired.Forward.IPv4 && !observed.Forward.IPv4, desired.Forward.IPv6 && !observed.Forward.IPv6}); f != (Families{}) {
		d.add(SetForwarding{Families: f})
	}
	d.filters(desired.Bridges, observed.Bridges)
	return d.steps
}

type differ struct {
	desired, observed State
	steps             []Step
	done              map[string]bool // ports that have been dealt with
	moving            map[string]bool // netdevs that the host moves from or to
	doomed            []string        // netdevs of ours that go
	lost              map[string]bool // trunks' ends without their other ends: see lostHalves
	taken             map[string]bool // ends that go with the pair they are of
	late              []string        // bonds that get members when those are free
	left              map[string]bool // NICs that have left the bond they were in
	trunk             []string        // ends of trunks that have been brought up, to be waited for
}

func (d *differ) add(s Step) { d.steps = append(d.steps, s) }

func (d *differ) bridges(want, have map[string]Bridge) {
	for _, name := range sorted(want) {
		switch now, exists := have[name]; {
		case !exists:
			d.add(CreateBridge{Bridge: want[name]})
		case now.besidesVLANs() != want[name].besidesVLANs():
			d.add(SetBridge{Bridge: want[name]})
		}
	}
}

// filters goes last: what a bridge that begins to filter VLANs drops is what no port was
// put into a VLAN for.
func (d *differ) filters(want, have map[string]Bridge) {
	for _, name := range sorted(want) {
		if now, exists := have[name]; exists && (now.VLANFiltering != want[name].VLANFiltering || now.Member) {
			d.add(FilterVLANs{Bridge: name, On: want[name].VLANFiltering})
		}
	}
}

func (b Bridge) besidesVLANs() Bridge {
	b.VLANFiltering, b.Member = false, false
	return b
}

// removePort deletes a pair of ours, also one whose other end is out of sight,
// and releases a netdev of somebody else, which bears no mark of ours.
func (d *differ) removePort(p Port) {
	if d.bonding(p.Name) || d.bondOf(p.Name) != "" {
		return // with its bond, or as that wants it
	}
	if p.Endpoint != nil || strings.HasPrefix(p.Alias, vswitch.AliasPrefix) {
		d.doomed = append(d.doomed, p.Name)
		return
	}
	d.forget(p, Port{})
	d.limits(Port{Name: p.Name}, p)
	if p.Bridge != "" || p.grouped() {
		d.release(p)
	}
}

// deleteDoomed removes all that goes at once. One alone is spared the marking.
func (d *differ) deleteDoomed() {
	switch len(d.doomed) {
	case 0:
	case 1:
		d.add(DeleteNetdev{Name: d.doomed[0]})
	default:
		d.add(DeleteNetdevs{Names: d.doomed})
	}
}

func (d *differ) release(p Port) {
	d.add(ReleasePort{Name: p.Name, Ungroup: p.grouped()})
}

// grouped reports that the netdev is in the group of a switch of ours.
func (p Port) grouped() bool { return p.Group&vswitch.GroupMask == vswitch.GroupMark }

// elsewhere reports that the pair is there but not its owner's end: it was
// renamed, moved, or is in another namespace than wanted. Such a pair is replaced.
func elsewhere(want, have Port) bool {
	return want.Endpoint != nil && (have.Endpoint == nil ||
		have.Endpoint.Netns != want.Endpoint.Netns || have.Endpoint.Name != want.Endpoint.Name)
}

// port brings one port to what is wanted. The owner's end comes up last, with
// its addresses on it: what it sends first finds the way back already there.
func (d *differ) port(want, have Port, exists bool) {
	if d.done[want.Name] {
		return
	}
	d.done[want.Name] = true
	if !want.Trunk {
		d.awaitTrunks()
	}
	if !exists || elsewhere(want, have) {
		have = Port{}
		if want.Endpoint != nil {
			d.add(CreateVeth{Port: want})
			have = born(want)
		}
	}
	d.forget(have, want)
	if have.Bridge != "" && have.Bridge != want.Bridge || want.Bridge == "" && have.grouped() {
		d.release(have)
	}
	if bond := d.bondOf(want.Name); bond != "" && want.Bridge != "" && want.Bridge != bond {
		d.leave(bond, Member{Name: want.Name})
	}
	d.limits(want, have)
	if !samePort(want, have) {
		d.add(SetPort{Port: want, Leave: leaves(want, have)})
		if want.Endpoint == nil && have.Bridge == want.Bridge && len(want.VLANs.All().Minus(have.VLANs.All())) > 0 {
			d.repoint(d.macOf(want.Name))
		}
	}
	d.learn(want, have)
	if want.Trunk && want.Up && (!have.Up || have.Bridge != want.Bridge) {
		d.trunk = append(d.trunk, want.Name)
	}
	if want.Endpoint != nil && !want.Trunk {
		if want.Endpoint.Netns == "" {
			d.settings(want.Endpoint.Name)
		}
		d.endpoint(want.Name, *want.Endpoint, *have.Endpoint)
		if want.Up && want.Endpoint.Up && (!have.Up || !have.Endpoint.Up) {
			d.add(AwaitPort{Name: want.Name})
		}
	}
}

// leaves are the VLANs that a port is in and is not to be in.
func leaves(want, have Port) vswitch.VLANSet {
	if want.VLANs.IsZero() || want.Bridge != have.Bridge {
		return nil // a port that leaves its bridge leaves all its VLANs
	}
	return have.VLANs.All().Minus(want.VLANs.All())
}

// forget removes entries that are not wanted, of a VLAN before the port leaves that.
func (d *differ) forget(have, want Port) {
	for _, mac := range have.FDB {
		if !slices.Contains(want.FDB, mac) {
			d.add(DeleteFDB{Port: have.Name, MAC: mac})
			continue
		}
		for id := range leaves(want, have).All() {
			d.add(DeleteFDB{Port: have.Name, MAC: mac, VLAN: id})
		}
	}
	for _, e := range have.FDBIn {
		if !slices.Contains(want.FDBIn, e) {
			d.add(DeleteFDB{Port: have.Name, MAC: e.MAC, VLAN: e.VLAN})
		}
	}
}

// learn adds entries that are wanted.
func (d *differ) learn(want, have Port) {
	joins := want.VLANs.All().Minus(have.VLANs.All())
	for _, mac := range want.FDB {
		known := slices.Contains(have.FDB, mac) && want.Bridge == have.Bridge && (have.VLANs.IsZero() || len(joins) == 0)
		if !known && !d.joining(mac) {
			d.add(AddFDB{Port: want.Name, MAC: mac})
		}
	}
	for _, e := range want.FDBIn {
		if !slices.Contains(have.FDBIn, e) || want.Bridge != have.Bridge {
			d.add(AddFDB{Port: want.Name, MAC: e.MAC, VLAN: e.VLAN})
		}
	}
}

// staleRoutes removes routes that are not wanted, or wanted otherwise. They all go
// before any is added: two ends in one namespace may swap a destination.
func (d *differ) staleRoutes(want, have Port) {
	if want.Endpoint == nil {
		return
	}
	at := At{Port: want.Name, Netns: want.Endpoint.Netns, Name: want.Endpoint.Name}
	d.dropRoutes(at, have.Endpoint.Routes, want.Endpoint.Routes)
}

// born is a port as CreateVeth leaves it.
func born(p Port) Port {
	e := p.Endpoint
	return Port{
		Name: p.Name, Bridge: p.Bridge, Group: p.Group, MTU: p.MTU, MAC: p.MAC,
		Learning: true, Flood: true,
		Endpoint: &Endpoint{Netns: e.Netns, Name: e.Name, MAC: e.MAC, MTU: e.MTU},
	}
}

// samePort compares what SetPort sets. A MAC, an alias or a group left out is
// somebody else's: a NIC keeps its own.
func samePort(want, have Port) bool {
	if want.MTU != have.MTU || want.Up != have.Up || !want.MAC.IsZero() && want.MAC != have.MAC {
		return false
	}
	if want.Bridge == "" {
		return true
	}
	return want.Bridge == have.Bridge &&
		(want.Alias == "" || want.Alias == have.Alias) && (want.Group == 0 || want.Group == have.Group) &&
		want.Learning == have.Learning && want.Flood == have.Flood && want.Locked == have.Locked &&
		want.Isolated == have.Isolated && want.NoBroadcast == have.NoBroadcast && want.NoMulticast == have.NoMulticast &&
		(want.VLANs.IsZero() || want.VLANs.Equal(have.VLANs))
}

// endpoint brings an owner's end to what is wanted. The MTU comes first, because
// below IPv6's minimum there is no IPv6 to configure. It goes up before it gets addresses:
// a netdev that goes up with some makes the routes to their subnets with what memory is at
// hand, and where that is not enough, as after thousands of containers at once, one is
// missing and nobody is told (addrconf_permanent_addr, GFP_ATOMIC).
func (d *differ) endpoint(port string, want, have Endpoint) {
	at := At{Port: port, Netns: want.Netns, Name: want.Name}
	renewed := want.MAC != have.MAC
	if want.MTU != have.MTU {
		early := want
		early.Up = have.Up
		d.add(SetEndpoint{Port: port, Endpoint: early})
		have.MAC, have.MTU, have.Alias = want.MAC, want.MTU, want.Alias
	}
	if want.Bond != "" && want.Bond != have.Bond {
		d.add(JoinTwin{Port: port, Endpoint: want})
		have.MAC, have.Up = want.MAC, true
	}
	for _, a := range have.Addresses {
		if !slices.ContainsFunc(want.Addresses, a.same) {
			d.add(DeleteAddress{At: at, Address: a})
			have = have.without(a)
		}
	}
	if want.MAC != have.MAC || want.Alias != have.Alias || want.Up != have.Up || want.NoLinkLocal && !have.NoLinkLocal {
		d.add(SetEndpoint{Port: port, Endpoint: want})
	}
	for _, a := range want.Addresses {
		if !slices.ContainsFunc(have.Addresses, a.same) {
			d.add(AddAddress{At: at, Address: a})
		}
	}
	if renewed {
		d.neighbours(want)
	}
	for _, r := range want.Routes {
		if !slices.ContainsFunc(have.Routes, func(h vswitch.Route) bool { return sameRoute(r, h) }) {
			d.add(AddRoute{At: at, Route: r})
		}
	}
}

func (a Address) same(other Address) bool { return a.Prefix == other.Prefix }

// without is what is sure to be left of e after an address has been deleted. An
// IPv4 address may take those of its subnet along (net.ipv4.conf.*.promote_secondaries
// is off by default), and the last one takes the netdev's IPv4 routes.
func (e Endpoint) without(gone Address) Endpoint {
	is4 := gone.Prefix.Addr().Is4()
	e.Addresses = slices.DeleteFunc(slices.Clone(e.Addresses), func(a Address) bool {
		return a.same(gone) || is4 && a.Prefix.Masked() == gone.Prefix.Masked()
	})
	if is4 && !slices.ContainsFunc(e.Addresses, func(a Address) bool { return a.Prefix.Addr().Is4() }) {
		e.Routes = slices.DeleteFunc(slices.Clone(e.Routes), func(r vswitch.Route) bool { return r.Dst.Addr().Is4() })
	}
	return e
}

// sameRoute compares routes by what they say; a value left out is the kernel's
// to choose, and an IPv6 route has no scope, whatever was asked for.
func sameRoute(want, have vswitch.Route) bool {
	return RouteKey(want) == RouteKey(have) && want.Gateway == have.Gateway &&
		want.MTU == have.MTU && want.AdvMSS == have.AdvMSS &&
		(want.Scope == nil || want.Dst.Addr().Is6() || have.Scope != nil && *want.Scope == *have.Scope)
}
