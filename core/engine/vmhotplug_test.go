package engine_test

import (
	"context"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TestHotPlug: no hook tells of a tap that comes while the VM runs, nor of one that goes.
func TestHotPlug(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	k := l.keep()
	k.mustReserve(reserveWeb("p1"))
	l.kernel.AddNetdev(vnet("vnet0", 40))
	k.await("", "msg=bound", "vnet0")
	k.wantBound(vm("p1"), "vnet0")
	l.kernel.RemoveNetdev("vnet0")
	k.await("", "its tap is gone", "vnet0")
	k.wantNoPort(vm("p1"))
	k.wantNoGuests()
}

// Whoever finds the tap there when it begins, or has lost events, binds it too.
func TestHotPlugSeenLate(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	l.mustReserve(reserveWeb("p1"))
	l.kernel.AddNetdev(vnet("vnet0", 40))
	k := l.keep()
	k.await("", "msg=bound", "vnet0")
	k.wantBound(vm("p1"), "vnet0")
}

// TestHotPlugIsLeft: a tap waits, shut, for who knows how its VM is defined, also where another port of the
// VM's goes meanwhile.
func TestHotPlugIsLeft(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	asked := make(chan string, 2)
	k := l.keep(func(e *engine.Engine) {
		e.LeaveTaps(func(domain string) bool { asked <- domain; return domain == webUUID })
	})
	k.mustReserve(reserveWeb("p1"))
	k.mustReserve(reserveWeb("p2"))
	k.mustReserve(reserveDB("p1"))
	must(t, k.ReleasePort(context.Background(), vm("p2")))
	l.kernel.AddNetdev(vnet("vnet0", 40))
	if domain := <-asked; domain != webUUID {
		t.Errorf("asked for %s", domain)
	}
	k.mustReserve(reserveWeb("p2"))
	must(t, k.ReleasePort(context.Background(), vm("p2")))
	if domain := <-asked; domain != webUUID {
		t.Errorf("asked for %s", domain)
	}
	l.kernel.AddNetdev(dbVnet("vnet1", 41))
	if domain := <-asked; domain != dbUUID {
		t.Errorf("asked for %s", domain)
	}
	k.await("", "msg=bound", "vnet1")
	k.wantBound(vm("p1"), "")
	if n, err := l.kernel.Netdev(context.Background(), "vnet0"); err != nil || n.Group != 0 {
		t.Errorf("the tap is %+v, %v", n, err)
	}
	k.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0", Override: vswitch.Narrowing{Isolated: ptr(true)}})
	if p := k.wantBound(vm("p1"), "vnet0"); !p.Isolated {
		t.Errorf("bound: %+v", p)
	}
}

func TestStrangers(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	l.mustAdd(internal())
	k := l.keep()
	l.kernel.AddNetdev(vnet("vnet0", 40))
	k.await("", "level=WARN", "no port waits for it", "vnet0")
	s, err := k.Status(ctx)
	must(t, err)
	if len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Message, "vnet0") || !strings.Contains(s.Problems[0].Hint, "nomaster") {
		t.Errorf("status: %+v", s.Problems)
	}
	d, err := k.Doctor(ctx, engine.DoctorRequest{})
	must(t, err)
	if f := findingOf(d, "strangers"); f.Severity != engine.Warning || !strings.Contains(f.What, "vnet0") {
		t.Errorf("doctor: %+v", f)
	}
	text, _ := k.logged()
	twice := reserveWeb("p2")
	k.mustReserve(reserveWeb("p1"))
	k.mustReserve(twice)
	l.kernel.AddNetdev(vnet("vnet1", 41))
	k.await(text, "2 ports wait for a tap", "vnet1")
	must(t, k.ReleasePort(ctx, twice.Owner)) // one of them is left that waits
	if p := k.wantBound(vm("p1"), "vnet0"); p.VM.Index != 40 {
		t.Errorf("bound: %+v", p)
	}
}

func findingOf(d engine.Diagnosis, check string) engine.Finding {
	for _, f := range d.Findings {
		if f.Check == check {
			return f
		}
	}
	return engine.Finding{}
}

// TestMovedTap: the tap goes to another network while nobody calls a hook, or before one does.
func TestMovedTap(t *testing.T) {
	ctx := context.Background()
	l := newLab(t)
	prodAndLab(l)
	l.kernel.AddNetdev(kernel.Netdev{Name: "virbr0", Kind: "bridge", MTU: 1500, Up: true})
	k := l.keep()
	k.mustReserve(toLab("p2"))
	l.moveTap("vnet0", "pb-lab")
	k.await("", "another port's now", "vnet0")
	k.wantBound(vm("p2"), "vnet0")
	must(t, k.ReleasePort(ctx, vm("p1")))
	k.wantNoPort(vm("p1"))
	l.moveTap("vnet0", "virbr0")
	k.await("", "into another bridge", "virbr0")
	k.wantNoPort(vm("p2"))
	if n, err := l.kernel.Netdev(ctx, "vnet0"); err != nil || n.Master != "virbr0" || n.Group != 0 {
		t.Errorf("the tap is %+v, %v", n, err)
	}
}

// TestTapOutOfItsBridge: a libvirt network that is destroyed may let its taps go.
func TestTapOutOfItsBridge(t *testing.T) {
	l := newLab(t)
	prodAndLab(l)
	k := l.keep()
	l.moveTap("vnet0", "")
	k.await("", "msg=repaired", "web01")
	k.wantBound(vm("p1"), "vnet0")
}

// TestVMsAfterReboot: of what there was before only addresses are left.
func TestVMsAfterReboot(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	prodAndLab(l)
	hold, err := l.HoldMAC(ctx, engine.HoldMACRequest{Domain: vm("").Domain(), MAC: webMAC})
	must(t, err)
	l.boot = "boot-2"
	l.kernel.RemoveNetdev("vnet0")
	l.open()
	_, err = l.Restore(ctx, engine.RestoreRequest{})
	must(t, err)
	l.wantNoPort(vm("p1"))
	other := reserveDB("p1")
	other.MAC = webMAC
	if _, err := l.ReservePort(ctx, other); vswitch.KindOf(err) != vswitch.MACDuplicate {
		t.Errorf("the held address went to another VM: %v", err)
	}
	l.mustReserve(reserveWeb("p1"))
	leases, err := l.MACs(ctx)
	must(t, err)
	for _, m := range leases {
		if m.MAC == hold.MAC && (!m.Held || m.Owner != "vm web01" || m.Port != vm("p1").PortID()) {
			t.Errorf("lease: %+v", m)
		}
	}
	must(t, l.ReleaseDomain(ctx, webUUID))
	if _, err := l.ReservePort(ctx, other); vswitch.KindOf(err) != vswitch.MACDuplicate {
		t.Errorf("the address of a VM that has stopped went to another one: %v", err)
	}
}
