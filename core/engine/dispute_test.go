package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// These tests are of handovers that a process was killed in, and what comes next.

// disputes are handovers of nic0, which carries the host, from lan.
func disputes() map[string]engine.ApplyRequest {
	all := handovers()
	all["moved on"] = configured(ext("lan", "nic1", 0), ext("office", "nic0", 0))
	return all
}

// heirOf is the switch that gets nic0.
func heirOf(req engine.ApplyRequest) vswitch.Switch {
	return req.Config.Switches[len(req.Config.Switches)-1]
}

// afterDispute are verbs that somebody may give after a handover was killed.
func afterDispute(req engine.ApplyRequest) map[string]func(*lab) error {
	ctx := context.Background()
	heir := heirOf(req)
	set := func(name string) func(*lab) error {
		return func(l *lab) error {
			_, err := l.SetSwitch(ctx, name, engine.SwitchChange{Notes: ptr("changed")})
			return err
		}
	}
	add := func(s vswitch.Switch) func(*lab) error {
		return func(l *lab) error {
			_, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: s})
			return err
		}
	}
	apply := func(prune bool, switches ...vswitch.Switch) func(*lab) error {
		return func(l *lab) error {
			req := configured(switches...)
			req.Prune = prune
			_, err := l.Apply(ctx, req)
			return err
		}
	}
	del := func(name string) func(*lab) error {
		return func(l *lab) error { return l.deleteSwitch(engine.DeleteSwitchRequest{Name: name}) }
	}
	attach := func(name string) func(*lab) error {
		return func(l *lab) error {
			if _, err := l.Attach(ctx, engine.AttachRequest{Owner: owner(0), Switch: name}); err != nil {
				return err
			}
			l.mustDetach(0)
			return nil
		}
	}
	return map[string]func(*lab) error{
		"old set": set("lan"), "new set": set(heir.Name),
		"old added": add(lan(true)), "new added": add(heir),
		"old alone applied": apply(false, lan(true)), "new alone applied": apply(false, heir),
		"something else applied": apply(false, vswitch.Switch{Name: "lan", Type: vswitch.Internal}, heir),
		"same applied":           apply(req.Prune, req.Config.Switches...), "new alone applied with prune": apply(true, heir),
		"old alone applied with prune": apply(true, lan(true)),
		"unrelated added":              add(vswitch.Switch{Name: "other", Type: vswitch.Private}),
		"attached to old":              attach("lan"), "attached to new": attach(heir.Name),
		"old deleted": del("lan"), "new deleted": del(heir.Name),
		"kept": kept, "restored": restored,
		"rebooted": func(l *lab) error {
			l.reboot()
			l.kernel.SetAddressing("nic0", hostThings())
			return restored(l)
		},
	}
}

// kept has a daemon look at everything.
func kept(l *lab) error {
	l.keep().stop()
	l.open()
	return nil
}

func restored(l *lab) error {
	report, err := l.Restore(context.Background(), engine.RestoreRequest{})
	if len(report.Failed) > 0 {
		return fmt.Errorf("restore: %+v", report.Failed)
	}
	return err
}

// wantHostWhole fails unless the host has everything on one netdev, by which it reaches the network.
func (l *lab) wantHostWhole() {
	l.t.Helper()
	whole := 0
	netdevs, err := l.kernel.Netdevs(context.Background())
	must(l.t, err)
	for _, n := range netdevs {
		netdev, got := n.Name, l.on(n.Name)
		if len(got) == 0 {
			continue
		}
		if n.Master != "" {
			l.t.Errorf("the host has %d things on %s, which %s has", len(got), netdev, n.Master)
		}
		if len(got) == len(hostThings().Items) {
			whole++
		} else {
			l.t.Errorf("%s has only %v", netdev, got)
		}
	}
	if whole != 1 {
		l.t.Errorf("the host is whole on %d netdevs", whole)
	}
}

// Killed at any step of a handover, whatever comes next loses nothing of the host, and
// ends what was begun. Each of what may come next follows every third step.
func TestAnythingAfterAKilledHandover(t *testing.T) {
	t.Parallel()
	for name, req := range disputes() {
		verbs := afterDispute(req)
		for i, next := range slices.Sorted(maps.Keys(verbs)) {
			verb := verbs[next]
			t.Run(name+", then "+next, func(t *testing.T) {
				t.Parallel()
				for n := 1 + i%3; ; n += 3 {
					l := carrying(t)
					pristine := l.kernel.String()
					l.mustAdd(lan(true))
					if !l.killed(n, func() error { _, err := l.Apply(context.Background(), req); return err }) {
						return
					}
					err := verb(l)
					refused := errors.Is(err, vswitch.NotFound) || errors.Is(err, vswitch.Conflict) || errors.Is(err, vswitch.UplinkInUse)
					if !refused {
						must(t, err)
					}
					if refused || strings.Contains(next, "unrelated") {
						must(t, restored(l))
					}
					l.wantHostWhole()
					l.wantHealthy()
					if t.Failed() {
						t.Fatalf("killed before step %d (%v):\n%s", n, err, l.kernel)
					}
					l.allGone()
					if diff := cmp.Diff(pristine, l.kernel.String()); diff != "" && name != "moved on" && next != "rebooted" {
						t.Fatalf("killed before step %d, with all gone (-want +got):\n%s", n, diff)
					}
				}
			})
		}
	}
}

// The same of teams, and each after every fourth step.
func TestAnythingAfterAKilledWayThroughTeams(t *testing.T) {
	t.Parallel()
	ways := teamWays()
	set := func(name string) func(*lab) error {
		return func(l *lab) error {
			_, err := l.SetSwitch(context.Background(), name, engine.SwitchChange{Notes: ptr("changed")})
			return err
		}
	}
	for _, name := range append(sweptWays(), "switch instead of team", "another team with a switch") {
		c := ways[name]
		verbs := map[string]func(*lab) error{"wan set": set("wan"), "lan set": set("lan"), "kept": kept, "restored": restored}
		for i, next := range slices.Sorted(maps.Keys(verbs)) {
			verb := verbs[next]
			t.Run(name+", then "+next, func(t *testing.T) {
				t.Parallel()
				for n := 1 + i; ; n += 4 {
					l := teamCarrying(t)
					pristine := l.kernel.String()
					must(t, c.before(l))
					if !l.killed(n, func() error { return c.verb(l) }) {
						return
					}
					if err := verb(l); err != nil && !errors.Is(err, vswitch.NotFound) {
						t.Errorf("%v", err)
					}
					must(t, restored(l))
					l.wantHostWhole()
					l.wantHealthy()
					l.wantHostHome(pristine)
					if t.Failed() {
						t.Fatalf("killed before step %d", n)
					}
				}
			})
		}
	}
}

// A NIC that has gone since the process was killed keeps nobody from ending the rest: the host
// comes to the switch that gets its NIC.
func TestKilledHandoverWithoutOneOfTheNICs(t *testing.T) {
	t.Parallel()
	set := func(name string) func(*lab) error {
		return func(l *lab) error {
			_, err := l.SetSwitch(context.Background(), name, engine.SwitchChange{Notes: ptr("changed")})
			return err
		}
	}
	for name, next := range map[string]func(*lab) error{
		"restored": func(l *lab) error { _, err := l.Restore(context.Background(), engine.RestoreRequest{}); return err },
		"kept":     kept, "old set": set("lan"), "new set": set("office"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				l := carrying(t)
				l.mustAdd(lan(true))
				l.mustAdd(ext("office", "nic1", 0))
				if !l.killed(n, func() error {
					_, err := l.Apply(context.Background(), configured(vswitch.Switch{Name: "lan", Type: vswitch.Internal}, ext("office", "nic0", 0), ext("wan", "nic1", 0)))
					return err
				}) {
					return
				}
				l.kernel.RemoveNetdev("nic1")
				must(t, next(l))
				l.wantHostWhole()
				l.wantHostOn(vswitch.HostPortName("office"), "nic0", vswitch.HostPortName("lan"))
				if nic, err := l.kernel.Netdev(context.Background(), "nic0"); err != nil || nic.Master != vswitch.BridgeName("office") {
					t.Errorf("nic0 is in %q, %v", nic.Master, err)
				}
				if t.Failed() {
					t.Fatalf("killed before step %d:\n%s", n, l.kernel)
				}
			}
		})
	}
}
