package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// The host's NIC goes from a switch to a team without one, or the other way round, and the
// process is killed. Verbs on the team end that as those on the switch do.
func TestTeamVerbsAfterAKilledHandover(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	verbs := map[string]func(*lab) error{
		"team set": func(l *lab) error {
			_, err := l.SetTeam(ctx, "team0", engine.TeamChange{Notes: ptr("changed")})
			return err
		},
		"team add":    func(l *lab) error { _, err := l.AddTeam(ctx, teamOf("nic1", "nic2")); return err },
		"team delete": func(l *lab) error { return l.DeleteTeam(ctx, "team0", false) },
		"kept":        kept,
	}
	apply := func(c vswitch.Config) func(*lab) error {
		c.Version = vswitch.ConfigVersion
		return func(l *lab) error {
			_, err := l.Apply(ctx, engine.ApplyRequest{Yes: true, Config: c})
			return err
		}
	}
	ways := map[string][2]func(*lab) error{
		"switch to team": {
			func(l *lab) error {
				_, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Yes: true, Switch: vswitch.Switch{Name: "lan", Uplink: "nic1"}})
				return err
			},
			apply(vswitch.Config{Teams: []vswitch.Team{teamOf("nic1", "nic2")}, Switches: []vswitch.Switch{{Name: "lan", Type: vswitch.Internal}}}),
		},
		"team to switch": {
			func(l *lab) error { _, err := l.AddTeam(ctx, teamOf("nic1", "nic2")); return err },
			apply(vswitch.Config{Teams: []vswitch.Team{teamOf("nic2")}, Switches: []vswitch.Switch{{Name: "lan", Uplink: "nic1"}}}),
		},
	}
	for way, c := range ways {
		for name, verb := range verbs {
			t.Run(way+", "+name, func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n += 2 {
					l := teamCarrying(t)
					must(t, c[0](l))
					if !l.killed(n, func() error { return c[1](l) }) {
						return
					}
					_ = verb(l) // a refusal is as good
					must(t, restored(l))
					l.wantHostWhole()
					l.wantHealthy()
					if t.Failed() {
						t.Fatalf("killed before step %d:\n%s", n, l.kernel)
					}
				}
			})
		}
	}
}

// A team whose members all go elsewhere in the moment that others come keeps its address.
func TestTeamKeepsItsAddressInASwap(t *testing.T) {
	for _, mode := range []vswitch.TeamMode{vswitch.TeamActiveStandby, vswitch.TeamActiveActive} {
		t.Run(string(mode), func(t *testing.T) {
			l := teamLab(t)
			team := teamOf("nic1")
			team.Mode = mode
			l.mustTeam(team)
			l.mustAdd(wanOn("team0"))
			l.mustAdd(vswitch.Switch{Name: "lan", Uplink: "nic2"})
			team.Members = []string{"nic2"}
			_, err := l.Apply(context.Background(), engine.ApplyRequest{Yes: true, Config: vswitch.Config{
				Version: vswitch.ConfigVersion, Teams: []vswitch.Team{team},
				Switches: []vswitch.Switch{wanOn("team0"), {Name: "lan", Uplink: "nic1"}},
			}})
			must(t, err)
			l.wantHealthy()
		})
	}
}

// Without patchbayd whoever moves the standbys of two teams announces the guests of both.
func TestStandbysOfTwoTeamsAreAnnounced(t *testing.T) {
	l := teamLab(t)
	for i, name := range []string{"nic4", "nic5", "nic6"} {
		l.kernel.AddNetdev(kernel.Netdev{Name: name, MAC: vswitch.MAC{0x52, 0x54, 0, 0, 0, byte(0x40 + i)}, MTU: 1500, Ethernet: true, Up: true, Carrier: true, Speed: 1000})
	}
	other := activeActive("nic4", "nic5", "nic6")
	other.Name, other.Standby = "team1", "nic6"
	l.mustTeam(standbyTeam())
	l.mustTeam(other)
	l.mustAdd(wanOn("team0"))
	l.mustAdd(vswitch.Switch{Name: "wan2", Uplink: "team1"})
	guests := map[vswitch.MAC]bool{}
	for i, sw := range []string{"wan", "wan", "wan2", "wan2"} {
		guests[l.mustAttach(engine.AttachRequest{Owner: owner(i), Switch: sw}).Port.MAC] = true
	}
	links := func(on bool) {
		for _, n := range []string{"nic1", "nic2", "nic4", "nic5"} {
			l.kernel.SetCarrier(n, on)
		}
	}
	links(false)
	must(t, restored(l))
	links(true)
	exported, err := l.Export(context.Background(), engine.ExportRequest{})
	must(t, err)
	c := exported.Config
	c.Teams = nil
	for i := range c.Switches {
		c.Switches[i].Notes = "in one transaction"
	}
	_, err = l.Apply(context.Background(), engine.ApplyRequest{Config: c})
	must(t, err)
	for mac := range guests {
		if by := l.kernel.Heard(mac, 0); by == "nic3" || by == "nic6" || by == "" {
			t.Errorf("%s was last heard by %q, which stands by", mac, by)
		}
	}
}

// What stays after all is not deleted by whatever takes its deletion for begun later.
func TestASwitchThatStaysIsNotGoing(t *testing.T) {
	l := teamLab(t)
	l.mustAdd(wanOn("nic1"))
	l.killed(1, func() error { return l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan"}) })
	l.mustAdd(wanOn("nic1"))
	l.open()
	must(t, restored(l))
	exported, err := l.Export(context.Background(), engine.ExportRequest{})
	must(t, err)
	if len(exported.Config.Switches) != 1 {
		t.Errorf("the host has %+v", exported.Config.Switches)
	}
	r, err := l.record("wan")
	must(t, err)
	if r.Going {
		t.Error("it is still on its way out")
	}
}

func (l *lab) record(name string) (r store.SwitchRecord, err error) {
	err = l.store().View(func(tx *store.Tx) error {
		r, err = tx.Switch(name)
		return err
	})
	return r, err
}

// A NIC that carries the host goes from one team to another, without any switch, and the
// process is killed. What comes next ends that for both, also after a boot.
func TestAnythingAfterAKilledHandoverOfTeams(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	heir := teamOf("nic1")
	heir.Name = "team1"
	rest := teamOf("nic2")
	verbs := map[string]func(*lab) error{
		"restored": restored,
		"kept":     kept,
		"heir set": func(l *lab) error {
			_, err := l.SetTeam(ctx, "team1", engine.TeamChange{Notes: ptr("changed")})
			return err
		},
		"old deleted": func(l *lab) error { return l.DeleteTeam(ctx, "team0", false) },
		"rebooted": func(l *lab) error {
			l.rebootWithNICs()
			l.kernel.SetAddressing("nic1", hostThings())
			return restored(l)
		},
	}
	for way, teams := range map[string][]vswitch.Team{"one goes": {heir}, "both stay": {heir, rest}} {
		for name, verb := range verbs {
			t.Run(way+", "+name, func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n++ {
					l := teamCarrying(t)
					l.mustTeam(teamOf("nic1", "nic2"))
					if !l.killed(n, func() error {
						_, err := l.Apply(ctx, engine.ApplyRequest{Yes: true, Prune: true, Config: vswitch.Config{Version: vswitch.ConfigVersion, Teams: teams}})
						return err
					}) {
						return
					}
					if err := verb(l); err != nil && !errors.Is(err, vswitch.NotFound) {
						t.Error(err)
					}
					must(t, restored(l))
					l.wantHostWhole()
					l.wantHealthy()
					if _, err := l.Team(ctx, "team1"); err != nil {
						t.Error(err)
					}
					if _, err := l.Team(ctx, "team0"); way == "one goes" && !errors.Is(err, vswitch.NotFound) {
						t.Errorf("the team that was to go: %v", err)
					}
					if t.Failed() {
						t.Fatalf("killed before step %d:\n%s", n, l.kernel)
					}
				}
			})
		}
	}
}

// rebootWithNICs is reboot with those of teamLab.
func (l *lab) rebootWithNICs() {
	l.kernel = teamLab(l.t).kernel
	l.boot += "-again"
	l.open()
}

// What a killed process left disputed and restore cannot end, it does not touch: a team made
// alone would take the NIC that the host has by a switch.
func TestRestoreLeavesWhatItCannotEnd(t *testing.T) {
	ctx := context.Background()
	l := teamCarrying(t)
	_, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Yes: true, Switch: vswitch.Switch{Name: "lan", Uplink: "nic1"}})
	must(t, err)
	l.killed(1, func() error {
		_, err := l.Apply(ctx, engine.ApplyRequest{Yes: true, Config: vswitch.Config{
			Version: vswitch.ConfigVersion, Teams: []vswitch.Team{teamOf("nic1", "nic2")}, Switches: []vswitch.Switch{{Name: "lan", Type: vswitch.Internal}},
		}})
		return err
	})
	before := l.kernel.String()
	l.kernel.FailAt(1, errBroken)
	report, err := l.Restore(ctx, engine.RestoreRequest{})
	must(t, err)
	if len(report.Failed) != 2 || len(report.Restored)+len(report.Teams) > 0 {
		t.Errorf("restored: %+v", report)
	}
	if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
		t.Errorf("something was touched:\n%s", diff)
	}
	must(t, restored(l))
	l.wantHostWhole()
	l.wantHealthy()
}
