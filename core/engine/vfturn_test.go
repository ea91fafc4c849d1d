package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// wantTurn is wantVF of a port whose VF is not away.
func (l *lab) wantTurn(turn vswitch.VFTurn) {
	l.t.Helper()
	p, err := l.Port(context.Background(), "web01")
	must(l.t, err)
	if p.VM.VFTurn != turn || l.letIn() != (turn != "") {
		l.t.Errorf("turn %q, want %q; the NIC lets it in: %v", p.VM.VFTurn, turn, l.letIn())
	}
	l.wantVF(webMAC, "")
}

// keptByItsClock runs a test with a lab like teamed, whose engine is resident.
func keptByItsClock(t *testing.T, test func(*lab, *keeper, vswitch.Port)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l, p := teamed(t)
		k := l.keep()
		test(l, k, p)
		k.stop()
	})
}

// pass lets time pass, of a clock that a test has for itself.
func pass(d time.Duration) { <-time.After(d) }

// TestVFComes: a VM that has come from another host hears by its port until it is heard by its VF,
// or for five minutes.
func TestVFComes(t *testing.T) {
	ctx := context.Background()
	incoming := func(l *lab) {
		must(l.t, l.ReleasePort(ctx, vm("p1")))
		must(l.t, l.ExpectDomain(ctx, engine.ExpectDomainRequest{Domain: vm("").Domain()}))
		l.mustReserve(reserveWeb("p1"))
		l.kernel.AddNetdev(vnet("vnet0", 41))
		if p := l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0", Team: ptr(true)}); p.VM.Stage != vswitch.VMIncoming {
			l.t.Fatalf("it is %+v", p.VM)
		}
	}
	for name, begin := range map[string]func(*lab){
		"from another host": func(l *lab) {
			incoming(l)
			_, err := l.ActivateDomain(ctx, webUUID)
			must(l.t, err)
		},
		"back, for it has not gone": func(l *lab) {
			p, err := l.Port(ctx, "web01")
			must(l.t, err)
			must(l.t, l.TakeVF(ctx, engine.TakeVFRequest{Port: p.ID, VF: webVF}))
			_, err = l.ReturnVFs(ctx, webUUID)
			must(l.t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			keptByItsClock(t, func(l *lab, k *keeper, _ vswitch.Port) {
				begin(l)
				l.mustReserve(reserveWeb("moment")) // the state of the NIC's link is changed
				must(t, l.ReleasePort(ctx, vm("moment")))
				synctest.Wait()
				l.wantTurn(vswitch.VFComes)
				l.kernel.Speak("nic0", dbMAC)
				l.kernel.Speak("nic1", webMAC)
				pass(299 * time.Second)
				l.wantTurn(vswitch.VFComes)
				l.kernel.Speak("nic0", webMAC)
				synctest.Wait()
				l.wantTurn("")
				k.await("", "a VM goes by its VF", "heard=true")
			})
			keptByItsClock(t, func(l *lab, k *keeper, _ vswitch.Port) {
				begin(l)
				k.stop() // killed
				k = l.keep()
				pass(299 * time.Second)
				l.wantTurn(vswitch.VFComes)
				pass(2 * time.Second)
				l.wantTurn("")
				k.await("", "a VM goes by its VF", "heard=false")
			})
		})
	}
	t.Run("nobody would end it", func(t *testing.T) {
		l, _ := teamed(t)
		incoming(l)
		_, err := l.ActivateDomain(ctx, webUUID)
		must(t, err)
		l.wantTurn("")
	})
}

// TestToldOnce: the network is told once that a guest goes by its port which may have its VF a moment later, or
// be on another host, and of any other guest again.
func TestToldOnce(t *testing.T) {
	ctx := context.Background()
	for _, team := range []bool{true, false} {
		keptByItsClock(t, func(l *lab, _ *keeper, p vswitch.Port) {
			l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0", Team: &team})
			tell := l.AnnounceDomain
			if team {
				tell = func(ctx context.Context, _ string) error {
					return l.TakeVF(ctx, engine.TakeVFRequest{Port: p.ID, VF: webVF})
				}
			}
			must(t, tell(ctx, webUUID))
			if !l.announced(0) {
				t.Errorf("team %v: it is not announced", team)
			}
			l.kernel.ForgetHeard()
			pass(2 * time.Second)
			if l.announced(0) == team {
				t.Errorf("team %v: announced again: %v", team, l.announced(0))
			}
		})
	}
}

// TestVFLeaves: a guest that was asked to let go of its VF hears by its port when it has.
func TestVFLeaves(t *testing.T) {
	ctx := context.Background()
	keptByItsClock(t, func(l *lab, _ *keeper, p vswitch.Port) {
		loosen := func() {
			must(t, l.LoosenVFs(ctx, webUUID))
			synctest.Wait()
			l.wantTurn(vswitch.VFLeaves)
		}
		loosen()
		pass(299 * time.Second)
		l.kernel.Speak("nic0", webMAC) // it still has the VF
		synctest.Wait()
		loosen() // again, and for as long
		pass(299 * time.Second)
		l.wantTurn(vswitch.VFLeaves)
		pass(2 * time.Second)
		l.wantTurn("")

		loosen()
		must(t, l.TakeVF(ctx, engine.TakeVFRequest{Port: p.ID, VF: webVF}))
		l.wantVF(vswitch.MAC{}, webVF)
		must(t, l.LoosenVFs(ctx, webUUID))
		l.wantVF(vswitch.MAC{}, webVF) // it is away already
		pass(6 * time.Minute)
		l.wantVF(vswitch.MAC{}, webVF)
		_, err := l.ReturnVFs(ctx, webUUID)
		must(t, err)
		l.wantTurn(vswitch.VFComes)

		pass(6 * time.Minute)
		loosen()
		back, err := l.ReturnVFs(ctx, webUUID) // before the guest has let go, as far as is known
		must(t, err)
		if len(back) > 0 {
			t.Errorf("back: %+v", back)
		}
		l.wantTurn(vswitch.VFComes)
		l.kernel.RemoveNetdev("vnet0")
		must(t, l.ReleasePort(ctx, vm("p1")))
		if strings.Contains(l.kernel.String(), webMAC.String()) {
			t.Errorf("of a VM that has gone there is\n%s", l.kernel)
		}
		l.mustReserve(reserveWeb("p1"))
		l.kernel.AddNetdev(vnet("vnet0", 42))
		l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0", Team: ptr(true)})
		loosen()
		l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0", Team: ptr(false)})
		if p, err := l.Port(ctx, "web01"); err != nil || p.VM.VFTurn != "" {
			t.Errorf("without a VF: %+v, %v", p.VM, err)
		}
	})
}

// TestVFStaysAway: of a VM that has migrated nobody gives a VF back that is away, also after patchbayd has
// ended; another migration is another matter.
func TestVFStaysAway(t *testing.T) {
	ctx := context.Background()
	l, p := teamed(t)
	turn := func() vswitch.VFTurn {
		t.Helper()
		found, err := l.Port(ctx, "web01")
		must(t, err)
		return found.VM.VFTurn
	}
	must(t, l.KeepVFs(ctx, webUUID, true))
	if turn() != "" {
		t.Error("a VF that is not away does not come back")
	}
	must(t, l.TakeVF(ctx, engine.TakeVFRequest{Port: p.ID, VF: webVF}))
	must(t, l.KeepVFs(ctx, webUUID, true))
	l.open()
	l.wantVF(vswitch.MAC{}, webVF)
	if turn() != vswitch.VFGone {
		t.Errorf("turn %q", turn())
	}
	must(t, l.KeepVFs(ctx, webUUID, false))
	l.wantVF(vswitch.MAC{}, webVF)
	if turn() != "" {
		t.Errorf("turn %q", turn())
	}
	if err := l.KeepVFs(ctx, "", true); !errors.Is(err, vswitch.Invalid) {
		t.Errorf("of nobody: %v", err)
	}
}

// TestVFTurnsWithFaults: killed or refused anywhere, a turn is as it was or as it is to be, and can be
// made again.
func TestVFTurnsWithFaults(t *testing.T) {
	ctx := context.Background()
	for _, fault := range []string{"dies", "fails"} {
		for n, struck := 1, true; struck; n++ {
			l, _ := teamed(t)
			do := func() error { return l.LoosenVFs(ctx, webUUID) }
			struck = l.strike(fault, n, do)
			must(t, do())
			l.wantTurn(vswitch.VFLeaves)
			if t.Failed() {
				t.Fatalf("%s at step %d", fault, n)
			}
			if !struck && n < 2 {
				t.Errorf("it has only %d steps", n)
			}
		}
	}
	for n, told := 1, true; told; n++ { // the end of one is tried again
		keptByItsClock(t, func(l *lab, k *keeper, p vswitch.Port) {
			must(t, l.LoosenVFs(ctx, webUUID))
			l.kernel.FailAt(n, errBroken)
			pass(301 * time.Second)
			l.kernel.FailAt(0, nil)
			text, _ := k.logged()
			told = strings.Contains(text, "trying again")
			pass(301 * time.Second)
			l.wantTurn("")
		})
	}
}
