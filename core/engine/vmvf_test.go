package engine_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

const webVF = "0000:01:10.0"

// teamed is a lab with web01 on prod by nic0, and a VF of nic0 with its address.
func teamed(t *testing.T) (*lab, vswitch.Port) {
	t.Helper()
	l := newLab(t)
	l.mustAdd(external())
	l.mustReserve(reserveWeb("p1"))
	l.kernel.AddNetdev(vnet("vnet0", 40))
	l.kernel.AddVF(webVF, kernel.VF{PF: "nic0", Index: 3, MAC: webMAC})
	p := l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0", Team: ptr(true)})
	if l.announced(0) {
		t.Fatal("the network outside knows it already")
	}
	return l, p
}

// wantVF fails unless the NIC holds the address for the VF, the port says that it is away, and
// what is for the VM goes where it is heard.
func (l *lab) wantVF(mac vswitch.MAC, away string) {
	l.t.Helper()
	vf, err := l.kernel.VF(context.Background(), webVF)
	must(l.t, err)
	p, err := l.Port(context.Background(), "web01")
	must(l.t, err)
	if vf.MAC != mac || p.VM.VFAway != away || len(p.Drift) > 0 {
		l.t.Errorf("the NIC holds %s, and the port says %q: %v; want %s, %q", vf.MAC, p.VM.VFAway, p.Drift, mac, away)
	}
	there := !p.GoesByVF()
	if points := strings.Contains(l.kernel.String(), "bridge fdb "+webMAC.String()); points != there {
		l.t.Errorf("the switch sends to the port: %v, of %+v:\n%s", points, p.VM, l.kernel)
	}
	if !there && l.letIn() {
		l.t.Errorf("the NIC still lets it in:\n%s", l.kernel)
	}
	if guarded := strings.Contains(l.kernel.String(), "vnet0 "+webMAC.String()) || strings.Contains(l.kernel.String(), "vnet0 . "+webMAC.String()); guarded != !there {
		l.t.Errorf("guarded by a rule: %v, of %+v:\n%s", guarded, p.VM, l.kernel)
	}
}

// letIn reports whether the NIC lets the address in for the switch.
func (l *lab) letIn() bool { return strings.Contains(l.kernel.String(), "filter "+webMAC.String()) }

// TestVFAway: a NIC forgets the address of a VM's VF, and holds it again.
func TestVFAway(t *testing.T) {
	ctx := context.Background()
	l, p := teamed(t)
	take := engine.TakeVFRequest{Port: p.ID, VF: webVF}
	for range 2 {
		must(t, l.TakeVF(ctx, take))
		l.wantVF(vswitch.MAC{}, webVF)
	}
	if !l.announced(0) {
		t.Error("the network outside does not hear where the address is now")
	}
	state, err := l.ExportDomain(ctx, webUUID)
	must(t, err)
	if len(state.Ports) != 1 || state.Ports[0].MAC != webMAC {
		t.Errorf("with it goes %+v", state)
	}
	for i := range 2 {
		back, err := l.ReturnVFs(ctx, webUUID)
		must(t, err)
		if len(back) != 1-i {
			t.Errorf("back: %+v", back)
		}
		l.wantVF(webMAC, "")
	}
}

// announcing is a kernel that remembers which guests were announced.
type announcing struct {
	kernel.Kernel
	guests []plan.Guest
}

func (k *announcing) Apply(ctx context.Context, steps []plan.Step) error {
	for _, s := range steps {
		if a, is := s.(plan.AnnounceMACs); is {
			k.guests = append(k.guests, a.Guests...)
		}
	}
	return k.Kernel.Apply(ctx, steps)
}

// TestVFAwayIsAnnouncedByRARP: what this host says for the guest besides, the one that it moves to would
// take for the guest's.
func TestVFAwayIsAnnouncedByRARP(t *testing.T) {
	ctx := context.Background()
	l, p := teamed(t)
	k := &announcing{Kernel: l.kernel}
	e := engine.New(engine.Config{Kernel: k, Store: store.New(store.Config{Dirs: l.dirs, BootID: l.boot, MachineID: "machine"})})
	_, err := e.BindPort(ctx, engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0", Team: ptr(true), Addresses: "10.88.7.7"})
	must(t, err)
	must(t, e.AnnounceDomain(ctx, webUUID))
	must(t, e.TakeVF(ctx, engine.TakeVFRequest{Port: p.ID, VF: webVF}))
	if len(k.guests) != 2 || len(k.guests[0].Addresses) != 1 || len(k.guests[1].Addresses) != 0 {
		t.Errorf("announced: %+v", k.guests)
	}
}

// TestVFAwayWithoutZero: some NICs take no zero for an address.
func TestVFAwayWithoutZero(t *testing.T) {
	var l *lab
	var p vswitch.Port
	for n, err := 1, errBroken; err != nil; n++ { // until it is that step which is refused
		l, p = teamed(t)
		l.kernel.FailAt(n, syscall.EINVAL)
		err = l.TakeVF(context.Background(), engine.TakeVFRequest{Port: p.ID, VF: webVF})
	}
	l.wantVF(vswitch.MAC{2}, webVF)
	must(t, l.TakeVF(context.Background(), engine.TakeVFRequest{Port: p.ID, VF: webVF}))
	l.wantVF(vswitch.MAC{2}, webVF)
	_, err := l.ReturnVFs(context.Background(), webUUID)
	must(t, err)
	l.wantVF(webMAC, "")
}

// TestVFAwayWithFaults: killed or refused anywhere, giving back what was taken gives it back.
func TestVFAwayWithFaults(t *testing.T) {
	ctx := context.Background()
	for _, fault := range []string{"dies", "fails"} {
		for verb, steps := range map[string]int{"take": 3, "return": 1} {
			for n, struck := 1, true; struck; n++ {
				l, p := teamed(t)
				do := func() error { return l.TakeVF(ctx, engine.TakeVFRequest{Port: p.ID, VF: webVF}) }
				if verb == "return" {
					must(t, do())
					do = func() error { _, err := l.ReturnVFs(ctx, webUUID); return err }
				}
				struck = l.strike(fault, n, do)
				found, err := l.Port(ctx, "web01")
				must(t, err)
				vf, err := l.kernel.VF(ctx, webVF)
				must(t, err)
				if vf.MAC.IsZero() && found.VM.VFAway == "" {
					t.Errorf("%s %s at step %d: nobody knows that the NIC has forgotten", verb, fault, n)
				}
				_, err = l.ReturnVFs(ctx, webUUID)
				must(t, err)
				_, err = l.BindPort(ctx, engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0", Team: ptr(true)}) // which repairs
				must(t, err)
				l.wantVF(webMAC, "")
				if t.Failed() {
					t.Fatalf("%s %s at step %d", verb, fault, n)
				}
				if !struck && n <= steps {
					t.Errorf("%s has only %d steps", verb, n)
				}
			}
		}
	}
}

// TestVFOfAnother: what is no VF, or has another address, is left alone, with a reason, and
// what is for the guest comes by its port all the same.
func TestVFOfAnother(t *testing.T) {
	for _, tc := range []struct {
		vf   string
		kind vswitch.Kind
		says string
	}{
		{"0000:01:11.0", vswitch.CapabilityMissing, "0000:01:11.0 is no VF"},
		{"0000:01:10.2", vswitch.Conflict, dbMAC.String()},
	} {
		l, p := teamed(t)
		l.kernel.AddVF("0000:01:10.2", kernel.VF{PF: "nic0", Index: 4, MAC: dbMAC})
		err := l.TakeVF(context.Background(), engine.TakeVFRequest{Port: p.ID, VF: tc.vf})
		if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", tc.vf, err)
		}
		l.wantVF(webMAC, tc.vf) // the guest has let go of it all the same
		back, err := l.ReturnVFs(context.Background(), webUUID)
		must(t, err)
		if len(back) != 1 {
			t.Errorf("%s: back %+v", tc.vf, back)
		}
		l.wantVF(webMAC, "")
		if other, err := l.kernel.VF(context.Background(), "0000:01:10.2"); err != nil || other.MAC != dbMAC {
			t.Errorf("the other VF has %s, %v", other.MAC, err)
		}
		if !l.announced(0) {
			t.Errorf("%s: nobody is told", tc.vf)
		}
	}
	l, _ := teamed(t)
	if err := l.TakeVF(context.Background(), engine.TakeVFRequest{Port: "pbnone", VF: webVF}); !errors.Is(err, vswitch.NotFound) {
		t.Errorf("of no port: %v", err)
	}
	must(t, l.AnnounceDomain(context.Background(), webUUID))
	if !l.announced(0) {
		t.Error("the domain is not announced")
	}
}

// strike does something that dies or fails at a step in the kernel, and tells whether it came to that.
func (l *lab) strike(fault string, n int, do func() error) (struck bool) {
	if fault == "dies" {
		l.kernel.DieAt(n)
		struck = dies(do)
		l.kernel.Revive()
		l.open()
		return struck
	}
	l.kernel.FailAt(n, errBroken)
	struck = errors.Is(do(), errBroken)
	l.kernel.FailAt(0, nil)
	return struck
}
