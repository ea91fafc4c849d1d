package kernel

import (
	"slices"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// observe returns what exists of scope and nothing that scope does not name.
func (f *Fake) observe(scope plan.State) plan.State {
	seen := plan.State{
		Rules: plan.Rules{
			Base:       scope.Rules.Base && f.rules.Base && (scope.Rules.NoNAT || !f.rules.NoNAT),
			Masquerade: named(f.rules.Masquerade, scope.Rules.Masquerade),
			Quiet:      named(f.rules.Quiet, scope.Rules.Quiet),
			Router:     named(f.rules.Router, scope.Rules.Router),
			Host:       named(f.rules.Host, scope.Rules.Host),
			Guard:      named(f.rules.Guard, scope.Rules.Guard),
			Apart:      named(f.rules.Apart, scope.Rules.Apart),
			Priority:   named(f.rules.Priority, scope.Rules.Priority),
			ApartIn:    named(f.rules.ApartIn, scope.Rules.ApartIn),
			Closed:     named(f.rules.Closed, scope.Rules.Closed),
		},
		Forward: plan.Families{IPv4: scope.Forward.IPv4 && f.onward.IPv4, IPv6: scope.Forward.IPv6 && f.onward.IPv6},
	}
	if f.rules.GuardBase {
		seen.Rules.GuardBase, seen.Rules.Guards = scope.Rules.GuardBase, named(f.rules.Guards, scope.Rules.Guards)
		for dev, g := range seen.Rules.Guards {
			if g != scope.Rules.Guards[dev] {
				seen.Rules.Guards[dev] = plan.Guards{} // as observeGuards says it
			}
		}
	}
	f.observeACLs(scope.Rules, &seen.Rules)
	seen.Rules.NoNAT = seen.Rules.Base && scope.Rules.NoNAT
	f.observeSpreads(scope, &seen)
	f.observeMirrors(scope, &seen)
	f.observeShares(scope, &seen)
	for name, want := range scope.Bridges {
		if link := f.host.links[name]; link != nil && link.Kind == "bridge" {
			b := link.options
			b.Member = b.Member && want.VLANFiltering
			b.Name, b.MAC, b.MTU, b.Alias, b.Up = name, link.MAC, link.MTU, link.Alias, link.Up
			put(&seen.Bridges, name, b)
		}
	}
	for name, bond := range scope.Bonds {
		if link := f.host.links[name]; link != nil && link.Kind == "bond" {
			put(&seen.Bonds, name, f.observeBond(link, bond))
		}
	}
	for name, port := range scope.Ports {
		if link := f.host.links[name]; link != nil {
			put(&seen.Ports, name, f.observePort(link, port))
		}
	}
	f.observeLent(scope, &seen)
	f.observeTwins(scope, &seen)
	for name, want := range scope.Hosts {
		if link := f.host.links[name]; link != nil {
			put(&seen.Hosts, name, link.addressing().Within(want))
		} else if rules := f.host.rules[name]; len(rules) > 0 {
			put(&seen.Hosts, name, plan.Addressing{Items: rules}.Within(want))
		}
	}
	return seen
}

func (f *Fake) observePort(link *fakeLink, scope plan.Port) plan.Port {
	p := plan.Port{
		Name: link.Name, Alias: link.Alias, Group: link.group, MTU: link.MTU, Up: link.Up, MAC: link.MAC,
		Learning: link.learning, Flood: link.flood, Locked: link.locked,
		Isolated: link.isolated, NoBroadcast: link.noBroadcast, NoMulticast: link.noMulticast,
	}
	if link.master != nil {
		p.Bridge = link.master.Name
		if !scope.VLANs.IsZero() && p.Bridge == scope.Bridge {
			p.VLANs = link.vlans
		}
		link.entriesOf(scope, &p)
	}
	p.Limits = f.observeLimits(link, scope.Limits)
	if scope.Endpoint != nil {
		p.Endpoint = f.observeEndpoint(link.Name, *scope.Endpoint)
	}
	return p
}

// observeEndpoint returns nil unless the port's other end is where scope says.
func (f *Fake) observeEndpoint(port string, scope plan.Endpoint) *plan.Endpoint {
	link, err := f.endpoint(plan.At{Port: port, Netns: scope.Netns, Name: scope.Name})
	if err != nil {
		return nil
	}
	e := &plan.Endpoint{Netns: scope.Netns, Name: link.Name, MAC: link.MAC, MTU: link.MTU, Up: link.Up}
	if scope.Alias != "" {
		e.Alias = link.Alias
	}
	if scope.Bond != "" && link.isMember() && link.master.Name == scope.Bond {
		e.Bond = scope.Bond
	}
	e.NoLinkLocal = scope.NoLinkLocal && link.noLinkLocal
	for _, a := range scope.Addresses {
		if slices.ContainsFunc(link.addresses, func(have plan.Address) bool { return have.Prefix == a.Prefix }) {
			e.Addresses = append(e.Addresses, a)
		}
	}
	for _, r := range scope.Routes {
		switch have, there := link.ns.routes[plan.RouteKey(r)]; {
		case there && have.link == link:
			e.Routes = append(e.Routes, inWordsOf(r, have.Route))
		case there:
			e.Shadowed = append(e.Shadowed, r)
		}
	}
	return e
}

// inWordsOf is the route that the kernel has, with the same left out as in want.
func inWordsOf(want, have vswitch.Route) vswitch.Route {
	have.Dst, have.Table, have.Priority = want.Dst, want.Table, want.Priority
	if scope := *have.Scope; want.Scope != nil {
		have.Scope = &scope
	} else {
		have.Scope = nil
	}
	return have
}

// named is what m holds under the keys of scope.
func named[K comparable, V any](m, scope map[K]V) map[K]V {
	var out map[K]V
	for k := range scope {
		if v, ok := m[k]; ok {
			put(&out, k, v)
		}
	}
	return out
}

// put makes the map with its first element, so that nothing is nil, not empty.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[k] = v
}
