package engine_test

import (
	"context"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// A switch has SR-IOV, or has not, from the start, whoever asks for a change.
func TestSRIOVCannotChange(t *testing.T) {
	for _, with := range []bool{true, false} {
		l := newLab(t)
		s := vswitch.Switch{Name: "wan", Uplink: "nic0", SRIOV: with}
		l.mustAdd(s)
		l.mustAdd(vswitch.Switch{Name: "wan", Uplink: "nic0"}) // what a definition leaves out it does not ask for
		if _, err := l.SetSwitch(context.Background(), "wan", engine.SwitchChange{SRIOV: &with}); err != nil {
			t.Errorf("to what it is: %v", err)
		}
		other := !with
		_, err := l.SetSwitch(context.Background(), "wan", engine.SwitchChange{SRIOV: &other})
		wantKind(t, err, vswitch.Immutable)
		s.SRIOV = other
		_, err = l.Apply(context.Background(), configured(s))
		wantKind(t, err, vswitch.Immutable)
		got, err := l.Switch(context.Background(), "wan")
		if err != nil || got.SRIOV != with {
			t.Errorf("it is %t, %v", got.SRIOV, err)
		}
	}
}

// What a switch is defined with is exported, and applied again without a change.
func TestExportedOffloads(t *testing.T) {
	l := newLab(t)
	s := vswitch.Switch{Name: "wan", Uplink: "nic0", SRIOV: true, PortDefaults: vswitch.Policy{Offload: vswitch.OffloadPolicy{
		VMQ: vswitch.VMQPolicy{Weight: vswitch.NumberOf(0)}, SRIOV: vswitch.SRIOVPolicy{Mode: vswitch.OffloadPrefer, Weight: vswitch.NumberOf(5), Failover: true},
	}}}
	l.mustApply(configured(s))
	out, err := l.Export(context.Background(), engine.ExportRequest{})
	must(t, err)
	if d := l.mustApply(configured(out.Config.Switches...)); d.Differs() {
		t.Errorf("it differs: %v", d.Changes)
	}
	a := l.mustAttach(engine.AttachRequest{Owner: owner(0), Switch: "wan"})
	if !a.Port.Policy.Equal(s.PortDefaults) {
		t.Errorf("a new port has %s", a.Port.Policy)
	}
	p, err := l.SetPort(context.Background(), a.Port.ID, engine.PortChange{Policy: vswitch.PolicyChange{Offload: vswitch.OffloadChange{VMQ: vswitch.VMQChange{Weight: ptr(9)}}}})
	must(t, err)
	if got := p.Policy.Offload.String(); !strings.Contains(got, "vmq prefer weight 9") || !strings.Contains(got, "sriov prefer weight 5") {
		t.Errorf("it is %s", got)
	}
	l.wantHealthy()
}
