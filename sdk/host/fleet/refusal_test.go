package fleet_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// noVFs is a nic that refuses to give VFs, which it has, until it relents.
type noVFs struct {
	*nic
	relents atomic.Bool
}

func (n *noVFs) Ensure(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
	if r.Feature == vswitch.SRIOV && !n.relents.Load() {
		return sdk.Grant{}, sdk.Deny(vswitch.Refused, "not today")
	}
	return n.nic.Ensure(ctx, r)
}

// refuse has the lab's NIC give no VFs.
func (l *lab) refuse() *noVFs {
	n := &noVFs{nic: l.nic}
	l.instead(n)
	return n
}

// vfOrQueue is a wish for a VF, and for a queue at all events.
func vfOrQueue() vswitch.OffloadChange {
	require := vswitch.OffloadRequire
	change := vf(vswitch.OffloadPrefer)
	change.VMQ.Mode = &require
	return change
}

// A queue that is required is also required where the VF that would have brought it is refused.
func TestRequiredQueueWithoutVF(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 2, "queues": 1})
	l.refuse()
	a, err := l.attach(0, vfOrQueue())
	if err != nil || a.VF != "" {
		t.Fatalf("with a queue free: %+v, %v", a, err)
	}
	if got := l.has(a.ID, vswitch.VMQ); got != "yes" {
		t.Errorf("VMQ is %s", got)
	}
	_, err = l.attach(1, vfOrQueue())
	wantMissing(t, err, "vmq is required: every queue")
	l.wantDrawn(false, owner(1).PortID())
}

// What was refused to a container that is gone is asked for again for the next one of its name.
func TestRefusalGoesWithPort(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 2, "queues": 1})
	n := l.refuse()
	l.mustAttach(0, vfOrQueue())
	l.mustAttach(1, vf(vswitch.OffloadPrefer))
	if err := l.Detach(context.Background(), owner(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.attach(2, vfOrQueue()); err == nil {
		t.Error("no queue is free, and there is no error")
	}
	n.relents.Store(true)
	for _, i := range []int{1, 2} {
		if a, err := l.attach(i, vfOrQueue()); err != nil || a.VF == "" {
			t.Errorf("container %d has VF %q, %v", i, a.VF, err)
		}
	}
}

// A port with a standby has a queue while its VF is refused, when it is attached or later, and
// gives it back when it has the VF.
func TestQueueWhileVFIsRefused(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 2, "queues": 4})
	n := l.refuse()
	a, err := l.Attach(context.Background(), standby(0, 50))
	if err != nil || a.Port.VF != "" {
		t.Fatalf("%+v, %v", a.Port, err)
	}
	for queues := 5; queues < 7; queues++ { // the NIC tells something else, whereupon it is decided again
		l.await(a.Port.ID, vswitch.SRIOV, "REFUSED")
		l.await(a.Port.ID, vswitch.VMQ, "yes")
		n.relents.Store(true)
		l.nic.become(func(n *sdk.NIC) { n.Capabilities.VMQ.Capacity = queues })
		l.await(a.Port.ID, vswitch.SRIOV, "yes")
		l.await(a.Port.ID, vswitch.VMQ, "QUEUES_OF_VF")
		l.until("the VF and the host's queue are all", func() (bool, string) { return l.grants() == 2, "" })

		n.relents.Store(false)
		_, in := a.Port.BondMembers()
		l.kernel.RemoveNetdevIn(owner(0).Netns, in)
		if err := l.nic.Provider.Release(context.Background(), sdk.Ref{Port: a.Port.ID, Feature: vswitch.SRIOV}, 1<<62); err != nil {
			t.Fatal(err)
		}
		l.nic.become(nil)
	}
	l.await(a.Port.ID, vswitch.SRIOV, "REFUSED")
	l.await(a.Port.ID, vswitch.VMQ, "yes")
}

// slow is a nic that gives a VF, or refuses, when it is told to.
type slow struct {
	*nic
	asked  chan struct{}
	answer chan error
}

func (n *slow) Ensure(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
	if r.Feature == vswitch.SRIOV {
		n.asked <- struct{}{}
		if err := <-n.answer; err != nil {
			return sdk.Grant{}, err
		}
	}
	return n.nic.Ensure(ctx, r)
}

// Nobody says of a port that its VF has queues before it has the VF, nor that it was refused
// what was refused to another one of its name.
func TestQueuesOfVFToCome(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	n := &slow{l.nic, make(chan struct{}), make(chan error)}
	l.instead(n)
	go func() {
		<-n.asked
		n.answer <- sdk.Deny(vswitch.Refused, "not today")
	}()
	l.mustAttach(0, vf(vswitch.OffloadPrefer))
	if err := l.Detach(context.Background(), owner(0)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := l.Attach(context.Background(), standby(0, 50))
		done <- err
	}()
	<-n.asked
	for _, f := range []vswitch.Feature{vswitch.SRIOV, vswitch.VMQ} {
		if got := l.has(owner(0).PortID(), f); got != "PENDING" {
			t.Errorf("%s is %s", f, got)
		}
	}
	close(n.answer)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := l.has(owner(0).PortID(), vswitch.VMQ); got != "QUEUES_OF_VF" {
		t.Errorf("VMQ is %s", got)
	}
}
