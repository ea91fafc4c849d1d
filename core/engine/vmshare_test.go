package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// promisedVM is a port of web01 on wan with a minimum.
func promisedVM(port string, p vswitch.PolicyChange) engine.ReservePortRequest {
	req := reserveWeb(port)
	req.Switch, req.Policy = "wan", p
	return req
}

// plugWAN makes a tap of web01 in the bridge of wan.
func (l *lab) plugWAN(name string, index int) {
	n := vnet(name, index)
	n.Master = "pb-wan"
	l.kernel.AddNetdev(n)
}

// A port without a tap has nothing of the uplink, and what it was promised nobody else is.
func TestSharesOfVMs(t *testing.T) {
	ctx := context.Background()
	l := newLab(t)
	l.sharedWAN("absolute")
	l.mustReserve(promisedVM("p1", atLeast(700e6)))
	l.wantParts("reserved", "")
	l.wantHealthy()
	_, err := l.Attach(ctx, promised(1, atLeast(300e6)))
	wantKind(t, err, vswitch.Admission)
	l.plugWAN("vnet0", 40)
	l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0"})
	l.wantParts("bound", "nic0 *:100.0 nic0 "+webUUID+":700.0")
	l.wantHealthy()
	must(t, l.ReleaseDomain(ctx, webUUID))
	l.kernel.RemoveNetdev("vnet0")
	l.wantParts("released", "")
	l.wantHealthy()
}

// What was promised when the link was faster is promised still: the port is bound again, and
// changed, and its minimum lowered, whatever the link carries now.
func TestPromisesOutlastTheSpeed(t *testing.T) {
	ctx := context.Background()
	l := newLab(t)
	l.sharedWAN("absolute")
	l.mustReserve(promisedVM("p1", atLeast(400e6)))
	l.mustAttach(promised(1, atLeast(400e6)))
	l.kernel.SetSpeed("nic0", 100)
	l.plugWAN("vnet0", 40)
	for range 2 {
		l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0"})
	}
	l.mustAttach(promised(1, atLeast(400e6)))
	_, err := l.SetPort(ctx, owner(1).PortID(), engine.PortChange{Policy: vswitch.PolicyChange{StormLimit: ptr(5)}})
	must(t, err)
	must(t, l.promise(1, atLeast(300e6)))
	wantKind(t, l.promise(1, atLeast(301e6)), vswitch.Admission)
}

// A port that is bound has nothing of an earlier policy, and says so; one that has lost its
// tap to a binding that failed has nothing of the uplink.
func TestBindingSettles(t *testing.T) {
	ctx := context.Background()
	take := func(l *lab) error {
		_, err := l.BindPort(ctx, engine.BindPortRequest{Owner: vm("p2"), Netdev: "vnet0"})
		return err
	}
	for n, failed := 0, true; failed && !t.Failed(); n++ {
		l := newLab(t)
		l.sharedWAN("")
		l.mustAdd(internal())
		policy := weight(9)
		policy.Mirror = ptr(vswitch.MirrorSource)
		l.mustReserve(promisedVM("p1", policy))
		l.mustAttach(promised(1, vswitch.PolicyChange{Mirror: ptr(vswitch.MirrorDestination)}))
		l.plugWAN("vnet0", 40)
		l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0"})
		copied := func() bool { return strings.Contains(l.kernel.String(), "copy to ") }
		if !copied() {
			t.Fatalf("nothing is copied:\n%s", l.kernel)
		}
		l.wantParts("bound", "nic0 *:100.0 nic0 "+webUUID+":900.0")
		l.mustReserve(reserveWeb("p2"))
		l.moveTap("vnet0", "pb-prod")
		l.kernel.FailAt(n+1, errBroken)
		err := take(l)
		l.kernel.FailAt(0, nil)
		failed = err != nil
		p, _, lookErr := l.Attached(ctx, vm("p2"))
		must(t, lookErr)
		if failed && !p.Plugged() {
			l.wantParts(fmt.Sprintf("failed at step %d", n+1), "")
		}
		must(t, take(l))
		if p := l.wantBound(vm("p2"), "vnet0"); p.PolicyChanged {
			t.Errorf("failed at step %d, it is not settled: %+v", n+1, p)
		}
		l.wantParts(fmt.Sprintf("failed at step %d, taken again", n+1), "")
		if copied() {
			t.Errorf("failed at step %d, taken again, it is copied still:\n%s", n+1, l.kernel)
		}
		l.wantHealthy()
	}
}
