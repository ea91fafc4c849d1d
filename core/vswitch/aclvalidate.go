package vswitch

import (
	"cmp"
	"fmt"
	"strings"
)

// This file says which rules there can be, and which beside each other.

func (d ACLDirection) known() bool { return d == ACLIn || d == ACLOut || d == ACLBoth }

func (a ACLAction) known() bool { return a == ACLAllow || a == ACLDeny || a == ACLMeter }

// Validate reports every problem of the rule, each an Error with its field.
func (r ACLRule) Validate() error {
	var p problems
	r.problems(&p, "")
	return p.join()
}

// ValidateACL reports every problem of a port's list: Invalid and Range of a rule,
// AlreadyExists of one that is there twice or contradicts another about the same packets,
// Ambiguous of extended rules that match the same packets with the same weight.
func ValidateACL(rules []ACLRule) error {
	var p problems
	entries := 0
	for i, r := range rules {
		if entries++; r.Direction == ACLBoth {
			entries++
		}
		r.problems(&p, fmt.Sprintf("acl[%d]", i))
	}
	if entries > MaxACLRules {
		p.found(Range, "acl", "%d rules, each way counted, are more than %d", entries, MaxACLRules).in("acl")
	}
	if len(p) > 0 {
		return p.join()
	}
	for i, r := range rules {
		for j, earlier := range rules[:i] {
			r.beside(earlier, j, &p, fmt.Sprintf("acl[%d]", i))
		}
	}
	return p.join()
}

// aclField is where a rule is wrong, and what to do.
type aclField struct {
	field string
	kind  Kind // "" for Invalid
	hint  string
}

type aclFault func(at aclField, format string, args ...any)

// problems adds what is wrong with one rule.
func (r ACLRule) problems(p *problems, path string) {
	bad := func(at aclField, format string, args ...any) {
		e := p.found(cmp.Or(at.kind, Invalid), "acl", format, args...)
		e.Hint = at.hint
		e.in(strings.TrimPrefix(path+"."+at.field, "."))
	}
	if !r.Direction.known() {
		bad(aclField{field: "direction"}, "%.32q is neither in, out nor both", string(r.Direction))
	}
	if !r.Action.known() {
		bad(aclField{field: "action"}, "%.32q is neither allow, deny nor meter", string(r.Action))
	}
	for _, side := range []struct {
		field   string
		address ACLAddress
	}{{"local", r.Local}, {"remote", r.Remote}} {
		if err := side.address.check(); err != nil {
			bad(aclField{field: side.field}, "%w", err)
		}
	}
	r.familyProblems(bad)
	if !r.Extended() {
		r.portProblems(bad)
		return
	}
	r.extendedProblems(bad)
}

// familyProblems are of addresses and protocols that no packet has together.
func (r ACLRule) familyProblems(bad aclFault) {
	for _, a := range []ACLAddress{r.Local, r.Remote} {
		switch {
		case !a.Prefix.IsValid():
		case r.Protocol == ProtocolICMP && a.Prefix.Addr().Is6():
			bad(aclField{field: "protocol", hint: "write icmpv6"}, "icmp is of IPv4, and %s of IPv6", a)
		case r.Protocol == ProtocolICMPv6 && a.Prefix.Addr().Is4():
			bad(aclField{field: "protocol", hint: "write icmp"}, "icmpv6 is of IPv6, and %s of IPv4", a)
		}
	}
	if l, m := r.Local.Prefix, r.Remote.Prefix; l.IsValid() && m.IsValid() && l.Addr().Is4() != m.Addr().Is4() {
		bad(aclField{field: "remote"}, "%s and %s are of different families", l, m)
	}
}

// portProblems are those of a rule without a weight: it has one address and no more.
func (r ACLRule) portProblems(bad aclFault) {
	if r.Protocol != 0 || !r.LocalPort.IsZero() || !r.RemotePort.IsZero() || r.Stateful || r.IdleTimeout != 0 {
		bad(aclField{field: "weight", hint: fmt.Sprintf("add a weight from 1 to %d: of the rules that match the highest one decides", MaxACLWeight)}, "protocols, ports and state are for extended rules, which have a weight")
	}
	if !r.Local.IsZero() && !r.Remote.IsZero() {
		bad(aclField{field: "local", hint: "add a weight"}, "a rule without a weight has one address, local or remote")
	}
	if r.Action == ACLMeter && (r.Local.ofMAC() || r.Remote.ofMAC()) {
		bad(aclField{field: "action"}, "meters are for addresses of IP")
	}
}

func (r ACLRule) extendedProblems(bad aclFault) {
	if r.Weight < 1 || r.Weight > MaxACLWeight {
		bad(aclField{field: "weight", kind: Range}, "%d is outside 1-%d", r.Weight, MaxACLWeight)
	}
	if r.Direction == ACLBoth {
		bad(aclField{field: "direction", hint: "give a rule for in and one for out; a stateful one lets answers pass by itself"}, "a rule with a weight is about one direction")
	}
	if r.Action == ACLMeter {
		bad(aclField{field: "action"}, "a meter has no weight: it decides nothing")
	}
	if r.Local.ofMAC() || r.Remote.ofMAC() {
		bad(aclField{field: "weight"}, "a rule with a weight is about IP, not about MAC addresses")
	}
	for _, side := range []struct {
		field string
		ports ACLPorts
	}{{"localPort", r.LocalPort}, {"remotePort", r.RemotePort}} {
		switch {
		case side.ports.IsZero():
		case side.ports.First == 0 || side.ports.Last < side.ports.First:
			bad(aclField{field: side.field}, "%d-%d is no range of ports", side.ports.First, side.ports.Last)
		case !r.Protocol.hasPorts():
			bad(aclField{field: side.field, hint: "name the protocol"}, "ports are of tcp and udp")
		}
	}
	if r.Stateful && r.Action != ACLAllow {
		bad(aclField{field: "stateful"}, "only what is allowed has answers to let pass")
	}
	if r.IdleTimeout != 0 && !r.Stateful {
		bad(aclField{field: "idleTimeout", hint: "add stateful"}, "a rule that is not stateful has no sessions")
	}
	if r.IdleTimeout < 0 || r.IdleTimeout > MaxIdleTimeout {
		bad(aclField{field: "idleTimeout", kind: Range}, "%d seconds is outside 1-%d", r.IdleTimeout, MaxIdleTimeout)
	}
}

// beside adds what a rule and an earlier one cannot be together.
func (r ACLRule) beside(earlier ACLRule, index int, p *problems, path string) {
	if !r.Is(ACLIn) && !earlier.Is(ACLOut) || !r.Is(ACLOut) && !earlier.Is(ACLIn) {
		return
	}
	match := func(r ACLRule) ACLRule {
		r.Direction, r.Action, r.Stateful, r.IdleTimeout = "", "", false, 0
		return r
	}
	same := match(r) == match(earlier) && (r.Action == ACLMeter) == (earlier.Action == ACLMeter)
	switch {
	case same:
		p.found(AlreadyExists, "acl", "%q is about the same packets as %q, rule %d", r, earlier, index+1).in(path)
	case r.Extended() && r.Weight == earlier.Weight && r.overlaps(earlier):
		e := p.found(Ambiguous, "acl", "%q and %q match the same packets with the same weight", r, earlier)
		e.Field, e.Hint = path+".weight", "give the one that shall decide a higher weight"
	}
}

// overlaps reports whether a packet can match both extended rules.
func (r ACLRule) overlaps(other ACLRule) bool {
	return r.Local.overlaps(other.Local) && r.Remote.overlaps(other.Remote) &&
		(r.Protocol == 0 || other.Protocol == 0 || r.Protocol == other.Protocol) &&
		r.LocalPort.overlaps(other.LocalPort) && r.RemotePort.overlaps(other.RemotePort) &&
		(r.family() == 0 || other.family() == 0 || r.family() == other.family())
}

// family is the version of IP that the rule's packets have, or 0.
func (r ACLRule) family() int {
	for _, a := range []ACLAddress{r.Local, r.Remote} {
		if a.Prefix.IsValid() {
			return a.Prefix.Addr().BitLen()
		}
	}
	switch r.Protocol {
	case ProtocolICMP:
		return 32
	case ProtocolICMPv6:
		return 128
	}
	return 0
}

func (a ACLAddress) overlaps(other ACLAddress) bool {
	return a.IsZero() || other.IsZero() || a.Prefix.Overlaps(other.Prefix)
}

func (p ACLPorts) overlaps(other ACLPorts) bool {
	return p.IsZero() || other.IsZero() || p.First <= other.Last && other.First <= p.Last
}
