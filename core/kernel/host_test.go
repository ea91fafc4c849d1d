package kernel

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestForwardChains reads what nft and iptables-nft have made.
func TestForwardChains(t *testing.T) {
	for name, tc := range map[string]struct {
		rules string
		want  []ForwardChain
	}{
		"none":   {"nft add table inet x; nft 'add chain inet x input { type filter hook input priority 0; policy drop; }'", nil},
		"policy": {"nft add table ip filter; nft 'add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'", []ForwardChain{{Family: "ip", Table: "filter", Chain: "FORWARD", Closed: true}}},
		"open":   {"nft add table inet x; nft 'add chain inet x f { type filter hook forward priority 0; }'; nft add rule inet x f tcp dport 22 drop", []ForwardChain{{Family: "inet", Table: "x", Chain: "f"}}},
		"last rule drops": {
			"nft add table inet x; nft 'add chain inet x f { type filter hook forward priority 0; }'; nft add rule inet x f ip saddr 10.0.0.1 accept; nft add rule inet x f counter log drop",
			[]ForwardChain{{Family: "inet", Table: "x", Chain: "f", Closed: true}},
		},
		"last rule rejects": {
			"nft add table inet firewalld; nft 'add chain inet firewalld f { type filter hook forward priority 10; }'; nft add rule inet firewalld f reject with icmpx admin-prohibited",
			[]ForwardChain{{Family: "inet", Table: "firewalld", Chain: "f", Closed: true}},
		},
		"a drop in between": {
			"nft add table ip6 x; nft 'add chain ip6 x f { type filter hook forward priority 0; }'; nft add rule ip6 x f drop; nft add rule ip6 x f counter",
			[]ForwardChain{{Family: "ip6", Table: "x", Chain: "f"}},
		},
		"bridge, and it knows us": {
			"nft add table bridge x; nft 'add chain bridge x f { type filter hook forward priority 0; policy drop; }'; nft add rule bridge x f iifname pb-lan accept; nft add rule bridge x f iifname '\"pbh-*\"' accept",
			[]ForwardChain{{Family: "bridge", Table: "x", Chain: "f", Closed: true, Mentions: []string{"pb-lan", "pbh-*"}}},
		},
		"a prefix": {
			"nft add table inet x; nft 'add chain inet x f { type filter hook forward priority 0; policy drop; }'; nft add rule inet x f iifname '\"pb*\"' accept",
			[]ForwardChain{{Family: "inet", Table: "x", Chain: "f", Closed: true, Mentions: []string{"pb*"}}},
		},
		"two": {
			"for f in ip ip6; do nft add table $f filter; nft \"add chain $f filter FORWARD { type filter hook forward priority 0; policy drop; }\"; done",
			[]ForwardChain{{Family: "ip", Table: "filter", Chain: "FORWARD", Closed: true}, {Family: "ip6", Table: "filter", Chain: "FORWARD", Closed: true}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns := newNS(t)
			sh(t, ns, tc.rules)
			var got []ForwardChain
			within(t, ns, func() (err error) {
				got, err = NewLinux().forwardChains()
				return err
			})
			byFamily := cmpopts.SortSlices(func(a, b ForwardChain) bool { return a.Family < b.Family })
			if diff := cmp.Diff(tc.want, got, byFamily, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestOwnTablesAreNoRivals(t *testing.T) {
	ns := newNS(t)
	within(t, ns, func() error {
		for _, table := range ruleTables() {
			if err := tryTable(table); err != nil {
				return err
			}
		}
		found, err := NewLinux().forwardChains()
		if len(found) > 0 {
			t.Errorf("found %+v", found)
		}
		return err
	})
}

func TestHostSysctls(t *testing.T) {
	ns := newNS(t)
	sh(t, ns, "ip link add eth0.5 type veth peer name y; sysctl -qw net/ipv4/conf/eth0.5/rp_filter=1 net.ipv4.ip_forward=1; sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
	within(t, ns, func() error {
		h, err := NewLinux().Host(context.Background())
		for key, want := range map[string]string{
			"net/ipv4/conf/eth0.5/rp_filter": "1", "net/ipv4/ip_forward": "1", "net/ipv6/conf/all/disable_ipv6": "1",
		} {
			if h.Sysctls[key] != want {
				t.Errorf("%s is %q, want %q", key, h.Sysctls[key], want)
			}
		}
		if h.Release == "" || len(h.Managers) > 0 {
			t.Errorf("release %q, managers %v", h.Release, h.Managers)
		}
		return err
	})
}

// TestHostFiles lays out a host in files: services by their cgroups and process files,
// modules, legacy tables, and whom netdevs belong to.
func TestHostFiles(t *testing.T) {
	ns := newNS(t)
	sh(t, ns, "ip link add eth0 type veth peer name eth1")
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	index := make(map[string]string)
	within(t, ns, func() error {
		links, err := linksHere()
		for _, l := range links {
			index[l.name] = strconv.Itoa(l.index)
		}
		return err
	})
	write("proc/sys/kernel/osrelease", "6.1.0-13-amd64\n")
	write("proc/sys/net/ipv4/neigh/default/gc_thresh3", "1024\n")
	write("proc/modules", "bridge 319488 1 br_netfilter, Live 0x0\n")
	write("lib/modules/6.1.0-13-amd64/modules.dep", "kernel/net/bridge/bridge.ko.xz:\nkernel/net/netfilter/nft_masq.ko: kernel/net/nf_nat.ko\nkernel/net/netfilter/nft-chain-nat.ko:\n")
	write("proc/thread-self/net/ip_tables_names", "nat\nfilter\n")
	write("sys/fs/cgroup/system.slice/NetworkManager.service/cgroup.procs", "812\n")
	write("sys/fs/cgroup/system.slice/docker.service/cgroup.procs", "")
	write("sys/kernel/iommu_groups/0/type", "DMA-FQ\n")
	write("run/firewalld.pid", "77")
	write("proc/77/comm", "firewalld")
	write("run/docker.pid", "78")
	write("sys/fs/cgroup/system.slice/systemd-networkd.service/cgroup.procs", "5")
	write("run/NetworkManager/devices/"+index["eth0"], "[device]\nmanaged=true\n")
	write("run/systemd/netif/links/"+index["eth1"], "ADMIN_STATE=configured\n")
	write("run/systemd/netif/links/"+index["lo"], "ADMIN_STATE=unmanaged\n")
	var h Host
	within(t, ns, func() (err error) {
		h, err = readHost(root)
		return err
	})
	if h.Release != "6.1.0-13-amd64" || h.Sysctls["net/ipv4/neigh/default/gc_thresh3"] != "1024" || !slices.Contains(h.Legacy["ip"], "filter") || !h.IOMMU {
		t.Errorf("%+v", h)
	}
	if h.Loadable["bridge"] || !h.Loadable["nft_masq"] || !h.Loadable["nft_chain_nat"] {
		t.Errorf("loadable: %v", h.Loadable)
	}
	if diff := cmp.Diff(map[string]bool{"firewalld": true, "docker": false, "NetworkManager": true, "systemd-networkd": true}, h.Services); diff != "" {
		t.Errorf("services:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"eth0": "NetworkManager", "eth1": "systemd-networkd"}, h.Managers); diff != "" {
		t.Errorf("managers:\n%s", diff)
	}
}
