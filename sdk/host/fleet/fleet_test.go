package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// Ports have queues by weight while there are any; who asks for more later, takes one over,
// and who goes, leaves one.
func TestQueuesGoByWeight(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 2})
	host := l.hostPort()
	if err := l.set(host, weight(0)); err != nil {
		t.Fatal(err)
	}
	a, b, c := l.mustAttach(0, weight(10)), l.mustAttach(1, weight(20)), l.mustAttach(2, weight(5))
	l.await(a, vswitch.VMQ, "yes")
	l.await(b, vswitch.VMQ, "yes")
	l.await(c, vswitch.VMQ, "NO_FREE_FILTER")
	if err := l.set(c, weight(15)); err != nil {
		t.Fatal(err)
	}
	l.await(c, vswitch.VMQ, "yes")
	l.await(a, vswitch.VMQ, "NO_FREE_FILTER")
	if err := l.Detach(context.Background(), owner(1)); err != nil {
		t.Fatal(err)
	}
	l.await(a, vswitch.VMQ, "yes")
	if n := l.grants(); n != 2 {
		t.Errorf("%d queues are held", n)
	}
	of, err := l.Offloads(context.Background(), "wan")
	if err != nil || len(of) != 1 {
		t.Fatal(of, err)
	}
	for _, total := range of[0].Totals {
		if total.Feature == vswitch.VMQ && (total.Used != 2 || total.Capacity != 2) {
			t.Errorf("%+v", total)
		}
	}
}

// What becomes of a switch is decided about as well, without a container that comes or goes.
func TestDecidedAgainWhenTheSwitchChanges(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 2})
	l.await(l.hostPort(), vswitch.VMQ, "yes")
	access := false
	set := func() {
		t.Helper()
		if _, err := l.SetSwitch(context.Background(), "wan", engine.SwitchChange{HostAccess: &access, Yes: true}); err != nil {
			t.Fatal(err)
		}
	}
	set()
	l.until("the host has no queue", func() (bool, string) { return l.grants() == 0, "that it has" })
	access = true
	set()
	l.await(l.hostPort(), vswitch.VMQ, "yes")
}

// The same is decided again when the NIC has more, or less, to give.
func TestDecidedAgainWhenTheNICChanges(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 2})
	a, b := l.mustAttach(0, weight(10)), l.mustAttach(1, weight(20))
	l.await(l.hostPort(), vswitch.VMQ, "yes")
	l.await(b, vswitch.VMQ, "yes")
	l.await(a, vswitch.VMQ, "NO_FREE_FILTER")
	l.nic.become(func(n *sdk.NIC) { n.Capabilities.VMQ.Foreign = 1 })
	l.await(b, vswitch.VMQ, "NO_FREE_FILTER")
	l.nic.become(func(n *sdk.NIC) { n.Capabilities.VMQ = vswitch.Capability{Missing: vswitch.NoDriverSupport} })
	l.await(b, vswitch.VMQ, "NO_DRIVER_SUPPORT")
	l.until("nothing is held", func() (bool, string) { return l.grants() == 0, "something" })
	l.nic.become(func(n *sdk.NIC) { n.Netdev = "other0" })
	l.await(b, vswitch.VMQ, "NO_PROVIDER")
	l.nic.become(nil)
	l.await(b, vswitch.VMQ, "yes")
}

// A change of what the NIC has to know of a port comes with a greater generation; asking for
// the same twice is asking once.
func TestGenerationsGrow(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	a := l.mustAttach(0, weight(10))
	l.await(a, vswitch.VMQ, "yes")
	if err := l.set(a, weight(20)); err != nil {
		t.Fatal(err)
	}
	l.until("the plugin is asked for weight 20", func() (bool, string) {
		asked := l.nic.requests(a)
		return asked[len(asked)-1].Weight == 20, "another"
	})
	b := l.mustAttach(1, vswitch.OffloadChange{})
	l.await(b, vswitch.VMQ, "yes")
	asked := l.nic.requests(a)
	if len(asked) != 2 || asked[0].Generation >= asked[1].Generation || asked[0].MAC.IsZero() || asked[0].Netns != owner(0).Netns {
		t.Errorf("%+v", asked)
	}
}

// What a plugin refuses the port says, in its words, and works in software.
func TestRefusalIsTold(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	l.nic.refuseAll(sdk.Deny(vswitch.NoFreeFilter, "the table is fragmented"))
	a := l.mustAttach(0, vswitch.OffloadChange{})
	l.await(a, vswitch.VMQ, "NO_FREE_FILTER")
	p, err := l.Port(context.Background(), a)
	if err != nil || len(p.Drift) > 0 {
		t.Fatal(p.Drift, err)
	}
	for _, o := range p.Offload {
		if o.Feature == vswitch.VMQ && o.Detail != "the table is fragmented" {
			t.Errorf("%+v", o)
		}
	}
	l.nic.refuseAll(errNoFirmware)
	if err := l.set(a, weight(7)); err != nil {
		t.Fatal(err)
	}
	l.await(a, vswitch.VMQ, "REFUSED")
	l.nic.refuseAll(nil)
	l.await(a, vswitch.VMQ, "yes") // it is tried again by itself
}

// What a plugin can do less of than it gave, the port says, once the plugin tells.
func TestLimitIsTold(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	a := l.mustAttach(0, vswitch.OffloadChange{})
	l.await(a, vswitch.VMQ, "yes")
	reason := func(want vswitch.Reason, detail string) {
		t.Helper()
		l.until(fmt.Sprintf("the reason is %q", want), func() (bool, string) {
			p, err := l.Port(context.Background(), a)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range p.Offload {
				if o.Feature == vswitch.VMQ {
					return o.Effective && o.Reason == want && o.Detail == detail, fmt.Sprintf("%+v", o)
				}
			}
			return false, "nothing"
		})
	}
	for _, want := range []vswitch.Reason{vswitch.LimitReached, ""} {
		detail := ""
		if want != "" {
			detail = "others took the rest"
		}
		l.nic.limit(want, detail)
		l.nic.become(nil)
		reason(want, detail)
	}
}

// Events do not put off what is tried again by the clock.
func TestEventsDoNotDelayRetries(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	l.nic.refuseAll(errNoFirmware)
	a := l.mustAttach(0, vswitch.OffloadChange{})
	l.await(a, vswitch.VMQ, "REFUSED")
	for range 8 { // each as good as a failed try: 1 s, 2 s, 4 s ... would be minutes
		l.nic.become(nil)
		<-l.rounds
	}
	l.nic.refuseAll(nil)
	l.await(a, vswitch.VMQ, "yes")
	for len(l.tries) > 0 {
		if next := <-l.tries; next > 8*time.Second {
			t.Errorf("it is tried again after %s", next)
		}
	}
}

// What is required is there when the port is, or there is no port.
func TestRequired(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 2})
	a := l.mustAttach(0, mode(vswitch.OffloadRequire))
	if got := l.has(a, vswitch.VMQ); got != "yes" {
		t.Errorf("VMQ is %s", got)
	}
	b := l.mustAttach(1, mode(vswitch.OffloadRequire)) // who prefers one gives it up
	l.await(b, vswitch.VMQ, "yes")
	wantMissing(t, func() error { _, err := l.attach(2, mode(vswitch.OffloadRequire)); return err }(), "vmq is required: every queue")
	c := l.mustAttach(2, mode(vswitch.OffloadPrefer))
	wantMissing(t, l.set(c, mode(vswitch.OffloadRequire)), "vmq is required")
	if p, err := l.Port(context.Background(), c); err != nil || p.Policy.Offload.Wish(vswitch.VMQ).Mode != vswitch.OffloadPrefer {
		t.Errorf("it is %v, %v", p.Policy.Offload, err)
	}
	if err := l.Detach(context.Background(), owner(0)); err != nil {
		t.Fatal(err)
	}
	l.nic.refuseAll(errNoFirmware)
	_, err := l.attach(3, mode(vswitch.OffloadRequire))
	wantMissing(t, err, "vmq is required: the firmware does not answer")
	ports, err := l.Ports(context.Background(), "wan")
	if err != nil || len(ports) != 3 { // the host's, b and c
		t.Errorf("%d ports, %v", len(ports), err)
	}
}

func wantMissing(t *testing.T, err error, says string) {
	t.Helper()
	if !errors.Is(err, vswitch.CapabilityMissing) || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want CAPABILITY_MISSING that says %q", err, says)
	}
}

// Where nobody runs plugins, hardware is absent with a reason, and what requires it refused.
func TestWithoutDaemon(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 2})
	l.stop()
	l.Engine = engine.New(engine.Config{Kernel: l.kernel, Store: l.store()})
	a := l.mustAttach(0, vswitch.OffloadChange{})
	if got := l.has(a, vswitch.VMQ); got != "NO_DAEMON" {
		t.Errorf("VMQ is %s", got)
	}
	_, err := l.attach(1, mode(vswitch.OffloadRequire))
	wantMissing(t, err, "patchbayd")
	if hint := vswitch.HintOf(err); !strings.Contains(hint, "systemctl start patchbayd") {
		t.Errorf("hint %q", hint)
	}
	l.add(vswitch.Switch{Name: "lan", Type: vswitch.Internal})
	b, err := l.Attach(context.Background(), engine.AttachRequest{Owner: owner(2), Switch: "lan"})
	if err != nil {
		t.Fatal(err)
	}
	if got := l.has(b.Port.ID, vswitch.VMQ); got != "NO_UPLINK" {
		t.Errorf("VMQ is %s", got)
	}
	if got := l.has(b.Port.ID, vswitch.SRIOV); got != "NOT_ASKED" {
		t.Errorf("SR-IOV is %s", got)
	}
}

// A process that was killed leaves what it was about to do in the store: who comes next
// finishes it for ports that are there, and takes it back from those that are gone.
func TestKilledInBetween(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	a := l.mustAttach(0, vswitch.OffloadChange{})
	l.await(a, vswitch.VMQ, "yes")
	b := l.mustAttach(1, vswitch.OffloadChange{})
	l.await(b, vswitch.VMQ, "yes")
	l.stop()
	var was store.Grant
	err := l.store().Update(func(tx *store.Tx) error {
		grants, err := tx.Grants()
		for _, g := range grants {
			if g.Request.Port == a { // killed before the answer was written
				was, g.Given = g, nil
				err = errors.Join(err, tx.PutGrant(g))
			}
		}
		return errors.Join(err, tx.DeletePort(b)) // detached while nobody ran plugins
	})
	if err != nil || was.Given == nil {
		t.Fatal(was, err)
	}
	ghost := sdk.Request{Ref: sdk.Ref{Port: "pbghost", Feature: vswitch.VMQ}, NIC: was.Request.NIC, Generation: 7, MAC: vswitch.MAC{2, 1}, Owner: vswitch.OwnerContainer}
	if _, err := l.nic.Ensure(context.Background(), ghost); err != nil { // of a store that is lost
		t.Fatal(err)
	}
	l.open()
	l.await(a, vswitch.VMQ, "yes")
	l.until("what is left over is gone", func() (bool, string) { return l.grants() == 2, "more" }) // the host's and a's
	asked := l.nic.requests(a)
	if last := asked[len(asked)-1]; last.Generation != was.Request.Generation {
		t.Errorf("asked with generation %d, and with %d before", last.Generation, was.Request.Generation)
	}
}

// What a plugin has lost is given anew.
func TestLostGrantIsGivenAgain(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	a := l.mustAttach(0, vswitch.OffloadChange{})
	l.await(a, vswitch.VMQ, "yes")
	before := len(l.nic.requests(a))
	if err := l.nic.Release(context.Background(), sdk.Ref{Port: a, Feature: vswitch.VMQ}, 1<<62); err != nil {
		t.Fatal(err)
	}
	l.nic.become(nil) // as a plugin tells that was started again
	l.until("it is asked again", func() (bool, string) { return len(l.nic.requests(a)) > before, "not" })
	l.await(a, vswitch.VMQ, "yes")
}

func (l *lab) hostPort() string {
	l.t.Helper()
	ports, err := l.Ports(context.Background(), "wan")
	if err != nil || len(ports) == 0 || ports[0].Owner.Kind != vswitch.OwnerHost {
		l.t.Fatal(ports, err)
	}
	return ports[0].ID
}
