package kernel

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ruleTable is one of Patchbay's two tables as it has to be. Chains and rules are
// constant, whatever the number of switches and ports; only sets have elements.
type ruleTable struct {
	*nftables.Table
	sets   []*nftables.Set
	chains []ruleChain
}

type ruleChain struct {
	*nftables.Chain
	rules [][]expr.Any
}

// The names of the sets. Their elements are what plan.Rules holds.
const (
	setQuiet       = "quiet"       // groups of switches without an uplink
	setRouter      = "router"      // group -> MAC of its router
	setHosts       = "hosts"       // addresses of host ports
	setGuarded     = "guarded"     // ports bound to source addresses
	setAllowed     = "allowed"     // port . source address
	setReports     = "reports"     // the types of MLD's reports; the kernel keeps it constant
	setMasquerade4 = "masquerade4" // host ends whose traffic leaves as the host's
	setMasquerade6 = "masquerade6"
)

// uplinkGroup is the netdev group of uplinks, as the group of switch number 0,
// which is nobody's: an uplink is one of our ports (the bridge device is as
// closed to it as to any) but no guest's.
const uplinkGroup = vswitch.GroupMark

// ruleTables returns the tables as they have to be.
func ruleTables() []ruleTable { return []ruleTable{bridgeTable(), natTable()} }

// bridgeTable is the table of what bridges may not forward as they would.
func bridgeTable() ruleTable {
	t := &nftables.Table{Name: "patchbay", Family: nftables.TableFamilyBridge}
	group := func(name string) *nftables.Set {
		return &nftables.Set{Table: t, Name: name, KeyType: nftables.TypeDevGroup, KeyByteOrder: binaryutil.NativeEndian}
	}
	router := group(setRouter)
	router.IsMap, router.DataType = true, nftables.TypeEtherAddr
	return ruleTable{
		Table: t,
		sets: []*nftables.Set{
			group(setQuiet),
			router,
			{Table: t, Name: setHosts, KeyType: nftables.TypeEtherAddr},
			nameSet(t, setGuarded),
			{Table: t, Name: setAllowed, KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeEtherAddr)},
			{Table: t, Name: setReports, KeyType: nftables.TypeICMP6Type, Constant: true},
		},
		chains: []ruleChain{
			{chain(t, "prerouting", nftables.ChainHookPrerouting, bridgeDstNAT), preroutingRules()},
			{chain(t, "forward", nftables.ChainHookForward, bridgeFilter), forwardRules()},
			{chain(t, "input", nftables.ChainHookInput, bridgeFirst), inputRules()},
			{chain(t, "output", nftables.ChainHookOutput, bridgeFirst), outputRules()},
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

func preroutingRules() [][]expr.Any {
	return [][]expr.Any{
		// iifname @guarded iifname . ether saddr != @allowed drop
		rule(inSet(meta(expr.MetaKeyIIFNAME), setGuarded), notAllowed(), countedDrop()),
		// What the host sends and gets is tracked by the host's own stack, behind the
		// pair: where br_netfilter is on, the bridge would track it first, find
		// nothing to translate, and so keep masquerade from ever being applied.
		rule(namedLike(vswitch.HostPortPrefix), notrack()),
		rule(toHost(), notrack()),
		// Unicast has nothing to find below.
		rule(unicast(), accept()),
		// On a switch without an uplink nobody routes multicast: reports of
		// listeners go nowhere. Without this each new guest costs every other one.
		rule(inSet(meta(expr.MetaKeyIIFGROUP), setQuiet), icmp6InSet(setReports), countedDrop()),
		// Nor does a guest have to ask whether its address is free when it has made
		// it of its MAC (EUI-64, ff:fe in the middle), which is its own on the switch.
		// Probes for any other address pass: they may well find somebody.
		rule(inSet(meta(expr.MetaKeyIIFGROUP), setQuiet), probeOfEUI64(), countedDrop()),
		// A solicitation for routers goes to the router alone.
		rule(icmp6(routerSolicitation), steer()),
	}
}

func forwardRules() [][]expr.Any {
	return [][]expr.Any{
		rule(unicast(), accept()),
		// Behind an uplink somebody may route multicast: reports reach it, but no
		// other port.
		rule(ours(expr.MetaKeyOIFGROUP), isNot(expr.MetaKeyOIFGROUP, uplinkGroup), icmp6InSet(setReports), countedDrop()),
	}
}

// inputRules close the bridge device's ears: only here, before packet sockets,
// does a promiscuous socket on it hear nothing. What IEEE 802.1D keeps on its
// link goes not to the bridge but to the uplink itself, where 802.1X listens.
func inputRules() [][]expr.Any {
	return [][]expr.Any{
		rule(is(expr.MetaKeyIIFGROUP, uplinkGroup), linkLocal(), accept()),
		rule(ours(expr.MetaKeyIIFGROUP), countedDrop()),
	}
}

// outputRules close its mouth.
func outputRules() [][]expr.Any {
	return [][]expr.Any{rule(ours(expr.MetaKeyOIFGROUP), countedDrop())}
}

// natTable is the table that hides guests behind the host's addresses.
func natTable() ruleTable {
	t := &nftables.Table{Name: "patchbay", Family: nftables.TableFamilyINet}
	postrouting := chain(t, "postrouting", nftables.ChainHookPostrouting, int32(*nftables.ChainPriorityNATSource))
	postrouting.Type = nftables.ChainTypeNAT
	return ruleTable{
		Table: t,
		sets:  []*nftables.Set{nameSet(t, setMasquerade4), nameSet(t, setMasquerade6)},
		chains: []ruleChain{{postrouting, [][]expr.Any{
			masquerade(unix.NFPROTO_IPV4, setMasquerade4, notMulticast4()),
			masquerade(unix.NFPROTO_IPV6, setMasquerade6, notMulticast6()),
		}}},
	}
}

// masquerade hides what comes in by one of the host ends and leaves by any other
// netdev: the switches of this host see each other's guests as they are.
func masquerade(family byte, set string, unicast []expr.Any) []expr.Any {
	return rule(
		[]expr.Any{meta(expr.MetaKeyNFPROTO), equal([]byte{family})},
		inSet(meta(expr.MetaKeyIIFNAME), set),
		[]expr.Any{meta(expr.MetaKeyOIFNAME), &expr.Lookup{SourceRegister: 1, SetName: set, Invert: true}},
		unicast,
		[]expr.Any{&expr.Masq{}},
	)
}

func nameSet(t *nftables.Table, name string) *nftables.Set {
	return &nftables.Set{Table: t, Name: name, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
}

// chain is a filtering base chain that accepts what no rule decides.
func chain(t *nftables.Table, name string, hook *nftables.ChainHook, priority int32) *nftables.Chain {
	policy := nftables.ChainPolicyAccept
	return &nftables.Chain{
		Table: t, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook,
		Priority: nftables.ChainPriorityRef(nftables.ChainPriority(priority)), Policy: &policy,
	}
}
