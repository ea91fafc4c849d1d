package kernel

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// endpoint reads the owner's end of the pair whose switch end is given; nil if the
// namespace is gone or the name there belongs to another netdev.
func (o *observer) endpoint(switchEnd link, scope plan.Endpoint) (*plan.Endpoint, error) {
	// Numbers are a namespace's own: each first netdev of a container has the same.
	return o.owned(scope, func(l link) bool { return l.index == switchEnd.peer && l.peer == switchEnd.index })
}

// owned reads a netdev in an owner's namespace, if it is the one that is meant.
func (o *observer) owned(scope plan.Endpoint, meant func(link) bool) (*plan.Endpoint, error) {
	c := o.host
	if scope.Netns != "" {
		ns, err := openNetns(scope.Netns)
		if errors.Is(err, vswitch.NetnsNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		defer func() { _ = ns.Close() }()
		if c, err = dialRTNLAt(ns); err != nil {
			return nil, err
		}
		defer c.close()
	}
	l, err := c.link(scope.Name)
	if isAbsent(err) || err == nil && !meant(l) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e := &plan.Endpoint{Netns: scope.Netns, Name: l.name, MAC: l.mac, MTU: l.mtu, Up: l.up}
	if scope.Alias != "" {
		e.Alias = l.alias
	}
	if e.Bond, err = c.bondOf(l, scope.Bond); err != nil {
		return nil, err
	}
	e.NoLinkLocal = scope.NoLinkLocal && (l.noAddrGen || noLinkLocal(l.mtu) == nil)
	if e.Addresses, err = c.addresses(l.index, scope.Addresses); err != nil {
		return nil, err
	}
	return e, c.routes(l.index, scope.Routes, e)
}

// addresses returns those of scope that the netdev has.
func (c *rtnl) addresses(index int, scope []plan.Address) ([]plan.Address, error) {
	if len(scope) == 0 {
		return nil, nil
	}
	has := make(map[netip.Prefix]bool)
	header := nl.NewIfAddrmsg(unix.AF_UNSPEC)
	header.Index = uint32(index)
	r := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	r.AddData(header)
	err := c.dump(r, func() { clear(has) }, func(b []byte) {
		if len(b) < unix.SizeofIfAddrmsg || int(nl.NativeEndian().Uint32(b[4:])) != index {
			return
		}
		bits := int(b[1])
		var local, address netip.Addr
		for kind, v := range attributes(b[unix.SizeofIfAddrmsg:]) {
			switch kind {
			case unix.IFA_LOCAL:
				local, _ = netip.AddrFromSlice(v)
			case unix.IFA_ADDRESS: // IPv6 has this alone
				address, _ = netip.AddrFromSlice(v)
			}
		}
		if !local.IsValid() {
			local = address
		}
		has[netip.PrefixFrom(local, bits)] = true
	})
	var found []plan.Address
	for _, a := range scope {
		if has[a.Prefix] {
			found = append(found, a)
		}
	}
	return found, err
}

// routes adds to e those of scope that go by the netdev, as they are, and those
// whose destination another netdev has.
func (c *rtnl) routes(index int, scope []vswitch.Route, e *plan.Endpoint) error {
	if len(scope) == 0 {
		return nil
	}
	has, others := make(map[plan.RouteID]vswitch.Route), make(map[plan.RouteID]bool)
	request := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
	request.AddData(nl.NewRtMsg())
	reset := func() { clear(has); clear(others) }
	err := c.dump(request, reset, func(b []byte) {
		id, r, ours := parseRoute(b, index)
		if ours {
			has[id] = r
		} else {
			others[id] = true
		}
	})
	for _, want := range scope {
		r, ok := has[plan.RouteKey(want)]
		if !ok && others[plan.RouteKey(want)] {
			e.Shadowed = append(e.Shadowed, want)
		}
		if !ok {
			continue
		}
		r.Dst, r.Table, r.Priority = want.Dst, want.Table, want.Priority
		if want.Scope == nil {
			r.Scope = nil
		}
		e.Routes = append(e.Routes, r)
	}
	return err
}

// parseRoute reads an RTM_NEWROUTE and tells whether the route goes by the netdev.
func parseRoute(b []byte, index int) (plan.RouteID, vswitch.Route, bool) {
	if len(b) < unix.SizeofRtMsg {
		return plan.RouteID{}, vswitch.Route{}, false
	}
	id := plan.RouteID{Table: int(b[4])}
	scope := int(b[6])
	dst := netip.IPv4Unspecified()
	if b[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	r := vswitch.Route{Scope: &scope}
	var out int
	for kind, v := range attributes(b[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(v)
		case unix.RTA_GATEWAY:
			r.Gateway, _ = netip.AddrFromSlice(v)
		case unix.RTA_OIF:
			out = int(number(v))
		case unix.RTA_TABLE:
			id.Table = int(number(v))
		case unix.RTA_PRIORITY:
			id.Priority = int(number(v))
		case unix.RTA_METRICS:
			for metric, value := range attributes(v) {
				switch metric {
				case unix.RTAX_MTU:
					r.MTU = int(number(value))
				case unix.RTAX_ADVMSS:
					r.AdvMSS = int(number(value))
				}
			}
		}
	}
	id.Dst = netip.PrefixFrom(dst, int(b[1]))
	r.Dst = id.Dst
	return id, r, out == index
}
