package fleet_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// standby asks for a VF with a weight and for a standby beside it.
func standby(i int, weight int) engine.AttachRequest {
	r, on := request(i, vswitch.OffloadPrefer), true
	r.Policy.Offload.SRIOV.Weight, r.Policy.Offload.SRIOV.Failover = &weight, &on
	return r
}

// wantStandby fails unless a container has a bond with addresses, and a VF in it or none.
func (l *lab) wantStandby(p vswitch.Port, withVF bool) {
	l.t.Helper()
	_, vf := p.BondMembers()
	text := l.kernel.String()
	if strings.Contains(text, vf) != withVF {
		l.t.Errorf("VF in the container: %t\n%s", !withVF, text)
	}
	check, err := l.Check(context.Background(), p.Owner)
	if err != nil || len(check.Steps) > 0 || (check.Port.VF != "") != withVF || !check.Port.Failover || check.Port.Netdev == "" {
		l.t.Errorf("CHECK says %v, %v of %+v", check.Steps, err, check.Port)
	}
	l.wantDrawn(true, "10.0.0.5/24")
	l.wantDrawn(true, "default via 10.0.0.1")
}

// A container with a standby has a bond of both under its own name. A VF that is lost leaves
// it with all that it has; DEL leaves nothing, and the VF is the next one's.
func TestStandbyOfVF(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	ctx := context.Background()
	for range 2 { // the second ADD finds all as it is
		if _, err := l.Attach(ctx, standby(0, 50)); err != nil {
			t.Fatal(err)
		}
	}
	p, err := l.Port(ctx, owner(0).PortID())
	if err != nil {
		t.Fatal(err)
	}
	l.wantStandby(p.Port, true)
	_, vf := p.BondMembers()
	l.kernel.RemoveNetdevIn(owner(0).Netns, vf)
	l.wantDrawn(true, "10.0.0.5/24")
	if err := l.nic.Provider.Release(ctx, sdk.Ref{Port: p.ID, Feature: vswitch.SRIOV}, 1<<62); err != nil {
		t.Fatal(err)
	}
	l.nic.become(nil)
	l.until("it has a VF again", func() (bool, string) {
		text := l.kernel.String()
		return strings.Contains(text, vf), text
	})
	l.await(p.ID, vswitch.SRIOV, "yes")
	l.wantStandby(p.Port, true)
	if err := l.Detach(ctx, owner(0)); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{vf, "10.0.0.5", "bond", p.Netdev, vfName(0)} {
		l.wantDrawn(false, left)
	}
	if b, err := l.Attach(ctx, request(1, vswitch.OffloadRequire)); err != nil || b.Port.VF == "" {
		t.Errorf("the next one has %q, %v", b.Port.VF, err)
	}
}

// A VF with a standby beside it goes to whom has more weight, at once, and comes back when
// that one goes.
func TestStandbyYieldsVF(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	ctx := context.Background()
	a, err := l.Attach(ctx, standby(0, 50))
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.attach(1, vf(vswitch.OffloadRequire))
	if err != nil || b.VF == "" {
		t.Fatalf("the heavier one has VF %q, %v", b.VF, err)
	}
	l.until("the record says so", func() (bool, string) {
		p, _ := l.Port(ctx, a.Port.ID)
		return p.VF == "", p.VF
	})
	l.wantStandby(a.Port, false)
	l.await(a.Port.ID, vswitch.SRIOV, "NO_FREE_VF")
	if err := l.Detach(ctx, owner(1)); err != nil {
		t.Fatal(err)
	}
	l.await(a.Port.ID, vswitch.SRIOV, "yes")
	l.until("the record says so", func() (bool, string) {
		p, _ := l.Port(ctx, a.Port.ID)
		_, end := a.Port.BondMembers()
		return p.VF != "" && strings.Contains(l.kernel.String(), end), l.kernel.String()
	})
	l.wantStandby(a.Port, true)
}

// With a standby a port can be set to what no VF does, and back; whether there is a standby
// cannot be changed.
func TestSettingsOfStandby(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 2, "queues": 4})
	ctx := context.Background()
	a, err := l.Attach(ctx, standby(0, 50))
	if err != nil {
		t.Fatal(err)
	}
	guard := true
	alone := engine.New(engine.Config{Kernel: l.kernel, Store: l.store()})
	if _, err := alone.SetPort(ctx, a.Port.ID, engine.PortChange{Policy: vswitch.PolicyChange{DHCPGuard: &guard}}); !errors.Is(err, vswitch.Conflict) {
		t.Errorf("where nobody can take the VF: %v", err)
	}
	settles := func(withVF bool) {
		t.Helper()
		l.until("the VF is as wanted", func() (bool, string) {
			p, _ := l.Port(ctx, a.Port.ID)
			_, end := a.Port.BondMembers()
			return (p.VF != "") == withVF && strings.Contains(l.kernel.String(), end) == withVF, l.kernel.String()
		})
		l.wantStandby(a.Port, withVF)
	}
	settles(true) // a round may have seen the guard that was refused
	for _, guard := range []bool{true, false} {
		if _, err := l.SetPort(ctx, a.Port.ID, engine.PortChange{Policy: vswitch.PolicyChange{DHCPGuard: &guard}}); err != nil {
			t.Fatal(err)
		}
		settles(!guard)
	}
	if err := l.set(a.Port.ID, vf(vswitch.OffloadOff)); err != nil {
		t.Error(err)
	}
	l.wantStandby(a.Port, false)
	plain, err := l.attach(1, vf(vswitch.OffloadPrefer))
	if err != nil {
		t.Fatal(err)
	}
	on := true
	err = l.set(plain.ID, vswitch.OffloadChange{SRIOV: vswitch.SRIOVChange{Failover: &on}})
	if !errors.Is(err, vswitch.Immutable) {
		t.Errorf("a standby for one that is attached: %v", err)
	}
}

// meanwhile has something happen, once, when a VF's link has been waited for.
type meanwhile struct {
	kernel.Kernel
	happens func()
	over    chan struct{}
	once    sync.Once
}

func (k *meanwhile) Apply(ctx context.Context, steps []plan.Step) error {
	if len(steps) > 0 {
		if _, waits := steps[0].(plan.AwaitTwin); waits {
			if err := k.Kernel.Apply(ctx, steps[:1]); err != nil {
				return err
			}
			k.once.Do(k.happens)
			steps = steps[1:]
			defer func() { k.over <- struct{}{} }()
		}
	}
	return k.Kernel.Apply(ctx, steps)
}

// A port that goes by its pair again, when its VF at last has a link, keeps the switch's entry.
func TestStandbyIsNotForgotten(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	ctx := context.Background()
	guard := true
	k := &meanwhile{Kernel: l.kernel, over: make(chan struct{}, 8)}
	k.happens = func() {
		_, err := l.SetPort(ctx, owner(0).PortID(), engine.PortChange{Policy: vswitch.PolicyChange{DHCPGuard: &guard}})
		if err != nil {
			t.Error(err)
		}
	}
	l.via = k
	l.instead(l.nic)
	a, err := l.Attach(ctx, standby(0, 50))
	if err != nil {
		t.Fatal(err)
	}
	<-k.over
	l.wantStandby(a.Port, false)
}

// Without bonding there is no standby, and ADD says what the kernel lacks and leaves nothing.
func TestStandbyNeedsBonding(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	l.kernel.SetCapabilities(kernel.Capabilities{PortLocked: true, VLANFiltering: true, BridgeRules: true, NAT: true})
	_, err := l.Attach(context.Background(), standby(0, 50))
	wantMissing(t, err, "CONFIG_BONDING")
	l.wantDrawn(false, owner(0).PortID())
	l.wantDrawn(false, vfName(0))
}

// Where the namespace has ended, GC frees the VF and removes the pair; the bond went with it.
func TestStandbyOfEndedContainer(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	ctx := context.Background()
	a, err := l.Attach(ctx, standby(0, 50))
	if err != nil {
		t.Fatal(err)
	}
	l.kernel.RemoveNetns(owner(0).Netns)
	if report, err := l.GC(ctx, engine.GCRequest{}); err != nil || len(report.Removed) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	l.wantDrawn(false, a.Port.Netdev+":")
	if b, err := l.Attach(ctx, request(1, vswitch.OffloadRequire)); err != nil || b.Port.VF == "" {
		t.Errorf("the next one has %q, %v", b.Port.VF, err)
	}
}

// A port with a standby is on the switch's root, however full that is of others.
func TestStandbyIsAtRoot(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	l.stop()
	l.sizes = vswitch.SegmentSizes{Root: 1, Spoofing: 1, Further: 2}
	l.open()
	for i := 1; i < 3; i++ {
		if p, err := l.attach(i, vswitch.OffloadChange{}); err != nil || p.Segment != i-1 {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	a, err := l.Attach(context.Background(), standby(0, 50))
	if err != nil || a.Port.Segment != 0 {
		t.Fatalf("%+v, %v", a.Port, err)
	}
	l.wantStandby(a.Port, true)
	if _, err = l.Attach(context.Background(), standby(3, 50)); !errors.Is(err, vswitch.SwitchFull) {
		t.Errorf("one more: %v", err)
	}
}

// Where the NIC had no link its port was heard behind the pair. The switch forgets that once
// the NIC has a link again, whether or not the VF was ever away.
func TestSwitchForgetsStandby(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	a, err := l.Attach(context.Background(), standby(0, 50))
	if err != nil {
		t.Fatal(err)
	}
	_, vf := a.Port.BondMembers()
	forgotten := func() (times int) {
		log := l.kernel.Log()
		for i, step := range log {
			if i > 0 && strings.HasPrefix(step, "bridge fdb del "+a.Port.MAC.String()) && strings.Contains(log[i-1], "monitor link dev eth0") {
				times++
			}
		}
		return times
	}
	l.await(a.Port.ID, vswitch.SRIOV, "yes")
	for range 2 {
		for range 2 { // the first round may have begun before
			select {
			case <-l.rounds:
			default:
			}
			l.nic.become(func(n *sdk.NIC) { n.Link = false })
			<-l.rounds
		}
		before := forgotten()
		l.until("it is forgotten", func() (bool, string) {
			l.nic.become(nil) // and there is another round
			return forgotten() > before, l.kernel.String()
		})
	}
	l.wantStandby(a.Port, true)
	if l.wantDrawn(true, vf); strings.Count(l.nic.hands(), "+") != 1 {
		t.Errorf("VFs changed hands: %s", l.nic.hands())
	}
}
