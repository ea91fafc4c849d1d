package engine_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// healthy is a host without anything to find fault with.
func healthy() kernel.Host {
	return kernel.Host{Release: "6.1.0", Sysctls: map[string]string{
		"net/ipv6/conf/all/disable_ipv6": "0", "net/ipv6/conf/default/disable_ipv6": "0",
		"net/ipv4/neigh/default/gc_thresh2": "512", "net/ipv4/neigh/default/gc_thresh3": "1024",
	}}
}

func closed(family, table, chain string, mentions ...string) kernel.ForwardChain {
	return kernel.ForwardChain{Family: family, Table: table, Chain: chain, Closed: true, Mentions: mentions}
}

// TestDoctor has, for each thing that may be wrong, what is found, and that nothing
// else is.
func TestDoctor(t *testing.T) {
	lan := vswitch.Switch{Name: "lan", Type: vswitch.Internal, Gateway: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}
	lan6 := vswitch.Switch{Name: "lan6", Type: vswitch.Internal, Gateway: []netip.Prefix{netip.MustParsePrefix("fd00::1/64")}}
	for name, tc := range map[string]struct {
		switches []vswitch.Switch
		set      func(*kernel.Host)
		lab      func(*lab)
		want     []string // severity and check, sorted
		mend     string   // part of a command
	}{
		"nothing":    {switches: []vswitch.Switch{lan, lan6, ext("wan", "nic0", 0)}},
		"no switch":  {},
		"old kernel": {set: func(h *kernel.Host) { h.Release = "5.4.0-26-generic" }, want: []string{"blocks kernel-version"}},
		"docker's drop": {switches: []vswitch.Switch{lan}, set: func(h *kernel.Host) {
			h.Forward = []kernel.ForwardChain{closed("ip", "filter", "FORWARD")}
			h.Services = map[string]bool{"docker": true}
		}, want: []string{"blocks forward-drop-routed"}, mend: "iptables -I DOCKER-USER -i pbh-lan -j ACCEPT"},
		"drop, accepted": {switches: []vswitch.Switch{lan}, set: func(h *kernel.Host) { h.Forward = []kernel.ForwardChain{closed("ip", "filter", "FORWARD", "pbh-lan")} }},
		"drop of IPv6":   {switches: []vswitch.Switch{lan}, set: func(h *kernel.Host) { h.Forward = []kernel.ForwardChain{closed("ip6", "filter", "FORWARD")} }},
		"bridged frames": {
			switches: []vswitch.Switch{{Name: "lab", Type: vswitch.Private}},
			set: func(h *kernel.Host) {
				h.Sysctls["net/bridge/bridge-nf-call-iptables"] = "1"
				h.Forward = []kernel.ForwardChain{closed("ip", "filter", "FORWARD")}
			},
			want: []string{"blocks forward-drop-bridged", "warning forward-drop-routed"}, mend: "iptables -I FORWARD -i pb-lab -j ACCEPT",
		},
		"bridged, and nothing drops": {
			switches: []vswitch.Switch{lan}, set: func(h *kernel.Host) { h.Sysctls["net/bridge/bridge-nf-call-iptables"] = "1" }, want: []string{"note bridge-nf-call"},
		},
		"bridge family": {
			switches: []vswitch.Switch{{Name: "lab", Type: vswitch.Private}}, set: func(h *kernel.Host) { h.Forward = []kernel.ForwardChain{closed("bridge", "x", "f")} },
			want: []string{"blocks forward-drop-bridged"}, mend: "nft insert rule bridge x f meta ibrname pb-lab accept",
		},
		"firewalld": {
			switches: []vswitch.Switch{lan},
			set: func(h *kernel.Host) {
				h.Services = map[string]bool{"firewalld": true}
				h.Forward = []kernel.ForwardChain{closed("inet", "firewalld", "filter_FORWARD")}
			},
			want: []string{"blocks forward-drop-routed", "warning firewalld"}, mend: "firewall-cmd --permanent --zone=trusted --add-interface=pbh-lan",
		},
		"legacy iptables": {set: func(h *kernel.Host) { h.Legacy = map[string][]string{"ip": {"filter"}} }, want: []string{"warning legacy-iptables"}, mend: "iptables-legacy -S FORWARD"},
		"no IPv6": {
			switches: []vswitch.Switch{lan6}, set: func(h *kernel.Host) { h.Sysctls["net/ipv6/conf/all/disable_ipv6"] = "1" },
			want: []string{"blocks ipv6"}, mend: "sysctl -w net.ipv6.conf.all.disable_ipv6=0",
		},
		"IPv6 not built in": {set: func(h *kernel.Host) { delete(h.Sysctls, "net/ipv6/conf/all/disable_ipv6") }, want: []string{"note ipv6"}, mend: "ipv6.disable=1"},
		"accept_ra": {
			switches: []vswitch.Switch{lan6}, set: func(h *kernel.Host) { h.Sysctls["net/ipv6/conf/nic0/accept_ra"] = "1" },
			want: []string{"warning accept-ra"}, mend: "sysctl -w net/ipv6/conf/nic0/accept_ra=2",
		},
		"managed": {
			switches: []vswitch.Switch{ext("wan", "nic0", 0)},
			set: func(h *kernel.Host) {
				h.Managers = map[string]string{"nic0": "NetworkManager", "nic1": "NetworkManager", "pbh-wan": "systemd-networkd"}
			},
			want: []string{"warning network-manager", "warning network-manager"}, mend: "[Match] Name=pb*",
		},
		"a module to load": {
			lab: func(l *lab) { c := allCapabilities(); c.NAT = false; l.kernel.SetCapabilities(c) }, set: func(h *kernel.Host) { h.Loadable = map[string]bool{"nft_masq": true} },
			want: []string{"warning nat"}, mend: "modprobe nft_masq",
		},
		"a kernel without": {
			switches: []vswitch.Switch{{Name: "lab", Type: vswitch.Private}},
			lab:      func(l *lab) { l.kernel.SetCapabilities(kernel.Capabilities{VLANFiltering: true, NAT: true}) },
			want:     []string{"blocks bridge-rules", "note bonding", "note port-locking", "note priority-reset", "warning acl-rules", "warning guard-rules", "warning limits", "warning member-rules", "warning mirroring", "warning shares"}, mend: "CONFIG_NF_TABLES_BRIDGE",
		},
		"few neighbours": {
			switches: []vswitch.Switch{lan}, set: func(h *kernel.Host) {
				h.Sysctls["net/ipv4/neigh/default/gc_thresh2"], h.Sysctls["net/ipv4/neigh/default/gc_thresh3"] = "1", "2"
			},
			lab: func(l *lab) {
				for i := range 3 {
					l.mustAttach(engine.AttachRequest{Owner: owner(i), Switch: "lan"})
				}
			},
			want: []string{"blocks neighbour-table"}, mend: "net.ipv4.neigh.default.gc_thresh3=32",
		},
		"a short backlog": {
			switches: []vswitch.Switch{lan}, set: func(h *kernel.Host) { h.Sysctls["net/core/netdev_max_backlog"] = "11" },
			lab: func(l *lab) {
				for i := range 3 {
					l.mustAttach(engine.AttachRequest{Owner: owner(i), Switch: "lan"})
				}
			},
			want: []string{"note backlog"}, mend: "net.core.netdev_max_backlog=32",
		},
		"full of connections": {
			switches: []vswitch.Switch{internal()}, set: func(h *kernel.Host) {
				h.Sysctls["net/netfilter/nf_conntrack_count"], h.Sysctls["net/netfilter/nf_conntrack_max"] = "90", "100"
			},
			want: []string{"warning connections"}, mend: "nf_conntrack_max=400",
		},
		"strict rp_filter": {
			switches: []vswitch.Switch{lan}, set: func(h *kernel.Host) { h.Sysctls["net/ipv4/conf/all/rp_filter"] = "1" },
			lab: func(l *lab) {
				n := nics()[1]
				n.Addresses = []netip.Prefix{netip.MustParsePrefix("10.0.0.9/8")}
				l.kernel.AddNetdev(n)
			},
			want: []string{"warning rp-filter"}, mend: "net/ipv4/conf/pbh-lan/rp_filter=2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			for _, s := range tc.switches {
				l.mustAdd(s)
			}
			h := healthy()
			if tc.set != nil {
				tc.set(&h)
			}
			l.kernel.SetHost(h)
			if tc.lab != nil {
				tc.lab(l)
			}
			d, err := l.Doctor(context.Background(), engine.DoctorRequest{})
			must(t, err)
			var got, mend []string
			for _, f := range d.Findings {
				if f.Severity != engine.Fine {
					got = append(got, string(f.Severity)+" "+f.Check)
					mend = append(mend, f.Mend...)
					if f.Why == "" || f.Severity != engine.Note && len(f.Mend) == 0 {
						t.Errorf("a finding without a reason or a way out: %+v", f)
					}
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !strings.Contains(strings.Join(mend, "\n"), tc.mend) {
				t.Errorf("no way out like %q: %q", tc.mend, mend)
			}
			if want := strings.Contains(strings.Join(tc.want, " "), "blocks"); d.Blocked() != want {
				t.Errorf("blocked %v", d.Blocked())
			}
		})
	}
}
