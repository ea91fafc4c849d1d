package vswitch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// This file is how rules are written.

// String is the rule as ParseACLRule reads it: "deny out tcp to 10.0.0.0/8 port 25 weight
// 10", "allow in from fd00::/8", "meter both remote 10.0.0.0/8".
func (r ACLRule) String() string {
	words := []string{string(r.Action), string(r.Direction)}
	if r.Protocol != 0 {
		words = append(words, r.Protocol.String())
	}
	local, remote := r.sides()
	for _, side := range []struct {
		name    string
		address ACLAddress
		ports   ACLPorts
	}{{local, r.Local, r.LocalPort}, {remote, r.Remote, r.RemotePort}} {
		if side.address.IsZero() && side.ports.IsZero() {
			continue
		}
		words = append(words, side.name)
		if !side.address.IsZero() {
			words = append(words, side.address.String())
		}
		if !side.ports.IsZero() {
			words = append(words, "port", side.ports.String())
		}
	}
	if len(words) == 2 {
		words = append(words, "any")
	}
	if r.Weight != 0 {
		words = append(words, "weight", strconv.Itoa(r.Weight))
	}
	if r.Stateful {
		words = append(words, "stateful")
	}
	if r.IdleTimeout != 0 {
		words = append(words, "idle", strconv.Itoa(r.IdleTimeout))
	}
	return strings.Join(words, " ")
}

// sides are the words for the two ends of a packet in the rule's direction.
func (r ACLRule) sides() (local, remote string) {
	switch r.Direction {
	case ACLOut:
		return "from", "to"
	case ACLIn:
		return "to", "from"
	}
	return "local", "remote"
}

const aclExamples = `"deny out tcp to 10.0.0.0/8 port 25 weight 10", "allow in from fd00::/8" or "meter both remote 10.0.0.0/8"`

func aclSyntax(format string, args ...any) *Error {
	return &Error{Kind: Invalid, Object: "acl", Err: fmt.Errorf(format, args...), Hint: "write a rule like " + aclExamples}
}

// ParseACLRule reads what String writes. "local" and "remote" stand for the sides in any
// direction; an address without a side is the remote one, and a port without one that
// which the packet goes to. It checks what it reads as Validate does.
func ParseACLRule(text string) (ACLRule, error) {
	p := aclParser{words: strings.Fields(text)}
	p.rule.Action, p.rule.Direction = ACLAction(p.take()), ACLDirection(p.take())
	if !p.rule.Direction.known() || !p.rule.Action.known() {
		return ACLRule{}, aclSyntax("%.64q does not begin with allow, deny or meter, and in, out or both", text)
	}
	for len(p.words) > 0 && p.err == nil {
		p.part()
	}
	if p.err != nil {
		return ACLRule{}, p.err
	}
	if err := p.rule.Validate(); err != nil {
		return ACLRule{}, err
	}
	return p.rule, nil
}

type aclParser struct {
	words []string
	seen  map[string]bool
	rule  ACLRule
	err   error
}

// take takes the next word off; "" where there is none.
func (p *aclParser) take() (word string) {
	if len(p.words) > 0 {
		word, p.words = p.words[0], p.words[1:]
	}
	return word
}

// once refuses what a rule says a second time.
func (p *aclParser) once(what string) {
	if p.seen[what] && p.err == nil {
		p.err = aclSyntax("the %s is given twice", what)
	}
	if p.seen == nil {
		p.seen = make(map[string]bool)
	}
	p.seen[what] = true
}

func (p *aclParser) part() {
	word := p.take()
	local, remote := p.rule.sides()
	switch word {
	case local, "local":
		p.side("local", &p.rule.Local, &p.rule.LocalPort)
	case remote, "remote":
		p.side("remote", &p.rule.Remote, &p.rule.RemotePort)
	case "any":
		p.once("remote address")
	case "port":
		switch p.rule.Direction {
		case ACLOut:
			p.ports("remote", &p.rule.RemotePort)
		case ACLIn:
			p.ports("local", &p.rule.LocalPort)
		default:
			p.err = aclSyntax("a port needs a side, as in \"remote port 25\"")
		}
	case "weight":
		p.number(word, &p.rule.Weight)
	case "stateful":
		p.once(word)
		p.rule.Stateful = true
	case "idle":
		p.number(word, &p.rule.IdleTimeout)
	default:
		p.other(word)
	}
}

// side reads an address, ports, or both.
func (p *aclParser) side(name string, address *ACLAddress, ports *ACLPorts) {
	if len(p.words) > 0 && p.words[0] != "port" {
		p.once(name + " address")
		if err := address.UnmarshalText([]byte(p.take())); err != nil && p.err == nil {
			p.err = err
		}
	} else if len(p.words) == 0 {
		p.err = aclSyntax("an address or a port is missing at the end")
	}
	if len(p.words) > 0 && p.words[0] == "port" {
		p.take()
		p.ports(name, ports)
	}
}

func (p *aclParser) ports(name string, ports *ACLPorts) {
	p.once(name + " port")
	if err := ports.UnmarshalText([]byte(p.take())); err != nil && p.err == nil {
		p.err = err
	}
}

func (p *aclParser) number(name string, into *int) {
	p.once(name)
	word := p.take()
	n, err := strconv.Atoi(word)
	if (err != nil || n == 0) && p.err == nil { // 0 would be as if it were not given
		p.err = aclSyntax("%s %.32q is not a number from 1 on", name, word)
	}
	*into = n
}

// other is a protocol or a remote address.
func (p *aclParser) other(word string) {
	var protocol ACLProtocol
	if protocol.UnmarshalText([]byte(word)) == nil {
		p.once("protocol")
		p.rule.Protocol = protocol
		return
	}
	if !strings.ContainsAny(word, ".:/-") {
		p.err = aclSyntax("%.32q is no word of a rule", word)
		return
	}
	p.once("remote address")
	if err := p.rule.Remote.UnmarshalText([]byte(word)); err != nil && p.err == nil {
		p.err = err
	}
}

const wordAny, wordAnyMAC = "any", "any-mac"

// String is "any", "any-mac", a MAC address, an IP address or a prefix.
func (a ACLAddress) String() string {
	switch {
	case a.AnyMAC:
		return wordAnyMAC
	case !a.MAC.IsZero():
		return a.MAC.String()
	case a.Prefix.IsValid() && a.Prefix.IsSingleIP():
		return a.Prefix.Addr().String()
	case a.Prefix.IsValid():
		return a.Prefix.String()
	}
	return wordAny
}

// MarshalText spells the address as String does.
func (a ACLAddress) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what String writes.
func (a *ACLAddress) UnmarshalText(text []byte) error {
	word := string(text)
	*a = ACLAddress{}
	switch word {
	case wordAny:
		return nil
	case wordAnyMAC:
		a.AnyMAC = true
		return nil
	}
	if mac, err := ParseMAC(word); err == nil {
		a.MAC = mac
		if mac.IsZero() {
			return aclSyntax("%s is nobody's address", word)
		}
		return nil
	}
	if ip, err := netip.ParseAddr(word); err == nil {
		if ip.Zone() != "" {
			return aclSyntax("%s has a zone, which no packet says", ip)
		}
		a.Prefix = netip.PrefixFrom(ip, ip.BitLen())
	} else if a.Prefix, err = netip.ParsePrefix(word); err != nil {
		*a = ACLAddress{}
		return aclSyntax("%.64q is no IP address, no prefix and no MAC address", word)
	}
	return a.check()
}

// check refuses addresses that no packet bears as they are written.
func (a ACLAddress) check() error {
	switch ip := a.Prefix.Addr(); {
	case !a.Prefix.IsValid():
		if a.Prefix != (netip.Prefix{}) {
			return aclSyntax("a prefix is not valid")
		}
	case ip.Is4In6():
		return aclSyntax("%s is an address of IPv4: write it as %s", ip, ip.Unmap())
	case a.Prefix.Masked() != a.Prefix:
		e := aclSyntax("%s is an address within a prefix", a.Prefix)
		e.Hint = fmt.Sprintf("write %s for the prefix, or %s for the address", a.Prefix.Masked(), ip)
		return e
	}
	return nil
}

func protocolNames() map[string]ACLProtocol {
	return map[string]ACLProtocol{"tcp": ProtocolTCP, "udp": ProtocolUDP, "icmp": ProtocolICMP, "icmpv6": ProtocolICMPv6}
}

// String is the protocol's name, or its number; "any" for any.
func (p ACLProtocol) String() string {
	for name, number := range protocolNames() {
		if p == number {
			return name
		}
	}
	if p == 0 {
		return wordAny
	}
	return strconv.Itoa(int(p))
}

// MarshalText spells the protocol as String does.
func (p ACLProtocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a name, or a number from 1 to 255.
func (p *ACLProtocol) UnmarshalText(text []byte) error {
	if named, ok := protocolNames()[string(text)]; ok {
		*p = named
		return nil
	}
	n, err := strconv.ParseUint(string(text), 10, 8)
	if err != nil || n == 0 {
		return aclSyntax("protocol %.32q is neither tcp, udp, icmp, icmpv6 nor a number from 1 to 255", text)
	}
	*p = ACLProtocol(n)
	return nil
}

// UnmarshalJSON reads a number too.
func (p *ACLProtocol) UnmarshalJSON(data []byte) error { return unmarshalWord(data, p) }

// String is one port, or the first and the last.
func (p ACLPorts) String() string {
	if p.First == p.Last {
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// MarshalText spells the ports as String does.
func (p ACLPorts) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what String writes.
func (p *ACLPorts) UnmarshalText(text []byte) error {
	first, last, ranges := strings.Cut(string(text), "-")
	if !ranges {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || a == 0 || b < a {
		return aclSyntax("port %.32q is neither a number from 1 to 65535 nor a range of them, like 8000-8100", text)
	}
	*p = ACLPorts{First: uint16(a), Last: uint16(b)}
	return nil
}

// UnmarshalJSON reads a number too.
func (p *ACLPorts) UnmarshalJSON(data []byte) error { return unmarshalWord(data, p) }

// unmarshalWord reads a text, or a number as if it were one.
func unmarshalWord(data []byte, into interface{ UnmarshalText([]byte) error }) error {
	data = bytes.TrimSpace(data)
	if len(data) > 0 && data[0] != '"' {
		return into.UnmarshalText(data)
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	return into.UnmarshalText([]byte(text))
}

// UnmarshalJSON reads the object, or the text of String. An unknown key is Invalid;
// whether what is there fits together is for Validate.
func (r *ACLRule) UnmarshalJSON(data []byte) (err error) {
	data = bytes.TrimSpace(data)
	*r = ACLRule{}
	switch {
	case len(data) > 0 && data[0] == '"':
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		*r, err = ParseACLRule(text)
		return err
	case len(data) > 0 && data[0] == '{':
		type object ACLRule
		return UnmarshalStrict(data, (*object)(r))
	}
	return aclSyntax("%.32s is neither a text nor an object", data)
}
