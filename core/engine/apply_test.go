package engine_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// These tests are of whole configurations.

func configured(switches ...vswitch.Switch) engine.ApplyRequest {
	return engine.ApplyRequest{Config: vswitch.Config{Version: 1, Switches: switches}}
}

func (l *lab) mustApply(req engine.ApplyRequest) engine.ConfigDiff {
	l.t.Helper()
	d, err := l.Apply(context.Background(), req)
	must(l.t, err)
	return d
}

// wantSame fails unless the request has nothing to change.
func (l *lab) wantSame(req engine.ApplyRequest) {
	l.t.Helper()
	d, err := l.DiffConfig(context.Background(), req)
	must(l.t, err)
	if d.Differs() || len(d.Commands) > 0 {
		l.t.Errorf("there is still something to do: %v", changeWords(d))
	}
	steps := l.kernel.Steps()
	l.mustApply(req)
	if n := l.kernel.Steps() - steps; n > 0 {
		l.t.Errorf("applied again, %d steps: %q", n, l.kernel.Log()[steps:])
	}
}

func changeWords(d engine.ConfigDiff) (words []string) {
	for _, c := range d.Changes {
		words = append(words, c.String())
	}
	return words
}

func ext(name, nic string, mtu int) vswitch.Switch {
	return vswitch.Switch{Name: name, Type: vswitch.External, Uplink: nic, MTU: mtu}
}

// applications are pairs of configurations that the sweeps go between.
func applications() map[string][2]engine.ApplyRequest {
	small := internal()
	small.MTU, small.Masquerade, small.Gateway = 1400, vswitch.Masquerade{}, small.Gateway[:1]
	pruned := func(req engine.ApplyRequest) engine.ApplyRequest {
		req.Prune, req.Force = true, true
		return req
	}
	pool := configured(internal(), vswitch.Switch{Name: "new", Type: vswitch.Internal})
	pool.Config.MACPool = &vswitch.MACRange{First: vswitch.MAC{0x0a, 0x11, 0x22}, Last: vswitch.MAC{0x0a, 0x11, 0x22, 0, 0, 0xff}}
	teamed := func(req engine.ApplyRequest, teams ...vswitch.Team) engine.ApplyRequest {
		req.Config.Teams = teams
		return pruned(req)
	}
	lag := vswitch.Team{Name: "lag", Mode: vswitch.TeamLACP, Members: []string{"nic0", "nic1"}}
	return map[string][2]engine.ApplyRequest{
		"teams":   {configured(internal()), teamed(configured(internal(), ext("lan", "lag", 9000)), lag)},
		"joins":   {teamed(configured(internal(), ext("lan", "nic0", 0))), teamed(configured(internal(), ext("lan", "team0", 0)), teamOf("nic0", "nic1"))},
		"leaves":  {teamed(configured(ext("lan", "team0", 0)), teamOf("nic1", "nic0")), teamed(configured(ext("lan", "nic1", 0), ext("b", "nic0", 1400)))},
		"parts":   {teamed(configured(ext("lan", "team0", 0)), teamOf("nic1", "nic0")), teamed(configured(ext("lan", "lag", 0)), vswitch.Team{Name: "lag", Members: []string{"nic0"}}, teamOf("nic1"))},
		"makes":   {configured(), configured(internal(), ext("lan", "nic0", 0), vswitch.Switch{Name: "lab", Type: vswitch.Private})},
		"swaps":   {configured(ext("a", "nic0", 9000), ext("b", "nic1", 0)), configured(ext("a", "nic1", 0), ext("b", "nic0", 1400))},
		"moves":   {configured(ext("a", "nic0", 0), internal()), configured(vswitch.Switch{Name: "a", Type: vswitch.Private}, ext("prod", "nic0", 0))},
		"resizes": {configured(internal()), configured(small)},
		"prunes":  {configured(internal(), ext("lan", "nic0", 9000)), pruned(configured(ext("new", "nic0", 0)))},
		"pool":    {configured(internal()), pool},
	}
}

// hosting is a lab at a configuration, with guests on prod if there is one.
func hosting(t *testing.T, req engine.ApplyRequest) *lab {
	t.Helper()
	l := newLab(t)
	l.mustApply(req)
	if _, err := l.Switch(context.Background(), "prod"); err == nil {
		for i := range 2 {
			l.mustAttach(engine.AttachRequest{Owner: owner(i), Switch: "prod"})
		}
	}
	return l
}

func TestApply(t *testing.T) {
	for name, tc := range applications() {
		t.Run(name, func(t *testing.T) {
			l := hosting(t, tc[0])
			l.wantSame(tc[0])
			dry, err := l.DiffConfig(context.Background(), tc[1])
			must(t, err)
			before := l.kernel.Steps()
			done := l.mustApply(tc[1])
			if diff := cmp.Diff(changeWords(dry), changeWords(done)); diff != "" || !dry.Differs() {
				t.Errorf("diff and apply tell different things:\n%s", diff)
			}
			if n := l.kernel.Steps() - before; n < len(dry.Commands) && !tc[1].Prune {
				t.Errorf("%d commands are told, %d steps done", len(dry.Commands), n)
			}
			l.wantSame(tc[1])
			l.wantSound()
		})
	}
}

func TestDiffConfigChangesNothing(t *testing.T) {
	for name, tc := range applications() {
		t.Run(name, func(t *testing.T) {
			l := hosting(t, tc[0])
			before, steps := l.kernel.String(), l.kernel.Steps()
			exported, err := l.Export(context.Background(), engine.ExportRequest{})
			must(t, err)
			_, err = l.DiffConfig(context.Background(), tc[1])
			must(t, err)
			after, err := l.Export(context.Background(), engine.ExportRequest{})
			must(t, err)
			if l.kernel.Steps() != steps || l.kernel.String() != before {
				t.Error("the kernel was touched")
			}
			if diff := cmp.Diff(exported, after, prefixes()); diff != "" {
				t.Errorf("the configuration changed:\n%s", diff)
			}
			l.wantSame(tc[0])
		})
	}
}

// A store that can only be read is enough to tell what would change.
func TestDiffConfigOfAReadOnlyStore(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts a file system read-only")
	}
	for _, known := range []bool{false, true} {
		base := t.TempDir()
		must(t, unix.Mount("tmpfs", base, "tmpfs", 0, "mode=0700"))
		t.Cleanup(func() { _ = unix.Unmount(base, unix.MNT_DETACH) })
		l := newLab(t)
		l.dirs = store.Dirs{State: filepath.Join(base, "state"), Run: filepath.Join(base, "run")}
		l.open()
		req := configured(internal(), ext("lan", "nic0", 9000))
		want := []string{"switch lan: add", "switch prod: add"}
		if known {
			l.mustApply(req)
			l.mustAttach(engine.AttachRequest{Owner: owner(0), Switch: "prod"})
			req.Config.Switches = req.Config.Switches[:1]
			req.Config.Switches[0].MTU = 1400
			want = []string{"switch prod: change"}
		}
		must(t, unix.Mount("", base, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		d, err := l.DiffConfig(context.Background(), req)
		must(t, err)
		var got []string
		for _, c := range d.Changes {
			got = append(got, c.Object+": "+string(c.Action))
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the store holds something: %v\n%s", known, diff)
		}
		_, err = l.Apply(context.Background(), req)
		wantKind(t, err, vswitch.StoreUnavailable)
	}
}

func prefixes() cmp.Option { return cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }) }

// A failure at any step leaves the host as it was, and its guests attached.
func TestFailedApplyIsUndone(t *testing.T) {
	t.Parallel()
	for name, tc := range applications() {
		t.Run(name, func(t *testing.T) {
			var before string
			var exported engine.Export
			prepare := func(t *testing.T) *lab {
				l := hosting(t, tc[0])
				var err error
				exported, err = l.Export(context.Background(), engine.ExportRequest{})
				must(t, err)
				before = l.picture()
				return l
			}
			verb := func(l *lab) error { _, err := l.Apply(context.Background(), tc[1]); return err }
			eachStepFails(t, prepare, verb, func(step int, l *lab) {
				if diff := cmp.Diff(before, l.picture()); diff != "" {
					t.Errorf("step %d leaves:\n%s", step, diff)
				}
				after, err := l.Export(context.Background(), engine.ExportRequest{})
				must(t, err)
				if diff := cmp.Diff(exported, after, prefixes()); diff != "" {
					t.Errorf("step %d: the configuration is another:\n%s", step, diff)
				}
				l.wantSame(tc[0])
			})
		})
	}
}

// Killed before any step, the same Apply again reaches what was asked for; so does any
// other verb on one of the switches for that switch.
func TestKilledApply(t *testing.T) {
	t.Parallel()
	for name, tc := range applications() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole := hosting(t, tc[0])
			whole.mustApply(tc[1])
			for n := 1; ; n++ {
				l := hosting(t, tc[0])
				if !l.killed(n, func() error { _, err := l.Apply(context.Background(), tc[1]); return err }) {
					return
				}
				if n%2 == 0 && len(tc[1].Config.Switches) > 1 { // another verb comes first
					first := tc[1].Config.Switches[0]
					if _, err := l.SetSwitch(context.Background(), first.Name, engine.SwitchChange{}); err != nil && !errors.Is(err, vswitch.NotFound) {
						t.Errorf("step %d: %s cannot be settled: %v", n, first.Name, err)
					}
				}
				l.mustApply(tc[1])
				l.wantSame(tc[1])
				if got, want := masked(l.picture()), masked(whole.picture()); got != want {
					t.Errorf("step %d reaches something else:\n%s", n, cmp.Diff(want, got))
				}
			}
		})
	}
}

// masked is a picture without the addresses that are made at random.
func masked(picture string) string {
	var lines []string
	for l := range strings.Lines(picture) {
		words := strings.Fields(l)
		for i, w := range words {
			if strings.HasPrefix(w, "0e:") {
				words[i] = "RANDOM"
			}
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return strings.Join(lines, "\n")
}

// A team that the configuration does not mention is told of like a switch, and goes like
// one.
func TestApplyKeepsAndPrunesTeams(t *testing.T) {
	l := teamLab(t)
	l.mustTeam(teamOf("nic1", "nic2"))
	nothing := configured()
	d := l.mustApply(nothing)
	if diff := cmp.Diff([]string{"team team0"}, d.Kept); diff != "" || d.Differs() {
		t.Errorf("kept %v, %v", d.Kept, changeWords(d))
	}
	nothing.Prune = true
	if d = l.mustApply(nothing); len(d.Kept) > 0 || len(d.Changes) != 1 || d.Changes[0].Action != engine.ActionDelete {
		t.Errorf("kept %v, %v", d.Kept, changeWords(d))
	}
}

func TestApplyKeepsAndPrunes(t *testing.T) {
	l := hosting(t, configured(internal(), vswitch.Switch{Name: "lab", Type: vswitch.Private}))
	lab := configured(vswitch.Switch{Name: "lab", Type: vswitch.Private})
	d := l.mustApply(lab)
	if diff := cmp.Diff([]string{"prod"}, d.Kept); diff != "" || d.Differs() {
		t.Errorf("kept %v, %v", d.Kept, changeWords(d))
	}
	lab.Prune = true
	_, err := l.Apply(context.Background(), lab)
	wantKind(t, err, vswitch.InUse)
	if !strings.Contains(err.Error(), "switch prod: 2 port(s) are attached") || !strings.Contains(vswitch.HintOf(err), "--force") {
		t.Errorf("it says %v", err)
	}
	lab.Force = true
	if diff := cmp.Diff([]string{"switch prod: delete, and detach its 2 port(s)"}, changeWords(l.mustApply(lab))); diff != "" {
		t.Error(diff)
	}
	l.wantNoGuests()
}

func TestApplyRefuses(t *testing.T) {
	l := newLab(t)
	l.mustAdd(ext("taken", "nic0", 0))
	before := l.kernel.String()
	req := configured(ext("x", "nic9", 0), ext("y", "nic0", 0), ext("z", "nic1", 65535))
	_, err := l.Apply(context.Background(), req)
	for _, want := range []string{"switch x: there is no NIC nic9"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	_, err = l.Apply(context.Background(), configured(ext("y", "nic0", 0)))
	wantKind(t, err, vswitch.UplinkInUse)
	_, err = l.Apply(context.Background(), engine.ApplyRequest{})
	wantKind(t, err, vswitch.Invalid)
	if l.kernel.String() != before {
		t.Error("something was done")
	}
}

// What the kernel has lost comes back, and is told.
func TestApplyRepairs(t *testing.T) {
	req := configured(internal(), ext("lan", "nic0", 0))
	l := hosting(t, req)
	whole := l.kernel.String()
	l.kernel.RemoveNetdev("pbp-lan")
	d := l.mustApply(req)
	if got := strings.Join(changeWords(d), "\n"); !strings.HasPrefix(got, "kernel: repair what was lost, in ") {
		t.Errorf("it says %q", got)
	}
	if diff := cmp.Diff(whole, l.kernel.String()); diff != "" {
		t.Errorf("not repaired:\n%s", diff)
	}
}

func TestExportIsANoOp(t *testing.T) {
	t.Parallel()
	for name, tc := range applications() {
		t.Run(name, func(t *testing.T) {
			l := hosting(t, tc[1])
			out, err := l.Export(context.Background(), engine.ExportRequest{})
			must(t, err)
			l.wantSame(engine.ApplyRequest{Config: out.Config, Prune: true})
		})
	}
}

func TestRestore(t *testing.T) {
	l := hosting(t, configured(internal(), ext("a", "nic0", 9000), ext("b", "nic1", 0), vswitch.Switch{Name: "lab", Type: vswitch.Private}))
	for i := range 2 {
		l.mustDetach(i)
	}
	l.kernel = kernel.NewFake(kernel.FakeConfig{Netdevs: nics(), Capabilities: allCapabilities()})
	l.kernel.RemoveNetdev("nic1")
	l.boot = "boot-2"
	l.open()
	report, err := l.Restore(context.Background(), engine.RestoreRequest{})
	must(t, err)
	if diff := cmp.Diff([]string{"a", "lab", "prod"}, report.Restored); diff != "" {
		t.Error(diff)
	}
	if len(report.Failed) != 1 || report.Failed[0].Kind != vswitch.UplinkNotFound || !strings.Contains(report.Failed[0].Message, "restore switch b") {
		t.Errorf("failed: %+v", report.Failed)
	}
	steps := l.kernel.Steps()
	l.kernel.AddNetdev(nics()[2])
	report, err = l.Restore(context.Background(), engine.RestoreRequest{})
	must(t, err)
	if len(report.Restored) != 4 || len(report.Failed) > 0 || l.kernel.Steps() == steps {
		t.Errorf("when the NIC is there: %+v", report)
	}
	steps = l.kernel.Steps()
	_, err = l.Restore(context.Background(), engine.RestoreRequest{})
	must(t, err)
	if l.kernel.Steps() != steps {
		t.Errorf("a third time: %q", l.kernel.Log()[steps:])
	}
	s, err := l.Status(context.Background())
	must(t, err)
	if len(s.Problems) > 0 {
		t.Errorf("status: %+v", s.Problems)
	}
}

// A switch that fails in the kernel does not take the others with it.
func TestRestoreGoesOn(t *testing.T) {
	l := hosting(t, configured(ext("a", "nic0", 0), vswitch.Switch{Name: "lab", Type: vswitch.Private}))
	l.kernel = kernel.NewFake(kernel.FakeConfig{Netdevs: nics(), Capabilities: allCapabilities()})
	l.boot = "boot-2"
	l.open()
	l.kernel.FailAt(3, errors.New("broken"))
	report, err := l.Restore(context.Background(), engine.RestoreRequest{})
	must(t, err)
	if len(report.Restored) != 2 {
		t.Errorf("%+v", report)
	}
}
