package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file has what policies of ports do with one another and with other verbs.

// watched guards a port and gives it a list.
func watched(t *testing.T) vswitch.PolicyChange {
	t.Helper()
	return vswitch.PolicyChange{DHCPGuard: ptr(true), ACL: ptr(aclRules(t, "deny out to 10.0.0.0/8"))}
}

func (l *lab) wantWatched(wanted bool, netdev string) {
	l.t.Helper()
	l.wantDrawn(wanted, "dhcp { "+netdev, netdev+" { deny out")
}

// Who is evicted takes his guards and his list along, whoever stays with some.
func TestEvictedPolicyIsGone(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	l.mustAdd(vswitch.Switch{Name: "prod", Type: vswitch.Internal})
	a := l.mustAttach(guarded(0, watched(t)))
	l.mustAttach(engine.AttachRequest{Owner: owner(1), Switch: "prod", Policy: watched(t)})
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan", Force: true}))
	l.wantWatched(false, a.Port.Netdev)
	l.mustAttach(engine.AttachRequest{Owner: owner(0), Switch: "prod"})
	l.wantWatched(false, a.Port.Netdev)
	l.wantHealthy()
}

// A list that is another one of the same length is another list.
func TestApplyChangesAList(t *testing.T) {
	l := newLab(t)
	s := policed()
	s.PortDefaults.ACL = aclRules(t, "deny out to 10.0.0.0/8")
	l.mustApply(configured(s))
	s.PortDefaults.ACL = aclRules(t, "allow out to 10.5.0.0/16")
	if d := l.mustApply(configured(s)); !d.Differs() {
		t.Error("nothing differs")
	}
	got, err := l.Switch(context.Background(), "lan")
	must(t, err)
	if !got.PortDefaults.Equal(s.PortDefaults) {
		t.Errorf("got %v", got.PortDefaults.ACL)
	}
}

// What an earlier version of Patchbay has not asked the kernel is asked when it is needed.
func TestPolicyAfterAnUpgrade(t *testing.T) {
	for name, req := range map[string]engine.AttachRequest{
		"guard":  guarded(0, vswitch.PolicyChange{DHCPGuard: ptr(true)}),
		"list":   listed(t, 0, "deny out to 10.0.0.0/8"),
		"mirror": mirroring(0, vswitch.MirrorSource),
		"limit":  limited(0, 10e6, 0),
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			must(t, l.store().Update(func(tx *store.Tx) error {
				return tx.PutFact("capabilities", kernel.Capabilities{PortLocked: true, VLANFiltering: true, BridgeRules: true, NAT: true, Bonding: true})
			}))
			l.mustAdd(vswitch.Switch{Name: req.Switch, Type: vswitch.Internal})
			l.mustAttach(req)
		})
	}
}

// A request may leave to the switch what its own words need.
func TestPolicyCompletedByTheSwitch(t *testing.T) {
	l := newLab(t)
	s := policed()
	s.PortDefaults = vswitch.Policy{Bandwidth: vswitch.Bandwidth{In: vswitch.Limit{Max: 1e9}}}
	l.mustAdd(s)
	burst := vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{In: vswitch.LimitChange{Burst: ptr(vswitch.Bits(1e6))}}}
	a := l.mustAttach(engine.AttachRequest{Owner: owner(1), Switch: "lan", Policy: burst})
	if want := (vswitch.Limit{Max: 1e9, Burst: 1e6}); a.Port.Policy.Bandwidth.In != want {
		t.Errorf("limit %v, want %v", a.Port.Policy.Bandwidth.In, want)
	}
}

// Limits that a killed process was to take away go with whatever comes next.
func TestKilledUnlimit(t *testing.T) {
	unlimit := func(l *lab, id string) {
		l.killed(1, func() error {
			_, err := l.SetPort(context.Background(), id, engine.PortChange{Policy: limitedTo(0, 0)})
			return err
		})
	}
	t.Run("attached again", func(t *testing.T) {
		l := newLab(t)
		l.mustAdd(policed())
		unlimit(l, l.mustAttach(limited(0, 10e6, 1e9)).Port.ID)
		l.mustAttach(limited(0, 0, 0))
		l.wantDrawn(false, "tbf rate", "ifb")
		l.wantHealthy()
	})
	t.Run("a tap detached", func(t *testing.T) {
		l := newLab(t)
		l.mustAdd(policed())
		l.kernel.AddNetdev(kernel.Netdev{Name: "tap9", Kind: "tun", MTU: 1500, Up: true, Ethernet: true, MAC: vswitch.MAC{2, 9}})
		req := limited(0, 10e6, 20e6)
		req.Netdev, req.Owner.Netns = "tap9", ""
		l.mustAttach(req)
		unlimit(l, req.Owner.PortID())
		must(t, l.Detach(context.Background(), req.Owner))
		l.wantDrawn(false, "tbf", "ifb")
	})
}

// Guards and lists that a killed process was to take away are drift that patchbayd sees, and
// not looked for any more once they are gone.
func TestKilledUnguard(t *testing.T) {
	ctx := context.Background()
	unguard := vswitch.PolicyChange{DHCPGuard: ptr(false), ACL: &[]vswitch.ACLRule{}}
	set := func(l *lab, id string) error {
		_, err := l.SetPort(ctx, id, engine.PortChange{Policy: unguard})
		return err
	}
	for name, end := range map[string]func(*lab, string) error{
		"kept":           func(l *lab, _ string) error { return kept(l) },
		"restored":       func(l *lab, _ string) error { return restored(l) },
		"set again":      set,
		"attached again": func(l *lab, _ string) error { _, err := l.Attach(ctx, guarded(0, unguard)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.mustAdd(policed())
			l.mustAttach(engine.AttachRequest{Owner: owner(1), Switch: "lan", Policy: watched(t)}) // the tables stay
			p := l.mustAttach(guarded(0, watched(t))).Port
			l.killed(1, func() error { return set(l, p.ID) })
			l.wantWatched(true, p.Netdev)
			if s, err := l.Status(ctx); err != nil || len(s.Problems) != 1 || s.Problems[0].Kind != vswitch.Drifted {
				t.Errorf("status: %+v, %v", s.Problems, err)
			}
			must(t, end(l, p.ID))
			l.wantWatched(false, p.Netdev)
			l.wantHealthy()
			if name == "restored" {
				return // whoever takes the port's lock notes it
			}
			got, err := l.Port(ctx, p.ID)
			must(t, err)
			if got.PolicyChanged {
				t.Error("what is gone is still looked for")
			}
		})
	}
}

// A change that failed, and could not be undone, leaves what it had begun to be looked for.
func TestFailedGuardIsLookedFor(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	l.mustAttach(engine.AttachRequest{Owner: owner(1), Switch: "lan", Policy: watched(t)})
	p := l.mustAttach(guarded(0, vswitch.PolicyChange{})).Port
	l.Engine = l.engineOn(&halved{Fake: l.kernel})
	_, err := l.SetPort(context.Background(), p.ID, engine.PortChange{Policy: watched(t)})
	if !errors.Is(err, errBroken) {
		t.Fatalf("got %v", err)
	}
	l.wantWatched(true, p.Netdev)
	must(t, kept(l))
	l.wantWatched(false, p.Netdev)
	l.wantHealthy()
}

// halved does the first steps that it is given, and tells that they failed.
type halved struct {
	*kernel.Fake
	done bool
}

func (k *halved) Apply(ctx context.Context, steps []plan.Step) error {
	if !k.done {
		k.done = true
		if err := k.Fake.Apply(ctx, steps); err != nil {
			return err
		}
	}
	return errBroken
}

// meddled has something done before the first step.
type meddled struct {
	*kernel.Fake
	before func()
}

func (m *meddled) Apply(ctx context.Context, steps []plan.Step) error {
	if f := m.before; f != nil {
		m.before = nil
		f()
	}
	return m.Fake.Apply(ctx, steps)
}

// A switch that changes does not take away the tables into which another one's port is
// just being put.
func TestPolicyWhileAnotherSwitchChanges(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	l.mustAdd(vswitch.Switch{Name: "other", Type: vswitch.Internal})
	l.mustAttach(guarded(0, watched(t)))
	l.mustDetach(0)
	var netdev string
	m := &meddled{Fake: l.kernel, before: func() { netdev = l.mustAttach(guarded(1, watched(t))).Port.Netdev }}
	_, err := l.engineOn(m).SetSwitch(context.Background(), "other", engine.SwitchChange{MTU: ptr(1400)})
	must(t, err)
	l.wantWatched(true, netdev)
}

// A source that leaves while its switch changes takes its table along, also where its netdev
// stays.
func TestSourceLeavesWhileItsSwitchChanges(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	l.kernel.AddNetdev(kernel.Netdev{Name: "tap9", Kind: "tun", MTU: 1500, Up: true, Ethernet: true, MAC: vswitch.MAC{2, 9}})
	source := mirroring(0, vswitch.MirrorSource)
	source.Netdev, source.Owner.Netns = "tap9", ""
	l.mustAttach(source)
	l.mustAttach(mirroring(1, vswitch.MirrorDestination))
	l.mustAttach(mirroring(2, vswitch.MirrorSource))
	l.kernel.FlushMirrors()
	m := &meddled{Fake: l.kernel, before: func() { l.kernel.FlushMirrors(); must(t, l.Detach(context.Background(), source.Owner)) }}
	_, err := l.engineOn(m).SetSwitch(context.Background(), "lan", engine.SwitchChange{MTU: ptr(1400)})
	must(t, err)
	l.wantCopies("a source has left", "2>1")
	l.wantHealthy()
}

// A configuration that is applied again brings back tables of mirrors, and `diff` tells of
// them.
func TestApplyBringsMirrorsBack(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	l.mustAttach(mirroring(0, vswitch.MirrorSource))
	l.mustAttach(mirroring(1, vswitch.MirrorDestination))
	l.kernel.FlushMirrors()
	d, err := l.DiffConfig(context.Background(), configured(policed()))
	must(t, err)
	if !d.Differs() {
		t.Error("nothing differs")
	}
	l.mustApply(configured(policed()))
	l.wantCopies("applied again", "0>1")
	l.wantHealthy()
}
