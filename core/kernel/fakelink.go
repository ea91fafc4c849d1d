package kernel

import (
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// fakeNetns is a network namespace: its netdevs and its routes.
type fakeNetns struct {
	path   string
	id     NetnsID
	links  map[string]*fakeLink
	routes map[plan.RouteID]fakeRoute // a namespace has one route of a key, whatever its netdev
	rules  map[string][]plan.Item     // by the name of the netdev, which need not be there
}

// fakeLink is a netdev with all that the kernel hangs on it.
type fakeLink struct {
	Netdev
	ns        *fakeNetns
	group     uint32
	master    *fakeLink
	peer      *fakeLink // of a veth
	addresses []plan.Address
	// What the host has on it but for rules, and net.ipv4.conf and net.ipv6.conf of it.
	items       []plan.Item
	settings    map[string]string
	noLinkLocal bool
	counters    PortCounters

	vfs    map[int]vswitch.MAC // administrative addresses, by number
	letIn  []vswitch.MAC       // besides its own
	bond   fakeBond
	member fakeMember // of a bond

	// Of a bridge.
	fdb     map[plan.Entry]*fakeLink
	options plan.Bridge // the constant ones
	// Of a bridge's port.
	learning, flood, locked            bool
	isolated, noBroadcast, noMulticast bool
	vlans                              vswitch.Membership

	queue  plan.Shape // of what leaves it
	shares *plan.Tree // of what leaves it, of several
	shared ShareCounters
	copied MirrorCounters
	root   string    // the root queue that somebody has given it
	steer  *fakeLink // where all goes that comes by it; itself if that is gone
}

// maxBridgePorts is BR_MAX_PORTS less port 0, which is never given out.
const maxBridgePorts = 1023

func newFakeNetns(path string) *fakeNetns {
	return &fakeNetns{path: path, links: make(map[string]*fakeLink), routes: make(map[plan.RouteID]fakeRoute), rules: make(map[string][]plan.Item)}
}

func (ns *fakeNetns) add(n Netdev) *fakeLink {
	if n.MAC.IsZero() && !n.Loopback {
		n.MAC = vswitch.DerivedMAC(ns.path, n.Name) // Linux rolls dice
	}
	link := &fakeLink{Netdev: n, ns: ns, vfs: make(map[int]vswitch.MAC)}
	link.Master, link.Addresses = "", nil
	if n.Kind == "bridge" {
		link.fdb = make(map[plan.Entry]*fakeLink)
		link.options = plan.Bridge{ForwardDelay: 1500, Snooping: true, DefaultPVID: 1, LinkLocal: true} // Linux's defaults
	}
	ns.links[n.Name] = link
	return link
}

func (ns *fakeNetns) link(name string) (*fakeLink, error) {
	if link := ns.links[name]; link != nil {
		return link, nil
	}
	return nil, refused(vswitch.NotFound, syscall.ENODEV, "netdev %s", name)
}

// bridge finds the bridge that a port is to join.
func (ns *fakeNetns) bridge(name string) (*fakeLink, error) {
	link, err := ns.link(name)
	if err == nil && link.Kind != "bridge" {
		err = fmt.Errorf("%s is no bridge: %w", name, syscall.EINVAL)
	}
	return link, err
}

// ports are the bridge's ports by name.
func (l *fakeLink) ports() []*fakeLink {
	var ports []*fakeLink
	for _, name := range slices.Sorted(maps.Keys(l.ns.links)) {
		if port := l.ns.links[name]; port.master == l {
			ports = append(ports, port)
		}
	}
	return ports
}

// mayJoin is br_add_if's list of refusals.
func (l *fakeLink) mayJoin(bridge *fakeLink) error {
	switch {
	case l.master == bridge:
		return nil
	case l.master != nil:
		return fmt.Errorf("%s has master %s: %w", l.Name, l.master.Name, syscall.EBUSY)
	case l.Kind == "bridge", l.Loopback, !l.Ethernet:
		return fmt.Errorf("%s cannot be a bridge's port: %w", l.Name, syscall.EINVAL)
	case l.NoBridge:
		return fmt.Errorf("%s cannot be a bridge's port: %w", l.Name, syscall.EOPNOTSUPP)
	}
	return bridge.mayGrow()
}

func (l *fakeLink) mayGrow() error {
	if len(l.ports()) >= maxBridgePorts {
		return refused(vswitch.SwitchFull, syscall.EXFULL, "bridge %s has %d ports", l.Name, maxBridgePorts)
	}
	return nil
}

// enslave makes l a port with the flags of a new one.
func (l *fakeLink) enslave(bridge *fakeLink) {
	if l.master == bridge {
		return
	}
	l.master = bridge
	l.claim(0)
	l.learning, l.flood, l.locked = true, true, false
	l.isolated, l.noBroadcast, l.noMulticast = false, false, false
}

// claim has the bridge take a port's address for its own in a VLAN: who else had it there
// has it no more.
func (l *fakeLink) claim(vlan int) { delete(l.master.fdb, plan.Entry{MAC: l.MAC, VLAN: vlan}) }

// setMAC gives l an address, be it the one that it has. A bridge that l is a port of takes
// it for its own.
func (l *fakeLink) setMAC(mac vswitch.MAC) {
	if l.MAC = mac; l.master == nil || l.master.Kind != "bridge" {
		return
	}
	l.claim(0)
	for id := range l.vlans.All().All() {
		l.claim(id)
	}
}

// release takes l out of its bridge, which forgets what it knew of the port.
func (l *fakeLink) release() {
	if l.isMember() {
		l.leaveBond()
	}
	if l.master != nil {
		maps.DeleteFunc(l.master.fdb, func(_ plan.Entry, port *fakeLink) bool { return port == l })
	}
	l.master = nil
	l.learning, l.flood, l.locked = false, false, false
	l.isolated, l.noBroadcast, l.noMulticast = false, false, false
	l.vlans = vswitch.Membership{}
}

// remove ends a netdev and whatever cannot be without it.
func (l *fakeLink) remove() {
	if l.ns.links[l.Name] != l {
		return // the other end of a pair came here first
	}
	l.release()
	for _, port := range l.ports() {
		port.release()
	}
	l.flushRoutes(everyRoute)
	delete(l.ns.links, l.Name)
	l.nowhere()
	if l.peer != nil {
		l.peer.remove()
	}
}

// checkMTU is dev_validate_mtu.
func (l *fakeLink) checkMTU(mtu int) error {
	limit := l.MaxMTU
	if limit == 0 {
		limit = vswitch.MaxMTU
	}
	if mtu < vswitch.MinMTU || mtu > limit {
		return fmt.Errorf("%s cannot have MTU %d: %w", l.Name, mtu, syscall.EINVAL)
	}
	return nil
}

func checkMAC(mac vswitch.MAC) error {
	if mac[0]&1 != 0 {
		return fmt.Errorf("MAC address %s: %w", mac, syscall.EADDRNOTAVAIL)
	}
	return nil
}

// hasCarrier follows pairs and bridges; a NIC has what it was given.
func (l *fakeLink) hasCarrier() bool {
	switch l.Kind {
	case "veth":
		return l.Up && l.peer != nil && l.peer.Up // one that is not there is in another namespace
	case "bridge", "bond":
		return l.Up && slices.ContainsFunc(l.ports(), func(p *fakeLink) bool { return p.Up && p.hasCarrier() })
	}
	return l.Carrier
}

// netdev is l as Kernel shows it.
func (l *fakeLink) netdev() Netdev {
	n := l.Netdev
	n.Carrier, n.Group = l.hasCarrier(), l.group
	n.VFs = l.vfMACs()
	if l.master != nil {
		n.Master = l.master.Name
	}
	for _, a := range l.addresses {
		n.Addresses = append(n.Addresses, a.Prefix)
	}
	for _, i := range l.items {
		if i.Kind == plan.ItemAddress && (i.Prefix.Addr().Is4() || !i.Prefix.Addr().IsLinkLocalUnicast()) {
			n.Addresses = append(n.Addresses, i.Prefix)
		}
	}
	return n
}
