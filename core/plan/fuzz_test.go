package plan_test

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// FuzzDiff goes from nothing to one state, lets a stranger meddle, dies on the
// way to another state, starts again, and gets there; then there is nothing left
// to do and nothing left over.
func FuzzDiff(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1})
	f.Add([]byte("two states that share most of their names, one longer than the other by a route"))
	f.Fuzz(journey)
}

// TestJourneys is FuzzDiff with longer inputs than a fuzzer comes to by itself.
func TestJourneys(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 2000 {
		data := make([]byte, 60+random.IntN(240))
		for j := range data {
			data[j] = byte(random.Uint32())
		}
		if !t.Run(strconv.Itoa(i), func(t *testing.T) { journey(t, data) }) {
			t.Logf("input: %q", data)
			return
		}
	}
}

func journey(t *testing.T, data []byte) {
	g := generator{bytes: data}
	a, b := g.state(), g.state()
	host := newHost()
	reach(t, host, a, plan.State{})
	g.meddle(host, a)
	todo := steps(t, host, b, a)
	if n := g.pick(len(todo) + 1); n > 0 {
		host.DieAt(n)
		if err := host.Apply(context.Background(), todo); err == nil {
			t.Fatalf("the host survived step %d of %d", n, len(todo))
		}
		host.Revive()
	}
	reach(t, host, b, plan.Union(a, b))
}

// generator makes valid states out of bytes: few names, so that they collide.
type generator struct{ bytes []byte }

// pick returns a number below n; 0 once the bytes are used up.
func (g *generator) pick(n int) int {
	if len(g.bytes) == 0 {
		return 0
	}
	b := g.bytes[0]
	g.bytes = g.bytes[1:]
	return int(b) % n
}

func (g *generator) maybe() bool { return g.pick(2) == 1 }

func oneOf[T any](g *generator, values ...T) T { return values[g.pick(len(values))] }

// taken keeps apart what one state must not name twice.
type taken struct {
	endpoints map[[2]string]bool
	macs      map[vswitch.MAC]bool
	routes    map[string]map[plan.RouteID]bool // by namespace
}

func (g *generator) state() plan.State {
	s := plan.State{Bridges: map[string]plan.Bridge{}, Ports: map[string]plan.Port{}}
	var bridges []string
	for _, name := range []string{"pb-a", "pb-b"} {
		if !g.maybe() {
			continue
		}
		bridges = append(bridges, name)
		s.Bridges[name] = plan.Bridge{
			Name: name, MAC: oneOf(g, vswitch.MAC{0x0e, 1}, vswitch.MAC{0x0e, 2}), MTU: oneOf(g, 1500, 9000),
			Alias: vswitch.Alias("bridge", name, oneOf(g, "", "again")), Up: true,
		}
	}
	if len(bridges) > 0 {
		used := taken{map[[2]string]bool{}, map[vswitch.MAC]bool{}, map[string]map[plan.RouteID]bool{}}
		for _, name := range []string{"pb1", "pb2", "pb3", "nic0", "tap0"} {
			if g.maybe() {
				p := g.port(name, bridges, used)
				s.Ports[name] = p
			}
		}
	}
	if g.maybe() {
		s.Rules = g.rules()
	}
	s.Forward = plan.Families{IPv4: g.maybe(), IPv6: g.maybe()}
	if g.maybe() {
		s.Shares = map[string]plan.Sharing{"nic0": {Absolute: g.maybe(), Default: oneOf[uint64](g, 1, 50), Ports: map[vswitch.MAC]uint64{
			{2, 0, 0, 0, 0, byte(g.pick(3))}: oneOf[uint64](g, 10, 100), {2, 0, 0, 0, 1, 9}: oneOf[uint64](g, 10, 8e9),
		}}}
	}
	return s
}

func (g *generator) port(name string, bridges []string, used taken) plan.Port {
	p := plan.Port{
		Name: name, Bridge: oneOf(g, bridges...), Group: vswitch.Group(uint16(g.pick(2))), MTU: oneOf(g, 1500, 9000), Up: true,
		Learning: g.maybe(), Flood: g.maybe(), Locked: g.maybe(),
	}
	if mac := (vswitch.MAC{2, 0, 0, 0, 0, byte(g.pick(3))}); !used.macs[mac] {
		used.macs[mac] = true
		p.FDB = []vswitch.MAC{mac}
	}
	if name == "nic0" || name == "tap0" {
		return p
	}
	at := [2]string{oneOf(g, "", nsWeb, nsDB), oneOf(g, "eth0", "eth1")}
	if used.endpoints[at] {
		at[1] = "eth-" + name
	}
	used.endpoints[at] = true
	p.MAC = oneOf(g, vswitch.MAC{0x0e, 3}, vswitch.MAC{0x0e, 4})
	p.Alias = vswitch.Alias("port", p.Bridge, name)
	p.Endpoint = &plan.Endpoint{
		Netns: at[0], Name: at[1], MAC: vswitch.MAC{2, 0, 0, 0, 1, byte(g.pick(2))},
		MTU: oneOf(g, 1500, 9000, 1000), Alias: oneOf(g, "", "patchbay:x"), Up: true,
	}
	g.addresses(p.Endpoint)
	if used.routes[at[0]] == nil {
		used.routes[at[0]] = map[plan.RouteID]bool{}
	}
	g.routes(p.Endpoint, used.routes[at[0]])
	return p
}

func (g *generator) addresses(e *plan.Endpoint) {
	for range g.pick(4) {
		p := netip.MustParsePrefix(oneOf(g, "10.0.0.2/24", "10.0.0.3/24", "10.0.0.2/16", "10.1.0.2/24", "fd00::2/64", "fd00::2/80", "fd01::2/64"))
		clash := slices.ContainsFunc(e.Addresses, func(a plan.Address) bool {
			return a.Prefix == p || p.Addr().Is6() && a.Prefix.Addr() == p.Addr()
		})
		if !clash && (p.Addr().Is4() || e.MTU >= vswitch.MinIPv6MTU) {
			e.Addresses = append(e.Addresses, plan.Address{Prefix: p, NoDAD: g.maybe()})
		}
	}
}

func (g *generator) routes(e *plan.Endpoint, used map[plan.RouteID]bool) {
	type route struct{ dst, gateway string }
	table, scope := 100, 253
	for range g.pick(4) {
		from := oneOf(g, route{"0.0.0.0/0", "10.0.0.1"}, route{"10.9.0.0/16", ""}, route{"10.9.0.0/16", "10.1.0.1"},
			route{"::/0", "fd00::1"}, route{"fd09::/64", "fe80::1"}, route{"fd09::/64", ""})
		r := vswitch.Route{Dst: netip.MustParsePrefix(from.dst), MTU: oneOf(g, 0, 1400), Priority: oneOf(g, 0, 7), Table: oneOf(g, nil, &table)}
		if from.gateway != "" {
			r.Gateway = netip.MustParseAddr(from.gateway)
		} else {
			r.Scope = oneOf(g, nil, &scope)
		}
		reachable := !r.Gateway.IsValid() || r.Gateway.IsLinkLocalUnicast() ||
			slices.ContainsFunc(e.Addresses, func(a plan.Address) bool { return a.Prefix.Contains(r.Gateway) })
		if id := plan.RouteKey(r); reachable && !used[id] && (r.Dst.Addr().Is4() || e.MTU >= vswitch.MinIPv6MTU) {
			used[id] = true
			e.Routes = append(e.Routes, r)
		}
	}
}

func (g *generator) rules() plan.Rules {
	r := plan.Rules{
		Base: true, Masquerade: map[string]plan.Families{}, Quiet: map[uint32]bool{},
		Router: map[uint32]vswitch.MAC{}, Host: map[vswitch.MAC]bool{}, Guard: map[string]vswitch.MAC{},
	}
	for i, dev := range []string{"pb1", "pb2"} {
		if f := (plan.Families{IPv4: g.maybe(), IPv6: g.maybe()}); f != (plan.Families{}) {
			r.Masquerade[dev] = f
		}
		if g.maybe() {
			r.Quiet[vswitch.Group(uint16(i))] = true
		}
		if g.maybe() {
			r.Host[vswitch.MAC{2, byte(i), byte(g.pick(2))}] = true
			r.Router[vswitch.Group(uint16(i))] = vswitch.MAC{2, byte(g.pick(2))}
		}
		if g.maybe() {
			r.Guard[dev] = vswitch.MAC{2, byte(g.pick(2))}
		}
	}
	return r
}

// meddle does to the host what others do to it.
func (g *generator) meddle(host *kernel.Fake, s plan.State) {
	bridge := oneOf(g, "pb-a", "pb-b")
	port := oneOf(g, "pb1", "pb2", "pb3")
	at := [2]string{oneOf(g, "", nsWeb, nsDB), oneOf(g, "eth0", "eth1")}
	var step plan.Step
	switch g.pick(11) {
	case 0:
		return
	case 1:
		step = plan.DeleteBridge{Name: bridge}
	case 2:
		step = plan.DeleteNetdev{Name: port}
	case 3:
		step = plan.ReleasePort{Name: port}
	case 4:
		step = plan.SetRules{Remove: plan.Rules{Base: true}}
	case 5:
		host.SetNetdevDown(at[0], at[1])
	case 6:
		host.RenameNetdev(at[0], at[1], "stray")
	case 7:
		host.UnmountNetns(nsWeb) // and another container gets the path
		host.AddNetns(nsWeb)
	case 8:
		host.RemoveNetns(nsDB)
		host.AddNetns(nsDB)
	case 9:
		host.DropShares("nic0")
	case 10:
		host.SetSpeed("nic0", oneOf(g, 0, 100))
	}
	if step != nil {
		_ = host.Apply(context.Background(), []plan.Step{step})
	}
	if p := s.Ports[port]; p.Endpoint != nil && g.maybe() {
		e := *p.Endpoint
		e.MTU, e.MAC = 1000, vswitch.MAC{2, 9}
		_ = host.Apply(context.Background(), []plan.Step{plan.SetEndpoint{Port: port, Endpoint: e}})
	}
}
