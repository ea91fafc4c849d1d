package kernel

import (
	"slices"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file spells the matches and statements that rules are made of. Each is
// what `nft` would send for the words in its comment.

// rule joins matches and statements.
func rule(parts ...[]expr.Any) []expr.Any { return slices.Concat(parts...) }

// ICMPv6 types (RFC 2710, 3810, 4861).
const (
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
)

func meta(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: 1} }

func equal(v []byte) expr.Any    { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: v} }
func notEqual(v []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: v} }

func payload(base expr.PayloadBase, offset, length int) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: base, Offset: uint32(offset), Len: uint32(length)}
}

func masked(mask []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))}
}

// counter drop
func countedDrop() []expr.Any {
	return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}
}

// accept
func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

// notrack
func notrack() []expr.Any { return []expr.Any{&expr.Notrack{}} }

// iifname "PREFIX*"
func namedLike(prefix string) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyIIFNAME), equal([]byte(prefix))}
}

// ether daddr @hosts
func toHost() []expr.Any {
	return inSet(payload(expr.PayloadBaseLLHeader, etherDst, etherLen), setHosts)
}

// VALUE @SET
func inSet(value expr.Any, set string) []expr.Any {
	return []expr.Any{value, &expr.Lookup{SourceRegister: 1, SetName: set}}
}

// iifname . ether saddr != @allowed
func notAllowed() []expr.Any {
	return []expr.Any{
		meta(expr.MetaKeyIIFNAME), // fills register 1, 16 bytes; the address follows in register 2
		&expr.Payload{DestRegister: 2, Base: expr.PayloadBaseLLHeader, Offset: etherSrc, Len: uint32(etherLen)},
		&expr.Lookup{SourceRegister: 1, SetName: setAllowed, Invert: true},
	}
}

// ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00
func unicast() []expr.Any {
	return []expr.Any{
		payload(expr.PayloadBaseLLHeader, etherDst, etherLen),
		masked([]byte{1, 0, 0, 0, 0, 0}),
		equal(make([]byte, etherLen)),
	}
}

// ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00
func linkLocal() []expr.Any {
	return []expr.Any{
		payload(expr.PayloadBaseLLHeader, etherDst, etherLen),
		masked([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xf0}),
		equal([]byte{0x01, 0x80, 0xc2, 0, 0, 0}),
	}
}

// iifgroup GROUP
func is(key expr.MetaKey, group uint32) []expr.Any {
	return []expr.Any{meta(key), equal(binaryutil.NativeEndian.PutUint32(group))}
}

// oifgroup != GROUP
func isNot(key expr.MetaKey, group uint32) []expr.Any {
	return []expr.Any{meta(key), notEqual(binaryutil.NativeEndian.PutUint32(group))}
}

// iifgroup & GroupMask == GroupMark
func ours(key expr.MetaKey) []expr.Any {
	return []expr.Any{
		meta(key),
		masked(binaryutil.NativeEndian.PutUint32(vswitch.GroupMask)),
		equal(binaryutil.NativeEndian.PutUint32(vswitch.GroupMark)),
	}
}

// icmp6AnyType leaves the type in register 1. The transport header is the one
// behind all extension headers, such as the Hop-by-Hop option of MLD.
func icmp6AnyType() []expr.Any {
	return []expr.Any{
		payload(expr.PayloadBaseLLHeader, etherType, 2), equal(binaryutil.BigEndian.PutUint16(unix.ETH_P_IPV6)),
		meta(expr.MetaKeyL4PROTO), equal([]byte{unix.IPPROTO_ICMPV6}),
		payload(expr.PayloadBaseTransportHeader, 0, 1),
	}
}

// icmpv6 type KIND
func icmp6(kind byte) []expr.Any { return append(icmp6AnyType(), equal([]byte{kind})) }

// icmpv6 type @SET
func icmp6InSet(set string) []expr.Any {
	return append(icmp6AnyType(), &expr.Lookup{SourceRegister: 1, SetName: set})
}

// icmpv6 type nd-neighbor-solicit ip6 saddr :: @th,152,16 0xfffe
func probeOfEUI64() []expr.Any {
	const source = 8             // in the IPv6 header
	const target, middle = 8, 11 // in the ICMPv6 message, in an address
	return rule(icmp6(neighborSolicitation), []expr.Any{
		payload(expr.PayloadBaseNetworkHeader, source, 16), equal(make([]byte, 16)),
		payload(expr.PayloadBaseTransportHeader, target+middle, 2), equal([]byte{0xff, 0xfe}),
	})
}

// ether daddr set iifgroup map @router
func steer() []expr.Any {
	return []expr.Any{
		meta(expr.MetaKeyIIFGROUP),
		&expr.Lookup{SourceRegister: 1, SetName: setRouter, DestRegister: 1, IsDestRegSet: true},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: 1,
			Base: expr.PayloadBaseLLHeader, Offset: etherDst, Len: uint32(etherLen),
		},
	}
}

// ip daddr != 224.0.0.0/4
func notMulticast4() []expr.Any {
	return []expr.Any{payload(expr.PayloadBaseNetworkHeader, 16, 4), masked([]byte{0xf0, 0, 0, 0}), notEqual([]byte{0xe0, 0, 0, 0})}
}

// ip6 daddr != ff00::/8
func notMulticast6() []expr.Any {
	return []expr.Any{payload(expr.PayloadBaseNetworkHeader, 24, 1), notEqual([]byte{0xff})}
}
