package engine_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// A switch whose uplink is shared goes onto a team, and back, while the host's port becomes a
// mirror source with limits and a minimum; killed anywhere, Restore ends it.
func TestSharesMoveOntoATeam(t *testing.T) {
	t.Parallel()
	for _, mode := range []vswitch.TeamMode{vswitch.TeamActiveStandby, vswitch.TeamActiveActive} {
		for at := 0; ; at++ {
			ctx := context.Background()
			l := teamLab(t)
			l.kernel.SetSpeed("nic0", 1000)
			l.kernel.SetSpeed("nic1", 1000)
			l.kernel.SetSpeed("nic2", 1000)
			pristine := l.kernel.String()
			l.sharedWAN("")
			team := teamOf("nic1", "nic2")
			team.Mode = mode
			l.mustTeam(team)
			l.mustAttach(promised(0, weight(49)))
			one := mirroring(1, vswitch.MirrorDestination)
			one.Switch = "wan"
			l.mustAttach(one)
			policy := limitedTo(10e6, 1e9)
			policy.Bandwidth.Min = weight(50).Bandwidth.Min
			policy.Mirror = ptr(vswitch.MirrorSource)
			change := engine.SwitchChange{Uplink: ptr("team0"), HostPolicy: &policy}
			l.kernel.DieAt(at)
			killed := dies(func() error {
				_, err := l.SetSwitch(ctx, "wan", change)
				return err
			})
			l.kernel.Revive()
			l.open()
			if at > 0 {
				if _, err := l.Restore(ctx, engine.RestoreRequest{}); err != nil {
					t.Error(err)
				}
				l.wantSound()
			}
			_, err := l.SetSwitch(ctx, "wan", change)
			must(t, err)
			l.wantSound()
			l.wantParts("on the team", "nic1 *:10.0 nic1 :500.0 nic1 0:490.0 nic2 *:10.0 nic2 :500.0 nic2 0:490.0")
			back := limitedTo(0, 0)
			back.Bandwidth.Min = weight(0).Bandwidth.Min
			back.Mirror = ptr(vswitch.MirrorNone)
			_, err = l.SetSwitch(ctx, "wan", engine.SwitchChange{Uplink: ptr("nic0"), HostPolicy: &back})
			must(t, err)
			l.wantParts("back", "nic0 *:20.0 nic0 0:980.0")
			l.wantSound()
			l.mustDetach(0)
			l.mustDetach(1)
			must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan"}))
			must(t, l.DeleteTeam(ctx, "team0", false))
			l.wantClean(pristine)
			if t.Failed() {
				t.Fatalf("%s killed at step %d", mode, at)
			}
			if at > 0 && !killed {
				if at < 5 {
					t.Error("it was hardly ever killed")
				}
				break
			}
		}
	}
}

// between does something once, before the nth plan that the kernel carries out.
type between struct {
	*kernel.Fake
	left int
	do   func()
}

func (b *between) Apply(ctx context.Context, steps []plan.Step) error {
	if b.left--; b.left == 0 {
		b.do()
	}
	return b.Fake.Apply(ctx, steps)
}

// A port may leave while its switch goes to another uplink: it needs no lock of that. Neither
// uplink keeps what it should not have.
func TestDetachWhileTheUplinkMoves(t *testing.T) {
	for at := 1; ; at++ {
		l := newLab(t)
		l.kernel.SetSpeed("nic0", 1000)
		l.kernel.SetSpeed("nic1", 1000)
		l.sharedWAN("")
		for i := range 2 {
			l.mustAttach(promised(i, weight(99)))
		}
		k := &between{Fake: l.kernel, left: at, do: func() { l.mustDetach(1) }}
		_, err := l.engineOn(k).SetSwitch(context.Background(), "wan", engine.SwitchChange{Uplink: ptr("nic1"), HostPolicy: ptr(weight(100))})
		must(t, err)
		if k.left > 0 {
			if at < 2 {
				t.Error("nobody has left meanwhile")
			}
			return
		}
		l.wantParts(fmt.Sprintf("left before plan %d", at), "nic1 *:5.0 nic1 :500.0 nic1 0:495.0")
		l.wantHealthy()
		if t.Failed() {
			return
		}
	}
}

// Nor while the team that is its uplink gets other members.
func TestDetachWhileMembersChange(t *testing.T) {
	for at := 1; ; at++ {
		l := teamLab(t)
		l.kernel.SetSpeed("nic1", 1000)
		l.mustTeam(teamOf("nic1", "nic2"))
		l.mustAdd(wanOn("team0"))
		for i := range 2 {
			l.mustAttach(promised(i, weight(99)))
		}
		k := &between{Fake: l.kernel, left: at, do: func() { l.mustDetach(1) }}
		_, err := l.engineOn(k).SetTeam(context.Background(), "team0", engine.TeamChange{Members: &[]string{"nic2", "nic3"}})
		must(t, err)
		if k.left > 0 {
			if at < 2 {
				t.Error("nobody has left meanwhile")
			}
			return
		}
		l.wantParts(fmt.Sprintf("left before plan %d", at), "nic2 *:10.0 nic2 0:990.0 nic3 *:10.0 nic3 0:990.0")
		l.wantSound()
		if t.Failed() {
			return
		}
	}
}
