package kernel_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestFakeObservesScopeOnly(t *testing.T) {
	f := fakeHost(t)
	route, other := fakeRoute("0.0.0.0/0", "10.0.0.1"), fakeRoute("10.9.0.0/16", "10.0.0.1")
	fakeApply(t, f, route, other, plan.AddFDB{Port: "pb1", MAC: vswitch.MAC{2, 0, 0, 0, 0, 7}},
		plan.SetRules{Add: plan.Rules{Base: true, Quiet: map[uint32]bool{1: true, 2: true}, Guard: map[string]vswitch.MAC{"pb1": {2}}}},
		plan.SetForwarding{Families: plan.Families{IPv4: true, IPv6: true}})

	t.Run("nothing", func(t *testing.T) {
		if seen, err := f.Observe(t.Context(), plan.State{}); err != nil || !seen.Empty() {
			t.Errorf("got %+v, %v", seen, err)
		}
	})
	t.Run("what is named and exists", func(t *testing.T) {
		scope := fakeScope([]plan.Address{fakeAddress("10.0.0.2/24"), fakeAddress("10.0.0.99/24")}, route.Route)
		scope.Bridges["pb-none"] = plan.Bridge{}
		scope.Bridges["nic0"] = plan.Bridge{} // is no bridge
		scope.Ports["pb-none"] = plan.Port{}
		scope.Rules = plan.Rules{Quiet: map[uint32]bool{2: true, 3: true}}
		scope.Forward.IPv6 = true
		seen, err := f.Observe(t.Context(), scope)
		if err != nil {
			t.Fatal(err)
		}
		port := fakePort()
		port.Endpoint.Addresses, port.Endpoint.Routes = []plan.Address{fakeAddress("10.0.0.2/24")}, []vswitch.Route{route.Route}
		want := plan.State{
			Bridges: map[string]plan.Bridge{"pb-lan": fakeBridge()}, Ports: map[string]plan.Port{"pb1": port},
			Rules: plan.Rules{Quiet: map[uint32]bool{2: true}}, Forward: plan.Families{IPv6: true},
		}
		if diff := cmp.Diff(want, seen, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("owner's namespace is gone", func(t *testing.T) {
		f := fakeHost(t)
		f.UnmountNetns(fakeNetns)
		seen, err := f.Observe(t.Context(), fakeScope(nil))
		if p, ok := seen.Ports["pb1"]; err != nil || !ok || p.Endpoint != nil {
			t.Errorf("got %+v, %v; want pb1 without an endpoint", p, err)
		}
	})
	t.Run("endpoint is renamed", func(t *testing.T) {
		f := fakeHost(t)
		f.RenameNetdev(fakeNetns, "eth0", "lan0")
		seen, err := f.Observe(t.Context(), fakeScope(nil))
		if p, ok := seen.Ports["pb1"]; err != nil || !ok || p.Endpoint != nil {
			t.Errorf("got %+v, %v; want pb1 without an endpoint", p, err)
		}
	})
	t.Run("foreign bridge shows what Linux gave it", func(t *testing.T) {
		seen, err := f.Observe(t.Context(), plan.State{Bridges: map[string]plan.Bridge{"docker0": {}}})
		if b := seen.Bridges["docker0"]; err != nil || !b.Snooping || !b.LinkLocal || b.ForwardDelay == 0 {
			t.Errorf("got %+v, %v", b, err)
		}
	})
}

func TestFakeNetdevs(t *testing.T) {
	f := fakeHost(t)
	fakeApply(t, f, fakeVeth("pbp-lan", "", "pbh-lan"), plan.AddAddress{At: plan.At{Port: "pbp-lan", Name: "pbh-lan"}, Address: fakeAddress("10.0.0.1/24")})
	all, err := f.Netdevs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range all {
		names = append(names, n.Name)
		if one, err := f.Netdev(t.Context(), n.Name); err != nil || !cmp.Equal(one, n, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })) {
			t.Errorf("Netdev(%s) is %+v, %v; Netdevs has %+v", n.Name, one, err, n)
		}
		switch n.Name {
		case "pb1":
			if n.Kind != "veth" || n.Master != "pb-lan" || !n.Up || !n.Carrier {
				t.Errorf("pb1: %+v", n)
			}
		case "pbh-lan":
			if len(n.Addresses) != 1 || n.Up || n.Carrier {
				t.Errorf("pbh-lan: %+v", n)
			}
		}
	}
	want := []string{"docker0", "lo", "nic0", "nic1", "pb-lan", "pb1", "pbh-lan", "pbp-lan", "wlan0"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := f.CheckNetns(fakeNetns); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"", "/run/netns/none"} {
		if err := f.CheckNetns(path); !errors.Is(err, vswitch.NetnsNotFound) {
			t.Errorf("CheckNetns(%q): %v", path, err)
		}
	}
}

func TestFakeString(t *testing.T) {
	f := fakeHost(t)
	table := 100
	custom := fakeRoute("10.9.0.0/16", "")
	custom.Route.Table, custom.Route.MTU = &table, 1400
	fakeApply(t, f, fakeRoute("0.0.0.0/0", "10.0.0.1"), fakeRoute("::/0", "fd00::1"), custom,
		plan.SetRules{Add: plan.Rules{Base: true, Masquerade: map[string]plan.Families{"pbh-lan": {IPv4: true}}, Guard: map[string]vswitch.MAC{"pb1": {2}}}},
		plan.SetForwarding{Families: plan.Families{IPv4: true}})
	f.RemoveNetdev("wlan0")
	want := `host
  docker0: bridge 0e:87:5a:d9:d6:02 mtu 1500 down
  lo: mtu 65536 up
  nic0: 52:54:00:00:00:01 mtu 1500 up
  nic1: 0e:11:b5:73:d0:a2 mtu 1500 down master docker0
    bridge link learning on flood on locked off
  pb-lan: bridge 0e:00:00:00:00:01 mtu 1500 up alias "patchbay:bridge switch=lan"
  pb1: veth eth0@/run/netns/a 0e:00:00:00:00:02 mtu 1500 up master pb-lan group 0x50420001
    bridge link learning off flood off locked on
    bridge fdb 02:00:00:00:00:01 static sticky
netns /run/netns/a
  eth0: veth pb1@host 02:00:00:00:00:01 mtu 1500 up
    inet 10.0.0.2/24
    inet6 fd00::2/64
    route 10.9.0.0/16 table 100 scope link mtu 1400
    route default via 10.0.0.1
    route default via fd00::1 metric 1024
nft table patchbay
  masquerade4 { pbh-lan }
  guard { pb1 . 02:00:00:00:00:00 }
sysctl
  net.ipv4.ip_forward = 1
`
	if diff := cmp.Diff(want, f.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
