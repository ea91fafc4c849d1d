package engine_test

import (
	"context"
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
