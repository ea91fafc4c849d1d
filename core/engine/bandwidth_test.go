package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func limitedTo(in, out vswitch.Bits) vswitch.PolicyChange {
	return vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{In: vswitch.LimitChange{Max: &in}, Out: vswitch.LimitChange{Max: &out}}}
}

func limited(i int, in, out vswitch.Bits) engine.AttachRequest {
	return engine.AttachRequest{Owner: owner(i), Switch: "lan", Policy: limitedTo(in, out)}
}

func TestLimitsFollowThePort(t *testing.T) {
	l := newLab(t)
	pristine := l.kernel.String()
	l.mustAdd(policed())
	a := l.mustAttach(limited(0, 10e6, 1e9))
	shaper := vswitch.ShaperName(a.Port.ID)
	to, from := "tbf rate 10000000bit burst 24352b limit 86852", "tbf rate 1000000000bit burst 1250000b limit 7500000"
	l.wantDrawn(true, to, from, shaper+": ifb", "redirect to "+shaper)
	l.mustAttach(limited(0, 10e6, 1e9)) // once more
	l.wantHealthy()
	_, err := l.Attach(context.Background(), limited(0, 10e6, 2e9))
	wantKind(t, err, vswitch.Conflict)

	set := func(in, out vswitch.Bits) {
		t.Helper()
		_, err := l.SetPort(context.Background(), a.Port.ID, engine.PortChange{Policy: limitedTo(in, out)})
		must(t, err)
		l.wantHealthy()
	}
	set(20e6, 1e9)
	l.wantDrawn(true, "tbf rate 20000000bit", from)
	set(20e6, 0)
	l.wantDrawn(true, "tbf rate 20000000bit")
	l.wantDrawn(false, shaper)
	set(0, 30e6)
	l.wantDrawn(true, "tbf rate 30000000bit", shaper+": ifb")
	l.wantDrawn(false, "tbf rate 20000000bit")

	for name, harm := range map[string]func(){
		"queue":    func() { l.kernel.DropQueues(shaper) },
		"redirect": func() { l.kernel.DropQueues(a.Port.Netdev) },
		"shaper":   func() { l.kernel.RemoveNetdev(shaper) },
	} {
		harm()
		if p, err := l.Port(context.Background(), a.Port.ID); err != nil || len(p.Drift) != 1 {
			t.Errorf("%s: the drift is %q, %v", name, p.Drift, err)
		}
		l.mustAttach(limited(0, 0, 30e6))
		l.wantHealthy()
		l.wantDrawn(true, "tbf rate 30000000bit", "redirect to "+shaper)
	}
	l.mustDetach(0)
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}))
	l.wantClean(pristine)
}

// A namespace that ends takes the port along and leaves what limited it: DEL and GC find it.
func TestLimitsOfTheDead(t *testing.T) {
	for name, end := range map[string]func(l *lab){
		"detach": func(l *lab) { l.mustDetach(0) },
		"gc": func(l *lab) {
			report, err := l.GC(context.Background(), engine.GCRequest{})
			must(l.t, err)
			if len(report.Removed) != 1 {
				l.t.Errorf("GC removed %+v", report)
			}
		},
		"gc without a record": func(l *lab) {
			must(l.t, l.Detach(context.Background(), owner(0)))
			l.kernel.AddNetdev(kernel.Netdev{Name: vswitch.ShaperName(owner(0).PortID()), Kind: "ifb", Alias: vswitch.Alias("limit", "lan", "")})
			report, err := l.GC(context.Background(), engine.GCRequest{})
			must(l.t, err)
			if len(report.Netdevs) != 1 {
				l.t.Errorf("GC removed %+v", report)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.mustAdd(policed())
			bare := l.kernel.String()
			l.mustAttach(limited(0, 10e6, 1e9))
			l.mustAttach(limited(1, 10e6, 1e9))
			l.kernel.RemoveNetns(netns(0))
			end(l)
			l.wantDrawn(true, vswitch.ShaperName(owner(1).PortID())+": ifb")
			l.mustDetach(1)
			l.kernel.AddNetns(netns(0))
			if got := l.kernel.String(); got != bare {
				t.Errorf("left:\n%s\nwant:\n%s", got, bare)
			}
		})
	}
}

// An attach and a change that die anywhere leave nothing behind that a retry does not mend
// and DEL does not remove.
func TestLimitsSurviveDeath(t *testing.T) {
	for at := 1; ; at++ {
		l := newLab(t)
		l.mustAdd(policed())
		bare := l.kernel.String()
		over := !dies(func() error {
			l.kernel.DieAt(at)
			if _, err := l.Attach(context.Background(), limited(0, 10e6, 1e9)); err != nil {
				return err
			}
			_, err := l.SetPort(context.Background(), owner(0).PortID(), engine.PortChange{Policy: limitedTo(0, 0)})
			return err
		})
		l.kernel.DieAt(0)
		l.kernel.Revive()
		l.open()
		if at%2 == 0 {
			l.mustAttach(l.again(0))
			l.wantHealthy()
		}
		l.mustDetach(0)
		if got := l.kernel.String(); got != bare {
			t.Errorf("died at step %d; left:\n%s", at, got)
		}
		if over {
			return
		}
	}
}

func TestLimitRefusals(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	burst := vswitch.Bits(8)
	for name, c := range map[string]struct {
		change vswitch.PolicyChange
		kind   vswitch.Kind
	}{
		"less than a frame in a second": {limitedTo(7992, 0), vswitch.Range},
		"more than any link":            {limitedTo(0, vswitch.MaxBits+8), vswitch.Range},
		"less than none":                {limitedTo(-8, 0), vswitch.Range},
		"a burst of no frame":           {vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{In: vswitch.LimitChange{Max: ptr(vswitch.Bits(1e6)), Burst: &burst}}}, vswitch.Range},
		"a burst alone":                 {vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{Burst: ptr(vswitch.Bits(1e6))}}, vswitch.Invalid},
	} {
		_, err := l.Attach(context.Background(), engine.AttachRequest{Owner: owner(0), Switch: "lan", Policy: c.change})
		if vswitch.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want %s", name, err, c.kind)
		}
	}
	caps := allCapabilities()
	caps.Limits = false
	l = newLabWith(t, caps)
	l.mustAdd(policed())
	_, err := l.Attach(context.Background(), limited(0, 10e6, 0))
	wantKind(t, err, vswitch.CapabilityMissing)
	if !strings.Contains(err.Error(), "CONFIG_NET_SCH_TBF") {
		t.Errorf("no symbol in %v", err)
	}
	l.mustAttach(limited(0, 0, 0))
	_, err = l.SetPort(context.Background(), owner(0).PortID(), engine.PortChange{Policy: limitedTo(0, 10e6)})
	wantKind(t, err, vswitch.CapabilityMissing)
	l.kernel.SetCapabilities(allCapabilities()) // somebody loads the modules
	l.mustAttach(limited(1, 10e6, 0))
	_, err = l.SetPort(context.Background(), owner(0).PortID(), engine.PortChange{Policy: limitedTo(0, 10e6)})
	must(t, err)
}

// A tap that ends takes nothing along of what limited it, and one that is let go keeps none.
func TestLimitsOfATap(t *testing.T) {
	for _, ends := range []bool{false, true} {
		l := newLab(t)
		l.mustAdd(policed())
		l.kernel.AddNetdev(kernel.Netdev{Name: "tap9", Kind: "tun", MTU: 1500, Up: true, Ethernet: true, MAC: vswitch.MAC{2, 9}})
		bare := l.kernel.String()
		req := limited(0, 10e6, 20e6)
		req.Netdev, req.Owner.Netns = "tap9", ""
		l.mustAttach(req)
		shaper := vswitch.ShaperName(req.Owner.PortID())
		l.wantDrawn(true, "tbf rate 10000000bit", "tbf rate 20000000bit", "redirect to "+shaper)
		if ends {
			l.kernel.RemoveNetdev("tap9")
		}
		must(t, l.Detach(context.Background(), req.Owner))
		l.wantDrawn(false, shaper)
		if !ends && l.kernel.String() != bare {
			t.Errorf("left:\n%s", l.kernel)
		}
	}
}

// Limits of many ports are each port's own.
func TestLimitsOfMany(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	bare := l.kernel.String()
	const ports = 4
	errs := make(chan error, ports)
	for i := range ports {
		go func() {
			rate := vswitch.Bits(1+i) * 1e6
			_, err := l.Attach(context.Background(), limited(i, rate, rate))
			errs <- err
		}()
	}
	for range ports {
		must(t, <-errs)
	}
	for i := range ports {
		l.wantDrawn(true, fmt.Sprintf("tbf rate %d000000bit", 1+i), vswitch.ShaperName(owner(i).PortID())+": ifb")
	}
	l.wantHealthy()
	for i := range ports {
		go func() { errs <- l.Detach(context.Background(), owner(i)) }()
	}
	for range ports {
		must(t, <-errs)
	}
	if got := l.kernel.String(); got != bare {
		t.Errorf("left:\n%s", got)
	}
}

// again asks for a port as its record has it.
func (l *lab) again(i int) engine.AttachRequest {
	p, found, err := l.Attached(context.Background(), owner(i))
	must(l.t, err)
	if !found {
		return limited(i, 10e6, 1e9)
	}
	return limited(i, p.Policy.Bandwidth.In.Max, p.Policy.Bandwidth.Out.Max)
}
