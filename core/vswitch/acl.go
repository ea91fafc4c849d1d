package vswitch

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// ACLDirection is which packets a rule is about, in the view of the port's owner.
type ACLDirection string

// The directions. ACLBoth stands for a rule each way.
const (
	ACLIn   ACLDirection = "in"  // to the owner; Hyper-V: Inbound
	ACLOut  ACLDirection = "out" // from the owner; Hyper-V: Outbound
	ACLBoth ACLDirection = "both"
)

// ACLAction is what happens to a packet that a rule matches.
type ACLAction string

// The actions. ACLMeter counts, and leaves it to the other rules whether a packet passes.
const (
	ACLAllow ACLAction = "allow"
	ACLDeny  ACLAction = "deny"
	ACLMeter ACLAction = "meter"
)

// ACLAddress is what an address has to be: that of a netdev, or in a range of IP. The zero
// value is any packet of IP.
type ACLAddress struct {
	MAC    MAC
	Prefix netip.Prefix
	// AnyMAC is any frame, of IP or not.
	AnyMAC bool
}

// IsZero reports whether any packet of IP fits.
func (a ACLAddress) IsZero() bool { return a == ACLAddress{} }

// ofMAC reports whether it is about frames, not about IP.
func (a ACLAddress) ofMAC() bool { return a.AnyMAC || !a.MAC.IsZero() }

// ACLProtocol is a protocol over IP by its number; zero is any.
type ACLProtocol uint8

// Protocols that have names in rules.
const (
	ProtocolICMP   ACLProtocol = 1
	ProtocolTCP    ACLProtocol = 6
	ProtocolUDP    ACLProtocol = 17
	ProtocolICMPv6 ACLProtocol = 58
)

// hasPorts reports whether rules can name ports of it.
func (p ACLProtocol) hasPorts() bool { return p == ProtocolTCP || p == ProtocolUDP }

// ACLPorts are ports of TCP or UDP from First to Last; the zero value is any.
type ACLPorts struct{ First, Last uint16 }

// IsZero reports whether any port fits.
func (p ACLPorts) IsZero() bool { return p == ACLPorts{} }

// ACLRule is an entry of a port's list. One without a Weight is a port ACL: an address and
// no more, and of those that match the one with the longest prefix decides. One with a
// Weight is extended: the rules are tried by their weight, and the first one that matches
// decides. What no rule matches passes, and both kinds have to let a packet pass.
// PowerShell twins: Add-VMNetworkAdapterAcl, Add-VMNetworkAdapterExtendedAcl.
type ACLRule struct {
	Direction ACLDirection `json:"direction"`
	Action    ACLAction    `json:"action"`
	// Local is the owner's side of the packet and Remote the other one.
	Local  ACLAddress `json:"local,omitzero"`
	Remote ACLAddress `json:"remote,omitzero"`
	// The rest is for extended rules. Weight is 1 to MaxACLWeight, higher first.
	Protocol   ACLProtocol `json:"protocol,omitzero"`
	LocalPort  ACLPorts    `json:"localPort,omitzero"`
	RemotePort ACLPorts    `json:"remotePort,omitzero"`
	Weight     int         `json:"weight,omitempty"`
	// Stateful lets pass what answers to what the rule has allowed, until nothing has
	// come either way for IdleTimeout seconds; 0 is DefaultIdleTimeout.
	Stateful    bool `json:"stateful,omitempty"`
	IdleTimeout int  `json:"idleTimeout,omitempty"`
}

// Bounds of a port's list.
const (
	MaxACLRules        = 256 // a port, a rule for both directions counting twice
	MaxACLWeight       = 65535
	MaxIdleTimeout     = 86400
	DefaultIdleTimeout = 3600
)

// Extended reports whether the rule is tried by weight.
func (r ACLRule) Extended() bool { return r.Weight != 0 }

// Idle is after how many seconds of silence a session of the rule ends.
func (r ACLRule) Idle() int { return cmp.Or(r.IdleTimeout, DefaultIdleTimeout) }

// Is reports whether the rule is about packets in that direction.
func (r ACLRule) Is(d ACLDirection) bool { return r.Direction == d || r.Direction == ACLBoth }

// ACLOrder is a port's list for one direction as packets meet it: each part most decisive
// first.
type ACLOrder struct{ Meters, Ports, Extended []ACLRule }

// OrderACL sorts a port's rules for ACLIn or ACLOut. Meters and port ACLs go by their
// address: that of a netdev, the longest prefix, any. Where a local and a remote address
// are as long as each other, deny goes first.
func OrderACL(rules []ACLRule, d ACLDirection) (o ACLOrder) {
	for _, r := range rules {
		switch {
		case !r.Is(d):
		case r.Action == ACLMeter:
			o.Meters = append(o.Meters, r)
		case r.Extended():
			o.Extended = append(o.Extended, r)
		default:
			o.Ports = append(o.Ports, r)
		}
	}
	for _, part := range [][]ACLRule{o.Meters, o.Ports, o.Extended} {
		slices.SortFunc(part, compareACL)
	}
	return o
}

// compareACL puts more decisive rules first. It is a total order.
func compareACL(a, b ACLRule) int {
	return cmp.Or(cmp.Compare(b.Weight, a.Weight), cmp.Compare(b.specificity(), a.specificity()),
		cmp.Compare(b.Action, a.Action), cmp.Compare(a.String(), b.String()))
}

// specificity grows with what the rule's address leaves out.
func (r ACLRule) specificity() int {
	const mac, anyMAC, prefix = 1000, -2, 0
	best := -1 // any IP
	for _, a := range []ACLAddress{r.Local, r.Remote} {
		switch {
		case !a.MAC.IsZero():
			best = mac
		case a.AnyMAC:
			best = anyMAC
		case a.Prefix.IsValid():
			best = max(best, prefix+a.Prefix.Bits())
		}
	}
	return best
}

// SortACL returns the rules in the order in which lists show them.
func SortACL(rules []ACLRule) []ACLRule {
	return slices.SortedFunc(slices.Values(rules), func(a, b ACLRule) int {
		part := func(r ACLRule) int {
			switch {
			case r.Action == ACLMeter:
				return 0
			case !r.Extended():
				return 1
			}
			return 2
		}
		return cmp.Or(cmp.Compare(part(a), part(b)), compareACL(a, b))
	})
}

// SameACL reports whether two lists do the same, in whatever order they stand.
func SameACL(a, b []ACLRule) bool {
	return len(a) == len(b) && slices.Equal(SortACL(a), SortACL(b))
}

// AddACL returns the list with a rule more. It fails with AlreadyExists if it is there, or
// another action for the same packets.
func AddACL(rules []ACLRule, r ACLRule) ([]ACLRule, error) {
	all := append(slices.Clone(rules), r)
	return all, ValidateACL(all)
}

// DeleteACL returns the list without a rule, and fails with NotFound if it is not there.
func DeleteACL(rules []ACLRule, r ACLRule) ([]ACLRule, error) {
	at := slices.Index(rules, r)
	if at < 0 {
		return nil, &Error{
			Kind: NotFound, Object: "acl", Err: fmt.Errorf("there is no rule %q", r),
			Hint: "run `patchbay port acl list PORT`, which shows the rules as they are to be written",
		}
	}
	return slices.Delete(slices.Clone(rules), at, at+1), nil
}
