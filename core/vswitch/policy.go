package vswitch

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Policy is what a port's owner may do on the switch besides what its VLAN allows. The
// zero value is a port of a fresh Hyper-V adapter: nothing is guarded, nothing limited.
// PowerShell twin: Set-VMNetworkAdapter.
type Policy struct {
	// DHCPGuard drops what a DHCP server would send (to UDP port 68, and 546 of IPv6).
	// PowerShell twin: -DhcpGuard.
	DHCPGuard bool `json:"dhcpGuard,omitempty"`
	// RouterGuard drops router advertisements and redirects, of ICMP and of ICMPv6.
	// PowerShell twin: -RouterGuard.
	RouterGuard bool `json:"routerGuard,omitempty"`
	// AddressGuard drops ARP and neighbour discovery that speak for an address which is
	// not the port's; it needs a port whose addresses Patchbay knows. No twin.
	AddressGuard bool `json:"addressGuard,omitempty"`
	// StormLimit is how many broadcast and multicast frames a second the owner may send,
	// 0 for any number. Unknown unicast needs no limit: it goes to the uplink alone.
	// PowerShell twin: -StormLimit.
	StormLimit int `json:"stormLimit,omitempty"`
	// IEEEPriorityTag lets the priority pass that the owner's tags have; without it, it is
	// reset to 0. PowerShell twin: -IeeePriorityTag.
	IEEEPriorityTag bool `json:"ieeePriorityTag,omitempty"`
	// ACL is what passes of what the owner sends and gets: see ACLRule.
	ACL []ACLRule `json:"acl,omitempty"`
	// Bandwidth is what the port gets of the switch.
	Bandwidth Bandwidth `json:"bandwidth,omitzero"`
	// Mirror says whose frames are copied to whom.
	Mirror MirrorMode `json:"mirror,omitempty"`
	// Offload is what the switch's uplink is to do for the port.
	Offload OffloadPolicy `json:"offload,omitzero"`
}

// MaxStormLimit is more than any link carries in a second.
const MaxStormLimit = 1_000_000_000

// IsZero reports whether there is no policy.
func (p Policy) IsZero() bool { return p.Equal(Policy{}) }

// Equal reports whether two ports are treated in the same way.
func (p Policy) Equal(other Policy) bool {
	return p.DHCPGuard == other.DHCPGuard && p.RouterGuard == other.RouterGuard && p.AddressGuard == other.AddressGuard &&
		p.StormLimit == other.StormLimit && p.IEEEPriorityTag == other.IEEEPriorityTag && p.Bandwidth == other.Bandwidth && p.Mirror == other.Mirror && p.Offload == other.Offload && SameACL(p.ACL, other.ACL)
}

// String names what there is of the policy, by its keys: "dhcpGuard, stormLimit 100", or
// "none".
func (p Policy) String() string {
	var words []string
	for _, flag := range []struct {
		on   bool
		word string
	}{
		{p.DHCPGuard, "dhcpGuard"},
		{p.RouterGuard, "routerGuard"},
		{p.AddressGuard, "addressGuard"},
		{p.StormLimit > 0, fmt.Sprintf("stormLimit %d", p.StormLimit)},
		{p.IEEEPriorityTag, "ieeePriorityTag"},
		{len(p.ACL) > 0, fmt.Sprintf("acl of %d", len(p.ACL))},
		{!p.Bandwidth.IsZero(), fmt.Sprintf("bandwidth %s", p.Bandwidth)},
		{p.Mirror != "", fmt.Sprintf("mirror %s", p.Mirror)},
		{p.Offload != OffloadPolicy{}, fmt.Sprintf("offload (%s)", p.Offload)},
	} {
		if flag.on {
			words = append(words, flag.word)
		}
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// Validate reports every problem of the policy, each an Error.
func (p Policy) Validate() error {
	var found problems
	if p.StormLimit < 0 || p.StormLimit > MaxStormLimit {
		found.found(Range, "stormLimit", "%d frames a second is outside 0-%d; 0 is no limit", p.StormLimit, MaxStormLimit).in("stormLimit")
	}
	p.Bandwidth.validate(&found)
	if !p.Mirror.valid() {
		found.found(Invalid, "mirror", "%.32q is none of %s", p.Mirror, strings.Join(MirrorModes(), ", ")).in("mirror")
	}
	found.within("offload", p.Offload.Validate())
	return errors.Join(found.join(), ValidateACL(p.ACL))
}

// ValidateFor demands of a port what the policy needs of it.
func (p Policy) ValidateFor(port Port) error {
	vm := port.Owner.Kind == OwnerVM
	if !p.AddressGuard || len(port.Addresses) > 0 || vm && !port.Plugged() { // of which the VM's definition may still tell
		return nil
	}
	e := &Error{
		Kind: Invalid, Object: "addressGuard", Err: fmt.Errorf("no address of the port is known"),
		Hint: "give the port addresses by an ipam, or leave the guard out",
	}
	if vm {
		e.Hint = "name them in the VM's metadata (`patchbay libvirt interface ... --address ADDRESS` prints how), or leave the guard out"
	}
	return e
}

// PolicyChange is what of a policy is asked for; nil fields stay as they are, and in a
// request for a new port are the switch's default.
type PolicyChange struct {
	DHCPGuard    *bool `json:"dhcpGuard,omitempty"`
	RouterGuard  *bool `json:"routerGuard,omitempty"`
	AddressGuard *bool `json:"addressGuard,omitempty"`
	StormLimit   *int  `json:"stormLimit,omitempty"`

	IEEEPriorityTag *bool `json:"ieeePriorityTag,omitempty"`
	// ACL takes the place of the whole list.
	ACL *[]ACLRule `json:"acl,omitempty"`

	Bandwidth BandwidthChange `json:"bandwidth,omitzero"`

	Mirror *MirrorMode `json:"mirror,omitempty"`

	Offload OffloadChange `json:"offload,omitzero"`
}

// IsZero reports whether nothing is asked for.
func (c PolicyChange) IsZero() bool { return c == PolicyChange{} }

// Apply returns the policy with the changes made.
func (c PolicyChange) Apply(p Policy) Policy {
	change(&p.DHCPGuard, c.DHCPGuard)
	change(&p.RouterGuard, c.RouterGuard)
	change(&p.AddressGuard, c.AddressGuard)
	change(&p.StormLimit, c.StormLimit)
	change(&p.IEEEPriorityTag, c.IEEEPriorityTag)
	change(&p.ACL, c.ACL)
	p.Bandwidth = c.Bandwidth.apply(p.Bandwidth)
	change(&p.Mirror, c.Mirror)
	p.Mirror = p.Mirror.plain()
	p.Offload = c.Offload.apply(p.Offload)
	return p
}

// With is what both changes ask for; where they differ, what the second one does.
func (c PolicyChange) With(second PolicyChange) PolicyChange {
	mergeGiven(reflect.ValueOf(&c).Elem(), reflect.ValueOf(second))
	return c
}

// mergeGiven sets what is given in from, a struct of pointers and of such structs.
func mergeGiven(into, from reflect.Value) {
	for i := range from.NumField() {
		switch field := from.Field(i); {
		case field.Kind() == reflect.Struct:
			mergeGiven(into.Field(i), field)
		case !field.IsZero():
			into.Field(i).Set(field)
		}
	}
}

func change[T any](field *T, to *T) {
	if to != nil {
		*field = *to
	}
}
