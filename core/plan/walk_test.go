package plan_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// namedStates are states between which any transition must work.
func namedStates() map[string]plan.State {
	var (
		macWeb, macDB = vswitch.MAC{0x0a, 0x50, 0x42, 0, 1, 'w'}, vswitch.MAC{0x0a, 0x50, 0x42, 0, 1, 'd'}
		both          = plan.Families{IPv4: true, IPv6: true}
		lan           = all(switchOf("lan"), hostPort("lan", "10.0.0.1/24", "fd00::1/64"), natOf("lan", both))
		web           = guestOn("lan", "web", addressed("10.0.0.2/24", "fd00::2/64"), routed("0.0.0.0/0", "10.0.0.1"), routed("::/0", "fd00::1"))
		db            = guestOn("lan", "db", addressed("10.0.0.3/24"), routed("0.0.0.0/0", "10.0.0.1", func(r *vswitch.Route) { r.MTU = 1400 }))
	)
	return map[string]plan.State{
		"nothing":           {},
		"private":           all(switchOf("lab"), guestOn("lab", "web"), guestOn("lab", "db")),
		"internal":          lan,
		"internal, one":     all(lan, web),
		"internal, two":     all(lan, web, db),
		"internal, jumbo":   withMTU(all(lan, web, db), 9000),
		"internal, no NAT":  all(switchOf("lan"), hostPort("lan", "10.0.0.254/24", "fd00::1/80"), db),
		"internal, IPv4":    all(switchOf("lan"), hostPort("lan", "10.0.0.1/24"), natOf("lan", plan.Families{IPv4: true})),
		"external":          all(switchOf("ext"), adopted("ext", "nic0"), hostPort("ext"), guestOn("ext", "web")),
		"external, tap":     all(switchOf("ext"), adopted("ext", "nic0"), adopted("ext", "tap0"), guestOn("ext", "db", addressed("10.0.0.3/24"))),
		"uplink on another": all(switchOf("lan"), adopted("lan", "nic0"), switchOf("ext"), adopted("ext", "tap0"), web),
		"spoofing": all(switchOf("lan"), guestOn("lan", "web", func(p *plan.Port) { p.FDB, p.Locked, p.Learning, p.Flood = nil, false, true, true }),
			guarded("db", vswitch.MAC{2, 0, 0, 0, 0, 3}), guestOn("lan", "db")),
		"policies":          all(switchOf("lan"), guestOn("lan", "db"), policed("db", plan.Guards{DHCP: true, Storm: 5})),
		"other policies":    all(switchOf("lan"), guestOn("lan", "db"), policed("db", plan.Guards{Router: true}), policed("web", plan.Guards{DHCP: true})),
		"other guard":       all(switchOf("lan"), guarded("db", vswitch.MAC{2, 0, 0, 0, 0, 4}), guestOn("lan", "db", func(p *plan.Port) { p.Endpoint.Name = "eth1" })),
		"limited":           all(switchOf("lan"), guestOn("lan", "web", limitedTo(10e6, 1e9)), guestOn("lan", "db", limitedTo(0, 1e9)), adopted("lan", "tap0", limitedTo(1e6, 1e6))),
		"limited otherwise": all(switchOf("lan"), guestOn("lan", "web", limitedTo(20e6, 0)), guestOn("lan", "db", limitedTo(0, 2e9)), adopted("lan", "tap0", limitedTo(0, 2e6))),
		"by weight":         all(switchOf("ext"), adopted("ext", "nic0"), guestOn("ext", "web"), sharedBy("nic0", plan.Sharing{Default: 1, Ports: map[vswitch.MAC]uint64{macWeb: 50, macDB: 100}})),
		"by weight, one":    all(switchOf("ext"), adopted("ext", "nic0"), guestOn("ext", "web"), sharedBy("nic0", plan.Sharing{Default: 3, Ports: map[vswitch.MAC]uint64{macDB: 100}})),
		"by rates":          all(switchOf("ext"), adopted("ext", "nic0"), guestOn("ext", "web"), sharedBy("nic0", plan.Sharing{Absolute: true, Ports: map[vswitch.MAC]uint64{macWeb: 2e9, macDB: 3e9}})),
		"by too many":       all(switchOf("ext"), adopted("ext", "nic0"), guestOn("ext", "web"), sharedBy("nic0", plan.Sharing{Absolute: true, Default: 1e6, Ports: map[vswitch.MAC]uint64{macWeb: 2e9, {2, 0, 0, 0, 9, macWeb[5]}: 30e9}})),
		"crossed": all(switchOf("lan"), guestOn("lan", "web", func(p *plan.Port) { p.Endpoint.Netns = nsDB }),
			guestOn("lan", "db", addressed("10.0.0.2/16", "fd00::2/80"), func(p *plan.Port) { p.Endpoint.Netns = nsWeb })),
	}
}

// TestRandomWalk goes from state to state in no order that anybody thought of.
func TestRandomWalk(t *testing.T) {
	states := namedStates()
	names := slices.Sorted(maps.Keys(states))
	random := rand.New(rand.NewPCG(1, 2))
	host, at := newHost(), "nothing"
	for i := range 500 {
		to := names[random.IntN(len(names))]
		ok := t.Run(fmt.Sprintf("%03d from %s to %s", i, at, to), func(t *testing.T) { reach(t, host, states[to], states[at]) })
		if !ok {
			return
		}
		at = to
	}
}

// TestEveryTransitionSurvivesDeath kills the process before each step of each
// transition and lets the next process finish it, or take it all back.
func TestEveryTransitionSurvivesDeath(t *testing.T) {
	eachTransition(t, namedStates(), func(t *testing.T, from, to plan.State) {
		for n := 1; dieAndRecover(t, newHost, from, to, n); n++ {
		}
	})
}

// eachTransition runs a test for the way from every state to every state.
func eachTransition(t *testing.T, states map[string]plan.State, test func(t *testing.T, from, to plan.State)) {
	names := slices.Sorted(maps.Keys(states))
	for _, from := range names {
		for _, to := range names {
			t.Run(from+" to "+to, func(t *testing.T) { test(t, states[from], states[to]) })
		}
	}
}

// dieAndRecover reports whether the plan on a new host had an n-th step to die at.
func dieAndRecover(t *testing.T, newHost func() *kernel.Fake, from, to plan.State, n int) bool {
	t.Helper()
	died := false
	for _, then := range []plan.State{to, from} {
		host := newHost()
		reach(t, host, from, plan.State{})
		host.DieAt(n)
		died = errors.Is(host.Apply(context.Background(), steps(t, host, to, from)), kernel.ErrDied)
		host.Revive()
		have := plan.Union(from, to)
		if !died {
			have = plan.Union(to, from)
		}
		t.Logf("died before step %d", n)
		reach(t, host, then, have)
	}
	return died
}

// TestStepsAreIdempotent carries out every step of every transition twice.
func TestStepsAreIdempotent(t *testing.T) {
	eachTransition(t, namedStates(), func(t *testing.T, from, to plan.State) {
		host := newHost()
		reach(t, host, from, plan.State{})
		for _, step := range steps(t, host, to, from) {
			if err := host.Apply(context.Background(), []plan.Step{step}); err != nil {
				t.Fatal(err)
			}
			switch step.(type) {
			case plan.CreateBridge, plan.CreateVeth:
				continue // EEXIST: what exists may be somebody else's
			}
			once := host.String()
			if err := host.Apply(context.Background(), []plan.Step{step}); err != nil {
				t.Errorf("second time: %v", err)
			}
			if again := host.String(); again != once {
				t.Errorf("%s changes something the second time:\n%s\n%s", step, once, again)
			}
		}
		arrived(t, host, to, from)
	})
}
