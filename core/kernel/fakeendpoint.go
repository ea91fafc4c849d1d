package kernel

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// fakeRoute is a route as the kernel shows it: what was left out is filled in.
type fakeRoute struct {
	vswitch.Route
	link *fakeLink
}

// Scopes of routes, linux/rtnetlink.h.
const (
	scopeGlobal = 0
	scopeLink   = 253
)

func (f *Fake) carryOutAtEndpoint(step plan.Step) error {
	switch s := step.(type) {
	case plan.SetEndpoint:
		return f.setEndpoint(s)
	case plan.AddAddress:
		link, err := f.endpoint(s.At)
		if err != nil {
			return err
		}
		return link.addAddress(s.Address)
	case plan.DeleteAddress:
		if link, err := f.endpoint(s.At); err == nil {
			link.deleteAddress(s.Address.Prefix)
		}
		return nil
	case plan.AddRoute:
		link, err := f.endpoint(s.At)
		if err != nil {
			return err
		}
		return link.addRoute(s.Route)
	case plan.DeleteRoute:
		if link, err := f.endpoint(s.At); err == nil && link.ns.routes[plan.RouteKey(s.Route)].link == link {
			delete(link.ns.routes, plan.RouteKey(s.Route))
		}
		return nil
	}
	return f.carryOutForHost(step)
}

// endpoint finds an owner's end, which has to be the other end of its port, if that is named.
func (f *Fake) endpoint(at plan.At) (*fakeLink, error) {
	ns, err := f.namespace(at.Netns)
	if err != nil {
		return nil, err
	}
	link, err := ns.link(at.Name)
	if err == nil && at.Port != "" && (link.peer == nil || link.peer.ns != f.host || link.peer.Name != at.Port) {
		err = refused(vswitch.NotFound, syscall.ENODEV, "netdev %s is not the other end of %s", at.Name, at.Port)
	}
	return link, err
}

func (f *Fake) setEndpoint(s plan.SetEndpoint) error {
	e := s.Endpoint
	link, err := f.endpoint(plan.At{Port: s.Port, Netns: e.Netns, Name: e.Name})
	if err == nil {
		err = errors.Join(checkMAC(e.MAC), link.checkMTU(e.MTU))
	}
	if err != nil {
		return err
	}
	if !e.MAC.IsZero() {
		if link.MAC != e.MAC { // neigh_changeaddr: permanent ones too
			link.items = slices.DeleteFunc(link.items, func(i plan.Item) bool { return i.Kind == plan.ItemNeighbour })
		}
		link.MAC = e.MAC
	}
	if e.Alias != "" {
		link.Alias = e.Alias
	}
	link.noLinkLocal = link.noLinkLocal || e.NoLinkLocal
	link.MTU, link.Up = e.MTU, link.Up || e.Up
	if link.MTU < vswitch.MinIPv6MTU {
		link.flushIPv6()
	}
	return nil
}

// down takes a netdev down, and with that its routes and what is IPv6 of it.
func (l *fakeLink) down() {
	l.Up = false
	l.flushRoutes(everyRoute)
	l.flushIPv6()
	l.downItems()
}

// flushIPv6 is addrconf_ifdown: addresses and routes of IPv6 go.
func (l *fakeLink) flushIPv6() {
	l.addresses = slices.DeleteFunc(l.addresses, func(a plan.Address) bool { return a.Prefix.Addr().Is6() })
	l.flushRoutes(netip.Addr.Is6)
}

func everyRoute(netip.Addr) bool { return true }

// flushRoutes removes l's routes whose destination is of a family.
func (l *fakeLink) flushRoutes(family func(netip.Addr) bool) {
	maps.DeleteFunc(l.ns.routes, func(id plan.RouteID, r fakeRoute) bool { return r.link == l && family(id.Dst.Addr()) })
}

func (l *fakeLink) addAddress(a plan.Address) error {
	if !a.Prefix.IsValid() || a.Prefix.Addr().Is4In6() {
		return fmt.Errorf("address %s: %w", a.Prefix, syscall.EINVAL)
	}
	if a.Prefix.Addr().Is6() && l.MTU < vswitch.MinIPv6MTU {
		return fmt.Errorf("IPv6 address %s at MTU %d: %w", a.Prefix, l.MTU, syscall.EINVAL)
	}
	for i, have := range l.addresses {
		switch {
		case have.Prefix == a.Prefix:
			l.addresses[i] = a
			return nil
		case have.Prefix.Addr() == a.Prefix.Addr() && a.Prefix.Addr().Is6():
			return fmt.Errorf("address %s is there as %s: %w", a.Prefix, have.Prefix, syscall.EEXIST)
		}
	}
	l.addresses = append(l.addresses, a)
	return nil
}

// deleteAddress removes an address. IPv4's first address of a subnet takes the
// other ones along (promote_secondaries is off), and the last address of all
// the routes (fib_disable_ip).
func (l *fakeLink) deleteAddress(p netip.Prefix) {
	is := func(a plan.Address) bool { return a.Prefix == p }
	if !slices.ContainsFunc(l.addresses, is) {
		return
	}
	if p.Addr().Is4() {
		same := func(a plan.Address) bool { return a.Prefix.Masked() == p.Masked() }
		if l.addresses[slices.IndexFunc(l.addresses, same)].Prefix == p {
			is = same
		}
	}
	l.addresses = slices.DeleteFunc(l.addresses, is)
	if !slices.ContainsFunc(l.addresses, func(a plan.Address) bool { return a.Prefix.Addr().Is4() }) && p.Addr().Is4() {
		l.flushRoutes(netip.Addr.Is4)
	}
}

func (l *fakeLink) addRoute(r vswitch.Route) error {
	id := plan.RouteKey(r)
	if !r.Dst.IsValid() {
		return fmt.Errorf("route to %s: %w", r.Dst, syscall.EINVAL)
	}
	if !l.Up {
		return fmt.Errorf("route to %s by %s, which is down: %w", r.Dst, l.Name, syscall.ENETDOWN)
	}
	if err := l.reaches(r); err != nil {
		return err
	}
	if _, there := l.ns.routes[id]; there {
		return nil // the first one stays, whoever's it is
	}
	r.Dst, r.Priority, r.Table = id.Dst, id.Priority, nil
	if id.Table != plan.MainTable {
		r.Table = &id.Table
	}
	scope := scopeGlobal
	switch {
	case r.Dst.Addr().Is6(): // has no scopes, whatever was asked for
	case r.Scope != nil:
		scope = *r.Scope
	case !r.Gateway.IsValid():
		scope = scopeLink
	}
	r.Scope = &scope
	l.ns.routes[id] = fakeRoute{Route: r, link: l}
	return nil
}

// reaches fails unless a route's gateway is on the link: in an address's subnet
// or at the end of a route that has no gateway itself.
func (l *fakeLink) reaches(r vswitch.Route) error {
	if !r.Gateway.IsValid() {
		return nil
	}
	unreachable := syscall.ENETUNREACH
	if r.Dst.Addr().Is6() {
		unreachable = syscall.EHOSTUNREACH
	}
	if r.Gateway.Is4() != r.Dst.Addr().Is4() {
		return fmt.Errorf("route to %s via %s: %w", r.Dst, r.Gateway, syscall.EINVAL)
	}
	ok := r.Gateway.IsLinkLocalUnicast() && r.Gateway.Is6()
	for _, a := range l.addresses {
		ok = ok || a.Prefix.Contains(r.Gateway)
	}
	for id, have := range l.ns.routes {
		ok = ok || have.link == l && !have.Gateway.IsValid() && id.Dst.Contains(r.Gateway)
	}
	if !ok || r.Gateway.Is4() && r.Scope != nil && *r.Scope >= scopeLink {
		return fmt.Errorf("gateway %s of the route to %s: %w", r.Gateway, r.Dst, unreachable)
	}
	return nil
}
