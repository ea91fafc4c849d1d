package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
)

// teamWalk does verbs on two teams, a switch and its guests in any order, with links that
// come and go; one in three fails at some step in the kernel, or is killed there.
type teamWalk struct {
	*walker
	setCarrier func(nic string, on bool)
}

func walkNICs() []string { return []string{"nic1", "nic2", "nic3"} }

// walk does one thing after the other, and at the end takes everything away, whatever
// happened.
func (w *teamWalk) walk(steps int) {
	w.t.Helper()
	for range steps {
		w.step()
		if w.t.Failed() {
			return
		}
	}
	for _, nic := range walkNICs() {
		w.setCarrier(nic, true)
	}
	ctx := context.Background()
	_, err := w.DeleteSwitch(ctx, engine.DeleteSwitchRequest{Name: "wan", Force: true})
	for _, err := range []error{err, w.DeleteTeam(ctx, "team0", true), w.DeleteTeam(ctx, "team1", true)} {
		if err != nil && !errors.Is(err, vswitch.NotFound) {
			w.t.Error(err)
		}
	}
}

func (w *teamWalk) step() {
	w.t.Helper()
	if w.random.IntN(8) == 0 {
		nic, on := w.pick(walkNICs()...), w.random.IntN(2) == 0
		w.trail = append(w.trail, fmt.Sprintf("link of %s %v", nic, on))
		w.setCarrier(nic, on)
		return
	}
	what, verb := w.teamVerb()
	switch n := 1 + w.random.IntN(10); w.random.IntN(6) {
	case 0:
		w.trail = append(w.trail, fmt.Sprintf("%s fails at %d", what, n))
		w.strike(n, 0, verb)
	case 1:
		w.trail = append(w.trail, fmt.Sprintf("%s dies at %d", what, n))
		w.strike(0, n, verb)
	default:
		w.trail = append(w.trail, what)
		w.judge(what, verb())
	}
	w.settledTeams()
}

// teamVerb chooses what to do.
func (w *teamWalk) teamVerb() (string, func() error) {
	ctx := context.Background()
	team := w.pick("team0", "team1")
	switch w.random.IntN(7) {
	case 0, 1:
		t := vswitch.Team{Name: team, Members: w.members(), Mode: vswitch.TeamModes()[w.random.IntN(4)], Lab: true}
		t.Standby = w.standby(t.Mode, t.Members)
		return fmt.Sprintf("add %s %s %v standby %s", team, t.Mode, t.Members, t.Standby), func() error { _, err := w.AddTeam(ctx, t); return err }
	case 2:
		members, mode := w.members(), vswitch.TeamModes()[w.random.IntN(4)]
		standby := w.standby(mode, members)
		return fmt.Sprintf("set %s %s %v standby %s", team, mode, members, standby), func() error {
			_, err := w.SetTeam(ctx, team, engine.TeamChange{Members: &members, Mode: &mode, Standby: &standby})
			return err
		}
	case 3:
		force := w.random.IntN(2) == 0
		return fmt.Sprintf("delete %s %v", team, force), func() error { return w.DeleteTeam(ctx, team, force) }
	case 4:
		uplink := w.pick("team0", "team1", "nic1", "nic2")
		return "switch on " + uplink, func() error {
			_, err := w.AddSwitch(ctx, engine.AddSwitchRequest{Switch: wanOn(uplink)})
			if errors.Is(err, vswitch.Conflict) {
				_, err = w.SetSwitch(ctx, "wan", engine.SwitchChange{Uplink: &uplink, Yes: true})
			}
			return err
		}
	case 5:
		return "switch delete", func() error {
			_, err := w.DeleteSwitch(ctx, engine.DeleteSwitchRequest{Name: "wan", Force: true})
			return err
		}
	default:
		i := w.random.IntN(len(w.netns))
		return fmt.Sprint("attach ", i), func() error {
			_, err := w.Attach(ctx, engine.AttachRequest{Owner: w.owner(i), Switch: "wan"})
			return err
		}
	}
}

func (w *teamWalk) pick(from ...string) string { return from[w.random.IntN(len(from))] }

// standby is one of the members now and then, where there can be one.
func (w *teamWalk) standby(mode vswitch.TeamMode, members []string) string {
	if mode != vswitch.TeamActiveActive || len(members) == 1 || w.random.IntN(3) == 0 {
		return ""
	}
	return w.pick(members...)
}

func (w *teamWalk) members() []string {
	all := walkNICs()
	w.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+w.random.IntN(3)]
}

// judge accepts what a user may get wrong, and what this kernel lacks.
func (w *teamWalk) judge(what string, err error) {
	w.t.Helper()
	refusals := []vswitch.Kind{
		vswitch.TeamStandby, vswitch.NotFound, vswitch.Conflict, vswitch.InUse, vswitch.UplinkInUse, vswitch.UplinkNotFound, vswitch.TeamMember,
		vswitch.AlreadyExists, vswitch.CapabilityMissing,
	}
	if err != nil && !slices.ContainsFunc(refusals, func(k vswitch.Kind) bool { return errors.Is(err, k) }) {
		w.t.Errorf("%s: %v", what, err)
	}
}

// settledTeams ends what a process was killed in, as patchbayd does, and then compares all
// with the records.
func (w *teamWalk) settledTeams() {
	w.t.Helper()
	ctx := context.Background()
	if r, err := w.Restore(ctx, engine.RestoreRequest{}); err != nil || len(r.Failed) > 0 {
		w.t.Errorf("it cannot be settled: %v, %v", r.Failed, err)
	}
	s, err := w.Status(ctx)
	must(w.t, err)
	for _, p := range s.Problems {
		if p.Kind == vswitch.Drifted {
			w.t.Errorf("status: %+v", p)
		}
	}
}

// TestTeamWalk is TestWalk for teams.
func TestTeamWalk(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			l := teamLab(t)
			pristine := l.kernel.String()
			w := &teamWalk{newWalker(t, l.kernel, seed, []string{netns(0), netns(1), netns(2)}), l.kernel.SetCarrier}
			w.walk(30)
			if diff := cmp.Diff(pristine, l.kernel.String()); diff != "" && !t.Failed() {
				t.Errorf("left:\n%s", diff)
			}
		})
	}
}

// TestTeamWalkOnLinux takes the walk through network namespaces of its own.
func TestTeamWalkOnLinux(t *testing.T) {
	guest.Needs(t, guest.Bonding)
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			runtime.LockOSThread() // the thread is in another namespace from now on and ends with the test
			must(t, unix.Unshare(unix.CLONE_NEWNET))
			for _, nic := range walkNICs() {
				makePair(t, nic)
			}
			pristine := linksHere(t)
			cables, err := netlink.NewHandle()
			must(t, err)
			t.Cleanup(cables.Close)
			w := &teamWalk{newWalker(t, kernel.NewLinux(), seed, []string{newNetns(t), newNetns(t)}), func(nic string, on bool) {
				peer, err := cables.LinkByName(nic + "-peer")
				must(t, err)
				if on {
					must(t, cables.LinkSetUp(peer))
				} else {
					must(t, cables.LinkSetDown(peer))
				}
			}}
			w.walk(40)
			if diff := cmp.Diff(pristine, linksHere(t)); diff != "" && !t.Failed() {
				t.Errorf("left:\n%s", diff)
			}
		})
	}
}

// TestTeamVerbsAtOnce has several work on teams that want the same NICs, and on switches
// that want the teams. Each verb is done or refused as if it were alone, and in the end
// everything can be taken away.
func TestTeamVerbsAtOnce(t *testing.T) {
	l := teamLab(t)
	pristine := l.kernel.String()
	parallel(6, func(i int) {
		w := &teamWalk{walker: &walker{Engine: l.Engine, t: t, netns: []string{netns(i)}}}
		w.random = rand.New(rand.NewPCG(uint64(i), 9))
		for range 15 {
			what, verb := w.teamVerb()
			w.judge(what, verb())
		}
	})
	s, err := l.Status(context.Background())
	must(t, err)
	for _, p := range s.Problems {
		if p.Kind == vswitch.Drifted {
			t.Errorf("status: %+v", p)
		}
	}
	w := &teamWalk{&walker{Engine: l.Engine, t: t}, l.kernel.SetCarrier}
	w.walk(0)
	l.wantClean(pristine)
}

// TestTeamWalkUnderTheHost is the walk on a host that lives on one of the NICs. It ends up
// on one of them, whole.
func TestTeamWalkUnderTheHost(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			l := teamCarrying(t)
			w := &teamWalk{newWalker(t, l.kernel, seed, []string{netns(0), netns(1), netns(2)}), l.kernel.SetCarrier}
			w.walk(30)
			if t.Failed() {
				return
			}
			l.wantHostOnOneOf(walkNICs()...)
		})
	}
}
