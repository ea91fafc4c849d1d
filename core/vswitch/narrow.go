package vswitch

import (
	"fmt"
)

// PortOverride is what an owner wants of its port to be stricter than its profile; nil
// fields stay as they are.
type PortOverride struct {
	VLAN        *PortVLAN    `json:"vlan,omitempty"`
	Isolated    *bool        `json:"isolated,omitempty"`
	MACSpoofing *bool        `json:"macSpoofing,omitempty"`
	Policy      PolicyChange `json:"policy,omitzero"`
}

// IsZero reports whether nothing is asked for.
func (o PortOverride) IsZero() bool { return o == PortOverride{} }

// Apply returns the port with the override. Whoever writes it need not be who made the
// profile, so it may only narrow what the port may do: whatever would widen it is
// Conflict, each named. It fails with Invalid for what no port can have.
func (o PortOverride) Apply(p Port) (Port, error) {
	was := p
	change(&p.VLAN, o.VLAN)
	change(&p.Isolated, o.Isolated)
	change(&p.MACSpoofing, o.MACSpoofing)
	p.Policy = o.Policy.Apply(p.Policy)
	var found problems
	if o.VLAN != nil {
		found.within("vlan", p.VLAN.Validate())
	}
	found.within("policy", p.Policy.Validate())
	if err := found.join(); err != nil {
		return was, err
	}
	for _, wider := range widenings(was, p) {
		e := found.found(Conflict, wider.key, "the profile has %s, and an override may only narrow that, not to %s", wider.was, wider.is)
		e.Hint = "change the profile of the switch, or leave the override out"
		e.in(wider.key)
	}
	if err := found.join(); err != nil {
		return was, err
	}
	return p, nil
}

type widening struct{ key, was, is string }

// widenings lists what a port may do that it might not before.
func widenings(was, is Port) (all []widening) {
	wider := func(key string, widens bool, was, is any) {
		if widens {
			all = append(all, widening{key, fmt.Sprint(was), fmt.Sprint(is)})
		}
	}
	a, b := was.Policy, is.Policy
	wider("vlan", !was.VLAN.holds(is.VLAN), was.VLAN, is.VLAN)
	wider("isolated", was.Isolated && !is.Isolated, was.Isolated, is.Isolated)
	wider("macSpoofing", !was.MACSpoofing && is.MACSpoofing, was.MACSpoofing, is.MACSpoofing)
	wider("policy.dhcpGuard", a.DHCPGuard && !b.DHCPGuard, a.DHCPGuard, b.DHCPGuard)
	wider("policy.routerGuard", a.RouterGuard && !b.RouterGuard, a.RouterGuard, b.RouterGuard)
	wider("policy.addressGuard", a.AddressGuard && !b.AddressGuard, a.AddressGuard, b.AddressGuard)
	wider("policy.stormLimit", greater(a.StormLimit, b.StormLimit), a.StormLimit, b.StormLimit)
	// Of two lists it cannot be told which lets more pass. A first one only takes away.
	wider("policy.acl", len(a.ACL) > 0 && !SameACL(a.ACL, b.ACL), "rules of its own", "others")
	wider("policy.bandwidth.maxIn", greater(a.Bandwidth.In.Max, b.Bandwidth.In.Max), a.Bandwidth.In.Max, b.Bandwidth.In.Max)
	wider("policy.bandwidth.maxOut", greater(a.Bandwidth.Out.Max, b.Bandwidth.Out.Max), a.Bandwidth.Out.Max, b.Bandwidth.Out.Max)
	wider("policy.bandwidth.burstIn", largerBurst(a.Bandwidth.In, b.Bandwidth.In), a.Bandwidth.In.Burst, b.Bandwidth.In.Burst)
	wider("policy.bandwidth.burstOut", largerBurst(a.Bandwidth.Out, b.Bandwidth.Out), a.Bandwidth.Out.Burst, b.Bandwidth.Out.Burst)
	// A destination hears others, and of a source somebody wants to know what it does.
	wider("policy.mirror", b.Mirror != a.Mirror && (b.Mirror == MirrorDestination || a.Mirror != MirrorNone), orPlain(a.Mirror), orPlain(b.Mirror))
	return all
}

// greater compares limits of which 0 is none.
func greater[N int | Bits](was, is N) bool { return was != 0 && (is == 0 || is > was) }

// largerBurst compares the bursts of limits. One that had no limit cannot be widened by one.
func largerBurst(was, is Limit) bool { return was.Max != 0 && is.Burst > was.Burst }

func orPlain(m MirrorMode) MirrorMode {
	if m == MirrorNone {
		return noMirror
	}
	return m
}

// holds reports whether a port of w can do nothing that one of v could not.
func (v PortVLAN) holds(w PortVLAN) bool {
	if v.Equal(w) {
		return true
	}
	if v.Mode != Trunk || w.Mode != Access && w.Mode != Trunk {
		return false
	}
	all := v.Allowed.Union(VLANs(v.Native))
	if w.Mode == Access {
		return all.Contains(w.ID)
	}
	return len(w.Allowed.Minus(all)) == 0 && all.Contains(w.Native)
}
