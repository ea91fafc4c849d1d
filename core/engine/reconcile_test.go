package engine_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// keeper is a lab whose engine is resident, and its log.
type keeper struct {
	*lab
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
	stop func()
}

// Write takes one line of the log.
func (k *keeper) Write(line []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.more)
	k.more = make(chan struct{})
	return k.text.Write(line)
}

func (k *keeper) logged() (string, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.String(), k.more
}

// keep makes the engine resident until the test ends.
func (l *lab) keep(before ...func(*engine.Engine)) *keeper {
	l.t.Helper()
	k := &keeper{lab: l, more: make(chan struct{})}
	l.Engine = engine.New(engine.Config{
		Kernel: l.kernel, Store: store.New(store.Config{Dirs: l.dirs, BootID: l.boot, MachineID: "machine"}), HostRoot: withoutManagers, Segments: l.sizes,
	})
	for _, prepare := range before {
		prepare(l.Engine)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- l.Keep(ctx, slog.New(slog.NewTextHandler(k, nil)), func() { close(ready) })
	}()
	k.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	})
	l.t.Cleanup(k.stop)
	<-ready
	return k
}

// await waits for words in the log, behind what was there before.
func (k *keeper) await(before string, words ...string) {
	k.t.Helper()
	deadline := time.After(patience)
	for {
		text, more := k.logged()
		for line := range strings.Lines(strings.TrimPrefix(text, before)) {
			all := true
			for _, w := range words {
				all = all && strings.Contains(line, w)
			}
			if all {
				return
			}
		}
		select {
		case <-more:
		case <-deadline:
			k.t.Fatalf("no line with %q in\n%s", words, strings.TrimPrefix(text, before))
		}
	}
}

// harm carries out steps behind the engine's back.
func (k *keeper) harm(steps ...plan.Step) {
	k.t.Helper()
	if err := k.kernel.Apply(context.Background(), steps); err != nil {
		k.t.Fatal(err)
	}
}

// TestDriftOnFake harms a switch and its ports in many ways; each time all is as it
// was, and it is told.
func TestDriftOnFake(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	port := l.mustAttach(request(1)).Port
	slow := request(2)
	slow.Policy = limitedTo(10e6, 1e9)
	shaped := l.mustAttach(slow).Port
	l.mustAdd(vswitch.Switch{Name: "lan", Type: vswitch.External, Uplink: "nic0"})
	host := vswitch.HostPortSwitchEnd("prod")
	_, err := l.SetPort(context.Background(), host, engine.PortChange{Policy: limitedTo(10e6, 1e9)})
	must(t, err)
	whole := l.kernel.String()
	k := l.keep()
	bridge := vswitch.BridgeName("prod")
	changed := plan.Port{Name: port.Netdev, Bridge: bridge, MTU: 1400, Learning: true, Flood: true, Up: true}
	for _, x := range []struct {
		name  string
		harm  func()
		words []string
	}{
		{"port deleted", func() { k.harm(plan.DeleteNetdev{Name: port.Netdev}) }, []string{"port=" + port.ID, "was gone"}},
		{"port released", func() { k.harm(plan.ReleasePort{Name: port.Netdev}) }, []string{"port=" + port.ID, "out of its bridge"}},
		{"port changed", func() { k.harm(plan.SetPort{Port: changed}) }, []string{"flag learning on"}},
		{"port down", func() { k.kernel.SetNetdevDown("", port.Netdev) }, []string{"was down"}},
		{"entry deleted", func() { k.harm(plan.DeleteFDB{Port: port.Netdev, MAC: port.MAC}) }, []string{"forwarding entry"}},
		{"queue deleted", func() { k.kernel.DropQueues(shaped.Netdev) }, []string{"port=" + shaped.ID, "not limited"}},
		{"queue of what it sends deleted", func() { k.kernel.DropQueues(vswitch.ShaperName(shaped.ID)) }, []string{"port=" + shaped.ID, "not limited"}},
		{"shaper deleted", func() { k.kernel.RemoveNetdev(vswitch.ShaperName(shaped.ID)) }, []string{"port=" + shaped.ID, "not limited"}},
		{"queue of the host's port deleted", func() { k.kernel.DropQueues(host) }, []string{"switch=prod", "not limited"}},
		{"queue of what the host sends deleted", func() { k.kernel.DropQueues(vswitch.ShaperName(host)) }, []string{"switch=prod", "not limited"}},
		{"shaper of the host's port deleted", func() { k.kernel.RemoveNetdev(vswitch.ShaperName(host)) }, []string{"switch=prod", "not limited"}},
		{"limited port deleted", func() { k.harm(plan.DeleteNetdev{Name: shaped.Netdev}) }, []string{"port=" + shaped.ID, "was gone"}},
		{"bridge down", func() { k.kernel.SetNetdevDown("", bridge) }, []string{"switch=prod", "was down"}},
		{"bridge deleted", func() { k.harm(plan.DeleteBridge{Name: bridge}) }, []string{"port=" + port.ID, "out of its bridge"}},
		{"host port deleted", func() { k.harm(plan.DeleteNetdev{Name: vswitch.HostPortName("prod")}) }, []string{"switch=prod", "was gone"}},
		{"rules flushed", func() { k.harm(plan.SetRules{Remove: plan.Rules{Base: true}}) }, []string{"nftables tables"}},
		{"uplink released", func() { k.harm(plan.ReleasePort{Name: "nic0", Ungroup: true}) }, []string{"switch=lan", "out of its bridge"}},
		{"events lost", func() { k.harm(plan.ReleasePort{Name: port.Netdev}); k.kernel.Overrun() }, []string{"out of its bridge"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			before, _ := k.logged()
			x.harm()
			k.await(before, append(x.words, "msg=repaired")...)
		})
	}
	k.stop()
	if now := l.kernel.String(); now != whole {
		t.Errorf("the kernel is\n%s\nwant\n%s", now, whole)
	}
	s, err := l.Status(context.Background())
	if err != nil || s.Daemon == nil || len(s.Daemon.Repairs) < 10 || len(s.Daemon.Unrepaired) > 0 {
		t.Errorf("status tells %+v, %v", s.Daemon, err)
	}
}

// TestOwnChangesAreNoDrift: what verbs do needs no repair, by this engine and by
// another process.
func TestOwnChangesAreNoDrift(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	other := l.Engine
	k := l.keep()
	ctx := context.Background()
	for range 3 {
		for i := range 8 {
			by := l.Engine
			if i%2 == 0 {
				by = other
			}
			if _, err := by.Attach(ctx, request(i)); err != nil {
				t.Fatal(err)
			}
		}
		notes, access := "x", false
		if _, err := other.SetSwitch(ctx, "prod", engine.SwitchChange{Notes: &notes}); err != nil {
			t.Fatal(err)
		}
		if _, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "lan", Uplink: "nic0", HostAccess: &access}}); err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			if err := other.Detach(ctx, owner(i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}); err != nil {
			t.Fatal(err)
		}
	}
	// A change that is drift comes last: by then all before has been looked at.
	before, _ := k.logged()
	if before != "" {
		t.Errorf("logged:\n%s", before)
	}
	k.kernel.SetNetdevDown("", vswitch.BridgeName("prod"))
	k.await("", "msg=repaired", "was down")
	k.stop()
	if text, _ := k.logged(); strings.Count(text, "\n") != 1 {
		t.Errorf("logged:\n%s", text)
	}
}

// TestDyingContainers: a port is made anew only for an owner that lives where it
// lived.
func TestDyingContainers(t *testing.T) {
	for _, x := range []struct {
		name string
		harm func(l *lab, port vswitch.Port)
	}{
		{"namespace gone", func(l *lab, _ vswitch.Port) { l.kernel.RemoveNetns(netns(1)) }},
		{"path gone", func(l *lab, p vswitch.Port) { l.kernel.UnmountNetns(netns(1)); l.kernel.RemoveNetdev(p.Netdev) }},
		{"another namespace on its path", func(l *lab, _ vswitch.Port) { l.kernel.RemoveNetns(netns(1)); l.kernel.AddNetns(netns(1)) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			l := newLab(t)
			gone, stays := l.mustAttach(request(1)).Port, l.mustAttach(request(2)).Port
			k := l.keep()
			x.harm(l, gone)
			k.kernel.SetNetdevDown("", stays.Netdev) // looked at in the same round, or later
			k.await("", "msg=repaired", "port="+stays.ID)
			k.stop()
			if text, _ := k.logged(); strings.Contains(text, gone.ID) {
				t.Errorf("logged:\n%s", text)
			}
			if p, err := l.Port(context.Background(), gone.ID); err != nil {
				t.Errorf("port %v: %v", p, err)
			}
			if strings.Contains(l.kernel.String(), gone.Netdev) {
				t.Errorf("it was made anew:\n%s", l.kernel)
			}
		})
	}
}

// TestNumbersOfProcesses: whether a path in /proc still is the owner's nobody knows
// who did not see the port whole, when its record does not tell.
func TestNumbersOfProcesses(t *testing.T) {
	const path = "/proc/77/ns/net"
	l := newLab(t)
	l.kernel.AddNetns(path)
	req := request(1)
	req.Owner.Netns = path
	p := l.mustAttach(req).Port
	l.forgetNetns(p.ID)
	l.kernel.RemoveNetdev(p.Netdev)
	k := l.keep()
	k.await("", "cannot repair", "port="+p.ID)
	k.stop()
	if strings.Contains(l.kernel.String(), p.Netdev+":") {
		t.Errorf("it was made anew:\n%s", l.kernel)
	}
}

// TestAfterBoot: switches are made before the first container comes, and ports of
// before the boot are forgotten as ever.
func TestAfterBoot(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	l.mustAdd(vswitch.Switch{Name: "lan", Uplink: "nic0"})
	whole := l.kernel.String()
	l.boot = "boot-2"
	l.kernel = kernel.NewFake(kernel.FakeConfig{Netdevs: nics(), Capabilities: allCapabilities()})
	for i := range 8 {
		l.kernel.AddNetns(netns(i))
	}
	k := l.keep()
	k.stop()
	if now := l.kernel.String(); now != whole {
		t.Errorf("after the boot\n%s\nwant\n%s", now, whole)
	}
	text, _ := k.logged()
	if !strings.Contains(text, "switch=lan") || !strings.Contains(text, "not made since the boot") {
		t.Errorf("logged:\n%s", text)
	}
}

// TestUnrepairable: what cannot be repaired is told once, listed, tried again at
// growing intervals, and repaired when the reason is gone.
func TestUnrepairable(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.mustAdd(vswitch.Switch{Name: "lan", Uplink: "nic0"})
	k := l.keep()
	l.kernel.RemoveNetdev("nic0")
	k.await("", "cannot repair", "switch=lan", "kind=UPLINK_NOT_FOUND")
	s, err := l.Status(context.Background())
	if err != nil || len(s.Daemon.Unrepaired) != 1 || s.Daemon.Unrepaired[0].Object != "switch lan" || s.Daemon.Unrepaired[0].Hint == "" {
		t.Errorf("status tells %+v, %v", s.Daemon, err)
	}
	l.kernel.AddNetdev(nics()[1])
	k.await("", "msg=repaired", "switch=lan")
	k.stop()
	if text, _ := k.logged(); strings.Count(text, "cannot repair") != 1 {
		t.Errorf("logged:\n%s", text)
	}
	if s, err = l.Status(context.Background()); err != nil || len(s.Daemon.Unrepaired) != 0 {
		t.Errorf("status tells %+v, %v", s.Daemon, err)
	}
}

// TestFailureOfAStep: a repair that fails is tried again by timer, without another
// event.
func TestFailureOfAStep(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	p := l.mustAttach(request(1)).Port
	k := l.keep()
	l.kernel.FailAt(2, errors.New("no memory"))
	k.kernel.RemoveNetdev(p.Netdev)
	k.await("", "cannot repair", "no memory")
	k.await("", "msg=repaired", "port="+p.ID)
}

// TestContest: somebody who changes the same again and again is answered ever more
// rarely, and named.
func TestContest(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.mustAdd(internal())
	k := l.keep()
	for range 6 {
		before, _ := k.logged()
		k.kernel.SetNetdevDown("", vswitch.BridgeName("prod"))
		k.await(before, "msg=repaired", "was down")
	}
	before, _ := k.logged()
	k.kernel.SetNetdevDown("", vswitch.BridgeName("prod"))
	k.await(before, "again and again", "switch=prod")
	s, err := l.Status(context.Background())
	if err != nil || len(s.Daemon.Unrepaired) != 1 {
		t.Fatalf("status tells %+v, %v", s.Daemon, err)
	}
	k.await(before, "msg=repaired", "was down")
}

// TestKeptWhileKilled sweeps a process that is killed before each step of an Attach
// and of a SetSwitch while another one keeps the host: it finishes what was begun.
func TestKeptWhileKilled(t *testing.T) {
	for step := 1; ; step++ {
		l := newLab(t)
		l.mustAdd(internal())
		l.kernel.DieAt(step)
		if !dies(func() error { _, err := l.Attach(context.Background(), request(1)); return err }) {
			break
		}
		l.kernel.Revive()
		k := l.keep()
		k.stop()
		p, err := l.Check(context.Background(), owner(1))
		if err != nil {
			t.Fatalf("killed before step %d: %v", step, err)
		}
		for _, s := range p.Steps {
			// An owner's end is made with its port or not at all.
			if _, end := s.(plan.SetPort); end {
				t.Errorf("killed before step %d, then: %s", step, s)
			}
		}
		l.mustDetach(1)
	}
	gateway := []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}
	for step := 1; ; step++ {
		l := newLab(t)
		l.mustAdd(internal())
		l.kernel.DieAt(step)
		if !dies(func() error {
			_, err := l.SetSwitch(context.Background(), "prod", engine.SwitchChange{Gateway: &gateway})
			return err
		}) {
			break
		}
		l.kernel.Revive()
		k := l.keep()
		k.stop()
		s, err := l.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range s.Problems {
			if p.Kind == vswitch.Drifted {
				t.Errorf("killed before step %d, then: %s", step, p.Message)
			}
		}
	}
}
