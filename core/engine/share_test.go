package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func weight(n int) vswitch.PolicyChange {
	return vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{Min: vswitch.MinimumChange{Weight: &n}}}
}

func atLeast(rate vswitch.Bits) vswitch.PolicyChange {
	return vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{Min: vswitch.MinimumChange{Rate: &rate}}}
}

func promised(i int, p vswitch.PolicyChange) engine.AttachRequest {
	return engine.AttachRequest{Owner: owner(i), Switch: "wan", Policy: p}
}

func (l *lab) promise(i int, p vswitch.PolicyChange) error {
	_, err := l.SetPort(context.Background(), owner(i).PortID(), engine.PortChange{Policy: p})
	return err
}

// sharedWAN is a switch whose uplink, nic0, carries 1 Gbit/s.
func (l *lab) sharedWAN(mode vswitch.BandwidthMode) vswitch.Switch {
	l.t.Helper()
	l.kernel.SetSpeed("nic0", 1000)
	s := wanOn("nic0")
	s.MinBandwidth.Mode = mode
	l.mustAdd(s)
	return s
}

// parts are what each netdev promises whom, by the owners' numbers, in Mbit/s.
func (l *lab) parts() string {
	l.t.Helper()
	var words []string
	netdev := ""
	for line := range strings.Lines(l.kernel.String()) {
		fields := strings.Fields(line)
		if strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "   ") {
			netdev = strings.TrimSuffix(fields[0], ":")
		}
		if fields[0] != "htb" {
			continue
		}
		who, rate := "*", fields[3]
		if fields[1] == "from" {
			who, rate = l.whose(fields[2]), fields[3]
		}
		var bits int
		_, err := fmt.Sscanf(rate, "%dbit", &bits)
		must(l.t, err)
		words = append(words, fmt.Sprintf("%s %s:%.1f", netdev, who, float64(bits)/1e6))
	}
	return strings.Join(words, " ")
}

func (l *lab) whose(mac string) string {
	l.t.Helper()
	ports, err := l.Ports(context.Background(), "")
	must(l.t, err)
	for _, p := range ports {
		if p.MAC.String() == mac {
			return strings.TrimSuffix(strings.TrimPrefix(p.Owner.ID, "c"), "wan") // "" is the host
		}
	}
	return mac
}

func (l *lab) wantParts(what, want string) {
	l.t.Helper()
	if got := l.parts(); got != want {
		l.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestWeightsFollowThePorts(t *testing.T) {
	l := newLab(t)
	l.kernel.SetSpeed("nic0", 1000)
	pristine := l.kernel.String()
	l.sharedWAN(vswitch.BandwidthDefault)
	l.wantParts("a fresh switch", "")
	l.mustAttach(promised(0, weight(39)))
	l.wantParts("one", "nic0 *:25.0 nic0 0:975.0")
	l.mustAttach(promised(0, weight(39))) // once more
	l.mustAttach(promised(1, weight(60)))
	l.wantParts("two", "nic0 *:10.0 nic0 0:390.0 nic0 1:600.0")
	l.mustAttach(promised(2, vswitch.PolicyChange{}))
	l.wantParts("and one without", "nic0 *:10.0 nic0 0:390.0 nic0 1:600.0")
	_, err := l.SetSwitch(context.Background(), "wan", engine.SwitchChange{HostPolicy: ptr(weight(100))})
	must(t, err)
	l.wantParts("and the host", "nic0 *:5.0 nic0 :500.0 nic0 0:195.0 nic0 1:300.0")
	l.wantHealthy()
	_, err = l.SetSwitch(context.Background(), "wan", engine.SwitchChange{DefaultFlowWeight: ptr(51)})
	must(t, err)
	l.wantParts("a default flow with more", "nic0 *:204.0 nic0 :400.0 nic0 0:156.0 nic0 1:240.0")
	_, err = l.SetPort(context.Background(), "pbp-wan", engine.PortChange{Policy: weight(0)})
	must(t, err)
	must(t, l.promise(0, weight(89)))
	l.wantParts("without the host", "nic0 *:255.0 nic0 0:445.0 nic0 1:300.0")
	p, err := l.Port(context.Background(), owner(0).PortID())
	must(t, err)
	if want := (&engine.MinimumStatus{Effective: 445e6}); !cmp.Equal(p.Minimum, want) {
		t.Errorf("%+v, want %+v", p.Minimum, want)
	}
	x, err := l.Explain(context.Background(), engine.ExplainRequest{Name: "wan"})
	if words := fmt.Sprint(x); err != nil || !strings.Contains(words, "htb rate 445000000bit ceil 1000000000bit") {
		t.Errorf("explained as %s, %v", words, err)
	}
	_, err = l.Attach(context.Background(), promised(0, weight(90)))
	wantKind(t, err, vswitch.Conflict)
	l.wantHealthy()
	l.mustDetach(0)
	l.wantParts("after one has gone", "nic0 *:459.5 nic0 1:540.5")
	must(t, l.promise(1, weight(0)))
	l.wantParts("nobody", "")
	must(t, l.promise(1, weight(1)))
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan", Force: true}))
	l.wantClean(pristine)
}

func TestRatesAreAdmitted(t *testing.T) {
	l := newLab(t)
	l.sharedWAN(vswitch.BandwidthAbsolute)
	l.mustAttach(promised(0, atLeast(500e6)))
	l.mustAttach(promised(1, atLeast(400e6)))
	l.wantParts("all of the link", "nic0 *:100.0 nic0 0:500.0 nic0 1:400.0")
	_, err := l.Attach(context.Background(), promised(2, atLeast(8e6)))
	wantKind(t, err, vswitch.Admission)
	if !strings.Contains(err.Error(), "nic0 carries 1G a second, and 1.008G are promised") {
		t.Error(err)
	}
	wantKind(t, l.promise(1, atLeast(401e6)), vswitch.Admission)
	wantKind(t, l.promise(1, weight(1)), vswitch.BandwidthMismatch)
	must(t, l.promise(1, atLeast(300e6)))
	_, err = l.SetSwitch(context.Background(), "wan", engine.SwitchChange{HostPolicy: ptr(atLeast(101e6))})
	wantKind(t, err, vswitch.Admission)
	_, err = l.SetSwitch(context.Background(), "wan", engine.SwitchChange{DefaultFlow: ptr(vswitch.Bits(201e6))})
	wantKind(t, err, vswitch.Admission)
	_, err = l.SetSwitch(context.Background(), "wan", engine.SwitchChange{DefaultFlow: ptr(vswitch.Bits(50e6)), HostPolicy: ptr(atLeast(150e6))})
	must(t, err)
	l.wantParts("the host too", "nic0 *:50.0 nic0 :150.0 nic0 0:500.0 nic0 1:300.0")
	l.kernel.SetSpeed("nic1", 100)
	_, err = l.SetSwitch(context.Background(), "wan", engine.SwitchChange{Uplink: ptr("nic1")})
	wantKind(t, err, vswitch.Admission)
	l.wantParts("it stays", "nic0 *:50.0 nic0 :150.0 nic0 0:500.0 nic0 1:300.0")
	l.kernel.SetSpeed("nic1", 10_000)
	_, err = l.SetSwitch(context.Background(), "wan", engine.SwitchChange{Uplink: ptr("nic1")})
	must(t, err)
	l.wantParts("by another NIC", "nic1 *:50.0 nic1 :150.0 nic1 0:500.0 nic1 1:300.0")
	l.wantHealthy()
}

func TestMinimumRefusals(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	l.sharedWAN("weight")
	for name, c := range map[string]struct {
		change vswitch.PolicyChange
		kind   vswitch.Kind
	}{
		"a rate":         {atLeast(1e6), vswitch.BandwidthMismatch},
		"too much":       {weight(101), vswitch.Range},
		"less than none": {weight(-1), vswitch.Range},
		"too slow":       {atLeast(8), vswitch.Range},
		"both": {vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{Min: vswitch.MinimumChange{
			Rate: ptr(vswitch.Bits(1e6)), Weight: ptr(1),
		}}}, vswitch.BandwidthMismatch},
	} {
		if _, err := l.Attach(ctx, promised(0, c.change)); vswitch.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want %s", name, err, c.kind)
		}
	}
	for _, mode := range []vswitch.BandwidthMode{"absolute", "none"} {
		_, err := l.SetSwitch(ctx, "wan", engine.SwitchChange{BandwidthMode: &mode})
		wantKind(t, err, vswitch.Immutable)
		s := wanOn("nic0")
		s.MinBandwidth.Mode = mode
		_, err = l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: s})
		wantKind(t, err, vswitch.Conflict)
		_, err = l.Apply(ctx, configured(s))
		wantKind(t, err, vswitch.Immutable)
	}
	_, err := l.SetSwitch(ctx, "wan", engine.SwitchChange{BandwidthMode: ptr(vswitch.BandwidthMode("default"))})
	must(t, err)
	_, err = l.SetSwitch(ctx, "wan", engine.SwitchChange{DefaultFlow: ptr(vswitch.Bits(1e6))})
	wantKind(t, err, vswitch.BandwidthMismatch)

	none := vswitch.Switch{Name: "none", Uplink: "nic1", MinBandwidth: vswitch.SharedUplink{Mode: "none"}}
	l.mustAdd(none)
	req := promised(1, weight(1))
	req.Switch = "none"
	_, err = l.Attach(ctx, req)
	wantKind(t, err, vswitch.BandwidthMismatch)

	caps := allCapabilities()
	caps.Shares = false
	l = newLabWith(t, caps)
	l.sharedWAN("")
	_, err = l.Attach(ctx, promised(0, weight(1)))
	wantKind(t, err, vswitch.CapabilityMissing)
	if !strings.Contains(err.Error(), "CONFIG_NET_SCH_HTB") {
		t.Errorf("no symbol in %v", err)
	}
	_, err = l.SetSwitch(ctx, "wan", engine.SwitchChange{HostPolicy: ptr(weight(1))})
	wantKind(t, err, vswitch.CapabilityMissing)
	l.kernel.SetCapabilities(allCapabilities()) // somebody loads the modules
	l.mustAttach(promised(0, weight(1)))
}

// Where a minimum cannot be kept, the port works and tells why.
func TestMinimumsWithoutEffect(t *testing.T) {
	ctx := context.Background()
	l := newLab(t)
	l.mustAdd(policed())
	inside := promised(0, weight(9))
	inside.Switch = "lan"
	l.mustAttach(inside)
	l.kernel.SetSpeed("nic0", 0)
	l.mustAdd(wanOn("nic0")) // of which nobody knows how fast it is
	l.mustAttach(promised(1, weight(9)))
	spoofing := promised(2, weight(9))
	spoofing.MACSpoofing = true
	l.mustAttach(spoofing)
	for i, why := range []string{"no uplink", "nic0 does not tell how fast it is", "may send from any MAC address"} {
		p, err := l.Port(ctx, owner(i).PortID())
		must(t, err)
		if p.Minimum == nil || p.Minimum.Effective != 0 || !strings.Contains(p.Minimum.Reason, why) {
			t.Errorf("port %d: %+v, want %q", i, p.Minimum, why)
		}
	}
	l.wantProblem(vswitch.Admission, "minimums of bandwidth are not kept: nic0 does not tell how fast it is")
	l.wantParts("nobody knows", "")
	l.kernel.SetSpeed("nic0", 100)
	l.mustAdd(wanOn("nic0"))
	l.wantParts("now it is known", "nic0 *:10.0 nic0 1:90.0")
	l.wantHealthy()
}

func (l *lab) wantProblem(kind vswitch.Kind, words string) {
	l.t.Helper()
	s, err := l.Status(context.Background())
	must(l.t, err)
	for _, p := range s.Problems {
		if p.Kind == kind && strings.Contains(p.Message, words) && p.Hint != "" && s.Ready {
			return
		}
	}
	l.t.Errorf("no %s with %q in %+v", kind, words, s.Problems)
}

// A link that becomes slower has each port keep its part, and says so.
func TestSharesOfASlowerLink(t *testing.T) {
	l := newLab(t)
	s := l.sharedWAN("absolute")
	l.mustAttach(promised(0, atLeast(720e6)))
	l.kernel.SetSpeed("nic0", 100)
	l.mustAdd(s)
	l.wantParts("slower", "nic0 *:1.4 nic0 0:98.6")
	l.wantProblem(vswitch.Admission, "nic0 carries 100M a second, of which 730M are promised")
	p, err := l.Port(context.Background(), owner(0).PortID())
	must(t, err)
	if p.Minimum == nil || p.Minimum.Reason == "" || p.Minimum.Effective > 100e6 {
		t.Errorf("%+v", p.Minimum)
	}
	_, err = l.SetSwitch(context.Background(), "wan", engine.SwitchChange{Notes: ptr("slow")})
	must(t, err) // it promises nothing new
}

// A resident engine notices another speed, and classes that are gone.
func TestSharesAreKeptOnFake(t *testing.T) {
	l := newLab(t)
	l.sharedWAN("")
	l.mustAttach(promised(0, weight(99)))
	k := l.keep()
	for _, c := range []struct {
		harm       func()
		says, want string
	}{
		{func() { l.kernel.DropShares("nic0") }, "nic0 was not shared as it should be", "nic0 *:10.0 nic0 0:990.0"},
		{func() { l.kernel.SetSpeed("nic0", 100) }, "nic0 was shared in other parts, or runs at another speed", "nic0 *:1.0 nic0 0:99.0"},
	} {
		before, _ := k.logged()
		c.harm()
		k.await(before, "repaired", c.says)
		l.wantParts(c.says, c.want)
	}
}
