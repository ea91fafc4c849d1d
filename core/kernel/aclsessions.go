package kernel

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Sessions are noted in sets of a port's own, from the path of the packet that a stateful
// rule allows: a family's addresses, the protocol and its ports, the owner's first. So the
// answer has the same key, the time that a rule gives is the element's, and a port that
// fills its sets harms no other. Conntrack of bridges would do for none of this: what it
// knows is no port's, and all rules would have one time.

// maxSessions is the number of sessions that a set has room for, a few megabytes.
const maxSessions = 16384

// sessions are those that rules of one direction and one idle time have allowed.
type sessions struct {
	dev   string
	by    vswitch.ACLDirection
	idle  int
	rules []vswitch.ACLRule
}

// sessionsOf are the port's sessions by the stateful rules of a direction.
func sessionsOf(dev string, by vswitch.ACLDirection, rules []vswitch.ACLRule) (all []sessions) {
	for _, r := range rules {
		if !r.Stateful || !r.Is(by) {
			continue
		}
		at := slices.IndexFunc(all, func(s sessions) bool { return s.idle == r.Idle() })
		if at < 0 {
			all = append(all, sessions{dev: dev, by: by, idle: r.Idle()})
			at = len(all) - 1
		}
		all[at].rules = append(all[at].rules, r)
	}
	slices.SortFunc(all, func(a, b sessions) int { return a.idle - b.idle })
	return all
}

// answersTo are the sessions whose answers go in the direction.
func answersTo(dev string, d vswitch.ACLDirection, rules []vswitch.ACLRule) []sessions {
	if d == vswitch.ACLOut {
		return sessionsOf(dev, vswitch.ACLIn, rules)
	}
	return sessionsOf(dev, vswitch.ACLOut, rules)
}

func (s sessions) name(what string) string {
	return fmt.Sprintf("%s/%s/%s%d", s.dev, s.by, what, s.idle)
}

// chain notes a session and lets it pass.
func (s sessions) chain() string { return s.name("noted") }

// ipVersion is what differs between the two.
type ipVersion struct {
	sets      string // what names of sets begin with
	key       dataType
	words     int // of a register that an address takes
	etherType uint16
	address   func(packetSide) header
	// ICMP, its echoes and the answers to them, and the set of types of messages about
	// another packet.
	icmp, echo, echoReply byte
	errors                string
	// Where the packet that such a message is about has what it is known by, from the
	// beginning of the message.
	source, target, protocol, payload int
}

func ipVersions() []ipVersion {
	const quoted = 8 // where the packet begins that the message is about
	return []ipVersion{
		{
			sets: "sessions4-", key: session4, words: 1, etherType: unix.ETH_P_IP, address: func(s packetSide) header { return s.ip4 },
			icmp: unix.IPPROTO_ICMP, echo: 8, echoReply: 0, errors: setErrors4,
			source: quoted + 12, target: quoted + 16, protocol: quoted + 9, payload: quoted + 20,
		},
		{
			sets: "sessions6-", key: session6, words: 4, etherType: unix.ETH_P_IPV6, address: func(s packetSide) header { return s.ip6 },
			icmp: unix.IPPROTO_ICMPV6, echo: 128, echoReply: 129, errors: setErrors6,
			source: quoted + 8, target: quoted + 24, protocol: quoted + 6, payload: quoted + 40,
		},
	}
}

// flow is a kind of session by what tells two of the same hosts apart.
type flow struct {
	protocol byte // 0 for those that have no line of their own
	match    []expression
	// ids are where the owner's and the other side's number is; none for neither.
	ids func(local, remote packetSide) (header, header)
}

// flows are the kinds of session, with the type of an echo. A message of ICMP other than
// echoes is of no session by itself.
func (v ipVersion) flows(echo byte) []flow {
	ports := func(local, remote packetSide) (header, header) { return local.port, remote.port }
	identifier := func(_, _ packetSide) (header, header) { return transport(4, 2), transport(4, 2) }
	return []flow{
		{protocol: unix.IPPROTO_TCP, match: transportProtocol(unix.IPPROTO_TCP), ids: ports},
		{protocol: unix.IPPROTO_UDP, match: transportProtocol(unix.IPPROTO_UDP), ids: ports},
		{protocol: v.icmp, match: icmpType(v.icmp, echo), ids: identifier},
		{match: []expression{
			meta(unix.NFT_META_L4PROTO), notEqual([]byte{unix.IPPROTO_TCP}), notEqual([]byte{unix.IPPROTO_UDP}), notEqual([]byte{v.icmp}),
		}},
	}
}

// has reports whether a rule can have allowed such a flow.
func (s sessions) has(v ipVersion, protocol byte) bool {
	return slices.ContainsFunc(s.rules, func(r vswitch.ACLRule) bool {
		for _, a := range []vswitch.ACLAddress{r.Local, r.Remote} {
			if a.Prefix.IsValid() && a.Prefix.Addr().Is4() != (v.etherType == unix.ETH_P_IP) {
				return false
			}
		}
		if p := byte(r.Protocol); protocol == 0 && p != 0 {
			return p != unix.IPPROTO_TCP && p != unix.IPPROTO_UDP && p != unix.IPPROTO_ICMP && p != unix.IPPROTO_ICMPV6
		}
		return r.Protocol == 0 || byte(r.Protocol) == protocol
	})
}

// versions are those of IP that the sessions may be of.
func (s sessions) versions() []ipVersion {
	return slices.DeleteFunc(ipVersions(), func(v ipVersion) bool {
		return !slices.ContainsFunc(v.flows(v.echo), func(f flow) bool { return s.has(v, f.protocol) })
	})
}

func (s sessions) sets() (sets []ruleSet) {
	for _, v := range s.versions() {
		sets = append(sets, ruleSet{name: s.name(v.sets), key: v.key, learnt: time.Duration(s.idle) * time.Second, room: maxSessions})
	}
	return sets
}

// noting is the chain for what a stateful rule has allowed.
func (s sessions) noting() portChain {
	c := portChain{name: s.chain()}
	for _, v := range s.versions() {
		for _, f := range v.flows(v.echo) {
			if s.has(v, f.protocol) {
				c.add(protocol(v.etherType), f.match, v.sessionKey(s.by, f), []expression{noted(s.name(v.sets))})
			}
		}
	}
	c.add(accept()) // noted or not: a message of ICMP about another packet is not
	return c
}

// answerChain lets pass what belongs to a session, and so keeps it alive.
func answerChain(name string, all []sessions, d vswitch.ACLDirection) portChain {
	c := portChain{name: name}
	for _, s := range all {
		for _, v := range s.versions() {
			set := s.name(v.sets)
			for _, f := range v.flows(v.echoReply) {
				if s.has(v, f.protocol) {
					c.add(protocol(v.etherType), f.match, v.sessionKey(d, f), []expression{lookup(set), noted(set)}, accept())
				}
			}
			about := rule(protocol(v.etherType), transportProtocol(v.icmp), []expression{load(transport(0, 1)), lookup(v.errors)})
			c.add(about, v.quotedKey(d, v.payload, v.payload+2), []expression{lookup(set)}, accept())
			if s.has(v, v.icmp) {
				const identifier = 4
				c.add(about, v.quotedKey(d, v.payload+identifier, v.payload+identifier), []expression{lookup(set)}, accept())
			}
		}
	}
	return c
}

// sessionKey loads what a packet's session is known by.
func (v ipVersion) sessionKey(d vswitch.ACLDirection, f flow) []expression {
	local, remote := sidesOf(d)
	ids := 2*v.words + 1
	key := []expression{
		loadTo(registerAt(0), v.address(local)), loadTo(registerAt(v.words), v.address(remote)), metaTo(registerAt(2*v.words), unix.NFT_META_L4PROTO),
	}
	if f.ids == nil {
		return append(key, immediateTo(registerAt(ids), make([]byte, 8)))
	}
	mine, other := f.ids(local, remote)
	return append(key, loadTo(registerAt(ids), mine), loadTo(registerAt(ids+1), other))
}

// quotedKey loads what the session of the packet is known by that a message of ICMP is
// about, which the message's receiver has sent, with its numbers at two places. A quoted
// header of IPv4 with options is not looked into.
func (v ipVersion) quotedKey(d vswitch.ACLDirection, from, to int) []expression {
	local, remote := v.source, v.target
	if d == vswitch.ACLOut {
		local, remote, from, to = remote, local, to, from
	}
	var key []expression
	if v.words == 1 {
		const plain = 0x45 // version and length
		key = []expression{load(transport(8, 1)), equal([]byte{plain})}
	}
	at := func(offset, length int) header { return transport(offset, length) }
	return append(key,
		loadTo(registerAt(0), at(local, 4*v.words)), loadTo(registerAt(v.words), at(remote, 4*v.words)), loadTo(registerAt(2*v.words), at(v.protocol, 1)),
		loadTo(registerAt(2*v.words+1), at(from, 2)), loadTo(registerAt(2*v.words+2), at(to, 2)))
}

// update @SET { KEY }: it is there, and begins to rest anew
func noted(set string) expression {
	return expression{exprDynset, []attribute{
		nameAttr(unix.NFTA_DYNSET_SET_NAME, set),
		numberAttr(unix.NFTA_DYNSET_OP, unix.NFT_DYNSET_OP_UPDATE),
		numberAttr(unix.NFTA_DYNSET_SREG_KEY, unix.NFT_REG_1),
	}}
}

// registerAt names a word of the registers as the kernel does: by the register that it begins.
func registerAt(n int) uint32 {
	const perRegister = 4
	if n%perRegister == 0 {
		return uint32(unix.NFT_REG_1 + n/perRegister)
	}
	return uint32(unix.NFT_REG32_00 + n)
}
