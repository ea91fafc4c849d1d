package plan

import (
	"net/netip"
	"slices"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file puts the steps in order by which the host moves from one netdev to
// another while its connections live: all is made at the one before any of it is
// broken at the other, and in between the NIC goes into its bridge, or out.

// move is the way of the host to one netdev from others.
type move struct {
	to    string // "" where the host leaves netdevs and comes to none
	carry []Item
	drop  map[string][]Item // by netdev, in the order in which they go
}

// moves finds what of the host is not where it should be.
func moves(want, have map[string]Addressing) (all []move) {
	for _, netdev := range append(sorted(want), "") {
		m := move{to: netdev, drop: make(map[string][]Item)}
		for _, i := range want[netdev].Items {
			if i.Kind != ItemResidue && !have[netdev].has(i) {
				m.carry = append(m.carry, i)
			}
		}
		for from, there := range have {
			for _, i := range slices.Backward(there.Items) {
				if !i.Passing && !want[from].has(i) && goesTo(want, i) == netdev {
					m.drop[from] = append(m.drop[from], i)
				}
			}
		}
		if len(m.carry)+len(m.drop) > 0 {
			all = append(all, m)
		}
	}
	return all
}

// goesTo is the netdev that is to have an item, or "".
func goesTo(want map[string]Addressing, i Item) string {
	for _, netdev := range sorted(want) {
		if want[netdev].has(i) {
			return netdev
		}
	}
	return ""
}

// goings are the moves away from our netdevs, which go before those do. It returns
// the other ones: they wait for the netdevs that they lead to.
func (d *differ) goings(all []move) (coming []move) {
	d.moving = make(map[string]bool)
	for _, m := range all {
		d.moving[m.to] = true
		for netdev := range m.drop {
			d.moving[netdev] = true
		}
	}
	for _, m := range all {
		if d.ours(m.to) {
			coming = append(coming, m)
			continue
		}
		nic := func() {
			if want, there := d.desired.Ports[m.to]; there && want.Bridge == "" {
				d.port(want, d.observed.Ports[m.to], true)
			}
		}
		d.outOfBond(m.to)
		if have, there := d.observed.Ports[m.to]; there && !have.Up {
			nic() // nothing can be added to it while it is down
		}
		d.host(m, nic)
		d.settings(m.to)
	}
	return coming
}

// comings ends the plan for ports: the NICs go into their bridges, and the host moves
// to ours.
func (d *differ) comings(coming []move) {
	var joined []string
	join := func() {
		for _, name := range sorted(d.desired.Ports) {
			if !d.joins(name) || d.done[name] {
				continue
			}
			have, exists := d.observed.Ports[name]
			d.port(d.desired.Ports[name], have, exists)
			d.point(d.macOf(name))
			joined = append(joined, name)
		}
	}
	for _, m := range coming {
		d.host(m, join)
	}
	join()
	for _, netdev := range sorted(d.desired.Hosts) {
		if !d.ours(netdev) {
			d.settings(netdev)
		} else if len(coming) == 0 && len(joined) > 0 {
			d.announce(netdev)
		}
	}
}

// ours reports whether a netdev of the host is the end of a pair that is to be.
func (d *differ) ours(netdev string) bool {
	for _, p := range d.desired.Ports {
		if p.Endpoint != nil && p.Endpoint.Netns == "" && p.Endpoint.Name == netdev {
			return true
		}
	}
	return false
}

// joins reports whether a netdev that has the address of one of our ports goes into
// its bridge. The bridge then takes frames to that address for itself (an entry of its
// own for each of its ports) until we point the entry to our port again: the NIC goes
// last.
func (d *differ) joins(name string) bool {
	want, have := d.desired.Ports[name], d.observed.Ports[name]
	if want.Endpoint != nil || want.Bridge == "" || want.Bridge == have.Bridge || d.macOf(name).IsZero() {
		return false
	}
	for _, p := range d.desired.Ports {
		if p.Name != name && slices.Contains(p.FDB, d.macOf(name)) {
			return true
		}
	}
	return false
}

// macOf is the address that a netdev has, or that a bond has as soon as it is as wanted:
// before that it may have one that the kernel made up.
func (d *differ) macOf(name string) vswitch.MAC {
	if want, bond := d.desired.Bonds[name]; bond {
		return want.MAC
	}
	return d.observed.Ports[name].MAC
}

// joining reports whether a netdev with the address is to go into its bridge.
func (d *differ) joining(mac vswitch.MAC) bool {
	for name := range d.desired.Ports {
		if d.macOf(name) == mac && d.joins(name) && !d.done[name] {
			return true
		}
	}
	return false
}

// point points the entry of an address to our port.
func (d *differ) point(mac vswitch.MAC) {
	for _, name := range sorted(d.desired.Ports) {
		if p := d.desired.Ports[name]; p.Endpoint != nil && slices.Contains(p.FDB, mac) {
			d.add(AddFDB{Port: name, MAC: mac})
		}
	}
}

// repoint points the entry of an address to our port again after the bridge has taken the
// address for its own: it does so when a netdev with that address goes into a VLAN, and
// when a bridge's port gets the address.
func (d *differ) repoint(mac vswitch.MAC) {
	for _, name := range sorted(d.desired.Ports) {
		p, was := d.desired.Ports[name], d.observed.Ports[name]
		if p.Endpoint != nil && slices.Contains(p.FDB, mac) && slices.Contains(was.FDB, mac) {
			d.add(AddFDB{Port: name, MAC: mac})
		}
	}
}

// host makes before it breaks: what comes is there before anything goes. The NIC goes
// into its bridge before that, and comes out in the middle: answers to what the host
// asks by a netdev come in where the frames do.
func (d *differ) host(m move, nic func()) {
	end := d.relax(m)
	inward := d.ours(m.to)
	if inward {
		nic()
	}
	for _, i := range m.carry {
		d.add(CarryItem{Netdev: m.to, Item: i})
	}
	if !inward {
		nic()
	}
	for _, netdev := range sorted(m.drop) {
		for _, i := range m.drop[netdev] {
			d.add(DropItem{Netdev: netdev, Item: i})
		}
	}
	for _, netdev := range sorted(end) {
		d.add(SetSettings{Netdev: netdev, Settings: map[string]string{rpFilter: end[netdev]}})
	}
	if m.to != "" {
		d.announce(m.to)
	}
}

// neighbours adds again what a netdev of the host forgets with its MAC address, even
// what somebody has configured.
func (d *differ) neighbours(e Endpoint) {
	if e.Netns != "" {
		return
	}
	for _, i := range d.desired.Hosts[e.Name].Items {
		if i.Kind == ItemNeighbour && d.observed.Hosts[e.Name].has(i) {
			d.add(CarryItem{Netdev: e.Name, Item: i})
		}
	}
}

func (d *differ) announce(netdev string) {
	var addresses []netip.Addr
	for _, i := range d.desired.Hosts[netdev].Items {
		if i.Kind == ItemAddress {
			addresses = append(addresses, i.Prefix.Addr())
		}
	}
	if len(addresses) > 0 {
		d.add(Announce{Netdev: netdev, Addresses: addresses})
	}
}

// rpFilter is the setting that drops frames which come in by another netdev than
// their answers go out by: while two have the host's addresses, many do.
const (
	rpFilter      = "ipv4/rp_filter"
	rpFilterLoose = "2"
)

// relax loosens the filter of every netdev of a move and returns what they are to
// have in the end.
func (d *differ) relax(m move) map[string]string {
	end := make(map[string]string)
	for _, netdev := range append(sorted(m.drop), m.to) {
		value, wanted := d.desired.Hosts[netdev].Settings[rpFilter]
		if !wanted {
			continue
		}
		if value != rpFilterLoose {
			end[netdev] = value
		}
		if d.observed.Hosts[netdev].Settings[rpFilter] != rpFilterLoose {
			d.add(SetSettings{Netdev: netdev, Settings: map[string]string{rpFilter: rpFilterLoose}})
		}
	}
	return end
}

// settings writes those that a netdev has not as wanted: of a NIC after the host has
// left it, of a netdev of ours before it comes up.
func (d *differ) settings(netdev string) {
	wrong := missing(d.desired.Hosts[netdev].Settings, d.observed.Hosts[netdev].Settings)
	if d.moving[netdev] {
		delete(wrong, rpFilter) // relax sees to it
	}
	if len(wrong) > 0 {
		d.add(SetSettings{Netdev: netdev, Settings: wrong})
	}
}
