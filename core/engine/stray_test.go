package engine_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// strayDHCP is what a DHCP client puts on a NIC of a switch.
func strayDHCP() plan.Addressing {
	items := hostThings().Items
	return plan.Addressing{Items: []plan.Item{items[1], items[8]}} // an address and its default route
}

// What somebody configures on an uplink is told, in the log and in status, and not moved
// unasked; where the switch is closed too, and on a team's member.
func TestStraysAreTold(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		make  func(*lab) error
		on    string
		words []string
	}{
		"open": {func(l *lab) error {
			_, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: lan(true)})
			return err
		}, "nic0", []string{"nic0", "10.1.0.5/24", "patchbay switch add lan --uplink nic0", "pbh-lan"}},
		"closed": {func(l *lab) error {
			_, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: lan(false)})
			return err
		}, "nic0", []string{"nic0", "closed", "ip addr flush dev nic0", "--host-access"}},
		"member": {func(l *lab) error {
			_, err := l.AddTeam(ctx, teamOf("nic1", "nic2"))
			must(l.t, err)
			_, err = l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: ext("lan", "team0", 0)})
			return err
		}, "nic2", []string{"nic2", "10.1.0.5/24", "patchbay switch add lan --uplink team0"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := teamLab(t)
			must(t, c.make(l))
			k := l.keep()
			before, _ := k.logged()
			l.kernel.SetAddressing(c.on, strayDHCP())
			k.await(before, append([]string{"the host is not where it should be"}, c.words...)...)
			if got := l.on(c.on); len(got) != 2 {
				t.Errorf("on %s is %v", c.on, got)
			}
			s, err := l.Status(ctx)
			must(t, err)
			if len(s.Problems) != 1 || s.Problems[0].Kind != vswitch.Drifted {
				t.Fatalf("status: %+v", s.Problems)
			}
			for _, w := range c.words {
				if !strings.Contains(s.Problems[0].Message+s.Problems[0].Hint, w) {
					t.Errorf("%q is not in %+v", w, s.Problems[0])
				}
			}
		})
	}
}

// A failed move of strays leaves them where they were.
func TestFailedMoveOfStraysIsUndone(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		l := newLab(t)
		l.mustAdd(lan(true))
		l.kernel.SetAddressing("nic0", hostThings())
		before := l.picture()
		l.kernel.FailAt(n, context.DeadlineExceeded)
		_, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: lan(true)})
		l.kernel.FailAt(0, nil)
		if err == nil {
			l.wantHostOn("pbh-lan", "nic0")
			return
		}
		if got := l.picture(); got != before {
			t.Fatalf("step %d left:\n%s\nwant\n%s", n, got, before)
		}
	}
}

func TestStatusFindsTheNICRenamed(t *testing.T) {
	l := carrying(t)
	l.mustAdd(lan(true))
	l.kernel.RenameNetdev("", "nic0", "nic9")
	s, err := l.Status(context.Background())
	must(t, err)
	if len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Message, "nic9") || !strings.Contains(s.Problems[0].Hint, "`ip link set nic9 name nic0`") {
		t.Errorf("status: %+v", s.Problems)
	}
}

// A killed handover, and then the old switch is deleted: the host is on the port of the
// new one, or at home, and whole.
func TestOldSwitchDeletedAfterAKilledHandover(t *testing.T) {
	t.Parallel()
	for name, req := range handovers() {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				l := carrying(t)
				pristine := l.kernel.String()
				l.mustAdd(lan(true))
				if !l.killed(n, func() error { _, err := l.Apply(context.Background(), req); return err }) {
					return
				}
				if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}); err != nil {
					t.Fatalf("killed before step %d, then: %v", n, err)
				}
				whole := 0
				if len(l.on("nic0")) > 0 && strings.Contains(l.kernel.String(), "nic0: 52:54:00:00:00:01 mtu 1500 up master") {
					t.Error("the host is on a NIC that a switch has")
				}
				for _, netdev := range []string{"nic0", "pbh-alpha", "pbh-office"} {
					if got := l.on(netdev); len(got) == len(hostThings().Items) {
						whole++
					} else if len(got) > 0 {
						t.Errorf("killed before step %d: %s has %v", n, netdev, got)
					}
				}
				if whole != 1 {
					t.Errorf("killed before step %d: the host is whole on %d netdevs", n, whole)
				}
				l.allGone()
				if diff := cmp.Diff(pristine, l.kernel.String()); diff != "" {
					t.Errorf("with all gone (-want +got):\n%s", diff)
				}
				if t.Failed() {
					t.Fatalf("killed before step %d:\n%s", n, l.kernel)
				}
			}
		})
	}
}
