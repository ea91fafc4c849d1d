package engine_test

import (
	"context"
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
