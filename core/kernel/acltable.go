package kernel

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// The table of ports' ACLs: what never changes of it. A port has chains of its own, which
// a map leads to by its name: for a port without, a frame pays for one lookup each way.
const (
	aclTableName = "patchbay_acl"

	setACLOut = "out" // port -> its chain for what its owner sends
	setACLIn  = "in"  // port -> its chain for what its owner gets
	setIP     = "ip"  // the types of IPv4 and IPv6

	setErrors4 = "errors4" // types of ICMP that are about another packet
	setErrors6 = "errors6"

	chainUnreadable = "unreadable"
)

func aclTable() ruleTable {
	toChain := func(name, set string, key uint32, hook uint32, priority int32) ruleChain {
		return ruleChain{name: name, kind: chainFilter, hook: hook, priority: priority, rules: func() [][]expression {
			return [][]expression{{meta(key), lookupVerdict(set)}}
		}}
	}
	return ruleTable{
		name: aclTableName, family: unix.NFPROTO_BRIDGE,
		sets: []ruleSet{
			{name: setACLOut, key: ifName, value: verdicts},
			{name: setACLIn, key: ifName, value: verdicts},
			{name: setErrors4, key: icmp4Type, constant: []string{"\x03", "\x0b", "\x0c"}},         // RFC 792: unreachable, time exceeded, parameter problem
			{name: setErrors6, key: icmp6Type, constant: []string{"\x01", "\x02", "\x03", "\x04"}}, // RFC 4443
			{name: setIP, key: etherTypes, constant: []string{string(etherTypeOf(unix.ETH_P_IP)), string(etherTypeOf(unix.ETH_P_IPV6))}},
		},
		chains: []ruleChain{ // a chain before those that jump to it
			{name: "unreadable_ip6", rules: unreadableIP6Rules},
			{name: chainUnreadable, rules: unreadableRules},
			toChain("prerouting", setACLOut, unix.NFT_META_IIFNAME, unix.NF_INET_PRE_ROUTING, bridgeDstNAT+2),
			toChain("forward", setACLIn, unix.NFT_META_OIFNAME, unix.NF_INET_FORWARD, bridgeFilter+1),
		},
	}
}

// aclMap is the map that leads to ports' chains of a direction.
func aclMap(d vswitch.ACLDirection) string {
	if d == vswitch.ACLOut {
		return setACLOut
	}
	return setACLIn
}

func etherTypeOf(t uint16) []byte { return binary.BigEndian.AppendUint16(nil, t) }

// meta ... vmap @SET
func lookupVerdict(set string) expression {
	return lookupWith(set, numberAttr(unix.NFTA_LOOKUP_DREG, unix.NFT_REG_VERDICT))
}

// unreadableRules drop what rules about IP cannot be asked about: a frame with a second
// tag, since the kernel strips one, and see unreadableIP6Rules.
func unreadableRules() [][]expression {
	return [][]expression{
		rule(protocol(unix.ETH_P_8021Q), countedDrop()),
		rule(protocol(unix.ETH_P_8021AD), countedDrop()),
		rule(protocol(unix.ETH_P_IPV6), jump("unreadable_ip6")),
	}
}

// unreadableIP6Rules drop a first fragment that ends before the header which tells what it
// is (RFC 7112), and headers that are too many to follow. Later fragments are what they
// say that they are, without ports.
func unreadableIP6Rules() [][]expression {
	readable := func(p byte, length int) []expression {
		return rule(transportProtocol(p), []expression{load(transport(0, length))}, leave())
	}
	none := []expression{meta(unix.NFT_META_L4PROTO)}
	for _, p := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMPV6} {
		none = append(none, notEqual([]byte{p}))
	}
	return [][]expression{
		rule(laterFragment(), leave()),
		readable(unix.IPPROTO_TCP, 4), readable(unix.IPPROTO_UDP, 4), readable(unix.IPPROTO_ICMPV6, 1),
		rule(none, leave()),
		countedDrop(),
	}
}

// return
func leave() []expression {
	code := unix.NFT_RETURN
	return []expression{verdictOf(uint32(code))}
}

// goto CHAIN
func continueIn(chain string) []expression {
	code := unix.NFT_GOTO
	return []expression{toChain(uint32(code), chain)}
}
