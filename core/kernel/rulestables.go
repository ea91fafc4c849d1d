package kernel

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ruleTable is one of Patchbay's two tables as it has to be. Chains and rules are
// constant, whatever the number of switches and ports; only sets have elements.
type ruleTable struct {
	name   string
	family uint8
	sets   []ruleSet
	chains []ruleChain
}

// ruleSet is a set, or a map if it has a type of values.
type ruleSet struct {
	name       string
	key, value dataType
	constant   []string // keys that nobody can change, if any
	each       elementKind
	// learnt is how long a set remembers what packets have put into it; 0: they do not.
	learnt time.Duration
	room   uint32 // for how many of those
}

// elementKind is what an element of a set does when it is found.
type elementKind int

const (
	counts elementKind = iota + 1 // it counts
	limits                        // it is found only beyond a number a second, its value, and counts
)

// ruleChain is a base chain that accepts what no rule decides, or without a kind one that
// rules jump to.
type ruleChain struct {
	name, kind string
	hook       uint32
	priority   int32
	device     string // of a chain in family netdev
	rules      func() [][]expression
}

// Kinds of chains.
const chainFilter, chainNAT = "filter", "nat"

// The names of the sets. Their elements are what plan.Rules holds.
const (
	setQuiet       = "quiet"       // groups of switches without an uplink
	setRouter      = "router"      // group -> MAC of its router
	setHosts       = "hosts"       // addresses of host ports
	setGuarded     = "guarded"     // ports bound to source addresses
	setAllowed     = "allowed"     // port . source address
	setApart       = "apart"       // ports that do not hear each other
	setApartIn     = "apart_in"    // uplink . VLAN of frames from such ports elsewhere
	setClosed      = "closed"      // uplink . VLAN that no frame may name
	setStrangers   = "strangers"   // netdevs beside ports of ours that are none
	setHeard       = "heard"       // groups of which a router has been heard
	setAsked       = "asked"       // groups that have just been asked for one
	setAskedIn     = "asked_in"    // uplinks by which one has just been asked for
	setRouters     = "routers"     // ports behind which a router has been heard
	setReports     = "reports"     // the types of MLD's reports; the kernel keeps it constant
	setTags        = "tags"        // what a tag begins with; constant
	setPriority    = "priority"    // ports whose tags keep their priority
	setSpoke       = "spoke"       // ports and the source addresses of their frames
	setSpokeMore   = "spoke_more"  // those and the last four bits of more addresses
	setMasquerade4 = "masquerade4" // host ends whose traffic leaves as the host's
	setMasquerade6 = "masquerade6"
)

// tableName is the name of both tables.
const tableName = "patchbay"

// ruleTables returns the tables as they have to be, on a kernel that can have both.
func ruleTables() []ruleTable { return []ruleTable{bridgeTable(), natTable()} }

// tablesFor are those that rules are about.
func tablesFor(r plan.Rules) []ruleTable {
	if r.NoNAT {
		return []ruleTable{bridgeTable()}
	}
	return ruleTables()
}

// bridgeTable is the table of what bridges may not forward as they would.
func bridgeTable() ruleTable {
	return ruleTable{
		name: tableName, family: unix.NFPROTO_BRIDGE,
		sets: []ruleSet{
			{name: setQuiet, key: devGroup},
			{name: setRouter, key: devGroup, value: etherAddr},
			{name: setHosts, key: etherAddr},
			{name: setGuarded, key: ifName},
			{name: setAllowed, key: ifNameEtherAddr},
			{name: setApart, key: ifName},
			{name: setApartIn, key: ifNameVLAN},
			{name: setClosed, key: ifNameVLAN},
			{name: setReports, key: icmp6Type, constant: reportTypes()},
			{name: setHeard, key: devGroup, learnt: routersSpeak, room: maxGroups},
			{name: setAsked, key: devGroup, learnt: solicitationsRest, room: maxGroups},
			{name: setAskedIn, key: ifName, learnt: solicitationsRest, room: maxGroups},
			{name: setRouters, key: ifName, learnt: routersSpeak, room: maxGroups},
			{name: setStrangers, key: ifIndex, learnt: strangersRest, room: maxStrangers},
			tagSet(),
			{name: setPriority, key: ifName},
			{name: setSpoke, key: ifIndexEtherAddr, each: counts, learnt: sourcesRest, room: maxSources},
			{name: setSpokeMore, key: ifIndexEtherAddr, each: counts, learnt: sourcesRest, room: maxSources},
		},
		chains: []ruleChain{
			{name: chainSources, rules: sourceRules},
			{name: chainSolicitations, rules: solicitationRules},
			{name: "tagged", rules: taggedRules},
			{name: chainFromStranger, rules: strangerRules(unix.NFT_META_IIF)},
			{name: chainToStranger, rules: strangerRules(unix.NFT_META_OIF)},
			{name: "prerouting", kind: chainFilter, hook: unix.NF_INET_PRE_ROUTING, priority: bridgeDstNAT, rules: preroutingRules},
			{name: "forward", kind: chainFilter, hook: unix.NF_INET_FORWARD, priority: bridgeFilter, rules: forwardRules},
			{name: "input", kind: chainFilter, hook: unix.NF_INET_LOCAL_IN, priority: bridgeFirst, rules: inputRules},
			{name: "output", kind: chainFilter, hook: unix.NF_INET_LOCAL_OUT, priority: bridgeFirst, rules: outputRules},
		},
	}
}

// Priorities in family bridge (linux/netfilter_bridge.h). All are before those
// of br_netfilter: what we drop never reaches a firewall for IP.
const (
	bridgeDstNAT = -300 // NF_BR_PRI_NAT_DST_BRIDGED, "dstnat" in nft
	bridgeFilter = -200 // NF_BR_PRI_FILTER_BRIDGED, "filter"
	bridgeFirst  = -300
)

func preroutingRules() [][]expression {
	return [][]expression{
		// What comes from a port's own address and what does not: see sourceRules.
		rule(isNot(unix.NFT_META_IIFGROUP, vswitch.UplinkGroup), jump(chainSources)),
		// iifname @guarded iifname . ether saddr != @allowed drop
		rule(inSet(meta(unix.NFT_META_IIFNAME), setGuarded), notAllowed(), countedDrop()),
		rule(inSet(load(ether(etherType, 2)), setTags), jump("tagged")),
		// What comes from an isolated port is marked: on another segment, and behind an
		// uplink, nothing else tells that it does.
		rule(inSet(meta(unix.NFT_META_IIFNAME), setApart), setMark(apartMark, true)),
		// What the host sends and gets is tracked by the host's own stack, behind the
		// pair: where br_netfilter is on, the bridge would track it first, find
		// nothing to translate, and so keep masquerade from ever being applied.
		rule(namedLike(vswitch.HostPortPrefix), setMark(apartMark, false), notrack()),
		// On a further segment it comes from the trunk, and nothing is left of the mark
		// that it was given on the root.
		rule(toHost(), notrack()),
		rule(fromHost(), notrack()),
		// Unicast has nothing to find below.
		rule(unicast(), accept()),
		// On a switch without an uplink nobody routes multicast: reports of
		// listeners go nowhere. Without this each new guest costs every other one.
		rule(inSet(meta(unix.NFT_META_IIFGROUP), setQuiet), icmp6InSet(setReports), countedDrop()),
		// Nor does a guest have to ask whether its address is free when it has made
		// it of its MAC (EUI-64, ff:fe in the middle), which is its own on the switch.
		// Probes for any other address pass: they may well find somebody.
		rule(inSet(meta(unix.NFT_META_IIFGROUP), setQuiet), probeOfEUI64(), countedDrop()),
		// iifgroup @quiet icmpv6 type nd-router-advert update @heard { iifgroup }
		rule(inSet(meta(unix.NFT_META_IIFGROUP), setQuiet), icmp6(routerAdvertisement), []expression{meta(unix.NFT_META_IIFGROUP), noted(setHeard)}),
		// icmpv6 type nd-router-advert update @routers { iifname }
		rule(ours(unix.NFT_META_IIFGROUP), icmp6(routerAdvertisement), []expression{meta(unix.NFT_META_IIFNAME), noted(setRouters)}),
		rule(ours(unix.NFT_META_IIFGROUP), icmp6(routerSolicitation), jump(chainSolicitations)),
	}
}

const chainSolicitations = "solicitations"

// A router sends an advertisement to all at least every 1800 s (RFC 4861, 6.2.1), and one
// when it begins.
const routersSpeak, solicitationsRest = 1800 * time.Second, time.Second

// maxGroups is more than a host has switches, or ports with a router behind them; of one
// beyond it all solicitations pass.
const maxGroups = 1 << 16

// solicitationRules say which solicitations for routers all guests hear: one of all that a
// switch's guests send in a second, and one of all that come by an uplink. It is marked. A guest's kernel
// without a router goes on looking for as long as it lives, and to ask 5000 takes 30 ms
// of processor time.
func solicitationRules() [][]expression {
	group, name := meta(unix.NFT_META_IIFGROUP), meta(unix.NFT_META_IIFNAME)
	uplink := is(unix.NFT_META_IIFGROUP, vswitch.UplinkGroup)
	return [][]expression{
		// The router that is known is asked alone.
		rule(steer(), accept()),
		// From another segment comes what was let through there, marked, and from the root
		// what was not.
		rule(hasMark(askedMark), accept()),
		rule(uplink, namedLike(vswitch.SegmentTrunkPrefix), accept()),
		rule(uplink, inSet(name, setAskedIn), accept()),
		// update @asked_in { iifname } meta mark set meta mark | 0x20000
		rule(uplink, []expression{name, noted(setAskedIn)}, setMark(askedMark, true), accept()),
		// iifgroup @quiet iifgroup != @heard iifgroup @asked drop: nobody is there to hear it
		rule(inSet(group, setQuiet), []expression{group, lookupNot(setHeard)}, inSet(group, setAsked), countedDrop()),
		rule(inSet(group, setAsked), accept()),
		// update @asked { iifgroup } meta mark set meta mark | 0x20000
		rule([]expression{group, noted(setAsked)}, setMark(askedMark, true)),
	}
}

// forGuests matches what goes to a guest's port, or to a segment.
func forGuests() []expression {
	return rule(ours(unix.NFT_META_OIFGROUP), isNot(unix.NFT_META_OIFGROUP, vswitch.UplinkGroup))
}

// taggedRules see frames with a tag, the outermost of which the kernel has set aside.
func taggedRules() [][]expression {
	return [][]expression{
		// The VLAN of untagged traffic is the switch's own: a tag does not lead there.
		rule(inVLANOf(setClosed), countedDrop()),
		rule(inVLANOf(setApartIn), setMark(apartMark, true)),
		resetPriority(setAsideTag()),
	}
}

func forwardRules() [][]expression {
	return [][]expression{
		// meta mark & 0x10000 == 0x10000 oifname @apart drop
		rule(hasMark(apartMark), inSet(meta(unix.NFT_META_OIFNAME), setApart), countedDrop()),
		// What goes from a port of ours to another one is most of what there is.
		rule(ours(unix.NFT_META_IIFGROUP), ours(unix.NFT_META_OIFGROUP), unicast(), accept()),
		// A netdev in a bridge of ours that is no port of ours, the tap of a VM that nobody has
		// asked about yet, is shut both ways. Where VLANs are filtered it is in none, and what
		// it sends is not even learnt from. Where not, two of them are beside a port of ours as
		// soon as anybody has sent to all: nothing else tells that their bridge is ours.
		rule(ours(unix.NFT_META_IIFGROUP), notOurs(unix.NFT_META_OIFGROUP), jump(chainToStranger)),
		rule(ours(unix.NFT_META_OIFGROUP), notOurs(unix.NFT_META_IIFGROUP), jump(chainFromStranger)),
		rule(notOurs(unix.NFT_META_IIFGROUP), inSet(meta(unix.NFT_META_IIF), setStrangers), countedDrop()),
		rule(notOurs(unix.NFT_META_IIFGROUP), inSet(meta(unix.NFT_META_OIF), setStrangers), countedDrop()),
		rule(unicast(), accept()),
		// Behind an uplink somebody may route multicast: reports reach it, but no
		// other port.
		rule(forGuests(), icmp6InSet(setReports), countedDrop()),
		// Nor does a solicitation that is not for all reach any other port than the host's,
		// and those behind which a router has been heard.
		rule(forGuests(), icmp6(routerSolicitation), lacksMark(askedMark),
			[]expression{meta(unix.NFT_META_OIFNAME), notEqual([]byte(vswitch.HostPortPrefix))},
			[]expression{meta(unix.NFT_META_OIFNAME), lookupNot(setRouters)}, countedDrop()),
	}
}

const chainFromStranger, chainToStranger = "from_stranger", "to_stranger"

// strangersRest is for how long a netdev counts as one of our bridges: somebody may move it to
// another one. maxStrangers is more than there are at a time.
const strangersRest, maxStrangers = 60 * time.Second, 1 << 16

// strangerRules note which netdev is a stranger, and drop the frame whether that fits or not.
func strangerRules(which uint32) func() [][]expression {
	return func() [][]expression {
		return [][]expression{
			// update @strangers { iif }
			rule([]expression{meta(which), noted(setStrangers)}),
			rule(countedDrop()),
		}
	}
}

// inputRules close the bridge device's ears: only here, before packet sockets,
// does a promiscuous socket on it hear nothing. What IEEE 802.1D keeps on its
// link goes not to the bridge but to the uplink itself, where 802.1X listens.
func inputRules() [][]expression {
	return [][]expression{
		rule(is(unix.NFT_META_IIFGROUP, vswitch.UplinkGroup), linkLocal(), accept()),
		rule(ours(unix.NFT_META_IIFGROUP), countedDrop()),
	}
}

// outputRules close its mouth.
func outputRules() [][]expression {
	return [][]expression{rule(ours(unix.NFT_META_OIFGROUP), countedDrop())}
}

// natTable is the table that hides guests behind the host's addresses.
func natTable() ruleTable {
	return ruleTable{
		name: tableName, family: unix.NFPROTO_INET,
		sets:   []ruleSet{{name: setMasquerade4, key: ifName}, {name: setMasquerade6, key: ifName}},
		chains: []ruleChain{{name: "postrouting", kind: chainNAT, hook: unix.NF_INET_POST_ROUTING, priority: srcNAT, rules: postroutingRules}},
	}
}

// srcNAT is NF_IP_PRI_NAT_SRC, "srcnat" in nft.
const srcNAT = 100

func postroutingRules() [][]expression {
	return [][]expression{
		masquerade(unix.NFPROTO_IPV4, setMasquerade4, notMulticast4()),
		masquerade(unix.NFPROTO_IPV6, setMasquerade6, notMulticast6()),
	}
}

// masquerade hides what comes in by one of the host ends and leaves by any other
// netdev: the switches of this host see each other's guests as they are.
func masquerade(family byte, set string, unicast []expression) []expression {
	return rule(
		[]expression{meta(unix.NFT_META_NFPROTO), equal([]byte{family})},
		inSet(meta(unix.NFT_META_IIFNAME), set),
		[]expression{meta(unix.NFT_META_OIFNAME), lookupNot(set)},
		unicast,
		[]expression{{name: exprMasq}},
	)
}
