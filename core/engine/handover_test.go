package engine_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// handovers are configurations in which another switch gets the NIC of lan, which
// carries the host.
func handovers() map[string]engine.ApplyRequest {
	renamed := configured(ext("alpha", "nic0", 0)) // comes before lan, and office after
	renamed.Prune = true
	return map[string]engine.ApplyRequest{
		"renamed":  renamed,
		"given up": configured(vswitch.Switch{Name: "lan", Type: vswitch.Private}, ext("office", "nic0", 0)),
	}
}

func (l *lab) wantHostBackAfterDeletion(pristine string) {
	l.t.Helper()
	l.wantHealthy()
	switches, err := l.Switches(context.Background())
	must(l.t, err)
	for _, s := range switches {
		must(l.t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: s.Name}))
	}
	if diff := cmp.Diff(pristine, l.kernel.String()); diff != "" {
		l.t.Errorf("after deletion (-want +got):\n%s", diff)
	}
}

// The host goes from port to port, keeps the NIC's address, and has its NIC again when
// the switch that took over goes.
func TestAnotherSwitchTakesTheHostOver(t *testing.T) {
	for name, req := range handovers() {
		t.Run(name, func(t *testing.T) {
			l := carrying(t)
			pristine := l.kernel.String()
			l.mustAdd(lan(true))
			l.mustApply(req)
			l.wantHostOn("pbh-"+req.Config.Switches[len(req.Config.Switches)-1].Name, "nic0", "pbh-lan")
			l.wantSame(req)
			l.wantHostBackAfterDeletion(pristine)
		})
	}
}

func TestFailedHandoverOfTheHostIsUndone(t *testing.T) {
	t.Parallel()
	for name, req := range handovers() {
		t.Run(name, func(t *testing.T) {
			var pristine, before string
			prepare := func(t *testing.T) *lab {
				l := carrying(t)
				pristine = l.kernel.String()
				l.mustAdd(lan(true))
				before = l.picture()
				return l
			}
			verb := func(l *lab) error { _, err := l.Apply(context.Background(), req); return err }
			eachStepFails(t, prepare, verb, func(step int, l *lab) {
				if diff := cmp.Diff(before, l.picture()); diff != "" {
					t.Fatalf("step %d left:\n%s", step, diff)
				}
				l.wantHostBackAfterDeletion(pristine)
			})
		})
	}
}

func TestKilledHandoverOfTheHostIsFinished(t *testing.T) {
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
				l.mustApply(req)
				l.wantHostOn("pbh-"+req.Config.Switches[len(req.Config.Switches)-1].Name, "nic0", "pbh-lan")
				l.wantHostBackAfterDeletion(pristine)
				if t.Failed() {
					t.Fatalf("killed before step %d", n)
				}
			}
		})
	}
}

// A switch without a port for the host does not get the host's NIC from another
// unasked: the other one's NIC looks as if the host had nothing there.
func TestHandoverDoesNotCloseTheHostOut(t *testing.T) {
	l := carrying(t)
	l.mustAdd(lan(true))
	closed := ext("office", "nic0", 0)
	closed.HostAccess = ptr(false)
	req := configured(closed)
	req.Prune = true
	before := l.kernel.String()
	_, err := l.Apply(context.Background(), req)
	wantKind(t, err, vswitch.UplinkInUse)
	if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
		t.Errorf("the host changed:\n%s", diff)
	}
}

// A NIC that got another name is the host's only way out: deletion leaves all as it is
// and says what to do.
func TestDeletionFindsTheNICRenamed(t *testing.T) {
	l := carrying(t)
	pristine := l.kernel.String()
	l.mustAdd(lan(true))
	l.kernel.RenameNetdev("", "nic0", "nic9")
	before := l.kernel.String()
	err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"})
	wantKind(t, err, vswitch.UplinkNotFound)
	if hint := vswitch.HintOf(err); !strings.Contains(hint, "`ip link set nic9 name nic0`") {
		t.Errorf("hint %q", hint)
	}
	if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
		t.Errorf("the host changed:\n%s", diff)
	}
	l.kernel.RenameNetdev("", "nic9", "nic0")
	l.wantHostBackAfterDeletion(pristine)
}

// What the host had on a NIC that was unplugged goes with the switch: another one of
// the same name on another NIC has nothing of it.
func TestDeletionForgetsTheHostOfAnUnpluggedNIC(t *testing.T) {
	l := carrying(t)
	l.mustAdd(lan(true))
	l.kernel.RemoveNetdev("nic0")
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}))
	l.mustAdd(ext("lan", "nic1", 0))
	if got := l.on("pbh-lan"); len(got) > 0 {
		t.Errorf("the new switch has %v", got)
	}
}

// altNamed is a kernel that knows nic0 by an alternative name too, as Linux does in
// every request for one netdev.
type altNamed struct{ *kernel.Fake }

func (k altNamed) Netdev(ctx context.Context, name string) (kernel.Netdev, error) {
	if name == "enp3s0" {
		name = "nic0"
	}
	return k.Fake.Netdev(ctx, name)
}

func TestUplinkByAnAlternativeNameIsRefused(t *testing.T) {
	l := carrying(t)
	before := l.kernel.String()
	_, err := l.engineOn(altNamed{l.kernel}).AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: ext("lan", "enp3s0", 0)})
	wantKind(t, err, vswitch.UplinkUnsupported)
	if hint := vswitch.HintOf(err); !strings.Contains(hint, "nic0") {
		t.Errorf("hint %q", hint)
	}
	if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
		t.Errorf("the host changed:\n%s", diff)
	}
}

// With its address the host port forgets even configured neighbours: they come back at
// each change of uplink, though nothing is noted of a NIC that the host was not on.
func TestTheHostKeepsItsNeighboursThroughEveryUplink(t *testing.T) {
	l := carrying(t)
	pristine := l.kernel.String()
	l.mustAdd(lan(true))
	for _, nic := range []string{"nic1", "nic0"} {
		_, err := l.SetSwitch(context.Background(), "lan", engine.SwitchChange{Uplink: &nic})
		must(t, err)
		l.wantHostOn("pbh-lan", "nic0", "nic1")
	}
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}))
	if diff := cmp.Diff(pristine, l.kernel.String()); diff != "" {
		t.Errorf("after deletion (-want +got):\n%s", diff)
	}
}
