package engine_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Whether tags keep their priority goes by the tap's name, too, which is another VM's later:
// whoever binds that one after a kill takes what is left of the first.
func TestPriorityOfAnothersTap(t *testing.T) {
	for n := 1; ; n++ {
		l := newLab(t)
		l.mustAdd(internal())
		req := reserveWeb("p1")
		req.Policy = urgent()
		l.mustReserve(req)
		l.kernel.AddNetdev(vnet("vnet0", 40))
		l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0"})
		if !strings.Contains(l.kernel.String(), "priority { vnet0 }") {
			t.Fatalf("no priority:\n%s", l.kernel)
		}
		l.kernel.RemoveNetdev("vnet0")
		l.kernel.AddNetdev(dbVnet("vnet0", 41))
		l.mustReserve(reserveDB("p1"))
		bind := engine.BindPortRequest{Owner: db("p1"), Netdev: "vnet0"}
		l.kernel.DieAt(n)
		killed := dies(func() error { _, err := l.BindPort(context.Background(), bind); return err })
		l.kernel.Revive()
		l.open()
		l.mustBind(bind)
		if strings.Contains(l.kernel.String(), "priority { ") {
			t.Fatalf("killed at step %d, the tap keeps the priority of another port:\n%s", n, l.kernel)
		}
		if !killed {
			return
		}
	}
}

// An override that `port set` has gone beyond since does not keep the VM from going to another
// host.
func TestNarrowedOnceOnAllHosts(t *testing.T) {
	ctx := context.Background()
	here, there := newLab(t), newLab(t)
	here.mustAdd(external())
	there.mustAdd(external())
	here.mustReserve(reserveWeb("here"))
	here.kernel.AddNetdev(vnet("vnet0", 40))
	override := vswitch.Narrowing{Policy: vswitch.PolicyChange{StormLimit: ptr(50)}}
	here.mustBind(engine.BindPortRequest{Owner: vm("here"), Netdev: "vnet0", Override: override})
	_, err := here.SetPort(ctx, "web01", engine.PortChange{Policy: vswitch.PolicyChange{StormLimit: ptr(5)}})
	must(t, err)
	exported, err := here.ExportDomain(ctx, webUUID)
	must(t, err)
	text, err := json.Marshal(exported)
	must(t, err)
	var state engine.DomainState
	must(t, json.Unmarshal(text, &state))
	must(t, there.ExpectDomain(ctx, engine.ExpectDomainRequest{Domain: vm("").Domain(), State: &state}))
	there.mustReserve(reserveWeb("there"))
	there.kernel.AddNetdev(vnet("vnet7", 70))
	if p := there.mustBind(engine.BindPortRequest{Owner: vm("there"), Netdev: "vnet7", Override: override}); p.Policy.StormLimit != 5 {
		t.Errorf("it comes with %+v", p.Policy)
	}
}

// What a tap's frames are copied by goes with the tap to another switch, in whatever order
// their names are.
func TestMirrorOfAMovedTapOnLinux(t *testing.T) {
	for _, way := range [][2]string{{"prod", "lab"}, {"lab", "prod"}} {
		h := newHypervisor(t, private("prod"), private("lab"))
		ctx := context.Background()
		ask := func(req engine.ReservePortRequest, on string, mode vswitch.MirrorMode) {
			req.Switch, req.Policy.Mirror = on, &mode
			h.mustReserve(req)
		}
		for i, on := range way {
			port := string(rune('a' + i))
			ask(reserveDB(port), on, vswitch.MirrorDestination)
			h.plug("vnet"+port, dbMAC, "pb-"+on)
			h.mustBind(db(port), "vnet"+port)
		}
		ask(reserveWeb("p1"), way[0], vswitch.MirrorSource)
		h.plug("vnet0", webMAC, "pb-"+way[0])
		h.mustBind(vm("p1"), "vnet0")
		ask(reserveWeb("p2"), way[1], vswitch.MirrorSource)
		h.move("vnet0", "pb-"+way[1])
		h.mustBind(vm("p2"), "vnet0")
		s, err := h.Status(ctx)
		must(t, err)
		for _, p := range s.Problems {
			if p.Kind == vswitch.Drifted {
				t.Errorf("%v: %+v", way, p)
			}
		}
	}
}
