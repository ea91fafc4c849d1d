package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// inVLAN is a request for a port on the switch "wan".
func inVLAN(t *testing.T, i int, vlan string) engine.AttachRequest {
	t.Helper()
	req := engine.AttachRequest{Owner: owner(i), Switch: "wan"}
	if vlan != "" {
		v, err := vswitch.ParsePortVLAN(vlan)
		must(t, err)
		req.VLAN = &v
	}
	return req
}

func wan() vswitch.Switch { return vswitch.Switch{Name: "wan", Uplink: "nic0", HostAccess: ptr(false)} }

// vlansOf is how the kernel draws what a netdev is in.
func (l *lab) vlansOf(netdev string) string {
	l.t.Helper()
	_, rest, found := strings.Cut(l.kernel.String(), "\n  "+netdev+": ")
	if !found {
		l.t.Fatalf("there is no %s in\n%s", netdev, l.kernel)
	}
	for line := range strings.SplitSeq(rest, "\n") {
		if words, ok := strings.CutPrefix(line, "    bridge vlan "); ok {
			return words
		}
		if !strings.HasPrefix(line, "    ") && line != strings.SplitN(rest, "\n", 2)[0] {
			break
		}
	}
	return ""
}

func (l *lab) wantVLANs(netdev, want string) {
	l.t.Helper()
	if got := l.vlansOf(netdev); got != want {
		l.t.Errorf("%s is in %q, want %q", netdev, got, want)
	}
}

func (l *lab) setPortVLAN(i int, vlan string) error {
	l.t.Helper()
	v, err := vswitch.ParsePortVLAN(vlan)
	must(l.t, err)
	_, err = l.SetPort(context.Background(), owner(i).PortID(), engine.PortChange{VLAN: &v})
	return err
}

// TestUplinkCarriesWhatPortsUse holds that the uplink is in exactly the VLANs of its ports,
// and that the untagged traffic moves out of the way of a port that wants its VLAN.
func TestUplinkCarriesWhatPortsUse(t *testing.T) {
	l := newLab(t)
	pristine := l.kernel.String()
	l.mustAdd(wan())
	l.wantVLANs("nic0", "pvid 4094 untagged 4094")
	plain := l.mustAttach(inVLAN(t, 0, "")).Port.Netdev
	l.wantVLANs(plain, "pvid 4094 untagged 4094")
	access := l.mustAttach(inVLAN(t, 1, "access 10")).Port.Netdev
	l.wantVLANs(access, "pvid 10 untagged 10")
	l.wantVLANs("nic0", "pvid 4094 untagged 4094 tagged 10")
	trunk := l.mustAttach(inVLAN(t, 2, "trunk 10-12,4094 native 5")).Port.Netdev
	l.wantVLANs(trunk, "pvid 5 untagged 5 tagged 10-12,4094")
	l.wantVLANs("nic0", "pvid 4093 untagged 4093 tagged 5,10-12,4094")
	l.wantVLANs(plain, "pvid 4093 untagged 4093")
	l.wantHealthy()
	l.mustDetach(2)
	l.wantVLANs("nic0", "pvid 4093 untagged 4093 tagged 10")
	must(t, l.setPortVLAN(1, "access 4093"))
	l.wantVLANs(access, "pvid 4093 untagged 4093")
	l.wantVLANs("nic0", "pvid 4094 untagged 4094 tagged 4093")
	l.wantVLANs(plain, "pvid 4094 untagged 4094")
	must(t, l.setPortVLAN(1, "untagged"))
	l.wantVLANs("nic0", "pvid 4094 untagged 4094")
	l.wantHealthy()
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan", Force: true}))
	l.wantClean(pristine)
}

// TestKilledDetachInVLAN kills a Detach before each step: the next one takes the VLAN along,
// though the port may have gone before.
func TestKilledDetachInVLAN(t *testing.T) {
	prepare := func(l *lab) {
		l.mustAdd(wan())
		l.mustAttach(inVLAN(t, 1, "access 10"))
	}
	detach := func(l *lab) error { return l.Detach(context.Background(), owner(1)) }
	for n := 1; n <= stepsOf(t, prepare, detach); n++ {
		l := newLab(t)
		prepare(l)
		l.kernel.DieAt(n)
		if !dies(func() error { return detach(l) }) {
			t.Fatal("the process was not killed")
		}
		l.kernel.Revive()
		l.open()
		l.mustDetach(1)
		l.wantVLANs("nic0", "pvid 4094 untagged 4094")
		l.wantHealthy()
	}
}

// TestPrivateVLANState holds the three kinds of ports against the recipe.
func TestPrivateVLANState(t *testing.T) {
	l := newLab(t)
	l.mustAdd(wan())
	for i, c := range []struct{ vlan, in string }{
		{"isolated 100 101", "pvid 101 untagged 100-101"},
		{"community 100 102", "pvid 102 untagged 100,102"},
		{"promiscuous 100 101-103", "pvid 100 untagged 100-103"},
	} {
		a := l.mustAttach(inVLAN(t, i, c.vlan))
		l.wantVLANs(a.Port.Netdev, c.in)
		want := fmt.Sprintf("bridge fdb %s static sticky vlan %s", a.Port.MAC, c.in[strings.LastIndex(c.in, " ")+1:])
		if !strings.Contains(l.kernel.String(), want) {
			t.Errorf("%q is missing in\n%s", want, l.kernel)
		}
	}
	l.wantVLANs("nic0", "pvid 4094 untagged 4094 tagged 100-103")
	for _, want := range []string{"isolated on", "apart { " + owner(0).PortID() + " }", "apart_in { nic0 . 101 }"} {
		if !strings.Contains(l.kernel.String(), want) {
			t.Errorf("%q is missing in\n%s", want, l.kernel)
		}
	}
	l.wantHealthy()
	l.mustDetach(0)
	if strings.Contains(l.kernel.String(), "apart") {
		t.Errorf("rules are left:\n%s", l.kernel)
	}
	l.wantHealthy()
}

func TestVLANRefusals(t *testing.T) {
	l := newLab(t)
	l.mustAdd(wan())
	l.mustAttach(inVLAN(t, 0, "isolated 100 101"))
	before := l.kernel.String()
	for vlan, kind := range map[string]vswitch.Kind{
		"isolated 200 101":      vswitch.Conflict,
		"isolated 100 102":      vswitch.Conflict,
		"access 101":            vswitch.Conflict,
		"trunk 1-4094 native 1": vswitch.Conflict,
	} {
		_, err := l.Attach(context.Background(), inVLAN(t, 1, vlan))
		wantKind(t, err, kind)
		if vswitch.HintOf(err) == "" {
			t.Errorf("%s: no hint: %v", vlan, err)
		}
	}
	if got := l.kernel.String(); got != before {
		t.Errorf("the refusals left\n%s\nwant\n%s", got, before)
	}
	bad := inVLAN(t, 1, "")
	bad.VLAN = &vswitch.PortVLAN{Mode: vswitch.Access}
	_, err := l.Attach(context.Background(), bad)
	wantKind(t, err, vswitch.VLANModeIncomplete)
	s := wan()
	s.Name, s.Uplink, s.HostAccess = "prod", "", nil
	s.Type = vswitch.Internal
	l.mustAdd(s)
	_, err = l.SetPort(context.Background(), vswitch.HostPortSwitchEnd("prod"), engine.PortChange{})
	wantKind(t, err, vswitch.Invalid)
}

// TestKernelWithoutVLANs holds that a switch works there as ever and a VLAN is refused.
func TestKernelWithoutVLANs(t *testing.T) {
	caps := allCapabilities()
	caps.VLANFiltering = false
	l := newLabWith(t, caps)
	l.mustAdd(wan())
	l.mustAttach(inVLAN(t, 0, ""))
	for _, vlan := range []string{"access 10", "isolated 100 101"} {
		_, err := l.Attach(context.Background(), inVLAN(t, 1, vlan))
		wantKind(t, err, vswitch.CapabilityMissing)
		if err == nil || !strings.Contains(err.Error(), "CONFIG_BRIDGE_VLAN_FILTERING") {
			t.Errorf("the error does not name the symbol: %v", err)
		}
		wantKind(t, l.setPortVLAN(0, vlan), vswitch.CapabilityMissing)
	}
	if strings.Contains(l.kernel.String(), "vlan") {
		t.Errorf("there are VLANs:\n%s", l.kernel)
	}
}

// TestSwitchBeginsToFilter is for a switch that was made by a version, or on a kernel, that
// knew no VLANs: its guests are in theirs before the bridge begins to filter.
func TestSwitchBeginsToFilter(t *testing.T) {
	caps := allCapabilities()
	caps.VLANFiltering = false
	l := newLabWith(t, caps)
	l.mustAdd(wan())
	plain := l.mustAttach(inVLAN(t, 0, "")).Port.Netdev
	l.kernel.SetCapabilities(allCapabilities())
	l.mustAdd(vswitch.Switch{Name: "lan", Type: vswitch.Internal, VLAN: 5}) // has it try the kernel again
	_, err := l.SetSwitch(context.Background(), "wan", engine.SwitchChange{})
	must(t, err)
	l.wantVLANs(plain, "pvid 4094 untagged 4094")
	l.wantVLANs("nic0", "pvid 4094 untagged 4094")
	l.wantHealthy()
	log := strings.Join(l.kernel.Log(), "\n")
	if at := strings.Index(log, "vlan_filtering 1 && bridge vlan del dev "+vswitch.BridgeName("wan")); at < 0 || at < strings.Index(log, "bridge vlan add dev "+plain) {
		t.Errorf("the bridge filters before its guests are in a VLAN:\n%s", log)
	}
	l.mustAttach(inVLAN(t, 1, "access 10"))
	l.wantHealthy()
}

// TestDefaultVLAN holds that a switch's VLAN is that of its host port and of new ports that
// name none.
func TestDefaultVLAN(t *testing.T) {
	l := newLab(t)
	s := internal()
	s.VLAN = 7
	l.mustAdd(s)
	l.wantVLANs(vswitch.HostPortSwitchEnd("prod"), "pvid 7 untagged 7")
	attach := func(i int, vlan *vswitch.PortVLAN) string {
		return l.mustAttach(engine.AttachRequest{Owner: owner(i), Switch: "prod", VLAN: vlan}).Port.Netdev
	}
	l.wantVLANs(attach(0, nil), "pvid 7 untagged 7")
	l.wantVLANs(attach(1, &vswitch.PortVLAN{Mode: vswitch.Untagged}), "pvid 4094 untagged 4094")
	_, err := l.SetSwitch(context.Background(), "prod", engine.SwitchChange{VLAN: ptr(4094)})
	must(t, err)
	l.wantVLANs(vswitch.HostPortSwitchEnd("prod"), "pvid 4094 untagged 4094")
	l.wantVLANs(owner(0).PortID(), "pvid 7 untagged 7")
	l.wantVLANs(owner(1).PortID(), "pvid 4093 untagged 4093")
	l.wantHealthy()
}

// TestVLANDrift holds that patchbayd puts a port back into a VLAN that somebody took it
// out of: a guest's port, the host's, the uplink.
func TestVLANDrift(t *testing.T) {
	l := newLab(t)
	s := wan()
	s.HostAccess, s.VLAN = nil, 20
	l.mustAdd(s)
	l.mustAttach(inVLAN(t, 0, "trunk 10-12 native 5"))
	before := l.kernel.String()
	k := l.keep()
	for netdev, id := range map[string]int{owner(0).PortID(): 11, vswitch.HostPortSwitchEnd("wan"): 20, "nic0": 10} {
		logged, _ := k.logged()
		l.kernel.LeaveVLAN(netdev, id)
		k.await(logged, "repaired")
		if got := l.kernel.String(); got != before {
			t.Errorf("VLAN %d of %s is not back:\n%s\nwant\n%s", id, netdev, got, before)
		}
	}
}

// TestKilledOverVLANs sweeps a kill through every verb that changes VLANs: the same verb
// again ends where it would have ended.
func TestKilledOverVLANs(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, c := range map[string]struct{ verb func(l *lab) error }{
		"a port wants the internal VLAN": {func(l *lab) error { return l.setPortVLAN(1, "access 4094") }},
		"attach in a new VLAN": {func(l *lab) error {
			_, err := l.Attach(ctx, inVLAN(l.t, 3, "isolated 100 101"))
			return err
		}},
		"the switch's VLAN": {func(l *lab) error {
			_, err := l.SetSwitch(ctx, "wan", engine.SwitchChange{HostAccess: ptr(true), VLAN: ptr(30)})
			return err
		}},
		"out of a VLAN": {func(l *lab) error { return l.setPortVLAN(1, "untagged") }},
	} {
		t.Run(name, func(t *testing.T) {
			start := func() *lab {
				l := newLab(t)
				l.mustAdd(wan())
				l.mustAttach(inVLAN(t, 0, ""))
				l.mustAttach(inVLAN(t, 1, "access 10"))
				return l
			}
			for n := 1; ; n++ {
				l := start()
				l.kernel.DieAt(n)
				killed := dies(func() error { return c.verb(l) })
				l.kernel.Revive()
				l.open()
				if err := c.verb(l); err != nil {
					t.Fatalf("killed at step %d: %v", n, err)
				}
				_, err := l.GC(ctx, engine.GCRequest{})
				must(t, err)
				l.wantHealthy()
				for i := range 2 {
					check, err := l.Check(ctx, owner(i))
					if err != nil || len(check.Steps) > 0 {
						t.Errorf("killed at step %d, port %d: %v, %v", n, i, check.Steps, err)
					}
				}
				if !killed {
					if n < 3 {
						t.Errorf("the verb has %d steps", n)
					}
					return
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// TestVLANsAcrossSegments holds that trunks carry what ports use and that the root has a
// guest's entries in its VLANs.
func TestVLANsAcrossSegments(t *testing.T) {
	l := newLab(t)
	l.sizes = vswitch.SegmentSizes{Root: 1, Spoofing: 1, Further: 1}
	l.open()
	l.mustAdd(wan())
	l.mustAttach(inVLAN(t, 0, "access 10"))
	l.mustAttach(inVLAN(t, 1, "access 10"))
	l.mustAttach(inVLAN(t, 2, "trunk 10-11 native 5"))
	for k := 1; k <= 2; k++ {
		atRoot, atSegment := vswitch.TrunkNames("wan", k)
		before, behind := vswitch.RelayNames("wan", k)
		for _, netdev := range []string{atRoot, atSegment, before, behind} {
			l.wantVLANs(netdev, "pvid 4094 untagged 4094 tagged 5,10-11")
		}
	}
	l.wantHealthy()
	must(t, l.setPortVLAN(2, "access 30"))
	atRoot, _ := vswitch.TrunkNames("wan", 2)
	l.wantVLANs(atRoot, "pvid 4094 untagged 4094 tagged 10,30")
	l.wantHealthy()
	for i := range 3 {
		l.mustDetach(i)
	}
	l.wantVLANs("nic0", "pvid 4094 untagged 4094")
}

// TestVLANChangeFails holds that a change that fails leaves the port as it was.
func TestVLANChangeFails(t *testing.T) {
	prepare := func(t *testing.T) *lab {
		l := newLab(t)
		l.mustAdd(wan())
		l.mustAttach(inVLAN(t, 0, "access 10"))
		return l
	}
	verb := func(l *lab) error { return l.setPortVLAN(0, "trunk 20-21 native 4094") }
	eachStepFails(t, prepare, verb, func(step int, l *lab) {
		if _, err := l.GC(context.Background(), engine.GCRequest{}); err != nil {
			t.Fatal(err)
		}
		l.wantHealthy()
		l.wantVLANs(owner(0).PortID(), "pvid 10 untagged 10")
		if t.Failed() {
			t.Fatalf("failed at step %d:\n%s", step, l.kernel)
		}
	})
}
