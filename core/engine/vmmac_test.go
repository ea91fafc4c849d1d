package engine_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TestMACHolds: a VM has its addresses from before it is defined until they are released, and
// nobody else gets one of them.
func TestMACHolds(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	l.mustAdd(internal())
	web, byName := vm("").Domain(), vswitch.DomainRef{Name: "web01"}
	hold := func(d vswitch.DomainRef, mac vswitch.MAC, nic string) vswitch.MACHold {
		t.Helper()
		h, err := l.HoldMAC(ctx, engine.HoldMACRequest{Domain: d, MAC: mac, NIC: nic})
		must(t, err)
		return h
	}
	first := hold(byName, vswitch.MAC{}, "ua-a")
	second := hold(byName, vswitch.MAC{}, "ua-b")
	if first.MAC == second.MAC || first.Static {
		t.Errorf("held: %+v, %+v", first, second)
	}
	if again := hold(byName, vswitch.MAC{}, "ua-a"); again != first {
		t.Errorf("held again: %+v, want %+v", again, first)
	}
	if known := hold(web, first.MAC, ""); known.Domain != web || known.NIC != "ua-a" {
		t.Errorf("with its UUID: %+v", known)
	}
	hold(web, webMAC, "ua-c")
	for _, mac := range []vswitch.MAC{first.MAC, webMAC} {
		_, err := l.HoldMAC(ctx, engine.HoldMACRequest{Domain: db("").Domain(), MAC: mac})
		wantKind(t, err, vswitch.MACDuplicate)
		req := reserveDB("p1")
		req.MAC = mac
		_, err = l.ReservePort(ctx, req)
		wantKind(t, err, vswitch.MACDuplicate)
		attach := request(0)
		attach.MAC = mac
		if _, err := l.Attach(ctx, attach); err == nil {
			t.Errorf("a container got %s", mac)
		}
	}
	_, err := l.HoldMAC(ctx, engine.HoldMACRequest{Domain: web, MAC: nics()[1].MAC})
	wantKind(t, err, vswitch.MACDuplicate)
	_, err = l.HoldMAC(ctx, engine.HoldMACRequest{MAC: webMAC})
	wantKind(t, err, vswitch.Invalid)

	running := reserveWeb("p1")
	running.MAC = first.MAC
	l.mustReserve(running)
	owners := func() map[vswitch.MAC]string {
		all := make(map[vswitch.MAC]string)
		leases, err := l.MACs(ctx)
		must(t, err)
		for _, m := range leases {
			if m.Owner != "host" {
				all[m.MAC] = m.Owner + " " + m.Port + " " + m.NIC
			}
		}
		return all
	}
	id := vm("p1").PortID()
	want := map[vswitch.MAC]string{first.MAC: "vm web01 " + id + " ua-a", second.MAC: "vm web01  ua-b", webMAC: "vm web01  ua-c"}
	if diff := cmp.Diff(want, owners()); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
	released, err := l.ReleaseMAC(ctx, engine.ReleaseMACRequest{Domain: web})
	must(t, err)
	if len(released) != 3 {
		t.Errorf("released: %+v", released)
	}
	if diff := cmp.Diff(map[vswitch.MAC]string{first.MAC: "vm web01 " + id + " "}, owners()); diff != "" {
		t.Errorf("while it runs it keeps its address (-want +got):\n%s", diff)
	}
	must(t, l.ReleaseDomain(ctx, webUUID))
	l.wantNoGuests()

	// One that runs already is held when it is defined, and stays when it stops.
	l.mustReserve(reserveWeb("p1"))
	hold(byName, webMAC, "")
	must(t, l.ReleaseDomain(ctx, webUUID))
	if diff := cmp.Diff(map[vswitch.MAC]string{webMAC: "vm web01  "}, owners()); diff != "" {
		t.Errorf("when it has stopped (-want +got):\n%s", diff)
	}
	if again, err := l.ReleaseMAC(ctx, engine.ReleaseMACRequest{MAC: webMAC}); err != nil || len(again) != 1 {
		t.Errorf("released: %+v, %v", again, err)
	}
	if again, err := l.ReleaseMAC(ctx, engine.ReleaseMACRequest{MAC: webMAC}); err != nil || len(again) != 0 {
		t.Errorf("released again: %+v, %v", again, err)
	}
	l.wantNoGuests()
}

// TestMACHoldKnowsItsDriver: once libvirt has the VM, whatever is asked for later.
func TestMACHoldKnowsItsDriver(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	l.mustAdd(internal())
	for _, driver := range []string{"", "qemu:///system", ""} {
		_, err := l.HoldMAC(ctx, engine.HoldMACRequest{Domain: vm("").Domain(), MAC: webMAC, Driver: driver})
		must(t, err)
	}
	leases, err := l.MACs(ctx)
	must(t, err)
	if i := slices.IndexFunc(leases, func(m engine.MACLease) bool { return m.MAC == webMAC }); i < 0 || leases[i].Driver != "qemu:///system" {
		t.Errorf("leases: %+v", leases)
	}
	_, err = l.HoldMAC(ctx, engine.HoldMACRequest{Domain: vm("").Domain(), MAC: webMAC, Driver: "a\nb"})
	wantKind(t, err, vswitch.Invalid)
}

// TestOneMACForANIC: a NIC has one address. What is planned for it leaves it the one that libvirt
// has it defined with, until it is defined anew.
func TestOneMACForANIC(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	l.mustAdd(internal())
	defined, planned := vm("").Domain(), vswitch.DomainRef{Name: "web01"}
	hold := func(d vswitch.DomainRef, mac vswitch.MAC) vswitch.MAC {
		t.Helper()
		h, err := l.HoldMAC(ctx, engine.HoldMACRequest{Domain: d, MAC: mac, NIC: "ua-web"})
		must(t, err)
		return h.MAC
	}
	held := func(want ...vswitch.MAC) {
		t.Helper()
		leases, err := l.MACs(ctx)
		must(t, err)
		var is []vswitch.MAC
		for _, m := range leases {
			if m.Held {
				is = append(is, m.MAC)
			}
		}
		if diff := cmp.Diff(want, is); diff != "" {
			t.Errorf("held (-want +got):\n%s", diff)
		}
	}
	another := vswitch.MAC{0x52, 0x54, 0, 0xbb, 0, 1}
	hold(planned, vswitch.MAC{})
	hold(planned, webMAC)
	held(webMAC)
	hold(defined, webMAC)
	hold(planned, another)
	held(webMAC, another)
	hold(defined, webMAC) // looked at again
	held(webMAC, another)
	if got := hold(planned, vswitch.MAC{}); got != another {
		t.Errorf("the NIC is to have %s", got)
	}
	hold(defined, another)
	held(another)
	hold(planned, webMAC)
	hold(defined, dbMAC) // something else than was planned
	held(dbMAC)
	_, err := l.HoldMAC(ctx, engine.HoldMACRequest{Domain: planned, MAC: nics()[1].MAC, NIC: "ua-web"})
	wantKind(t, err, vswitch.MACDuplicate)
	held(dbMAC)
}
