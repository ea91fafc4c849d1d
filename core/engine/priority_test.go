package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func urgent() vswitch.PolicyChange { return vswitch.PolicyChange{IEEEPriorityTag: ptr(true)} }

// A port's element lets its priorities pass; others need none.
func TestPriorityTagFollowsThePort(t *testing.T) {
	l := newLab(t)
	pristine := l.kernel.String()
	l.mustAdd(policed())
	a := l.mustAttach(guarded(0, urgent()))
	l.mustAttach(guarded(0, urgent())) // once more
	element, host := fmt.Sprintf("priority { %s }", a.Port.Netdev), vswitch.HostPortSwitchEnd("lan")
	l.wantDrawn(true, element)
	set := func(port string, on bool) {
		t.Helper()
		_, err := l.SetPort(context.Background(), port, engine.PortChange{Policy: vswitch.PolicyChange{IEEEPriorityTag: &on}})
		must(t, err)
		l.wantHealthy()
	}
	set(a.Port.ID, false)
	l.wantDrawn(false, "priority { ")
	set(a.Port.ID, true)
	set(host, true)
	l.wantDrawn(true, element, fmt.Sprintf("priority { %s }", host))
	l.flushRules()
	l.mustAttach(engine.AttachRequest{Owner: owner(1), Switch: "lan", Policy: urgent()}) // has to make the tables
	l.wantDrawn(true, element, fmt.Sprintf("priority { %s }", host))
	l.wantHealthy()
	set(host, false)
	l.wantDrawn(false, fmt.Sprintf("priority { %s }", host))
	l.mustDetach(0)
	l.mustDetach(1)
	l.wantDrawn(false, "priority { ")
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}))
	l.wantClean(pristine)
}

// What has come in by a port of one segment is not looked at again by another.
func TestPriorityCrossesSegments(t *testing.T) {
	l := newSmallLab(t)
	for i := range 6 { // the last are on the third segment
		l.mustAttach(request(i))
	}
	var near []string
	for k := 1; k <= 2; k++ {
		trunk, _ := vswitch.TrunkNames("prod", k)
		relay, _ := vswitch.RelayNames("prod", k)
		near = append(near, fmt.Sprintf("priority { %s }", trunk), fmt.Sprintf("priority { %s }", relay))
	}
	l.wantDrawn(true, near...)
	l.wantWhole()
	for i := 5; i >= 3; i-- {
		l.mustDetach(i)
	}
	if got := l.segmentsOf("prod"); got != 2 {
		t.Fatalf("%d bridges are left of 3", got)
	}
	l.wantDrawn(false, near[2:]...)
	l.wantDrawn(true, near[:2]...)
	l.wantWhole()
}

// Where the kernel cannot do it, everybody's priority passes, and status says so.
func TestPriorityNeedsTheKernel(t *testing.T) {
	caps := allCapabilities()
	caps.PriorityReset = false
	l := newLabWith(t, caps)
	l.mustAdd(policed())
	l.mustAttach(guarded(0, urgent()))
	s, err := l.Status(context.Background())
	must(t, err)
	told := false
	for _, p := range s.Problems {
		told = told || p.Kind == vswitch.CapabilityMissing && !p.Blocks && strings.Contains(p.Message, "priority of tags")
	}
	if !told {
		t.Errorf("status does not tell: %+v", s.Problems)
	}
	caps.BridgeRules, caps.GuardRules, caps.ACLRules, caps.NAT = false, false, false, false
	l = newLabWith(t, caps)
	l.mustAdd(policed())
	l.mustAttach(guarded(0, urgent()))
	l.wantDrawn(false, "priority {")
}
