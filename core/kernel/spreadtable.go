package kernel

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// The sets of an active/active team's table; see plan.Spread and plan.Own.
const (
	setOwn        = "own"        // source addresses of frames without a tag
	setOwnVLAN    = "own_vlan"   // source address . VLAN
	setOwnAny     = "own_any"    // source addresses, whatever the VLAN
	setMute       = "mute"       // members that do not hear what is for all
	setDesignated = "designated" // team -> the index of the member that does
	mapHome       = "home"       // source address -> the member that its last frame left by, without a tag
	mapHomeVLAN   = "home_vlan"  // source address . VLAN -> that member
)

// spreadTable is the table of an active/active team. A chain at a member ends with that
// netdev, and the others stay.
func spreadTable(s plan.Spread) ruleTable {
	t := ruleTable{
		name: plan.SpreadTable(s.Team), family: unix.NFPROTO_NETDEV,
		sets: []ruleSet{
			{name: setOwn, key: etherAddr},
			{name: setOwnVLAN, key: etherAddrVLAN},
			{name: setOwnAny, key: etherAddr},
			{name: setMute, key: ifName},
			{name: setDesignated, key: ifName, value: ifIndex},
			{name: setReports, key: icmp6Type, constant: steeredTypes()},
			{name: mapHome, key: etherAddr, value: ifName, learnt: remembered, room: 1 << 16},
			{name: mapHomeVLAN, key: etherAddrVLAN, value: ifName, learnt: remembered, room: 1 << 16},
		},
	}
	for _, m := range s.Members {
		t.chains = append(t.chains, ruleChain{
			name: "in-" + m, kind: chainFilter, hook: unix.NF_NETDEV_INGRESS, priority: spreadFirst, device: m,
			rules: func() [][]expression { return append(comesInRules(), comesTwiceRules(m)...) },
		}, ruleChain{
			name: "by-" + m, kind: chainFilter, hook: unix.NF_NETDEV_EGRESS, device: m,
			rules: func() [][]expression { return learnsRules(m) },
		})
	}
	t.chains = append(t.chains, ruleChain{
		name: "out", kind: chainFilter, hook: unix.NF_NETDEV_EGRESS, device: s.Team,
		rules: func() [][]expression { return goesOutRules(s.Source) },
	})
	return t
}

// spreadFirst is before all else at a member: what has come back is nobody's business.
const spreadFirst = -300

// comesInRules drop what one has sent oneself, and what is for all and comes by another
// member too.
func comesInRules() [][]expression {
	return [][]expression{
		// ether saddr . vlan id @own_vlan drop
		rule(inVLAN(etherSrc), []expression{lookup(setOwnVLAN)}, countedDrop()),
		// ether type != vlan ether saddr @own drop
		rule(untagged(), inSet(load(ether(etherSrc, etherLen)), setOwn), countedDrop()),
		rule(inSet(load(ether(etherSrc, etherLen)), setOwnAny), countedDrop()),
		rule(manycast(), inSet(meta(unix.NFT_META_IIFNAME), setMute), countedDrop()),
	}
}

// remembered is how long it is known by which member an address has left: longer than
// physical switches do. Then it is learnt again from the next frame.
const remembered = 24 * time.Hour

// learnsRules note at a member whose frames leave by it, as the physical switch behind it
// does: of the host's own addresses, since others are announced by nobody after a failover.
// One look is all that it costs while nobody moves.
func learnsRules(member string) [][]expression {
	name := []byte(nameKey(member))
	moves := func(set string) []expression {
		return []expression{immediateTo(unix.NFT_REG_2, name), keep(dynsetDelete, set), keep(unix.NFT_DYNSET_OP_ADD, set)}
	}
	known := func(set string) []expression {
		return []expression{homeOf(set), compareIn(unix.NFT_REG_2, unix.NFT_CMP_EQ, name), verdictOf(verdictAccept)}
	}
	source := []expression{load(ether(etherSrc, etherLen))}
	return [][]expression{
		// ether type != vlan ether saddr map @home MEMBER accept
		rule(untagged(), source, known(mapHome)),
		// ether type != vlan ether saddr @own delete @home { ether saddr : MEMBER } add @home { ether saddr : MEMBER }
		rule(untagged(), source, []expression{lookup(setOwn)}, moves(mapHome)),
		rule(untagged(), source, []expression{lookup(setOwnAny)}, moves(mapHome)),
		rule(inVLAN(etherSrc), known(mapHomeVLAN)),
		rule(inVLAN(etherSrc), []expression{lookup(setOwnVLAN)}, moves(mapHomeVLAN)),
		rule(source, []expression{lookup(setOwnAny)}, inVLAN(etherSrc), moves(mapHomeVLAN)),
	}
}

const dynsetDelete = 2 // NFT_DYNSET_OP_DELETE, Linux 5.4

// comesTwiceRules drop what comes by a member for somebody whose frames leave by another
// one: the physical switches have forgotten him, and it comes by that one too.
func comesTwiceRules(member string) [][]expression {
	elsewhere := func(set string) []expression {
		return append([]expression{homeOf(set), compareIn(unix.NFT_REG_2, unix.NFT_CMP_NEQ, []byte(nameKey(member)))}, countedDrop()...)
	}
	return [][]expression{
		// ether type != vlan ether daddr map @home != MEMBER drop
		rule(untagged(), []expression{load(ether(etherDst, etherLen))}, elsewhere(mapHome)),
		rule(inVLAN(etherDst), elsewhere(mapHomeVLAN)),
	}
}

// homeOf loads the member that somebody's frames leave by.
func homeOf(set string) expression {
	return lookupWith(set, numberAttr(unix.NFTA_LOOKUP_DREG, unix.NFT_REG_2))
}

// goesOutRules send guests' reports of multicast groups by the designated member: what
// they ask for is heard by no other. They get a source address that is no guest's.
func goesOutRules(source vswitch.MAC) [][]expression {
	return [][]expression{
		rule(unicast(), accept()),
		rule(protocol(unix.ETH_P_IP), []expression{meta(unix.NFT_META_L4PROTO), equal([]byte{unix.IPPROTO_IGMP})}, byDesignated(source)),
		rule(protocol(unix.ETH_P_IPV6), []expression{
			meta(unix.NFT_META_L4PROTO), equal([]byte{unix.IPPROTO_ICMPV6}), load(transport(0, 1)), lookup(setReports),
		}, byDesignated(source)),
	}
}

// ether saddr set SOURCE fwd to oifname map @designated
func byDesignated(source vswitch.MAC) []expression {
	return []expression{
		meta(unix.NFT_META_OIFNAME),
		lookupWith(setDesignated, numberAttr(unix.NFTA_LOOKUP_DREG, unix.NFT_REG_2)),
		immediate(source[:]),
		store(ether(etherSrc, etherLen)),
		{exprForward, []attribute{numberAttr(unix.NFTA_FWD_SREG_DEV, unix.NFT_REG_2)}},
	}
}

// meta protocol PROTOCOL; unlike the Ethernet header's it is that behind a tag.
func protocol(etherType uint16) []expression {
	return []expression{meta(unix.NFT_META_PROTOCOL), equal(binary.BigEndian.AppendUint16(nil, etherType))}
}

// ether type != vlan
func untagged() []expression {
	return []expression{load(ether(etherType, 2)), notEqual(taggedType())}
}

// inVLAN loads the address at an offset, and the VLAN.
func inVLAN(address int) []expression {
	const tci = etherType + 2
	return []expression{
		load(ether(etherType, 2)), equal(taggedType()),
		load(ether(address, etherLen)), // fills two words of register 1; the VLAN follows in the third
		loadTo(unix.NFT_REG32_02, ether(tci, 2)),
		maskedIn(unix.NFT_REG32_02, []byte{0x0f, 0xff}, []byte{0, 0}),
	}
}

// ether daddr & 01:00:00:00:00:00 != 00:00:00:00:00:00
func manycast() []expression {
	return []expression{
		load(ether(etherDst, etherLen)),
		masked([]byte{1, 0, 0, 0, 0, 0}),
		notEqual(make([]byte, etherLen)),
	}
}

func taggedType() []byte { return binary.BigEndian.AppendUint16(nil, unix.ETH_P_8021Q) }

// steeredTypes are what a physical switch that listens learns from: queries too, since it
// sends all groups to where a router is.
func steeredTypes() []string {
	return append([]string{string([]byte{listenerQuery})}, reportTypes()...)
}

// ownKey spells an own address: the set that it is in, and its key there.
func ownKey(o plan.Own) (set, key string) {
	switch o.VLAN {
	case plan.NoVLAN:
		return setOwn, string(o.MAC[:])
	case plan.AnyVLAN:
		return setOwnAny, string(o.MAC[:])
	}
	return setOwnVLAN, string(padded(o.MAC[:], paddedMAC)) + string(padded(binary.BigEndian.AppendUint16(nil, uint16(o.VLAN)), paddedVLAN))
}

// ownOf is ownKey the other way round.
func ownOf(team, set, key string) plan.Own {
	o := plan.Own{Team: team, MAC: vswitch.MAC([]byte(key[:etherLen]))}
	switch set {
	case setOwnAny:
		o.VLAN = plan.AnyVLAN
	case setOwnVLAN:
		o.VLAN = int(binary.BigEndian.Uint16([]byte(key[paddedMAC:])))
	}
	return o
}
