package kernel

import (
	"context"
	"errors"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Observe returns what exists of scope. It asks for each object by name and never
// dumps all netdevs, so that its cost does not grow with the host.
func (l *Linux) Observe(ctx context.Context, scope plan.State) (plan.State, error) {
	var seen plan.State
	err := l.host(func(c *rtnl) error {
		o := observer{ctx: ctx, kernel: l, host: c, names: make(map[int]string)}
		return o.observe(scope, &seen)
	})
	return seen, err
}

type observer struct {
	ctx    context.Context
	kernel *Linux
	host   *rtnl
	names  map[int]string // netdev names by index, for masters
}

func (o *observer) observe(scope plan.State, seen *plan.State) error {
	for name, want := range scope.Bridges {
		if err := o.bridge(name, want, seen); err != nil {
			return err
		}
	}
	for name, want := range scope.Bonds {
		if err := o.bond(name, want, seen); err != nil {
			return err
		}
	}
	for name, want := range scope.Ports {
		if err := o.port(name, want, seen); err != nil {
			return err
		}
	}
	for id, want := range scope.Lent {
		if err := o.lent(id, want, seen); err != nil {
			return err
		}
	}
	for id, want := range scope.Twins {
		if err := o.twin(id, want, seen); err != nil {
			return err
		}
	}
	for name, want := range scope.Hosts {
		if err := o.hosted(name, want, seen); err != nil {
			return err
		}
	}
	for _, want := range scope.Spreads {
		if err := o.spread(want, seen); err != nil {
			return err
		}
	}
	for bridge, want := range scope.Mirrors {
		if err := o.mirrors(bridge, want, seen); err != nil {
			return err
		}
	}
	if err := o.observeShares(scope, seen); err != nil {
		return err
	}
	if !scope.Rules.Empty() {
		err := o.kernel.netfilter(func(c *rtnl) (err error) {
			seen.Rules, err = observeRules(c, scope.Rules)
			return err
		})
		if err != nil {
			return err
		}
	}
	if (scope.Forward != plan.Families{}) {
		forward, err := observeForwarding()
		if err != nil {
			return err
		}
		seen.Forward = plan.Families{
			IPv4: scope.Forward.IPv4 && forward.IPv4,
			IPv6: scope.Forward.IPv6 && forward.IPv6,
		}
	}
	return o.ctx.Err()
}

// hosted reads what the host has on a netdev, as far as scope names it. Of one that is not
// there that are the rules that name it: they wait for the next one of the name.
func (o *observer) hosted(name string, scope plan.Addressing, seen *plan.State) error {
	read := o.host.addressing
	if len(scope.Items) == 0 { // to look for routes among thousands is dear
		read = o.host.settings
	}
	has, err := read(name)
	if errors.Is(err, vswitch.NotFound) {
		s := survey{conn: o.host, dev: name}
		if err = s.rules(); err == nil && len(s.items) == 0 {
			return nil
		}
		has = plan.Addressing{Items: s.items}
	}
	if err != nil {
		return err
	}
	if seen.Hosts == nil {
		seen.Hosts = make(map[string]plan.Addressing)
	}
	seen.Hosts[name] = has.Within(scope)
	return nil
}

func (o *observer) bridge(name string, scope plan.Bridge, seen *plan.State) error {
	l, err := o.host.link(name)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if seen.Bridges == nil {
		seen.Bridges = make(map[string]plan.Bridge)
	}
	b := plan.Bridge{
		Name: name, MAC: l.mac, MTU: l.mtu, Alias: l.alias, Up: l.up,
		STP: l.bridge.stp, Snooping: l.bridge.snooping,
		ForwardDelay: l.bridge.forwardDelay, DefaultPVID: l.bridge.defaultPVID,
		LinkLocal:     !l.noAddrGen && noLinkLocal(l.mtu) != nil,
		VLANFiltering: l.bridge.filtering,
	}
	if scope.VLANFiltering {
		own, err := o.host.vlans(l.index)
		if err != nil {
			return ignoreAbsent(err)
		}
		b.Member = !own.IsZero()
	}
	seen.Bridges[name] = b
	return nil
}

func (o *observer) port(name string, scope plan.Port, seen *plan.State) error {
	l, err := o.host.link(name)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	p := plan.Port{Name: name, Alias: l.alias, Group: l.group, MTU: l.mtu, Up: l.up, MAC: l.mac}
	if l.master != 0 {
		if p.Bridge, err = o.nameOf(l.master, scope.Bridge); err != nil {
			return err
		}
		p.Learning, p.Flood, p.Locked = l.port.learning, l.port.flood, l.port.locked
		p.Isolated, p.NoBroadcast, p.NoMulticast = l.port.isolated, l.port.noBroadcast, l.port.noMulticast
		if !scope.VLANs.IsZero() && p.Bridge == scope.Bridge {
			if p.VLANs, err = o.host.vlans(l.index); err != nil {
				return ignoreAbsent(err) // it has left
			}
		}
		if err := o.entries(l.index, scope, &p); err != nil {
			return err
		}
	}
	if p.Limits, err = o.limits(l, scope.Limits); err != nil {
		return ignoreAbsent(err)
	}
	if scope.Endpoint != nil {
		if p.Endpoint, err = o.endpoint(l, *scope.Endpoint); err != nil {
			return err
		}
	}
	if seen.Ports == nil {
		seen.Ports = make(map[string]plan.Port)
	}
	seen.Ports[name] = p
	return nil
}

// nameOf names a netdev by its number; likely is the name that it probably has.
func (o *observer) nameOf(index int, likely string) (string, error) {
	if name, known := o.names[index]; known {
		return name, nil
	}
	if likely != "" {
		if l, err := o.host.link(likely); err == nil && l.index == index {
			o.names[index] = likely
			return likely, nil
		}
	}
	l, err := o.host.linkAt(index)
	o.names[index] = l.name
	return l.name, err
}

// entries finds those of scope's static entries that point to the port: of FDB the
// addresses that do so in all VLANs that the port is to be in.
func (o *observer) entries(port int, scope plan.Port, seen *plan.Port) error {
	var requests []request
	in := make(map[plan.Entry]bool)
	ask := func(e plan.Entry) {
		requests = append(requests, getEntry(port, e, func() { in[e] = true }))
	}
	ids := []int{0}
	if !scope.VLANs.IsZero() {
		ids = slices.Collect(scope.VLANs.All().All())
	}
	for _, mac := range scope.FDB {
		for _, id := range ids {
			ask(plan.Entry{MAC: mac, VLAN: id})
		}
	}
	for _, e := range scope.FDBIn {
		ask(e)
	}
	if err := o.host.do(requests); err != nil {
		return err
	}
	for _, mac := range scope.FDB {
		if !slices.ContainsFunc(ids, func(id int) bool { return !in[plan.Entry{MAC: mac, VLAN: id}] }) {
			seen.FDB = append(seen.FDB, mac)
		}
	}
	for _, e := range scope.FDBIn {
		if in[e] {
			seen.FDBIn = append(seen.FDBIn, e)
		}
	}
	return nil
}

// getEntry asks whether the bridge of a port has our static entry there.
func getEntry(port int, e plan.Entry, found func()) request {
	r := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, unix.NLM_F_ACK)
	r.AddData(neighbour{family: unix.AF_BRIDGE, index: port, flags: unix.NTF_MASTER})
	r.AddData(macAttribute(unix.NDA_LLADDR, e.MAC))
	if e.VLAN != 0 {
		r.AddData(nl.NewRtAttr(unix.NDA_VLAN, nl.Uint16Attr(uint16(e.VLAN))))
	}
	return request{NetlinkRequest: r, absent: true, answer: func(b []byte) {
		if len(b) < unix.SizeofNdMsg {
			return
		}
		at := int(nl.NativeEndian().Uint32(b[4:]))
		state := nl.NativeEndian().Uint16(b[8:])
		if at == port && state&unix.NUD_NOARP != 0 && b[10]&ntfSticky != 0 {
			found()
		}
	}}
}

// ignoreAbsent: what is gone by now is not seen.
func ignoreAbsent(err error) error {
	if isAbsent(err) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
