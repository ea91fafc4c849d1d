package fleet_test

import (
	"context"
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

func vf(m vswitch.OffloadMode) vswitch.OffloadChange {
	return vswitch.OffloadChange{SRIOV: vswitch.SRIOVChange{Mode: &m}}
}

// request asks for a VF, an address and a route.
func request(i int, m vswitch.OffloadMode) engine.AttachRequest {
	return engine.AttachRequest{
		Owner: owner(i), Switch: "wan", Policy: vswitch.PolicyChange{Offload: vf(m)},
		Addresses: []vswitch.Address{{Prefix: netip.MustParsePrefix("10.0.0.5/24"), Gateway: netip.MustParseAddr("10.0.0.1")}},
		Routes:    []vswitch.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0")}},
	}
}

// wantDrawn fails unless the kernel has, or has not, a text in its picture.
func (l *lab) wantDrawn(wanted bool, text string) {
	l.t.Helper()
	if got := l.kernel.String(); strings.Contains(got, text) != wanted {
		l.t.Errorf("%q drawn: %t\n%s", text, !wanted, got)
	}
}

// A container gets the VF itself, under its own name and with all that a pair's end has, and
// the VF comes home when the container goes.
func TestContainerGetsVF(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	ctx := context.Background()
	a, err := l.Attach(ctx, request(0, vswitch.OffloadPrefer))
	if err != nil {
		t.Fatal(err)
	}
	if a.Port.VF != vfName(0) || a.Port.Netdev != "" {
		t.Fatalf("it has VF %q and netdev %q", a.Port.VF, a.Port.Netdev)
	}
	if got := l.has(a.Port.ID, vswitch.SRIOV); got != "yes" {
		t.Errorf("SR-IOV is %s", got)
	}
	if got := l.has(a.Port.ID, vswitch.VMQ); got != "QUEUES_OF_VF" {
		t.Errorf("VMQ is %s", got)
	}
	stats, err := l.PortStats(ctx, engine.PortStatsRequest{Port: a.Port.ID})
	if err != nil || stats[0].VF != a.Port.VF || stats[0].Gone {
		t.Errorf("it counts %+v, %v", stats, err)
	}
	l.wantDrawn(true, "patchbay-vf: port="+a.Port.ID)
	l.wantDrawn(true, "10.0.0.5/24")
	l.wantDrawn(true, "default via 10.0.0.1")
	again, err := l.Attach(ctx, request(0, vswitch.OffloadPrefer))
	if err != nil || again.Port.VF != a.Port.VF {
		t.Errorf("attached again it has %q, %v", again.Port.VF, err)
	}
	if check, err := l.Check(ctx, owner(0)); err != nil || len(check.Steps) > 0 {
		t.Errorf("CHECK says %v, %v", check.Steps, err)
	}
	if err := l.Detach(ctx, owner(0)); err != nil {
		t.Fatal(err)
	}
	l.wantDrawn(false, "patchbay-vf:")
	l.wantDrawn(false, vfName(0))
	if asked := l.nic.requests(a.Port.ID); len(asked) == 0 || asked[0].MAC != a.Port.MAC || asked[0].Netns != owner(0).Netns {
		t.Errorf("asked for %+v", asked)
	}
	b, err := l.Attach(ctx, request(1, vswitch.OffloadRequire)) // at once: the VF is free
	if err != nil || b.Port.VF == "" {
		t.Errorf("the next one has %q, %v", b.Port.VF, err)
	}
}

// Where no VF is free, who prefers one gets a pair and says why, and keeps that; who requires
// one gets nothing.
func TestNoVFIsFree(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	ctx := context.Background()
	if _, err := l.Attach(ctx, request(0, vswitch.OffloadPrefer)); err != nil {
		t.Fatal(err)
	}
	b, err := l.attach(1, vf(vswitch.OffloadPrefer))
	if err != nil || b.VF != "" || b.Netdev == "" {
		t.Fatalf("VF %q, netdev %q, %v", b.VF, b.Netdev, err)
	}
	if got := l.has(b.ID, vswitch.SRIOV); got != "NO_FREE_VF" {
		t.Errorf("SR-IOV is %s", got)
	}
	_, err = l.attach(2, vf(vswitch.OffloadRequire))
	wantMissing(t, err, "sriov is required: every VF")
	if err := l.Detach(ctx, owner(0)); err != nil {
		t.Fatal(err)
	}
	l.await(b.ID, vswitch.SRIOV, "ATTACHED_WITHOUT")
	wantMissing(t, l.set(b.ID, vf(vswitch.OffloadRequire)), "when no VF was to be had")
}

// What a VF cannot do its port cannot be set to; what the NIC does, it is told.
func TestSettingsOfVF(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	ctx := context.Background()
	a, err := l.Attach(ctx, request(0, vswitch.OffloadPrefer))
	if err != nil {
		t.Fatal(err)
	}
	guard, rate := true, vswitch.Bits(1e8)
	_, err = l.SetPort(ctx, a.Port.ID, engine.PortChange{Policy: vswitch.PolicyChange{DHCPGuard: &guard}})
	if !errors.Is(err, vswitch.Conflict) || !strings.Contains(err.Error(), "dhcpGuard") {
		t.Errorf("a guard: %v", err)
	}
	if err := l.set(a.Port.ID, vf(vswitch.OffloadOff)); !errors.Is(err, vswitch.Conflict) {
		t.Errorf("off: %v", err)
	}
	vlan := vswitch.AccessVLAN(7)
	if _, err := l.SetPort(ctx, a.Port.ID, engine.PortChange{VLAN: &vlan, Policy: vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{Out: vswitch.LimitChange{Max: &rate}}}}); err != nil {
		t.Fatal(err)
	}
	asked := l.nic.requests(a.Port.ID)
	if last := asked[len(asked)-1]; last.VLAN != 7 || last.MaxOut != rate {
		t.Errorf("the plugin was asked for %+v", last)
	}
	p, err := l.Port(ctx, a.Port.ID)
	if err != nil || p.Policy.DHCPGuard || p.VF == "" || len(p.Drift) > 0 {
		t.Errorf("%+v, %v", p, err)
	}
	b := request(1, vswitch.OffloadRequire)
	b.Policy.DHCPGuard, b.Addresses, b.Routes = &guard, nil, nil
	if _, err := l.Attach(ctx, b); !errors.Is(err, vswitch.CapabilityMissing) || !strings.Contains(err.Error(), "dhcpGuard") {
		t.Errorf("required with a guard: %v", err)
	}
}

// A plugin that lies about a VF, or gives one that is none, leaves the container with a pair.
func TestUselessVF(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	l.nic.nameless = true
	a, err := l.attach(0, vf(vswitch.OffloadPrefer))
	if err != nil || a.VF != "" || a.Netdev == "" {
		t.Fatalf("VF %q, netdev %q, %v", a.VF, a.Netdev, err)
	}
	_, err = l.attach(1, vf(vswitch.OffloadRequire))
	wantMissing(t, err, "without a netdev")
	l.until("nothing is held but queues", func() (bool, string) {
		grants, _ := l.nic.Grants(context.Background())
		for _, g := range grants {
			if g.Feature == vswitch.SRIOV {
				return false, "a VF"
			}
		}
		return true, ""
	})
}

// A container whose namespace has ended leaves its VF, and GC frees it.
func TestVFOfEndedContainer(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	ctx := context.Background()
	if _, err := l.Attach(ctx, request(0, vswitch.OffloadRequire)); err != nil {
		t.Fatal(err)
	}
	l.kernel.RemoveNetns(owner(0).Netns)
	if report, err := l.GC(ctx, engine.GCRequest{}); err != nil || len(report.Removed) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	if b, err := l.Attach(ctx, request(1, vswitch.OffloadRequire)); err != nil || b.Port.VF == "" {
		t.Errorf("the next one has %q, %v", b.Port.VF, err)
	}
}

// A VF that is lost with a reset of the NIC is given anew, while the container runs.
func TestVFIsGivenAnew(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 2, "queues": 4})
	ctx := context.Background()
	a, err := l.Attach(ctx, request(0, vswitch.OffloadRequire))
	if err != nil {
		t.Fatal(err)
	}
	l.kernel.RemoveNetdevIn(owner(0).Netns, "eth0")
	if err := l.nic.Provider.Release(ctx, sdk.Ref{Port: a.Port.ID, Feature: vswitch.SRIOV}, 1<<62); err != nil {
		t.Fatal(err)
	}
	l.wantDrawn(false, "10.0.0.5/24")
	l.nic.become(nil)
	l.until("it has a VF again", func() (bool, string) {
		text := l.kernel.String()
		return strings.Contains(text, "10.0.0.5/24"), text
	})
	l.await(a.Port.ID, vswitch.SRIOV, "yes")
}

// A VF that is back on the host while its owner lives, as where somebody has taken its driver
// off and put it on again, is taken back and given anew as if nobody had had it.
func TestVFThatCameBack(t *testing.T) {
	for name, r := range map[string]engine.AttachRequest{"required": request(0, vswitch.OffloadRequire), "with a standby": standby(0, 50)} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
			ctx := context.Background()
			a, err := l.Attach(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			in := "eth0"
			if a.Port.Failover {
				_, in = a.Port.BondMembers()
			}
			l.kernel.RemoveNetdevIn(owner(0).Netns, in)
			l.kernel.AddNetdev(kernel.Netdev{Name: vfName(0), MAC: a.Port.MAC, MTU: 9000, Ethernet: true})
			l.wantDrawn(false, "patchbay-vf:")
			l.nic.become(nil)
			l.until("it has a VF again", func() (bool, string) {
				text := l.kernel.String()
				return strings.Contains(text, "patchbay-vf: port="+a.Port.ID), text
			})
			l.await(a.Port.ID, vswitch.SRIOV, "yes")
			asked := l.nic.requests(a.Port.ID)
			if last := asked[len(asked)-1]; len(asked) != 2 || last.Generation <= asked[0].Generation {
				t.Errorf("the plugin was asked for %+v", asked)
			}
			if want := strings.ReplaceAll("+P -P +P", "P", a.Port.ID); l.nic.hands() != want {
				t.Errorf("it changed hands %s, want %s", l.nic.hands(), want)
			}
			if check, err := l.Check(ctx, owner(0)); err != nil || len(check.Steps) > 0 {
				t.Errorf("CHECK says %v, %v", check.Steps, err)
			}
		})
	}
}

// All that are lost go back before any is given: till then nothing comes by the standby.
func TestLostVFsGoBackFirst(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 2, "queues": 4})
	var ports []vswitch.Port
	for i := range 2 {
		r := standby(i, 50)
		r.Addresses[0].Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(5 + i)}), 24)
		a, err := l.Attach(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, a.Port)
	}
	for i, p := range ports {
		_, in := p.BondMembers()
		l.kernel.RemoveNetdevIn(owner(i).Netns, in)
		l.kernel.AddNetdev(kernel.Netdev{Name: p.VF, MAC: p.MAC, MTU: 1500, Ethernet: true})
	}
	l.nic.become(nil)
	l.until("both have VFs again", func() (bool, string) {
		text := l.kernel.String()
		return strings.Count(text, "patchbay-vf: port=") == 2, text
	})
	signs := regexp.MustCompile(`\w+`).ReplaceAllString(l.nic.hands(), "")
	if signs != "+ + - - + +" {
		t.Errorf("VFs changed hands %s", signs)
	}
}

// Who has lost its VF comes before who never had one, however long the plugin takes.
func TestLostVFIsNobodyElses(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	ctx := context.Background()
	a, err := l.Attach(ctx, request(0, vswitch.OffloadPrefer))
	if err != nil {
		t.Fatal(err)
	}
	first := a.Port.ID
	var waits vswitch.Port
	for i := 1; waits.ID == "" || waits.ID > first; i++ { // of equals the first by name would have it
		r := standby(i, 100)
		r.Addresses, r.Routes = nil, nil
		b, err := l.Attach(ctx, r)
		if err != nil || b.Port.VF != "" {
			t.Fatalf("%+v, %v", b.Port, err)
		}
		waits = b.Port
	}
	l.kernel.RemoveNetdevIn(owner(0).Netns, "eth0")
	l.kernel.AddNetdev(kernel.Netdev{Name: vfName(0), MAC: a.Port.MAC, MTU: 1500, Ethernet: true})
	l.nic.become(nil)
	l.until("it has a VF again", func() (bool, string) {
		text := l.kernel.String()
		return strings.Contains(text, "patchbay-vf: port="+first), text
	})
	l.await(waits.ID, vswitch.SRIOV, "NO_FREE_VF")
}
