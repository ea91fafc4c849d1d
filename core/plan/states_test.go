package plan_test

import (
	"context"
	"flag"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	nsWeb = "/run/netns/web"
	nsDB  = "/run/netns/db"
)

// newHost is a host with a NIC, a tap and two containers' namespaces.
func newHost() *kernel.Fake {
	return kernel.NewFake(kernel.FakeConfig{
		Netdevs: []kernel.Netdev{
			{Name: "nic0", MAC: vswitch.MAC{0x52, 0x54, 0, 0, 0, 1}, MTU: 1500, MaxMTU: 9000, Up: true, Carrier: true, Ethernet: true, Speed: 10_000},
			{Name: "tap0", Kind: "tun", MAC: vswitch.MAC{0x52, 0x54, 0, 0, 0, 2}, MTU: 1500, Up: true, Ethernet: true},
		},
		Capabilities: kernel.Capabilities{PortLocked: true, VLANFiltering: true, BridgeRules: true, GuardRules: true, NAT: true, PriorityReset: true, Limits: true, Shares: true, Mirroring: true},
		Netns:        []string{nsWeb, nsDB},
	})
}

// switchOf is a switch's bridge.
func switchOf(name string) plan.State {
	b := plan.Bridge{
		Name: vswitch.BridgeName(name), MAC: vswitch.DerivedMAC("bridge", name), MTU: 1500,
		Alias: vswitch.Alias("bridge", name, ""), Up: true,
	}
	return plan.State{Bridges: map[string]plan.Bridge{b.Name: b}}
}

func withMTU(s plan.State, mtu int) plan.State {
	s = clone(s)
	for name, b := range s.Bridges {
		b.MTU = mtu
		s.Bridges[name] = b
	}
	for name, p := range s.Ports {
		p.MTU = mtu
		if p.Endpoint != nil {
			p.Endpoint.MTU = mtu
		}
		s.Ports[name] = p
	}
	return s
}

// hostPort is the host's port on a switch, with the switch's gateway addresses.
func hostPort(name string, gateways ...string) plan.State {
	p := plan.Port{
		Name: vswitch.HostPortSwitchEnd(name), Bridge: vswitch.BridgeName(name), Alias: vswitch.Alias("host", name, ""),
		Group: vswitch.Group(1), MTU: 1500, Up: true, MAC: vswitch.DerivedMAC("port", "host", name), Locked: true,
		FDB: []vswitch.MAC{{0x0a, 0x50, 0x42, 0, 0, 1}},
		Endpoint: &plan.Endpoint{
			Name: vswitch.HostPortName(name), MAC: vswitch.MAC{0x0a, 0x50, 0x42, 0, 0, 1}, MTU: 1500,
			Alias: vswitch.Alias("host", name, ""), Up: true, Addresses: addresses(gateways...),
		},
	}
	return plan.State{Ports: map[string]plan.Port{p.Name: p}}
}

func addresses(prefixes ...string) []plan.Address {
	var all []plan.Address
	for _, p := range prefixes {
		all = append(all, plan.Address{Prefix: netip.MustParsePrefix(p), NoDAD: true})
	}
	return all
}

// guestOn is a container's port on a switch; its namespace is named as it is.
func guestOn(name, container string, edit ...func(*plan.Port)) plan.State {
	mac := vswitch.MAC{0x0a, 0x50, 0x42, 0, 1, container[0]}
	p := plan.Port{
		Name: portName(container), Bridge: vswitch.BridgeName(name), Alias: vswitch.Alias("port", name, "container="+container),
		Group: vswitch.Group(1), MTU: 1500, Up: true, MAC: vswitch.DerivedMAC("port", container), Locked: true,
		FDB:      []vswitch.MAC{mac},
		Endpoint: &plan.Endpoint{Netns: "/run/netns/" + container, Name: "eth0", MAC: mac, MTU: 1500, Up: true},
	}
	for _, e := range edit {
		e(&p)
	}
	return plan.State{Ports: map[string]plan.Port{p.Name: p}}
}

func portName(container string) string { return "pb" + strings.Repeat(container[:1], 13) }

func addressed(prefixes ...string) func(*plan.Port) {
	return func(p *plan.Port) { p.Endpoint.Addresses = addresses(prefixes...) }
}

func routed(dst, gateway string, edit ...func(*vswitch.Route)) func(*plan.Port) {
	r := vswitch.Route{Dst: netip.MustParsePrefix(dst)}
	if gateway != "" {
		r.Gateway = netip.MustParseAddr(gateway)
	}
	for _, e := range edit {
		e(&r)
	}
	return func(p *plan.Port) { p.Endpoint.Routes = append(p.Endpoint.Routes, r) }
}

// adopted is a netdev of somebody else on a switch.
func adopted(name, netdev string, edit ...func(*plan.Port)) plan.State {
	p := plan.Port{Name: netdev, Bridge: vswitch.BridgeName(name), Group: vswitch.Group(1), MTU: 1500, Up: true, Flood: true}
	for _, e := range edit {
		e(&p)
	}
	return plan.State{Ports: map[string]plan.Port{netdev: p}}
}

// limitedTo gives a port limits in bits a second.
func limitedTo(in, out vswitch.Bits) func(*plan.Port) {
	return func(p *plan.Port) {
		p.Limits = plan.Limits{Via: vswitch.ShaperName(p.Name), Alias: vswitch.Alias("limit", "lan", "port="+p.Name)}
		if p.Endpoint == nil {
			p.Limits.Via = "pqtaptaptaptap0"
		}
		p.Limits.To, p.Limits.From = plan.ShapeOf(vswitch.Limit{Max: in}, p.MTU), plan.ShapeOf(vswitch.Limit{Max: out}, p.MTU)
	}
}

// sharedBy has ports share a netdev.
func sharedBy(netdev string, s plan.Sharing) plan.State {
	return plan.State{Shares: map[string]plan.Sharing{netdev: s}}
}

// natOf are the rules and sysctls of an internal switch that masquerades.
func natOf(name string, f plan.Families) plan.State {
	return plan.State{
		Rules: plan.Rules{
			Base: true, Masquerade: map[string]plan.Families{vswitch.HostPortName(name): f},
			Quiet: map[uint32]bool{vswitch.Group(1): true}, Host: map[vswitch.MAC]bool{{0x0a, 0x50, 0x42, 0, 0, 1}: true}, Router: map[uint32]vswitch.MAC{vswitch.Group(1): {0x0a, 0x50, 0x42, 0, 0, 1}},
		},
		Forward: f,
	}
}

// guarded binds a port by a rule instead of the bridge's flag.
func guarded(container string, mac vswitch.MAC) plan.State {
	return plan.State{Rules: plan.Rules{Base: true, Guard: map[string]vswitch.MAC{portName(container): mac}}}
}

// policed keeps things from leaving a port.
func policed(container string, g plan.Guards) plan.State {
	return plan.State{Rules: plan.Rules{GuardBase: true, Guards: map[string]plan.Guards{portName(container): g}}}
}

// all joins states; of an object that several name the first stands.
func all(states ...plan.State) plan.State {
	var joined plan.State
	for _, s := range states {
		joined = plan.Union(joined, clone(s))
	}
	return joined
}

func clone(s plan.State) plan.State {
	s.Bridges, s.Ports = maps.Clone(s.Bridges), maps.Clone(s.Ports)
	for name, p := range s.Ports {
		if p.Endpoint != nil {
			e := *p.Endpoint
			p.Endpoint = &e
		}
		s.Ports[name] = p
	}
	return s
}

// steps is the plan from what the host has of both states to want.
func steps(t testing.TB, host kernel.Kernel, want, have plan.State) []plan.Step {
	t.Helper()
	seen, err := host.Observe(context.Background(), plan.Union(want, have))
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	return plan.Diff(want, seen)
}

// reach brings the host from have to want and fails unless nothing is left to do.
func reach(t testing.TB, host *kernel.Fake, want, have plan.State) {
	t.Helper()
	todo := steps(t, host, want, have)
	if err := host.Apply(context.Background(), todo); err != nil {
		t.Fatalf("apply: %v\nplan:\n%s\nkernel:\n%s", err, words(todo), host)
	}
	arrived(t, host, want, have)
}

// arrived fails if anything of want is missing or anything of have is left over.
func arrived(t testing.TB, host *kernel.Fake, want, have plan.State) {
	t.Helper()
	for _, scope := range []plan.State{plan.Union(want, have), want} {
		seen, err := host.Observe(context.Background(), scope)
		if err != nil {
			t.Fatalf("observe: %v", err)
		}
		if rest := plan.Diff(want, seen); len(rest) != 0 {
			t.Fatalf("the second plan is not empty:\n%s\nkernel:\n%s", words(rest), host)
		}
		if again := plan.Diff(seen, seen); len(again) != 0 {
			t.Fatalf("Diff(s, s) is not empty:\n%s", words(again))
		}
	}
	if gone := left(t, host, want, have); gone != "" {
		t.Fatalf("left over: %s\nkernel:\n%s", gone, host)
	}
}

// left names the first object of have that want does not name and that is there.
func left(t testing.TB, host *kernel.Fake, want, have plan.State) string {
	t.Helper()
	seen, err := host.Observe(context.Background(), have)
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	for name := range seen.Bridges {
		if _, ok := want.Bridges[name]; !ok {
			return "bridge " + name
		}
	}
	for name := range seen.Bonds {
		if _, ok := want.Bonds[name]; !ok {
			return "bond " + name
		}
	}
	for name, p := range seen.Ports {
		if _, ok := want.Ports[name]; ok {
			continue
		}
		if _, member := want.Bonds[p.Bridge]; member {
			continue
		}
		if have.Ports[name].Endpoint != nil || p.Bridge != "" || p.Group != 0 || p.Limits.Any() {
			return "port " + name
		}
	}
	for dev := range seen.Rules.Masquerade {
		if _, ok := want.Rules.Masquerade[dev]; !ok {
			return "masquerade of " + dev
		}
	}
	for dev := range seen.Rules.Guard {
		if _, ok := want.Rules.Guard[dev]; !ok {
			return "guard of " + dev
		}
	}
	for dev := range seen.Rules.Guards {
		if _, ok := want.Rules.Guards[dev]; !ok {
			return "guards of " + dev
		}
	}
	return ""
}

func words(steps []plan.Step) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString(s.String() + "\n")
	}
	return b.String()
}

// golden compares text with testdata/NAME.golden, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run with -update to write it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
