package plan_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestDiff(t *testing.T) {
	var (
		both    = plan.Families{IPv4: true, IPv6: true}
		lan     = all(switchOf("lan"), hostPort("lan", "10.0.0.1/24", "fd00::1/64"), natOf("lan", both))
		plain   = all(switchOf("lan"), hostPort("lan", "10.0.0.1/24"))
		web     = guestOn("lan", "web", addressed("10.0.0.2/24", "fd00::2/64"), routed("0.0.0.0/0", "10.0.0.1"), routed("::/0", "fd00::1"))
		private = all(switchOf("lab"), guestOn("lab", "web"))
		ext     = all(switchOf("ext"), adopted("ext", "nic0"))
	)
	meddle := func(steps ...plan.Step) func(*testing.T, *kernel.Fake) {
		return func(t *testing.T, host *kernel.Fake) {
			t.Helper()
			if err := host.Apply(context.Background(), steps); err != nil {
				t.Fatal(err)
			}
		}
	}
	webPort := web.Ports[portName("web")]
	at := plan.At{Port: webPort.Name, Netns: nsWeb, Name: "eth0"}

	for _, c := range []struct {
		name       string
		have, want plan.State
		meddle     func(*testing.T, *kernel.Fake) // what somebody else does in between
	}{
		{name: "nothing"},
		{name: "internal switch with gateway and masquerade", want: lan},
		{name: "same state", have: all(lan, web), want: all(lan, web)},
		{name: "attach", have: lan, want: all(lan, web)},
		{name: "attach to private switch", want: private},
		{name: "detach", have: all(lan, web), want: lan},
		{name: "attach with limits", have: lan, want: all(lan, guestOn("lan", "web", limitedTo(10e6, 1e9)))},
		{name: "limits changed", have: all(lan, guestOn("lan", "web", limitedTo(10e6, 1e9))), want: all(lan, guestOn("lan", "web", limitedTo(0, 2e9)))},
		{name: "limits gone", have: all(lan, guestOn("lan", "web", limitedTo(10e6, 1e9))), want: all(lan, guestOn("lan", "web"))},
		{name: "detach with limits", have: all(lan, guestOn("lan", "web", limitedTo(10e6, 1e9))), want: lan},
		{name: "adopted with limits", have: switchOf("lan"), want: all(switchOf("lan"), adopted("lan", "tap0", limitedTo(1e6, 1e6)))},
		{name: "adopted with limits released", have: all(switchOf("lan"), adopted("lan", "tap0", limitedTo(1e6, 1e6))), want: switchOf("lan")},
		{name: "delete switch with ports", have: all(lan, web)},
		{name: "spoofing allowed", have: private, want: all(switchOf("lab"), guestOn("lab", "web", func(p *plan.Port) { p.Locked, p.Learning, p.Flood = false, true, true }))},
		{name: "uplink enslaved", have: switchOf("ext"), want: ext},
		{name: "uplink released", have: ext},
		{name: "uplink released and MTU put back", have: ext, want: plan.State{Ports: map[string]plan.Port{"nic0": {Name: "nic0", MTU: 9000, Up: true}}}},
		{name: "uplink moves to another switch", have: ext, want: all(switchOf("other"), adopted("other", "nic0"))},
		{name: "gateway changed", have: plain, want: all(switchOf("lan"), hostPort("lan", "10.0.0.254/24"))},
		{
			name: "address changed keeps the default route", have: all(plain, guestOn("lan", "web", addressed("10.0.0.2/24"), routed("0.0.0.0/0", "10.0.0.1"))),
			want: all(plain, guestOn("lan", "web", addressed("10.0.0.3/24"), routed("0.0.0.0/0", "10.0.0.1"))),
		},
		{
			name: "first of two addresses goes", have: all(plain, guestOn("lan", "web", addressed("10.0.0.2/24", "10.0.0.3/24"))),
			want: all(plain, guestOn("lan", "web", addressed("10.0.0.3/24"))),
		},
		{
			name: "route changed", have: all(plain, guestOn("lan", "web", addressed("10.0.0.2/24"), routed("0.0.0.0/0", "10.0.0.1"))),
			want: all(plain, guestOn("lan", "web", addressed("10.0.0.2/24"), routed("0.0.0.0/0", "10.0.0.9", func(r *vswitch.Route) { r.MTU, r.AdvMSS = 1400, 1360 }))),
		},
		{name: "MTU of all ends", have: private, want: withMTU(private, 9000)},
		{name: "masquerade of one family", have: lan, want: all(switchOf("lan"), hostPort("lan", "10.0.0.1/24", "fd00::1/64"), natOf("lan", plan.Families{IPv4: true}))},
		{name: "guard of another MAC", have: all(private, guarded("web", vswitch.MAC{2, 0, 0, 0, 0, 1})), want: all(private, guarded("web", vswitch.MAC{2, 0, 0, 0, 0, 2}))},
		{name: "first policy", have: lan, want: all(lan, policed("web", plan.Guards{DHCP: true, Storm: 100}))},
		{
			name: "other policy",
			have: all(lan, policed("web", plan.Guards{DHCP: true, Storm: 100})),
			want: all(lan, policed("web", plan.Guards{Router: true, Storm: 7, Bound: plan.BindAddresses(vswitch.MAC{2}, netip.MustParseAddr("10.0.0.2"))})),
		},
		{name: "no policy any more", have: all(lan, policed("web", plan.Guards{Router: true})), want: lan},
		{name: "guard no more", have: all(lan, guarded("web", vswitch.MAC{2, 0, 0, 0, 0, 1})), want: lan},

		{name: "drift: flag", have: private, want: private, meddle: meddle(plan.SetPort{Port: func() plan.Port { p := webPort; p.Bridge, p.Learning = "pb-lab", true; return p }()})},
		{name: "drift: MAC of the endpoint", have: private, want: private, meddle: meddle(plan.SetEndpoint{Port: webPort.Name, Endpoint: plan.Endpoint{Netns: nsWeb, Name: "eth0", MAC: vswitch.MAC{2, 0, 0, 0, 0, 9}, MTU: 1500}})},
		{name: "drift: address lost", have: all(lan, web), want: all(lan, web), meddle: meddle(plan.DeleteAddress{At: at, Address: webPort.Endpoint.Addresses[0]})},
		{name: "drift: route lost", have: all(lan, web), want: all(lan, web), meddle: meddle(plan.DeleteRoute{At: at, Route: webPort.Endpoint.Routes[0]})},
		{name: "drift: MTU too small for IPv6", have: all(lan, web), want: all(lan, web), meddle: meddle(plan.SetEndpoint{Port: webPort.Name, Endpoint: plan.Endpoint{Netns: nsWeb, Name: "eth0", MTU: 1000}})},
		{name: "drift: port out of its bridge", have: private, want: private, meddle: meddle(plan.ReleasePort{Name: webPort.Name})},
		{name: "drift: FDB entry lost", have: private, want: private, meddle: meddle(plan.DeleteFDB{Port: webPort.Name, MAC: webPort.FDB[0]})},
		{name: "drift: bridge MTU", have: private, want: private, meddle: meddle(plan.SetBridge{Bridge: plan.Bridge{Name: "pb-lab", MTU: 1400, Alias: vswitch.Alias("bridge", "lab", "")}})},
		{name: "drift: bridge gone", have: private, want: private, meddle: meddle(plan.DeleteBridge{Name: "pb-lab"})},
		{name: "drift: bridge made by another hand", want: switchOf("lab"), meddle: func(_ *testing.T, host *kernel.Fake) {
			host.AddNetdev(kernel.Netdev{Name: "pb-lab", Kind: "bridge", MTU: 1500, Ethernet: true})
		}},
		{name: "drift: rules flushed", have: lan, want: lan, meddle: meddle(plan.SetRules{Remove: plan.Rules{Base: true}})},
		{name: "drift: endpoint down", have: all(lan, web), want: all(lan, web), meddle: func(_ *testing.T, host *kernel.Fake) { host.SetNetdevDown(nsWeb, "eth0") }},
		{name: "drift: endpoint renamed", have: private, want: private, meddle: func(_ *testing.T, host *kernel.Fake) { host.RenameNetdev(nsWeb, "eth0", "lan0") }},
		{name: "detach of a tap whose bridge is gone", have: all(switchOf("lab"), adopted("lab", "tap0")), meddle: meddle(plan.DeleteBridge{Name: "pb-lab"})},
		{name: "detach of a renamed endpoint", have: private, want: switchOf("lab"), meddle: func(_ *testing.T, host *kernel.Fake) { host.RenameNetdev(nsWeb, "eth0", "lan0") }},
		{name: "detach without a path to the namespace", have: private, want: switchOf("lab"), meddle: func(_ *testing.T, host *kernel.Fake) { host.UnmountNetns(nsWeb) }},
		{name: "detach after the namespace ended", have: private, want: switchOf("lab"), meddle: func(_ *testing.T, host *kernel.Fake) { host.RemoveNetns(nsWeb) }},
		{
			name: "endpoints swap namespaces",
			have: all(switchOf("lan"), guestOn("lan", "web"), guestOn("lan", "db")),
			want: all(switchOf("lan"), guestOn("lan", "web", func(p *plan.Port) { p.Endpoint.Netns = nsDB }), guestOn("lan", "db", func(p *plan.Port) { p.Endpoint.Netns = nsWeb })),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := newHost()
			reach(t, host, c.have, plan.State{})
			if c.meddle != nil {
				c.meddle(t, host)
			}
			todo := steps(t, host, c.want, c.have)
			reach(t, host, c.want, c.have)
			golden(t, "diff/"+strings.NewReplacer(" ", "-", ":", "").Replace(c.name), "# plan\n"+words(todo)+"\n# kernel afterwards\n"+host.String())
		})
	}
}

// TestDiffFixedPoint holds without any kernel: a state needs nothing to become
// itself.
func TestDiffFixedPoint(t *testing.T) {
	for name, s := range namedStates() {
		if todo := plan.Diff(s, s); len(todo) != 0 {
			t.Errorf("%s:\n%s", name, words(todo))
		}
	}
}

func TestUnion(t *testing.T) {
	a := all(switchOf("lan"), guestOn("lan", "web", addressed("10.0.0.2/24"), routed("0.0.0.0/0", "10.0.0.1")), guarded("web", vswitch.MAC{2}))
	b := all(withMTU(switchOf("lan"), 9000), guestOn("lan", "web", addressed("10.0.0.3/24"), routed("10.9.0.0/16", "10.0.0.1")), switchOf("lab"))
	got := plan.Union(a, b)

	if len(got.Bridges) != 2 || got.Bridges["pb-lan"].MTU != 1500 {
		t.Errorf("bridges: %v; want both, pb-lan as the first has it", got.Bridges)
	}
	e := got.Ports[portName("web")].Endpoint
	if len(e.Addresses) != 2 || len(e.Routes) != 2 {
		t.Errorf("endpoint has %d addresses and %d routes; want those of both", len(e.Addresses), len(e.Routes))
	}
	if len(got.Rules.Guard) != 1 || !got.Rules.Base {
		t.Errorf("rules: %+v", got.Rules)
	}
	if n := len(a.Ports[portName("web")].Endpoint.Addresses); n != 1 {
		t.Errorf("Union changed its argument: %d addresses", n)
	}
	if !plan.Union(plan.State{}, plan.State{}).Empty() {
		t.Error("the union of nothing is not empty")
	}
}
