package engine_test

import (
	"context"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// setHost changes the policy of the port that the host has on lan.
func (l *lab) setHost(c vswitch.PolicyChange) error {
	_, err := l.SetPort(context.Background(), vswitch.HostPortSwitchEnd("lan"), engine.PortChange{Policy: c})
	return err
}

// The host's own port is limited as any other, from the start or later.
func TestLimitsOfTheHostsPort(t *testing.T) {
	l := newLab(t)
	pristine := l.kernel.String()
	s := policed()
	s.HostPolicy = limitedTo(10e6, 1e9).Apply(vswitch.Policy{})
	l.mustAdd(s)
	shaper := vswitch.ShaperName(vswitch.HostPortSwitchEnd("lan"))
	to, from := "tbf rate 10000000bit", "tbf rate 1000000000bit"
	l.wantDrawn(true, to, from, shaper+": ifb", "redirect to "+shaper)
	l.wantHealthy()
	must(t, l.setHost(limitedTo(0, 2e9)))
	l.wantDrawn(true, "tbf rate 2000000000bit", shaper+": ifb")
	l.wantDrawn(false, to, from)
	l.wantHealthy()

	for name, harm := range map[string]func(){
		"queue":    func() { l.kernel.DropQueues(shaper) },
		"redirect": func() { l.kernel.DropQueues(vswitch.HostPortSwitchEnd("lan")) },
		"shaper":   func() { l.kernel.RemoveNetdev(shaper) },
	} {
		harm()
		if p, err := l.Port(context.Background(), vswitch.HostPortSwitchEnd("lan")); err != nil || len(p.Drift) != 1 {
			t.Errorf("%s: the drift is %q, %v", name, p.Drift, err)
		}
		_, err := l.SetSwitch(context.Background(), "lan", engine.SwitchChange{})
		must(t, err)
		l.wantHealthy()
		l.wantDrawn(true, "tbf rate 2000000000bit", "redirect to "+shaper)
	}
	must(t, l.setHost(limitedTo(0, 0)))
	l.wantDrawn(false, "tbf", shaper)
	must(t, l.setHost(limitedTo(1e6, 1e6)))
	_, err := l.SetSwitch(context.Background(), "lan", engine.SwitchChange{Type: ptr(vswitch.Private)})
	must(t, err)
	l.wantDrawn(false, "tbf", shaper)
	_, err = l.SetSwitch(context.Background(), "lan", engine.SwitchChange{Type: ptr(vswitch.Internal), HostPolicy: ptr(limitedTo(1e6, 1e6))})
	must(t, err)
	l.wantDrawn(true, shaper)
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}))
	l.wantClean(pristine)
}

// A change that is killed anywhere is ended by the next verb, and nothing is left of it.
func TestHostPolicySurvivesKills(t *testing.T) {
	for name, c := range map[string]struct{ before, change vswitch.PolicyChange }{
		"limits come":      {change: limitedTo(10e6, 1e9)},
		"limits go":        {before: limitedTo(10e6, 1e9), change: limitedTo(0, 0)},
		"a source comes":   {before: limitedTo(0, 1e9), change: vswitch.PolicyChange{Mirror: ptr(vswitch.MirrorSource)}},
		"priority comes":   {change: urgent()},
		"one way, and all": {before: limitedTo(10e6, 0), change: vswitch.PolicyChange{Bandwidth: limitedTo(0, 1e9).Bandwidth, Mirror: ptr(vswitch.MirrorSource), IEEEPriorityTag: ptr(true)}},
	} {
		t.Run(name, func(t *testing.T) {
			for at := 1; ; at++ {
				l := newLab(t)
				pristine := l.kernel.String()
				l.mustAdd(policed())
				l.mustAttach(mirroring(0, vswitch.MirrorDestination))
				if !c.before.IsZero() {
					must(t, l.setHost(c.before))
				}
				l.kernel.DieAt(at)
				killed := dies(func() error { return l.setHost(c.change) })
				l.kernel.Revive()
				l.open()
				_, err := l.SetSwitch(context.Background(), "lan", engine.SwitchChange{})
				must(t, err)
				l.wantHealthy()
				l.mustDetach(0)
				must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}))
				if l.wantClean(pristine); t.Failed() {
					t.Fatalf("killed at step %d", at)
				}
				if !killed {
					return
				}
			}
		})
	}
}

// The host's port is a mirror source or destination as any other.
func TestMirroringOfTheHostsPort(t *testing.T) {
	l := newLab(t)
	pristine := l.kernel.String()
	s := policed()
	s.HostPolicy.Mirror = vswitch.MirrorSource
	l.mustAdd(s)
	host := vswitch.HostPortSwitchEnd("lan")
	l.wantCopies("a source alone", "")
	if s, err := l.Status(context.Background()); err != nil || len(s.Problems) != 1 || s.Problems[0].Kind != vswitch.MirrorTarget {
		t.Errorf("status of a source alone: %+v, %v", s, err)
	}
	l.mustAttach(mirroring(0, vswitch.MirrorDestination))
	l.wantCopies("a source", host+">0")
	l.wantHealthy()
	if p, err := l.Port(context.Background(), host); err != nil || len(p.MirroredTo) != 1 {
		t.Errorf("copied to %v, %v", p.MirroredTo, err)
	}
	must(t, l.setHost(vswitch.PolicyChange{Mirror: ptr(vswitch.MirrorDestination)}))
	l.wantCopies("two destinations", "")
	l.mustAttach(mirroring(1, vswitch.MirrorSource))
	l.wantCopies("two destinations, and a source", "1>0 1>"+host)
	must(t, l.setHost(vswitch.PolicyChange{Mirror: ptr(vswitch.MirrorNone)}))
	l.wantCopies("one destination", "1>0")
	l.wantHealthy()
	l.mustDetach(0)
	l.mustDetach(1)
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}))
	l.wantClean(pristine)
}

// A source whose frames are held back is copied all the same.
func TestMirrorOfALimitedPort(t *testing.T) {
	l := newLab(t)
	pristine := l.kernel.String()
	l.mustAdd(policed())
	l.mustAttach(mirroring(1, vswitch.MirrorDestination))
	l.mustAttach(mirroring(0, vswitch.MirrorSource))
	change := func(c vswitch.PolicyChange, copies string) {
		t.Helper()
		_, err := l.SetPort(context.Background(), owner(0).PortID(), engine.PortChange{Policy: c})
		must(t, err)
		l.wantHealthy()
		l.wantCopies(c.Apply(vswitch.Policy{}).String(), copies)
	}
	change(limitedTo(0, 1e9), "0>1")
	l.kernel.FlushMirrors()
	change(vswitch.PolicyChange{Mirror: ptr(vswitch.MirrorNone)}, "")
	change(vswitch.PolicyChange{Mirror: ptr(vswitch.MirrorSource)}, "0>1")
	l.kernel.DropQueues(owner(0).PortID()) // with all filters of the port
	l.wantCopies("dropped", "")
	l.mustAttach(l.again(0))
	l.wantHealthy()
	change(limitedTo(1e9, 0), "0>1")
	l.mustDetach(0)
	l.mustDetach(1)
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}))
	l.wantClean(pristine)
}

func TestHostPolicyNeedsTheKernel(t *testing.T) {
	for name, c := range map[string]struct {
		policy vswitch.PolicyChange
		symbol string
	}{
		"limits": {limitedTo(10e6, 0), "CONFIG_NET_SCH_TBF"},
		"mirror": {vswitch.PolicyChange{Mirror: ptr(vswitch.MirrorDestination)}, "CONFIG_NET_ACT_MIRRED"},
	} {
		t.Run(name, func(t *testing.T) {
			caps := allCapabilities()
			caps.Limits, caps.Mirroring = false, false
			l := newLabWith(t, caps)
			s := policed()
			s.HostPolicy = c.policy.Apply(vswitch.Policy{})
			_, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: s})
			wantKind(t, err, vswitch.CapabilityMissing)
			if err != nil && !strings.Contains(err.Error(), c.symbol) {
				t.Errorf("no symbol in %v", err)
			}
			l.mustAdd(policed())
			wantKind(t, l.setHost(c.policy), vswitch.CapabilityMissing)
		})
	}
}
