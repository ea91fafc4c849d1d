package vswitch

import (
	"encoding/json"
	"slices"
)

// Narrowing is what somebody asks of a port who may take away from what it was granted and
// must not add: whoever defines a VM, as against whoever defines the network. Nil fields
// ask for nothing.
//
//	vlan             the same; of a trunk's VLANs fewer, or one of them as access; of a
//	                 promiscuous port's secondary VLANs fewer
//	isolated         on
//	macSpoofing      off
//	guards           on
//	stormLimit       a number where there is none, or a lower one
//	ieeePriorityTag  off
//	acl              rules beside those that there are, none of which allows
//	bandwidth        a limit where there is none, or a lower one; a burst no greater than what
//	                 passes now; less of a minimum
//	mirror           as it is
//	offload          a mode that asks for less (require, prefer, off), fewer SAs, a lower weight
type Narrowing struct {
	VLAN        *PortVLAN    `json:"vlan,omitempty"`
	Isolated    *bool        `json:"isolated,omitempty"`
	MACSpoofing *bool        `json:"macSpoofing,omitempty"`
	Policy      PolicyChange `json:"policy,omitzero"`
}

// IsZero reports whether nothing is asked for.
func (n Narrowing) IsZero() bool { return n == Narrowing{} }

// String is the narrowing as JSON, "" for none: equal narrowings have equal texts.
func (n Narrowing) String() string {
	if n.IsZero() {
		return ""
	}
	text, err := json.Marshal(n)
	if err != nil { // of a set of VLANs and of numbers it cannot be
		return "?"
	}
	return string(text)
}

// Apply returns the port as it is narrowed, or all that would widen it, each an Error of
// kind Widens.
func (n Narrowing) Apply(p Port) (Port, error) {
	var found problems
	if n.VLAN != nil {
		if !n.VLAN.within(p.VLAN) {
			found.widens("vlan", "%s is not within %s", n.VLAN, p.VLAN)
		} else if p.VLAN = *n.VLAN; p.VLAN.IsZero() {
			p.VLAN = PortVLAN{}
		}
	}
	p.Isolated = found.flag("isolated", p.Isolated, n.Isolated, true)
	p.MACSpoofing = found.flag("macSpoofing", p.MACSpoofing, n.MACSpoofing, false)
	p.Policy = n.policy(p.Policy, &found)
	return p, found.join()
}

func (n Narrowing) policy(p Policy, found *problems) Policy {
	c := n.Policy
	p.DHCPGuard = found.flag("dhcpGuard", p.DHCPGuard, c.DHCPGuard, true)
	p.RouterGuard = found.flag("routerGuard", p.RouterGuard, c.RouterGuard, true)
	p.AddressGuard = found.flag("addressGuard", p.AddressGuard, c.AddressGuard, true)
	p.StormLimit = most(found, "stormLimit", p.StormLimit, c.StormLimit)
	p.IEEEPriorityTag = found.flag("ieeePriorityTag", p.IEEEPriorityTag, c.IEEEPriorityTag, false)
	p.ACL = narrowACL(found, p.ACL, c.ACL)
	p.Bandwidth = c.Bandwidth.narrow(found, p.Bandwidth)
	if c.Mirror != nil && c.Mirror.plain() != p.Mirror.plain() {
		found.widens("mirror", "whose frames are copied is for the network to say: it is %q", string(p.Mirror))
	}
	p.Offload = c.Offload.narrow(found, p.Offload)
	c.Offload = OffloadChange{}
	c.DHCPGuard, c.RouterGuard, c.AddressGuard, c.StormLimit, c.ACL, c.Mirror = nil, nil, nil, nil, nil, nil
	c.IEEEPriorityTag = nil
	c.Bandwidth.In, c.Bandwidth.Out, c.Bandwidth.Min, c.Bandwidth.Burst = LimitChange{}, LimitChange{}, MinimumChange{}, nil
	if !c.IsZero() {
		found.widens("policy", "a part of it cannot be narrowed")
	}
	return p
}

// widens notes that a field would allow more.
func (p *problems) widens(field, format string, args ...any) {
	e := p.found(Widens, field, format, args...)
	e.Hint = "have the network's profile allow it, or leave it out"
	e.in(field)
}

// flag is a flag after a wish: narrow is the value that takes away.
func (p *problems) flag(field string, is bool, wish *bool, narrow bool) bool {
	if wish == nil || *wish == is {
		return is
	}
	if *wish != narrow {
		p.widens(field, "it is %t for this port, and can be no less strict", is)
		return is
	}
	return *wish
}

// most is a bound after a wish; 0 is none.
func most[T int | Bits](found *problems, field string, is T, wish *T) T {
	switch {
	case wish == nil:
		return is
	case is != 0 && (*wish == 0 || *wish > is):
		found.widens(field, "%v is more than %v", *wish, is)
		return is
	}
	return *wish
}

func narrowACL(found *problems, is []ACLRule, wish *[]ACLRule) []ACLRule {
	if wish == nil {
		return is
	}
	all := slices.Clone(is)
	for _, r := range *wish {
		if r.Action == ACLAllow {
			found.widens("acl", "%s: only rules that deny or meter may be added", r)
		} else if !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	return all
}

func (c BandwidthChange) narrow(found *problems, b Bandwidth) Bandwidth {
	burstIn, burstOut := c.In.Burst, c.Out.Burst
	if c.Burst != nil { // for each way that has a limit, as in apply
		with := c.apply(Bandwidth{In: Limit{Max: b.In.Max}, Out: Limit{Max: b.Out.Max}})
		if with.In.Burst != 0 {
			burstIn = c.Burst
		}
		if with.Out.Burst != 0 {
			burstOut = c.Burst
		}
	}
	b.In = b.In.narrow(found, "bandwidth.in", c.In.Max, burstIn)
	b.Out = b.Out.narrow(found, "bandwidth.out", c.Out.Max, burstOut)
	b.Min = c.Min.narrow(found, b.Min)
	return b
}

// narrow takes less of what is promised, of the same kind: what others are promised grows.
func (c MinimumChange) narrow(found *problems, is Minimum) Minimum {
	wish := c.apply(is)
	if wish.Rate > is.Rate || wish.Weight > is.Weight {
		found.widens("bandwidth.min", "%s is more than the port is promised", wish)
		return is
	}
	return wish
}

func (l Limit) narrow(found *problems, field string, limit, burst *Bits) Limit {
	passes := l.passes()
	l.Max = most(found, field+".max", l.Max, limit)
	if burst == nil {
		return l
	}
	wish := Limit{Max: l.Max, Burst: *burst}
	if more := wish.passes(); passes != 0 && more > passes {
		found.widens(field+".burst", "%v is more than %v", more, passes)
		return l
	}
	return wish
}

// passes is how many bits pass at once.
func (l Limit) passes() Bits {
	if l.Max != 0 && l.Burst == 0 {
		return max(l.Max/100, minBurst) // what 10 ms of it are
	}
	return l.Burst
}

// within reports whether a port that does v sees no frame and sends none that one which
// does granted could not.
func (v PortVLAN) within(granted PortVLAN) bool {
	switch {
	case v.Equal(granted):
		return true
	case granted.Mode == Trunk && v.Mode == Trunk, granted.Mode == Trunk && v.Mode == Access:
		return len(v.Uses().Minus(granted.Uses())) == 0
	case granted.Mode == Promiscuous && v.Mode == Promiscuous:
		return v.Primary == granted.Primary && len(v.Secondaries.Minus(granted.Secondaries)) == 0
	}
	return false
}
