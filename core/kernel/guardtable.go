package kernel

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The sets of the table of guards; see plan.Guards.
const (
	guardTableName = "patchbay_guards"

	setGuards      = "guarded" // ports with any guard: others pay for one lookup
	setDHCP        = "dhcp"    // ports with a DHCP guard
	setRouterGuard = "router"  // ports with a router guard
	setStorm       = "storm"   // ports with a storm limit, each with its own
	setBound       = "bound"   // ports that speak for their own addresses alone
	setARP         = "arp"     // port . MAC . IPv4 address
	setND          = "nd"      // port . IPv6 address
)

// guardTable is the table of what guards drop of frames that ports send. Its rules are
// the same for any number of ports, and each port's element counts what is dropped of it.
func guardTable() ruleTable {
	return ruleTable{
		name: guardTableName, family: unix.NFPROTO_BRIDGE,
		sets: []ruleSet{
			{name: setGuards, key: ifName},
			{name: setDHCP, key: ifName, each: counts},
			{name: setRouterGuard, key: ifName, each: counts},
			{name: setStorm, key: ifName, each: limits},
			{name: setBound, key: ifName, each: counts},
			{name: setARP, key: ifNameEtherAddrIPv4},
			{name: setND, key: ifNameIPv6},
		},
		chains: []ruleChain{ // a chain before those that jump to it
			{name: "guard_arp", rules: guardARPRules},
			{name: "guard_icmp6", rules: guardICMP6Rules},
			{name: "guard_ip6", rules: guardIP6Rules},
			{name: "guards", rules: guardRules},
			{name: "prerouting", kind: chainFilter, hook: unix.NF_INET_PRE_ROUTING, priority: bridgeDstNAT + 1, rules: func() [][]expression {
				return [][]expression{rule(inSet(meta(unix.NFT_META_IIFNAME), setGuards), jump("guards"))}
			}},
		},
	}
}

// UDP ports to which only servers and relays of DHCP send (RFC 2131, 8415). Clients listen
// whatever port an answer comes from.
const dhcpClient4, dhcpClient6 = 68, 546

// ICMP types of routers (RFC 792, 1256, 4861).
const (
	icmpRedirect, icmpRouterAdvertisement                         = 5, 9
	routerAdvertisement, neighborAdvertisement, neighborsRedirect = 134, 136, 137
)

// guardRules see what is behind a tag, as the kernel strips one. A frame with more tags
// says what no guard can read: only ports without such guards send it.
func guardRules() [][]expression {
	readsNot := func(etherType uint16, set string) []expression { return rule(protocol(etherType), dropOf(set)) }
	return [][]expression{
		// ether daddr & 01:00:00:00:00:00 != 0 iifname @storm drop, which matches over the limit
		rule(manycast(), dropOf(setStorm)),
		rule(protocol(unix.ETH_P_ARP), jump("guard_arp")),
		rule(protocol(unix.ETH_P_IP), transportProtocol(unix.IPPROTO_UDP), toUDPPort(dhcpClient4), dropOf(setDHCP)),
		rule(protocol(unix.ETH_P_IP), icmpType(unix.IPPROTO_ICMP, icmpRedirect), dropOf(setRouterGuard)),
		rule(protocol(unix.ETH_P_IP), icmpType(unix.IPPROTO_ICMP, icmpRouterAdvertisement), dropOf(setRouterGuard)),
		rule(protocol(unix.ETH_P_IPV6), jump("guard_ip6")),
		readsNot(unix.ETH_P_8021Q, setDHCP), readsNot(unix.ETH_P_8021Q, setRouterGuard), readsNot(unix.ETH_P_8021Q, setBound),
		readsNot(unix.ETH_P_8021AD, setDHCP), readsNot(unix.ETH_P_8021AD, setRouterGuard), readsNot(unix.ETH_P_8021AD, setBound),
	}
}

// guardARPRules let a bound port say what it is, and ask whether an address is free.
func guardARPRules() [][]expression {
	const sender, senderIP = 8, 14 // in a message of ARP for Ethernet and IPv4 (RFC 826)
	return [][]expression{
		// iifname . arp saddr ether . arp saddr ip @arp accept
		rule([]expression{
			meta(unix.NFT_META_IIFNAME), // fills register 1; the address two words of the next, and IPv4 the third
			loadTo(unix.NFT_REG_2, network(sender, etherLen)),
			loadTo(unix.NFT_REG32_06, network(senderIP, 4)),
			lookup(setARP),
		}, accept()),
		rule(dropOf(setBound)),
	}
}

// guardIP6Rules drop besides what cannot be read: a first fragment that ends before the
// header which would tell what it is (RFC 7113), or a chain of headers too long to follow.
func guardIP6Rules() [][]expression {
	return [][]expression{
		rule(transportProtocol(unix.IPPROTO_ICMPV6), jump("guard_icmp6")),
		rule(transportProtocol(unix.IPPROTO_UDP), toUDPPort(dhcpClient6), dropOf(setDHCP)),
		rule(laterFragment(), accept()),
		rule(transportProtocol(unix.IPPROTO_UDP), []expression{load(transport(2, 2))}, accept()),
		rule([]expression{meta(unix.NFT_META_L4PROTO), notEqual([]byte{unix.IPPROTO_UDP})}, notICMP6(), accept()),
		rule(dropOf(setDHCP)), rule(dropOf(setRouterGuard)), rule(dropOf(setBound)),
	}
}

// guardICMP6Rules return what they cannot read to guard_ip6.
func guardICMP6Rules() [][]expression {
	const target = 8 // in a neighbour solicitation or advertisement
	const source = 8 // in the IPv6 header
	// iifname . ADDRESS @nd
	bound := func(address header) []expression {
		return []expression{meta(unix.NFT_META_IIFNAME), loadTo(unix.NFT_REG_2, address), lookup(setND)}
	}
	kind := func(t byte) []expression { return icmpType(unix.IPPROTO_ICMPV6, t) }
	return [][]expression{
		rule(kind(routerAdvertisement), dropOf(setRouterGuard)),
		rule(kind(neighborsRedirect), dropOf(setRouterGuard)),
		rule(kind(neighborAdvertisement), bound(transport(target, 16)), accept()),
		rule(kind(neighborAdvertisement), dropOf(setBound)),
		rule(kind(neighborSolicitation), bound(network(source, 16)), accept()),
		// Whether an address is free is asked from none at all.
		rule(kind(neighborSolicitation), []expression{load(network(source, 16)), equal(make([]byte, 16))}, bound(transport(target, 16)), accept()),
		rule(kind(neighborSolicitation), dropOf(setBound)),
		rule([]expression{load(transport(0, 1))}, accept()),
	}
}

// iifname @SET drop; the set's element counts, or has a limit that must be exceeded
func dropOf(set string) []expression {
	return rule(inSet(meta(unix.NFT_META_IIFNAME), set), []expression{verdictOf(verdictDrop)})
}

// meta l4proto PROTOCOL
func transportProtocol(p byte) []expression {
	return []expression{meta(unix.NFT_META_L4PROTO), equal([]byte{p})}
}

func notICMP6() []expression {
	return []expression{meta(unix.NFT_META_L4PROTO), notEqual([]byte{unix.IPPROTO_ICMPV6})}
}

// udp dport PORT
func toUDPPort(port uint16) []expression {
	return []expression{load(transport(2, 2)), equal(binary.BigEndian.AppendUint16(nil, port))}
}

// icmp type KIND, or icmpv6 type KIND
func icmpType(p, kind byte) []expression {
	return rule(transportProtocol(p), []expression{load(transport(0, 1)), equal([]byte{kind})})
}

// frag frag-off != 0
func laterFragment() []expression {
	const fragmentHeader, offset = 44, 2 // RFC 8200: 13 bits, in units of 8 bytes
	return []expression{
		{exprExtHeader, []attribute{
			numberAttr(unix.NFTA_EXTHDR_DREG, unix.NFT_REG_1),
			bytesAttr(unix.NFTA_EXTHDR_TYPE, []byte{fragmentHeader}),
			numberAttr(unix.NFTA_EXTHDR_OFFSET, offset),
			numberAttr(unix.NFTA_EXTHDR_LEN, 2),
		}},
		masked([]byte{0xff, 0xf8}), notEqual([]byte{0, 0}),
	}
}
