package engine

import (
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file judges what the kernel can do and is set to.

func (x examination) kernelVersion() []Finding {
	var major, minor int
	if n, _ := fmt.Sscanf(x.host.Release, "%d.%d", &major, &minor); n != 2 {
		return nil
	}
	const what = "Linux %s"
	if major < 5 || major == 5 && minor < 7 {
		return []Finding{{
			Severity: Blocks, Check: "kernel-version", What: fmt.Sprintf(what, x.host.Release),
			Why: "Patchbay needs Linux 5.7 or later", Mend: []string{"install a newer kernel"},
		}}
	}
	return []Finding{{Severity: Fine, Check: "kernel-version", What: fmt.Sprintf(what, x.host.Release)}}
}

// feature is a thing that a kernel can do, or not.
type feature struct {
	has          bool
	check, what  string
	without      string // what is lost
	symbols      string
	modules      []string
	uses         func(store.SwitchRecord) bool
	substitution string // what works instead; "" if nothing does
}

func (x examination) features() []feature {
	return []feature{
		{
			has: x.caps.PortLocked, check: "port-locking", what: "locking ports to their MAC address",
			symbols: "CONFIG_BRIDGE in Linux 5.18 or later", modules: []string{"bridge"},
			substitution: "nftables binds ports to their address instead; a frame costs a little more",
		},
		{
			has: x.caps.VLANFiltering, check: "vlan-filtering", what: "VLANs on a bridge", without: "switches and ports with a VLAN are refused",
			symbols: "CONFIG_BRIDGE_VLAN_FILTERING", uses: func(r store.SwitchRecord) bool { return r.VLAN != 0 },
		},
		{
			has: x.caps.BridgeRules, check: "bridge-rules", what: "nftables rules for bridges", without: "private switches and masquerade are refused",
			symbols: "CONFIG_NF_TABLES_BRIDGE", modules: []string{"nf_tables", "nft_meta_bridge"},
			uses: func(r store.SwitchRecord) bool { return r.Type == vswitch.Private || !r.Masquerade.IsZero() },
		},
		{
			has: x.caps.GuardRules, check: "guard-rules", what: "nftables rules that guard ports", without: "guards and storm limits on ports are refused",
			symbols: guardRulesSymbols, modules: []string{"nf_tables", "nft_limit"}, uses: func(store.SwitchRecord) bool { return false }, // ports tell
		},
		{
			has: x.caps.ACLRules, check: "acl-rules", what: "nftables rules for ACLs of ports", without: "ACLs on ports are refused",
			symbols: aclRulesSymbols, modules: []string{"nf_tables"}, uses: func(store.SwitchRecord) bool { return false }, // ports tell
		},
		{
			has: x.caps.PriorityReset, check: "priority-reset", what: "resets of the priority in tags", substitution: "the priority in the tags of all ports passes, whatever ieeePriorityTag says",
			symbols: priorityResetSymbols, modules: []string{"nf_tables"},
		},
		{
			has: x.caps.Limits, check: "limits", what: "limits of bandwidth", without: "limits of bandwidth on ports are refused",
			symbols: kernel.LimitSymbols, modules: []string{"sch_tbf", "ifb", "sch_ingress", "cls_u32", "act_mirred"}, uses: func(store.SwitchRecord) bool { return false }, // ports tell
		},
		{
			has: x.caps.Shares, check: "shares", what: sharesUplink, without: "minimums of bandwidth on ports are refused",
			symbols: kernel.ShareSymbols, modules: []string{"sch_htb", "cls_u32"}, uses: func(r store.SwitchRecord) bool { return !r.HostPolicy.Bandwidth.Min.IsZero() },
		},
		{
			has: x.caps.Mirroring, check: "mirroring", what: "copies of a port's frames to other ports", without: "mirror sources and destinations are refused",
			symbols: kernel.MirrorSymbols, modules: []string{"nf_tables", "sch_ingress", "cls_u32", "act_mirred"}, uses: func(store.SwitchRecord) bool { return false }, // ports tell
		},
		{
			has: x.caps.NAT, check: "nat", what: "NAT in nftables", without: "masquerade is refused",
			symbols: "CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT and CONFIG_NFT_MASQ", modules: []string{"nft_chain_nat", "nft_masq"},
			uses: func(r store.SwitchRecord) bool { return !r.Masquerade.IsZero() },
		},
		{
			has: x.caps.MemberRules, check: "member-rules", what: "nftables rules at the members of a team", without: "teams of mode active-active are refused; active-standby needs none",
			symbols: memberRulesSymbols, modules: []string{"nf_tables", "nft_fwd_netdev"},
			uses: func(r store.SwitchRecord) bool { return r.Spread },
		},
	}
}

func (x examination) capabilities() (all []Finding) {
	for _, f := range x.features() {
		if f.has {
			all = append(all, Finding{Severity: Fine, Check: f.check, What: "the kernel can do " + f.what})
			continue
		}
		finding := Finding{Severity: Warning, Check: f.check, What: "the kernel cannot do " + f.what, Why: f.without, Mend: x.getting(f)}
		if f.substitution != "" {
			finding.Severity, finding.Why = Note, f.substitution
		} else if users := x.affected(f.uses); len(users) > 0 {
			finding.Severity, finding.Why = Blocks, fmt.Sprintf("switches %s need it", strings.Join(users, ", "))
		}
		all = append(all, finding)
	}
	return all
}

// getting says how to get a feature: load a module that is there, install the
// package that has it, or use a kernel that is built with it.
func (x examination) getting(f feature) (mend []string) {
	for _, m := range f.modules {
		if x.host.Loadable[m] {
			mend = append(mend, "modprobe "+m+" && echo "+m+" > /etc/modules-load.d/patchbay-"+m+".conf")
		}
	}
	if len(mend) > 0 {
		return mend
	}
	if x.host.Sysctls["kernel/modules_disabled"] == "1" {
		mend = append(mend, "restart the machine without kernel.modules_disabled=1: no module can be loaded now")
	}
	return append(mend, "use a kernel with "+f.symbols+": those of Debian, Fedora, RHEL, SUSE and Ubuntu have it; on a cloud image of Ubuntu: apt install linux-modules-extra-"+x.host.Release)
}

func (x examination) ipv6() []Finding {
	users := x.affected(func(r store.SwitchRecord) bool { _, ipv6 := r.GatewayFamilies(); return ipv6 })
	disabled := x.host.Sysctls["net/ipv6/conf/all/disable_ipv6"]
	f := Finding{Severity: Note, Check: "ipv6", Why: "switches with an IPv6 gateway cannot be had"}
	if len(users) > 0 {
		f.Severity, f.Why = Blocks, fmt.Sprintf("switches %s have an IPv6 gateway", strings.Join(users, ", "))
	}
	switch {
	case disabled == "":
		f.What, f.Mend = "the kernel has no IPv6", []string{"restart without ipv6.disable=1 on the kernel's command line, or use a kernel with CONFIG_IPV6"}
	case disabled != "0":
		f.What, f.Mend = "IPv6 is switched off", []string{"sysctl -w net.ipv6.conf.all.disable_ipv6=0"}
	case x.host.Sysctls["net/ipv6/conf/default/disable_ipv6"] == "1":
		f.What, f.Mend = "IPv6 is switched off on new netdevs", []string{"sysctl -w net.ipv6.conf.default.disable_ipv6=0"}
	default:
		return []Finding{{Severity: Fine, Check: "ipv6", What: "IPv6 is on"}}
	}
	return []Finding{f}
}

// forwarding is switched on by a switch with a gateway; somebody may have switched it
// off since.
func (x examination) forwarding() (all []Finding) {
	for _, family := range []struct {
		check, key, name string
		uses             func(store.SwitchRecord) bool
	}{
		{"forwarding-ipv4", "net/ipv4/ip_forward", "IPv4", func(r store.SwitchRecord) bool { ipv4, _ := r.GatewayFamilies(); return ipv4 }},
		{"forwarding-ipv6", "net/ipv6/conf/all/forwarding", "IPv6", func(r store.SwitchRecord) bool { _, ipv6 := r.GatewayFamilies(); return ipv6 }},
	} {
		users := x.affected(family.uses)
		on, known := x.host.Sysctls[family.key]
		if len(users) == 0 || !known {
			continue
		}
		if on != "0" {
			all = append(all, Finding{Severity: Fine, Check: family.check, What: "the host forwards " + family.name})
			continue
		}
		all = append(all, Finding{
			Severity: Blocks, Check: family.check, What: fmt.Sprintf("the host does not forward %s", family.name),
			Why:  fmt.Sprintf("guests of %s do not get beyond the host; somebody switched it off again", strings.Join(users, ", ")),
			Mend: []string{"patchbay restore", fmt.Sprintf("look for %s = 0 in /etc/sysctl.conf and /etc/sysctl.d", family.key)},
		})
	}
	return all
}

// routerAdvertisements looks for netdevs that ignore them because the host forwards:
// accept_ra 1 means "unless forwarding" (Documentation/networking/ip-sysctl.rst).
func (x examination) routerAdvertisements() (all []Finding) {
	if x.host.Sysctls["net/ipv6/conf/all/forwarding"] != "1" || len(x.records) == 0 {
		return nil
	}
	for _, n := range x.netdevs {
		listens := x.host.Sysctls["net/ipv6/conf/"+n.Name+"/accept_ra"] == "1"
		if !listens || !n.Up || n.Loopback || n.Master != "" || !n.Ethernet || strings.HasPrefix(n.Alias, vswitch.AliasPrefix) {
			continue
		}
		all = append(all, Finding{
			Severity: Warning, Check: "accept-ra", What: n.Name + " ignores router advertisements, since the host forwards IPv6",
			Why:  "the host loses its IPv6 default route when what it was told runs out",
			Mend: []string{"sysctl -w net/ipv6/conf/" + n.Name + "/accept_ra=2"},
		})
	}
	return all
}

// reversePath is strict filtering where it would drop: the host has a subnet on a
// switch and on another netdev, and answers may come by the other one.
func (x examination) reversePath() (all []Finding) {
	for _, a := range x.netdevs {
		if !strings.HasPrefix(a.Alias, vswitch.AliasPrefix+"host") {
			continue
		}
		for _, b := range x.netdevs {
			shared := sharedSubnet(a, b)
			if a.Name == b.Name || shared == "" || !x.strict(a.Name) && !x.strict(b.Name) {
				continue
			}
			all = append(all, Finding{
				Severity: Warning, Check: "rp-filter", What: fmt.Sprintf("%s and %s are both in %s, and rp_filter is strict", a.Name, b.Name, shared),
				Why:  "the kernel drops what comes in by the one that it would not answer by",
				Mend: []string{fmt.Sprintf("sysctl -w net/ipv4/conf/%s/rp_filter=2 net/ipv4/conf/%s/rp_filter=2", a.Name, b.Name), "or take the addresses off " + b.Name},
			})
		}
	}
	return all
}
