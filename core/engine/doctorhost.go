package engine

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file judges who else is at work on the host: firewalls, network managers, and
// tables that have room for so many.

// sharedSubnet is an IPv4 subnet that both netdevs have an address in.
func sharedSubnet(a, b kernel.Netdev) string {
	for _, x := range a.Addresses {
		for _, y := range b.Addresses {
			if x.Addr().Is4() && x.Overlaps(y) {
				return x.Masked().String()
			}
		}
	}
	return ""
}

// strict reports what the kernel does: the larger of the netdev's value and "all".
func (x examination) strict(netdev string) bool {
	all, own := x.host.Sysctls["net/ipv4/conf/all/rp_filter"], x.host.Sysctls["net/ipv4/conf/"+netdev+"/rp_filter"]
	return max(all, own) == "1"
}

// mentioned reports that a rule of the firewall names the netdev: then its owner has
// thought of it.
func (x examination) mentioned(c kernel.ForwardChain, netdev string) bool {
	return slices.ContainsFunc(c.Mentions, func(m string) bool {
		prefix, pattern := strings.CutSuffix(m, "*")
		return m == netdev || pattern && strings.HasPrefix(netdev, prefix)
	})
}

func (c closing) String() string { return fmt.Sprintf("%s %s, chain %s", c.Family, c.Table, c.Chain) }

type closing struct{ kernel.ForwardChain }

// closedChains are those that drop what no rule of theirs accepts.
func (x examination) closedChains(families ...string) (closed []closing) {
	for _, c := range x.host.Forward {
		if c.Closed && slices.Contains(families, c.Family) {
			closed = append(closed, closing{c})
		}
	}
	return closed
}

// forwardedFrames is about frames between two guests of one switch, which br_netfilter
// shows to the rules for forwarded packets.
func (x examination) forwardedFrames() (all []Finding) {
	for _, chain := range x.closedChains("ip", "ip6", "inet", "arp", "bridge") {
		what, sysctls := x.bridged(chain.Family)
		cut := x.affected(func(r store.SwitchRecord) bool { return !x.mentioned(chain.ForwardChain, vswitch.BridgeName(r.Name)) })
		if len(what) == 0 || len(x.records) > 0 && len(cut) == 0 {
			continue
		}
		f := Finding{
			Severity: blocksIf(cut), Check: "forward-drop-bridged",
			What: fmt.Sprintf("a firewall drops %s between guests of one switch: table %s", strings.Join(what, " and "), chain),
			Why:  "guests on the same switch do not reach each other" + onSwitches(cut),
			Mend: x.accepting(chain, cut, vswitch.BridgeName),
		}
		if len(sysctls) > 0 {
			f.What += fmt.Sprintf(", by %s = 1", strings.Join(sysctls, " = 1 and "))
			f.Mend = append(f.Mend, fmt.Sprintf("or, where nobody else needs it (Kubernetes does): sysctl -w %s=0", strings.Join(sysctls, "=0 ")))
		}
		all = append(all, f)
	}
	if x.host.Sysctls["net/bridge/bridge-nf-call-iptables"] == "1" && len(all) == 0 {
		all = append(all, Finding{
			Severity: Note, Check: "bridge-nf-call", What: "firewall rules for forwarded packets see frames between guests of one switch (net.bridge.bridge-nf-call-iptables = 1)",
			Why: "nothing is dropped now; a firewall that is started later may",
		})
	}
	return all
}

// bridged tells which bridged frames pass the chains of a family, and by which sysctls.
func (x examination) bridged(family string) (what, sysctls []string) {
	if family == "bridge" {
		return []string{"all frames"}, nil
	}
	for _, c := range []struct {
		key, what string
		families  []string
	}{
		{"iptables", "IPv4", []string{"ip", "inet"}},
		{"ip6tables", "IPv6", []string{"ip6", "inet"}},
		{"arptables", "ARP", []string{"arp"}},
	} {
		if slices.Contains(c.families, family) && x.host.Sysctls["net/bridge/bridge-nf-call-"+c.key] == "1" {
			what, sysctls = append(what, c.what), append(sysctls, "net.bridge.bridge-nf-call-"+c.key)
		}
	}
	return what, sysctls
}

// forwardedPackets is about packets from guests through the host.
func (x examination) forwardedPackets() (all []Finding) {
	for _, chain := range x.closedChains("ip", "ip6", "inet") {
		cut := x.affected(func(r store.SwitchRecord) bool {
			ipv4, ipv6 := r.GatewayFamilies()
			return (chain.Family != "ip6" && ipv4 || chain.Family != "ip" && ipv6) && !x.mentioned(chain.ForwardChain, vswitch.HostPortName(r.Name))
		})
		if len(cut) == 0 && len(x.routed()) > 0 {
			continue
		}
		all = append(all, Finding{
			Severity: blocksIf(cut), Check: "forward-drop-routed", What: "a firewall drops what the host forwards: table " + chain.String(),
			Why:  "guests of internal switches do not get beyond the host" + onSwitches(cut),
			Mend: x.accepting(chain, cut, vswitch.HostPortName),
		})
	}
	if len(all) == 0 {
		all = append(all, Finding{Severity: Fine, Check: "forward-drop-routed", What: "no firewall in nftables drops what guests send through the host"})
	}
	return all
}

func onSwitches(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names, ", ")
}

// accepting are the commands that let a firewall accept what passes the netdevs.
func (x examination) accepting(chain closing, switches []string, netdev func(string) string) (mend []string) {
	if len(switches) == 0 {
		switches = []string{"NAME"}
	}
	for _, s := range switches {
		dev := netdev(s)
		switch {
		case chain.Table == "firewalld":
			mend = append(mend, "firewall-cmd --permanent --zone=trusted --add-interface="+dev+" && firewall-cmd --reload")
		case chain.Family == "ip" && x.host.Services["docker"] && chain.Table == "filter":
			mend = append(mend, fmt.Sprintf("iptables -I DOCKER-USER -i %s -j ACCEPT && iptables -I DOCKER-USER -o %s -j ACCEPT", dev, dev))
		case chain.Table == "filter" && chain.Chain == "FORWARD" && (chain.Family == "ip" || chain.Family == "ip6"):
			tool := map[string]string{"ip": "iptables", "ip6": "ip6tables"}[chain.Family]
			mend = append(mend, fmt.Sprintf("%s -I FORWARD -i %s -j ACCEPT && %s -I FORWARD -o %s -j ACCEPT", tool, dev, tool, dev))
		case chain.Family == "bridge":
			mend = append(mend, fmt.Sprintf("nft insert rule bridge %s %s meta ibrname %s accept", chain.Table, chain.Chain, dev))
		case chain.Family == "arp": // it sees ports, not their bridge
			return []string{fmt.Sprintf("nft 'insert rule arp %s %s iifname \"pb*\" accept'", chain.Table, chain.Chain)}
		default:
			mend = append(mend, fmt.Sprintf("nft 'insert rule %[1]s %[2]s %[3]s iifname %[4]q accept; insert rule %[1]s %[2]s %[3]s oifname %[4]q accept'", chain.Family, chain.Table, chain.Chain, dev))
		}
	}
	return mend
}

func (x examination) legacyTables() (all []Finding) {
	for _, family := range []struct{ name, command string }{{"ip", "iptables-legacy"}, {"ip6", "ip6tables-legacy"}} {
		if !slices.Contains(x.host.Legacy[family.name], "filter") {
			continue
		}
		all = append(all, Finding{
			Severity: Warning, Check: "legacy-iptables", What: "rules of " + family.command + " are in force, and cannot be seen from here",
			Why:  "if their FORWARD chain drops, guests are cut off as by any firewall",
			Mend: []string{family.command + " -S FORWARD", "if it says -P FORWARD DROP: " + family.command + " -I FORWARD -i pb+ -j ACCEPT && " + family.command + " -I FORWARD -o pb+ -j ACCEPT"},
		})
	}
	return all
}

// firewalld puts every netdev that it does not know into its default zone, where the
// host's own services are closed to guests.
func (x examination) firewalld() []Finding {
	if !x.host.Services["firewalld"] {
		return nil
	}
	f := Finding{
		Severity: Note, Check: "firewalld", What: "firewalld is running",
		Why:  "it drops what guests send to the host itself, DNS for one, unless the host port is in a zone that allows it",
		Mend: []string{"firewall-cmd --permanent --zone=trusted --add-interface=pbh-NAME && firewall-cmd --reload"},
	}
	if ports := hostPorts(x.records); len(ports) > 0 {
		f.Severity, f.Mend = Warning, nil
		for _, p := range ports {
			f.Mend = append(f.Mend, "firewall-cmd --permanent --zone=trusted --add-interface="+p)
		}
		f.Mend = append(f.Mend, "firewall-cmd --reload")
	}
	return []Finding{f}
}

// managers are programs that bring netdevs back to what they know of them.
func (x examination) managers() (all []Finding) {
	uplinks := make(map[string]string)
	for _, r := range x.records {
		uplinks[r.Uplink] = r.Name
	}
	members := make(map[string]string)
	for _, t := range x.teams {
		for _, m := range append([]string{t.Name}, t.Members...) {
			members[m] = t.Name
		}
	}
	for _, n := range x.netdevs {
		manager, managed := x.host.Managers[n.Name]
		if !managed {
			continue
		}
		f := Finding{Severity: Warning, Check: "network-manager", Mend: unmanaging(manager, n.Name)}
		switch sw := uplinks[n.Name]; {
		case sw != "":
			f.What = fmt.Sprintf("%s manages %s, the uplink of switch %s", manager, n.Name, sw)
			f.Why = "it may take the NIC out of the switch, or give it addresses"
		case members[n.Name] != "":
			f.What = fmt.Sprintf("%s manages %s, of team %s", manager, n.Name, members[n.Name])
			f.Why = "it may take the NIC out of the team, or take it down"
		case strings.HasPrefix(n.Alias, vswitch.AliasPrefix):
			f.What = fmt.Sprintf("%s manages %s, a netdev of Patchbay's", manager, n.Name)
			f.Why = "it may give it addresses, which open the switch to the host, or take it down"
		default:
			continue
		}
		all = append(all, f)
	}
	return all
}

func unmanaging(manager, netdev string) []string {
	pattern := netdev
	if strings.HasPrefix(netdev, "pb") {
		pattern = "pb*"
	}
	if manager == "NetworkManager" {
		return []string{
			"/etc/NetworkManager/conf.d/90-patchbay-" + netdev + ".conf: [keyfile] unmanaged-devices+=interface-name:" + pattern,
			"nmcli general reload && nmcli device set " + netdev + " managed no",
		}
	}
	return []string{
		"/etc/systemd/network/05-patchbay-" + netdev + ".network: [Match] Name=" + pattern + " [Link] Unmanaged=yes",
		"networkctl reload",
	}
}

// neighbours compares the kernel's tables of neighbours with the guests that the host
// itself may talk to: more than gc_thresh3 and sendto fails with ENOBUFS, "neighbour
// table overflow" (Documentation/networking/ip-sysctl.rst).
func (x examination) neighbours() (all []Finding) {
	guests := map[string]int{}
	for _, r := range x.records {
		ipv4, ipv6 := r.GatewayFamilies()
		if ipv4 {
			guests["ipv4"] += x.ports[r.Name]
		}
		if ipv6 {
			guests["ipv6"] += x.ports[r.Name]
		}
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		key := "net/" + family + "/neigh/default/gc_thresh"
		soft, errSoft := strconv.Atoi(x.host.Sysctls[key+"2"])
		hard, errHard := strconv.Atoi(x.host.Sysctls[key+"3"])
		// The table is one for all namespaces: the host's entry for the guest is in it, and
		// the guest's for the gateway.
		n := 2 * guests[family]
		if errSoft != nil || errHard != nil || n <= soft {
			continue
		}
		f := Finding{
			Severity: Warning, Check: "neighbour-table",
			What: fmt.Sprintf("%d guests on switches with a gateway need %d neighbours, and there is room for %d (%s3)", n/2, n, hard, strings.ReplaceAll(key, "/", ".")),
			Why:  "the kernel forgets guests that it talks to, and asks for them again and again",
		}
		if n > hard {
			f.Severity, f.Why = Blocks, "the host and guests cannot reach more neighbours than that at a time, in all namespaces together: neighbour table overflow"
		}
		room := 1 << bits.Len(uint(4*n))
		f.Mend = []string{fmt.Sprintf("sysctl -w %[1]s1=%[2]d %[1]s2=%[3]d %[1]s3=%[4]d", strings.ReplaceAll(key, "/", "."), room/4, room/2, room)}
		all = append(all, f)
	}
	return all
}

// backlog is about broadcasts on switches with many guests: each copy waits in the queue
// of its processor, and what finds no room in it is lost, which are always the same
// guests' copies. At a time two segments flood.
func (x examination) backlog() []Finding {
	room, err := strconv.Atoi(x.host.Sysctls["net/core/netdev_max_backlog"])
	if err != nil {
		return nil
	}
	most, flooded := 0, 2*vswitch.DefaultSegmentSizes().Further
	for _, n := range x.ports {
		most = max(most, min(n, flooded))
	}
	const broadcasts = 4 // that may come together before a copy is lost
	if most*broadcasts <= room {
		return nil
	}
	return []Finding{{
		Severity: Note, Check: "backlog", What: fmt.Sprintf("a broadcast makes up to %d copies at a time, and a processor queues %d (net.core.netdev_max_backlog)", most, room),
		Why:  "of broadcasts that come together, as many guests' ARP requests at their start, some guests get none",
		Mend: []string{fmt.Sprintf("sysctl -w net.core.netdev_max_backlog=%d", 1<<bits.Len(uint(2*broadcasts*most-1)))},
	}}
}

// connections is about the table that masquerade needs an entry of for each flow.
func (x examination) connections() []Finding {
	count, errCount := strconv.Atoi(x.host.Sysctls["net/netfilter/nf_conntrack_count"])
	limit, errLimit := strconv.Atoi(x.host.Sysctls["net/netfilter/nf_conntrack_max"])
	users := x.affected(func(r store.SwitchRecord) bool { return !r.EffectiveMasquerade().IsZero() })
	if errCount != nil || errLimit != nil || len(users) == 0 || limit == 0 || count*5 < limit*4 {
		return nil
	}
	return []Finding{{
		Severity: Warning, Check: "connections", What: fmt.Sprintf("%d of %d connections are tracked", count, limit),
		Why:  "when the table is full, new connections of guests are dropped" + onSwitches(users),
		Mend: []string{fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", 4*limit)},
	}}
}
