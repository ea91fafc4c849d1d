package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// These tests are of teams whose member carries the host.

// teamCarrying is a lab whose host lives on nic1.
func teamCarrying(t *testing.T) *lab {
	t.Helper()
	l := teamLab(t)
	l.kernel.SetAddressing("nic1", hostThings())
	return l
}

// teamWays are the ways of the host through teams.
func teamWays() map[string]struct {
	before, verb func(*lab) error
	end          string // the netdev that has the host in the end
} {
	ctx := context.Background()
	nothing := func(*lab) error { return nil }
	team := func(l *lab) error { _, err := l.AddTeam(ctx, teamOf("nic1", "nic2")); return err }
	other := func(l *lab) error { _, err := l.AddTeam(ctx, teamOf("nic2")); return err }
	on := func(uplink string) func(*lab) error {
		return func(l *lab) error {
			_, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: wanOn(uplink)})
			return err
		}
	}
	set := func(c engine.TeamChange) func(*lab) error {
		return func(l *lab) error { _, err := l.SetTeam(ctx, "team0", c); return err }
	}
	apply := func(switches []vswitch.Switch, teams ...vswitch.Team) func(*lab) error {
		return func(l *lab) error {
			req := configured(switches...)
			req.Config.Teams, req.Prune = teams, true
			_, err := l.Apply(ctx, req)
			return err
		}
	}
	both := apply([]vswitch.Switch{wanOn("team0")}, teamOf("nic1", "nic2"))
	then := func(verbs ...func(*lab) error) func(*lab) error {
		return func(l *lab) error {
			for _, v := range verbs {
				if err := v(l); err != nil {
					return err
				}
			}
			return nil
		}
	}
	renamed := teamOf("nic1", "nic2")
	renamed.Name = "team9"
	delSwitch := func(l *lab) error { return l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan"}) }
	return map[string]struct {
		before, verb func(*lab) error
		end          string
	}{
		"team":                          {nothing, team, "team0"},
		"team goes":                     {team, func(l *lab) error { return l.DeleteTeam(ctx, "team0", false) }, "nic1"},
		"team changes its mode":         {team, set(engine.TeamChange{Mode: ptr(vswitch.TeamLACP)}), "team0"},
		"team loses the member":         {team, set(engine.TeamChange{Members: ptr([]string{"nic2", "nic3"})}), "team0"},
		"team gets the member":          {other, set(engine.TeamChange{Members: ptr([]string{"nic2", "nic1"})}), "team0"},
		"switch's team gets the member": {then(other, on("team0")), set(engine.TeamChange{Members: ptr([]string{"nic2", "nic1"})}), "pbh-wan"},
		"switch on the team":            {team, on("team0"), "pbh-wan"},
		"switch leaves the team":        {then(team, on("team0")), delSwitch, "team0"},
		"team and switch":               {nothing, both, "pbh-wan"},
		"switch's team changes mode":    {both, set(engine.TeamChange{Mode: ptr(vswitch.TeamStatic)}), "pbh-wan"},
		"switch's team gets options":    {both, set(engine.TeamChange{Monitor: ptr(50), Reselect: ptr(vswitch.ReselectAlways)}), "pbh-wan"},
		"team and switch go":            {both, apply(nil), "nic1"},
		"team goes from the switch":     {both, func(l *lab) error { return l.DeleteTeam(ctx, "team0", true) }, "pbh-wan"},
		"switch goes from the team":     {both, delSwitch, "team0"},
		"switch changes to the team":    {on("nic1"), both, "pbh-wan"},
		"switch becomes internal":       {both, apply([]vswitch.Switch{{Name: "wan", Type: vswitch.Internal}}, teamOf("nic1", "nic2")), "team0"},
		"team instead of switch":        {on("nic1"), apply(nil, teamOf("nic1", "nic2")), "team0"},
		"switch instead of team":        {team, apply([]vswitch.Switch{wanOn("nic1")}), "pbh-wan"},
		"another switch, another team":  {both, apply([]vswitch.Switch{ext("lan", "team9", 0)}, renamed), "pbh-lan"},
		"another team":                  {team, apply(nil, renamed), "team9"},
		"another team with a switch":    {team, apply([]vswitch.Switch{wanOn("team9")}, renamed), "pbh-wan"},
	}
}

// sweptWays are those of teamWays whose steps differ most.
func sweptWays() []string {
	return []string{
		"team", "team goes", "team and switch", "team and switch go", "switch changes to the team",
		"switch's team gets the member", "switch's team changes mode", "team instead of switch", "another switch, another team",
	}
}

// allGone deletes every switch and team.
func (l *lab) allGone() {
	l.t.Helper()
	req := configured()
	req.Prune = true
	l.mustApply(req)
}

func (l *lab) wantHostHome(pristine string) {
	l.t.Helper()
	l.allGone()
	if diff := cmp.Diff(pristine, l.kernel.String()); diff != "" {
		l.t.Errorf("with all gone (-want +got):\n%s", diff)
	}
}

func TestTheHostOnAMember(t *testing.T) {
	t.Parallel()
	for name, c := range teamWays() {
		t.Run(name, func(t *testing.T) {
			l := teamCarrying(t)
			pristine := l.kernel.String()
			must(t, c.before(l))
			must(t, c.verb(l))
			l.wantHealthy()
			for _, n := range []string{"nic1", "nic2", "nic3", "team0", "pbh-wan"} {
				if n != c.end && len(l.on(n)) > 0 {
					t.Errorf("left on %s: %v", n, l.on(n))
				}
			}
			l.wantHostOn(c.end)
			if name == "team loses the member" { // it has no home but the others
				l.allGone()
				l.wantHostOn("nic2")
				return
			}
			l.wantHostHome(pristine)
		})
	}
}

func TestFailureWithTheHostOnAMemberIsUndone(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	ways := teamWays()
	for _, name := range sweptWays() {
		c := ways[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				l := teamCarrying(t)
				must(t, c.before(l))
				before := l.picture()
				l.kernel.FailAt(n, broken)
				err := c.verb(l)
				l.kernel.FailAt(0, nil)
				if err == nil {
					return
				}
				if diff := cmp.Diff(before, l.picture()); diff != "" || !errors.Is(err, broken) {
					t.Fatalf("step %d left, with error %v:\n%s", n, err, diff)
				}
				l.wantHealthy()
			}
		})
	}
}

func TestKilledWithTheHostOnAMember(t *testing.T) {
	t.Parallel()
	ways := teamWays()
	for _, name := range sweptWays() {
		c := ways[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				l := teamCarrying(t)
				pristine := l.kernel.String()
				must(t, c.before(l))
				if !l.killed(n, func() error { return c.verb(l) }) {
					return
				}
				if err := c.verb(l); err != nil && !errors.Is(err, vswitch.NotFound) {
					t.Fatalf("killed before step %d, then: %v", n, err)
				}
				l.wantHealthy()
				l.wantHostOn(c.end)
				l.wantHostHome(pristine)
				if t.Failed() {
					t.Fatalf("killed before step %d", n)
				}
			}
		})
	}
}
