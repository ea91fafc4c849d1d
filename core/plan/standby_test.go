package plan_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TestStandby has m2 stand by beside a bond of m0 and m1, stand in, and go.
func TestStandby(t *testing.T) {
	member := func(name string, up bool) plan.Member {
		return plan.Member{Name: name, Released: plan.Released{Up: up}}
	}
	bond := func(designated string, up bool, held ...string) plan.State {
		b := plan.Bond{Name: "t", MAC: vswitch.MAC{2, 0, 0, 0, 0, 9}, MTU: 1500, Alias: "patchbay:team name=t", Up: true, Options: plan.BondOptions{Mode: "balance-xor", Monitor: 100, Hash: "vlan+srcmac"}}
		s := plan.Spread{Team: "t", Members: []string{"m0", "m1", "m2"}, Source: vswitch.MAC{2, 0, 0, 0, 0, 8}}.With(designated)
		b.Members = []plan.Member{member("m0", true), member("m1", true)}
		if len(held) > 0 {
			b.Held = []plan.Member{member("m2", up)}
		} else {
			b.Members = append(b.Members, member("m2", up))
		}
		return plan.State{Bonds: map[string]plan.Bond{"t": b}, Spreads: map[string]plan.Spread{"t": s}}
	}
	silent := func(s plan.State, settings map[string]string) plan.State {
		s.Hosts = map[string]plan.Addressing{"m2": {Settings: settings}}
		return s
	}
	open := map[string]string{"ipv6/disable_ipv6": "0", "ipv4/arp_ignore": "0"}
	for _, c := range []struct {
		name       string
		have, want plan.State
		steps      []string
	}{
		{"stands in", bond("m0", true, "m2"), bond("m0", true), []string{"ip link set m2 down", "ip link set m2 master t"}},
		{"stands by", bond("m0", true), bond("m0", true, "m2"), []string{"ip link set m2 nomaster up"}},
		{
			"leaves what it hears before it leaves", bond("m2", true), bond("m1", true, "m2"),
			[]string{"nft 'flush set netdev patchbay-t mute; flush map netdev patchbay-t designated; add element netdev patchbay-t mute { m0, m2 }; add element netdev patchbay-t designated { t : m1 }'", "ip link set m2 nomaster up"},
		},
		{
			"is silent", bond("m0", true, "m2"), silent(bond("m0", true, "m2"), plan.Silence()),
			[]string{"sysctl -w net.ipv4.conf.m2.arp_ignore=8 net.ipv6.conf.m2.disable_ipv6=1"},
		},
		{
			"goes with its team", bond("m0", false, "m2"),
			plan.State{},
			[]string{"ip link set m2 down", "nft delete table netdev patchbay-t", "ip link set m0 nomaster up", "ip link set m1 nomaster up", "ip link del t"},
		},
		{
			"goes and was up", bond("m0", true, "m2"),
			plan.State{},
			[]string{"nft delete table netdev patchbay-t", "ip link set m0 nomaster up", "ip link set m1 nomaster up", "ip link del t"},
		},
		{
			"may speak before the host comes to it", silent(bond("m0", true, "m2"), plan.Silence()), silent(bond("m0", true, "m2"), open),
			[]string{"sysctl -w net.ipv6.conf.m2.disable_ipv6=0", "sysctl -w net.ipv4.conf.m2.arp_ignore=0"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := context.Background()
			var nics []kernel.Netdev
			for i, name := range []string{"m0", "m1", "m2"} {
				nics = append(nics, kernel.Netdev{Name: name, MAC: vswitch.MAC{2, 0, 0, 0, 0, byte(i)}, MTU: 1500, Ethernet: true, Up: true, Carrier: true})
			}
			host := kernel.NewFake(kernel.FakeConfig{Netdevs: nics, Capabilities: kernel.Capabilities{Bonding: true, MemberRules: true}})
			diff := func(want plan.State) (steps []plan.Step) {
				t.Helper()
				seen, err := host.Observe(ctx, plan.Union(want, c.have))
				if err == nil {
					steps = plan.Diff(want, seen)
					err = host.Apply(ctx, steps)
				}
				if err != nil {
					t.Fatal(err)
				}
				return steps
			}
			diff(c.have)
			var words []string
			for _, s := range diff(c.want) {
				words = append(words, s.String())
			}
			if diff := cmp.Diff(c.steps, words); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if again := diff(c.want); len(again) > 0 {
				t.Errorf("after it there is more to do: %v", again)
			}
		})
	}
}
