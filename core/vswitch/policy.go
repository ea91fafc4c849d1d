package vswitch

import (
	"fmt"
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
	// Mirror says whose frames are copied to whom.
	Mirror MirrorMode `json:"mirror,omitempty"`
}

// MaxStormLimit is more than any link carries in a second.
const MaxStormLimit = 1_000_000_000

// IsZero reports whether there is no policy.
func (p Policy) IsZero() bool { return p.Equal(Policy{}) }

// Equal reports whether two ports are treated in the same way.
func (p Policy) Equal(other Policy) bool { return p == other }

// Inspects reports whether a guard looks into the owner's frames.
func (p Policy) Inspects() bool { return p.DHCPGuard || p.RouterGuard || p.AddressGuard }

// Validate reports every problem of the policy, each an Error.
func (p Policy) Validate() error {
	var found problems
	if p.StormLimit < 0 || p.StormLimit > MaxStormLimit {
		found.found(Range, "stormLimit", "%d frames a second is outside 0-%d; 0 is no limit", p.StormLimit, MaxStormLimit).in("stormLimit")
	}
	if !p.Mirror.valid() {
		found.found(Invalid, "mirror", "%.32q is none of %s", p.Mirror, strings.Join(MirrorModes(), ", ")).in("mirror")
	}
	return found.join()
}

// ValidateFor demands of a port what the policy needs of it.
func (p Policy) ValidateFor(port Port) error {
	if p.AddressGuard && len(port.Addresses) == 0 {
		return &Error{
			Kind: Invalid, Object: "addressGuard", Err: fmt.Errorf("no address of the port is known"),
			Hint: "give the port addresses by an ipam, or leave the guard out",
		}
	}
	return nil
}

// PolicyChange is what of a policy is asked for; nil fields stay as they are, and in a
// request for a new port are the switch's default.
type PolicyChange struct {
	DHCPGuard    *bool `json:"dhcpGuard,omitempty"`
	RouterGuard  *bool `json:"routerGuard,omitempty"`
	AddressGuard *bool `json:"addressGuard,omitempty"`
	StormLimit   *int  `json:"stormLimit,omitempty"`

	Mirror *MirrorMode `json:"mirror,omitempty"`
}

// IsZero reports whether nothing is asked for.
func (c PolicyChange) IsZero() bool { return c == PolicyChange{} }

// Apply returns the policy with the changes made.
func (c PolicyChange) Apply(p Policy) Policy {
	change(&p.DHCPGuard, c.DHCPGuard)
	change(&p.RouterGuard, c.RouterGuard)
	change(&p.AddressGuard, c.AddressGuard)
	change(&p.StormLimit, c.StormLimit)
	change(&p.Mirror, c.Mirror)
	p.Mirror = p.Mirror.plain()
	return p
}

func change[T any](field *T, to *T) {
	if to != nil {
		*field = *to
	}
}
