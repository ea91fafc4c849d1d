package engine_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// These tests are of changes that go wrong more than once.

func lan(hostAccess bool) vswitch.Switch {
	return vswitch.Switch{Name: "lan", Uplink: "nic0", HostAccess: &hostAccess}
}

// killed runs a verb that dies at the n-th step, begins a new process, and reports whether it
// came so far.
func (l *lab) killed(n int, verb func() error) bool {
	l.kernel.DieAt(n)
	killed := dies(verb)
	l.kernel.Revive()
	l.open()
	return killed
}

func (l *lab) setHostAccess(on bool) error {
	_, err := l.SetSwitch(context.Background(), "lan", engine.SwitchChange{HostAccess: &on})
	return err
}

// wantAsBefore fails if the kernel or the pool differs from what it was, once the
// switch is set back.
func (l *lab) wantAsBefore(picture string) {
	l.t.Helper()
	must(l.t, l.setHostAccess(false))
	if diff := cmp.Diff(picture, l.kernel.String()); diff != "" {
		l.t.Errorf("left:\n%s", diff)
	}
	if macs, err := l.MACs(context.Background()); err != nil || len(macs) != 0 {
		l.t.Errorf("addresses held: %v, %v", macs, err)
	}
}

func TestKilledTwiceInARow(t *testing.T) {
	t.Parallel()
	for first := 1; first <= 8; first++ {
		for second := 1; second <= 3; second++ {
			l := newLab(t)
			l.mustAdd(lan(false))
			before := l.kernel.String()
			l.killed(first, func() error { return l.setHostAccess(true) })
			l.killed(second, func() error { return l.setHostAccess(false) })
			l.wantAsBefore(before)
		}
	}
}

func TestFailedThenKilledInTheUndo(t *testing.T) {
	for fail := 1; fail <= 6; fail++ {
		for die := fail + 1; die <= fail+3; die++ {
			l := newLab(t)
			l.mustAdd(lan(false))
			before := l.kernel.String()
			l.kernel.FailAt(fail, os.ErrInvalid)
			l.killed(die, func() error { return l.setHostAccess(true) })
			l.wantAsBefore(before)
		}
	}
}

func TestKilledSetLeaksNoAddress(t *testing.T) {
	l := newLab(t)
	l.mustAdd(lan(true))
	l.killed(1, func() error { return l.setHostAccess(false) })
	must(t, l.setHostAccess(true))
	if macs, _ := l.MACs(context.Background()); len(macs) != 1 {
		t.Errorf("addresses held: %v", macs)
	}
}

// interrupted cancels the verb's context after some steps, as Ctrl-C does.
type interrupted struct {
	*kernel.Fake
	left   *int
	cancel func()
}

func (k interrupted) Apply(ctx context.Context, steps []plan.Step) error {
	for _, s := range steps {
		if err := k.Fake.Apply(ctx, []plan.Step{s}); err != nil {
			return err
		}
		if *k.left--; *k.left == 0 {
			k.cancel()
		}
	}
	return nil
}

func (l *lab) engineOn(k kernel.Kernel) *engine.Engine {
	return engine.New(engine.Config{Kernel: k, Store: store.New(store.Config{Dirs: l.dirs, BootID: l.boot, MachineID: "machine"})})
}

func TestInterruptedSetIsUndone(t *testing.T) {
	t.Parallel()
	for steps := range 5 {
		left := steps + 1
		l := newLab(t)
		l.mustAdd(lan(false))
		before := l.kernel.String()
		ctx, cancel := context.WithCancel(context.Background())
		on := true
		_, err := l.engineOn(interrupted{l.kernel, &left, cancel}).SetSwitch(ctx, "lan", engine.SwitchChange{HostAccess: &on})
		cancel()
		if diff := cmp.Diff(before, l.kernel.String()); err != nil && diff != "" {
			t.Errorf("%v, and left:\n%s", err, diff)
		}
		l.wantAsBefore(before)
	}
}

func TestSetLeavesAnUplinkThatMovedAway(t *testing.T) {
	l := newLab(t)
	l.mustAdd(lan(true))
	l.kernel.AddNetdev(kernel.Netdev{Name: "br0", Kind: "bridge", MTU: 1500, Ethernet: true})
	nic, _ := l.kernel.Netdev(context.Background(), "nic0")
	nic.Master = "br0"
	l.kernel.AddNetdev(nic)
	wantKind(t, l.setHostAccess(false), vswitch.UplinkInUse)
	if nic, _ = l.kernel.Netdev(context.Background(), "nic0"); nic.Master != "br0" {
		t.Errorf("the NIC was taken out of br0: %+v", nic)
	}
	l.kernel.RemoveNetdev("nic0")
	wantKind(t, l.setHostAccess(false), vswitch.UplinkNotFound)
}

// The machine starts with another kernel, which can do less: what was promised is
// refused, not forgotten.
func TestRebootIntoALesserKernel(t *testing.T) {
	l := newLab(t)
	l.mustAdd(vswitch.Switch{Name: "priv", Type: vswitch.Private})
	l.mustAdd(internal())
	l.kernel = kernel.NewFake(kernel.FakeConfig{Netdevs: nics(), Capabilities: kernel.Capabilities{PortLocked: true}, Netns: []string{netns(0)}})
	l.boot = "boot-2"
	l.open()
	for _, name := range []string{"priv", "prod"} {
		_, err := l.Attach(context.Background(), engine.AttachRequest{Owner: owner(0), Switch: name})
		wantKind(t, err, vswitch.CapabilityMissing)
		wantKind(t, l.CanAttach(context.Background(), name, nil), vswitch.CapabilityMissing)
	}
	l.kernel.SetCapabilities(allCapabilities())
	l.mustAttach(engine.AttachRequest{Owner: owner(0), Switch: "priv"})
	if !strings.Contains(l.kernel.String(), "nft table") {
		t.Error("attached to a private switch without the rules that close it")
	}
}

func TestStatusOnAKernelThatCanDoNothing(t *testing.T) {
	l := newLab(t)
	l.mustAdd(lan(true))
	l.mustAttach(engine.AttachRequest{Owner: owner(0), Switch: "lan"})
	caps := kernel.Capabilities{}
	l.kernel.SetCapabilities(caps)
	l.boot = "boot-2"
	l.open()
	if _, err := l.Status(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestFlushedRulesOfASwitchClosedToTheHost(t *testing.T) {
	l := newLab(t)
	l.mustAdd(lan(false))
	must(t, l.kernel.Apply(context.Background(), []plan.Step{plan.SetRules{Remove: plan.Rules{Base: true}}}))
	l.mustAttach(engine.AttachRequest{Owner: owner(0), Switch: "lan"})
	if !strings.Contains(l.kernel.String(), "nft table") {
		t.Error("closed to the host, and no rules")
	}
}

// flusher is a stranger who flushes the rules whenever they are there.
type flusher struct{ *kernel.Fake }

func (k flusher) Apply(ctx context.Context, steps []plan.Step) error {
	if _, asks := steps[0].(plan.RequireRules); asks {
		_ = k.Fake.Apply(ctx, []plan.Step{plan.SetRules{Remove: plan.Rules{Base: true}}})
	}
	return k.Fake.Apply(ctx, steps)
}

func TestAttachGivesUpOnAStubbornStranger(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	_, err := l.engineOn(flusher{l.kernel}).Attach(context.Background(), request(0))
	wantKind(t, err, vswitch.Drifted)
	if vswitch.HintOf(err) == "" {
		t.Errorf("no hint: %v", err)
	}
	l.wantNoGuests()
}

// renewing attaches an owner anew between GC's first look and its second.
type renewing struct {
	*kernel.Fake
	once *bool
	do   func()
}

func (k renewing) NetnsID(path string) (kernel.NetnsID, error) {
	id, err := k.Fake.NetnsID(path)
	if !*k.once {
		*k.once = true
		k.do()
	}
	return id, err
}

func TestGCKeepsWhoCameBack(t *testing.T) {
	l := newLab(t)
	l.mustAttach(request(0))
	l.kernel.RemoveNetns(netns(0))
	var once bool
	again := func() {
		l.kernel.AddNetns(netns(0))
		l.mustAttach(request(0))
	}
	report, err := l.engineOn(renewing{l.kernel, &once, again}).GC(context.Background(), engine.GCRequest{})
	if _, found, _ := l.Attached(context.Background(), owner(0)); err != nil || !found || len(report.Removed) > 0 {
		t.Errorf("attached %v, removed %v, %v", found, report.Removed, err)
	}
}

func TestCanAttachSeesWhatAddRefuses(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	l.mustAdd(lan(true))
	overlap := internal()
	overlap.Name = "other"
	for name, c := range map[string]struct {
		define vswitch.Switch
		kind   vswitch.Kind
	}{
		"overlap": {overlap, vswitch.Conflict},
		"uplink":  {vswitch.Switch{Name: "lan2", Uplink: "nic0"}, vswitch.UplinkInUse},
	} {
		err := l.CanAttach(context.Background(), c.define.Name, &c.define)
		wantKind(t, err, c.kind)
		if hint := vswitch.HintOf(err); hint == "" || strings.Count(err.Error(), hint) != 1 {
			t.Errorf("%s: hint %q of %v", name, hint, err)
		}
	}
	must(t, l.CanAttach(context.Background(), "lan", nil))
	must(t, l.CanAttach(context.Background(), "new", &vswitch.Switch{Name: "new", Type: vswitch.Private}))
	wantKind(t, l.CanAttach(context.Background(), "nobody", nil), vswitch.NotFound)
}
