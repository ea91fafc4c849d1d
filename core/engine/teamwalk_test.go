package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// teamWalk does verbs on two teams, a switch and its guests in any order, with links that
// come and go, and is killed now and then.
type teamWalk struct {
	*lab
	random *rand.Rand
}

// TestTeamWalk walks about; at the end everything can be taken away, whatever happened.
func TestTeamWalk(t *testing.T) {
	for seed := range uint64(12) {
		l := teamLab(t)
		pristine := l.kernel.String()
		w := &teamWalk{lab: l, random: rand.New(rand.NewPCG(seed, 4))}
		var done []string
		for range 30 {
			done = append(done, w.step())
			if t.Failed() {
				t.Fatalf("seed %d: %v", seed, done)
			}
		}
		for _, nic := range []string{"nic1", "nic2", "nic3"} {
			l.kernel.SetCarrier(nic, true)
		}
		l.allAway()
		if err := l.DeleteTeam(context.Background(), "team1", true); err != nil && !errors.Is(err, vswitch.NotFound) {
			t.Error(err)
		}
		l.wantClean(pristine)
		if t.Failed() {
			t.Fatalf("seed %d: %v", seed, done)
		}
	}
}

func (w *teamWalk) pick(from ...string) string { return from[w.random.IntN(len(from))] }

// step does one thing, half of the time with a process that is killed in it. What the
// host or a definition does not allow is refused; nothing else may go wrong.
func (w *teamWalk) step() (what string) {
	ctx := context.Background()
	var verb func() error
	team := w.pick("team0", "team1")
	switch w.random.IntN(8) {
	case 0, 1:
		t := vswitch.Team{Name: team, Members: w.members(), Mode: vswitch.TeamModes()[w.random.IntN(4)]}
		t.Standby = w.standby(t.Mode, t.Members)
		what = fmt.Sprintf("add %s %s %v standby %s", team, t.Mode, t.Members, t.Standby)
		verb = func() error { _, err := w.AddTeam(ctx, t); return err }
	case 2:
		members, mode := w.members(), vswitch.TeamModes()[w.random.IntN(4)]
		standby := w.standby(mode, members)
		what = fmt.Sprintf("set %s %s %v standby %s", team, mode, members, standby)
		verb = func() error {
			_, err := w.SetTeam(ctx, team, engine.TeamChange{Members: &members, Mode: &mode, Standby: &standby})
			return err
		}
	case 3:
		force := w.random.IntN(2) == 0
		what = "delete " + team
		verb = func() error { return w.DeleteTeam(ctx, team, force) }
	case 4:
		uplink := w.pick("team0", "team1", "nic1", "nic2")
		what = "switch on " + uplink
		verb = func() error {
			_, err := w.AddSwitch(ctx, engine.AddSwitchRequest{Switch: wanOn(uplink)})
			if errors.Is(err, vswitch.Conflict) {
				_, err = w.SetSwitch(ctx, "wan", engine.SwitchChange{Uplink: &uplink, Yes: true})
			}
			return err
		}
	case 5:
		what = "switch delete"
		verb = func() error { return w.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan", Force: true}) }
	case 6:
		nic, on := w.pick("nic1", "nic2", "nic3"), w.random.IntN(2) == 0
		w.kernel.SetCarrier(nic, on)
		return "link of " + nic
	default:
		what = "attach"
		verb = func() error {
			_, err := w.Attach(ctx, engine.AttachRequest{Owner: owner(w.random.IntN(3)), Switch: "wan"})
			return err
		}
	}
	if w.random.IntN(2) == 0 {
		w.kernel.DieAt(1 + w.random.IntN(6))
		killed := dies(verb)
		w.kernel.Revive()
		w.open()
		if killed {
			return what + ", killed"
		}
		return what
	}
	w.judge(what, verb())
	return what
}

// judge accepts what a user may get wrong.
func (w *teamWalk) judge(what string, err error) {
	if err == nil {
		return
	}
	for _, kind := range []vswitch.Kind{
		vswitch.TeamStandby, vswitch.NotFound, vswitch.Conflict, vswitch.InUse, vswitch.UplinkInUse, vswitch.UplinkNotFound, vswitch.TeamMember, vswitch.AlreadyExists,
	} {
		if errors.Is(err, kind) {
			return
		}
	}
	w.t.Errorf("%s: %v", what, err)
}

// standby is one of the members now and then, where there can be one.
func (w *teamWalk) standby(mode vswitch.TeamMode, members []string) string {
	if mode != vswitch.TeamActiveActive || len(members) == 1 || w.random.IntN(3) == 0 {
		return ""
	}
	return w.pick(members...)
}

func (w *teamWalk) members() []string {
	all := []string{"nic1", "nic2", "nic3"}
	w.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+w.random.IntN(3)]
}
