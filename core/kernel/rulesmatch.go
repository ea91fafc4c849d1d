package kernel

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file spells the matches and statements that rules are made of. Each is
// what `nft` would send for the words in its comment.

// rule joins matches and statements.
func rule(parts ...[]expression) []expression { return slices.Concat(parts...) }

// ICMPv6 types (RFC 2710, 3810, 4861).
const (
	listenerQuery        = 130
	listenerReport       = 131
	listenerDone         = 132
	routerSolicitation   = 133
	neighborSolicitation = 135
	listenerReport2      = 143
)

// Bytes of the Ethernet header.
const (
	etherDst, etherSrc, etherType = 0, 6, 12
	etherLen                      = len(vswitch.MAC{})
	tci                           = etherType + 2 // of a tag: priority (4 bits) and VLAN
)

func counter() expression { return expression{name: exprCounter} }

// counter drop
func countedDrop() []expression {
	return []expression{counter(), verdictOf(verdictDrop)}
}

// accept
func accept() []expression { return []expression{verdictOf(verdictAccept)} }

// notrack
func notrack() []expression { return []expression{{name: exprNotrack}} }

// iifname "PREFIX*"
func namedLike(prefix string) []expression {
	return []expression{meta(unix.NFT_META_IIFNAME), equal([]byte(prefix))}
}

// ether daddr @hosts
func toHost() []expression {
	return inSet(load(ether(etherDst, etherLen)), setHosts)
}

// ether saddr @hosts
func fromHost() []expression {
	return inSet(load(ether(etherSrc, etherLen)), setHosts)
}

// VALUE @SET
func inSet(value expression, set string) []expression {
	return []expression{value, lookup(set)}
}

// iifname . ether saddr != @allowed
func notAllowed() []expression {
	return []expression{
		meta(unix.NFT_META_IIFNAME), // fills register 1, 16 bytes; the address follows in register 2
		loadTo(unix.NFT_REG_2, ether(etherSrc, etherLen)),
		lookupNot(setAllowed),
	}
}

// Bits of a packet's mark, for the segments that it comes to further on.
const (
	apartMark = 1 << 16 // an isolated port has sent it
	askedMark = 1 << 17 // it is the solicitation for routers of all that may pass
)

// meta mark set meta mark | BIT, or & ^BIT
func setMark(bit uint32, on bool) []expression {
	set := uint32(0)
	if on {
		set = bit
	}
	return []expression{
		meta(unix.NFT_META_MARK),
		maskedAnd(hostOrder(^bit), hostOrder(set)),
		setMeta(unix.NFT_META_MARK),
	}
}

// meta mark & BIT == BIT
func hasMark(bit uint32) []expression {
	return []expression{meta(unix.NFT_META_MARK), masked(hostOrder(bit)), equal(hostOrder(bit))}
}

// meta mark & BIT != BIT
func lacksMark(bit uint32) []expression {
	return []expression{meta(unix.NFT_META_MARK), masked(hostOrder(bit)), notEqual(hostOrder(bit))}
}

// iifname . vlan id @SET
func inVLANOf(set string) []expression {
	return []expression{
		load(ether(etherType, 2)), equal(binary.BigEndian.AppendUint16(nil, unix.ETH_P_8021Q)),
		meta(unix.NFT_META_IIFNAME), // fills register 1; the VLAN follows in register 2
		loadTo(unix.NFT_REG_2, ether(tci, 2)),
		maskedIn(unix.NFT_REG_2, []byte{0x0f, 0xff}, []byte{0, 0}),
		lookup(set),
	}
}

// ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00
func unicast() []expression {
	return []expression{
		load(ether(etherDst, etherLen)),
		masked([]byte{1, 0, 0, 0, 0, 0}),
		equal(make([]byte, etherLen)),
	}
}

// ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00
func linkLocal() []expression {
	return []expression{
		load(ether(etherDst, etherLen)),
		masked([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xf0}),
		equal([]byte{0x01, 0x80, 0xc2, 0, 0, 0}),
	}
}

// iifgroup GROUP
func is(key uint32, group uint32) []expression {
	return []expression{meta(key), equal(hostOrder(group))}
}

// oifgroup != GROUP
func isNot(key uint32, group uint32) []expression {
	return []expression{meta(key), notEqual(hostOrder(group))}
}

// iifgroup & GroupMask == GroupMark
func ours(key uint32) []expression {
	return []expression{
		meta(key),
		masked(hostOrder(vswitch.GroupMask)),
		equal(hostOrder(vswitch.GroupMark)),
	}
}

// iifgroup & GroupMask != GroupMark
func notOurs(key uint32) []expression {
	return []expression{
		meta(key),
		masked(hostOrder(vswitch.GroupMask)),
		notEqual(hostOrder(vswitch.GroupMark)),
	}
}

// icmp6AnyType leaves the type in register 1. The transport header is the one
// behind all extension headers, such as the Hop-by-Hop option of MLD.
func icmp6AnyType() []expression {
	return []expression{
		load(ether(etherType, 2)), equal(binary.BigEndian.AppendUint16(nil, unix.ETH_P_IPV6)),
		meta(unix.NFT_META_L4PROTO), equal([]byte{unix.IPPROTO_ICMPV6}),
		load(transport(0, 1)),
	}
}

// icmpv6 type KIND
func icmp6(kind byte) []expression { return append(icmp6AnyType(), equal([]byte{kind})) }

// icmpv6 type @SET
func icmp6InSet(set string) []expression {
	return append(icmp6AnyType(), lookup(set))
}

// icmpv6 type nd-neighbor-solicit ip6 saddr :: @th,152,16 0xfffe
func probeOfEUI64() []expression {
	const source = 8             // in the IPv6 header
	const target, middle = 8, 11 // in the ICMPv6 message, in an address
	return rule(icmp6(neighborSolicitation), []expression{
		load(network(source, 16)), equal(make([]byte, 16)),
		load(transport(target+middle, 2)), equal([]byte{0xff, 0xfe}),
	})
}

// ether daddr set iifgroup map @router
func steer() []expression {
	return []expression{
		meta(unix.NFT_META_IIFGROUP),
		lookupMap(setRouter),
		store(ether(etherDst, etherLen)),
	}
}

// ip daddr != 224.0.0.0/4
func notMulticast4() []expression {
	return []expression{load(network(16, 4)), masked([]byte{0xf0, 0, 0, 0}), notEqual([]byte{0xe0, 0, 0, 0})}
}

// ip6 daddr != ff00::/8
func notMulticast6() []expression {
	return []expression{load(network(24, 1)), notEqual([]byte{0xff})}
}

// hostOrder spells what the kernel keeps as a number of its own.
func hostOrder(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
