package follow_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
	"github.com/patchbay-net/patchbay/libvirt-hook/follow"
	"github.com/patchbay-net/patchbay/libvirt-hook/hook"
)

const (
	webUUID, webPort, webMAC = "4a2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b01", "5b2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b01", "52:54:00:aa:00:01"
)

// profiles are those of switch lan.
func profiles() []vswitch.PortProfile {
	on := true
	return []vswitch.PortProfile{{Name: "web", Policy: vswitch.PolicyChange{DHCPGuard: &on}}}
}

// lab is an engine on a Fake kernel that follows a fake libvirt, by a clock of its own.
type lab struct {
	*engine.Engine
	t        *testing.T
	kernel   *kernel.Fake
	libvirt  *fakeLibvirt
	drivers  map[string]follow.Dial // by their URIs
	follower *follow.Follower
	stop     func()
	web      *fakeDomain
	log      strings.Builder
}

// tried runs a test with a lab whose follower runs until the test ends. Before says what is
// there when it begins.
func tried(t *testing.T, before, test func(*lab)) {
	t.Helper()
	dirs := store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)}
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, libvirt: &fakeLibvirt{}, kernel: kernel.NewFake(kernel.FakeConfig{
			Netdevs:      []kernel.Netdev{{Name: "lo", Loopback: true, Up: true}},
			Capabilities: kernel.Capabilities{PortLocked: true, BridgeRules: true, GuardRules: true, ACLRules: true, NAT: true, Limits: true},
		})}
		l.Engine = engine.New(engine.Config{Kernel: l.kernel, Store: store.New(store.Config{Dirs: dirs, BootID: "boot", MachineID: "machine"})})
		if _, err := l.AddSwitch(t.Context(), engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "lan", Type: vswitch.Private, PortProfiles: profiles()}}); err != nil {
			t.Fatal(err)
		}
		l.web = &fakeDomain{uuid: webUUID, name: "web01", mac: webMAC, port: webPort, netdev: "vnet0"}
		l.libvirt.domains = []*fakeDomain{l.web}
		l.drivers = map[string]follow.Dial{"qemu:///system": l.libvirt.dial}
		before(l)
		l.start()
		test(l)
		l.stop()
		if t.Failed() {
			t.Log(l.log.String())
		}
	})
}

// start starts a follower, as patchbayd does, and stop ends it.
func (l *lab) start() {
	l.follower = follow.New(follow.Config{
		URIs: slices.Sorted(maps.Keys(l.drivers)), Verbs: l.Engine, Log: slog.New(slog.NewTextHandler(&l.log, nil)),
		Dial: func(uri string, tell func(follow.Event), lost func()) (follow.Libvirt, error) {
			return l.drivers[uri](uri, tell, lost)
		},
		Hook: func(ctx context.Context, c wire.HookCall) wire.Answer { return hook.Serve(ctx, l.Engine, c) },
	})
	l.LeaveTaps(l.follower.Binds)
	ctx, stop := context.WithCancel(l.t.Context())
	done := make(chan struct{})
	go func() { l.follower.Run(ctx); close(done) }()
	l.stop = func() { stop(); <-done }
	synctest.Wait()
}

func nothing(*lab) {}

// run is what libvirt does to run the domain, but for its hooks.
func (l *lab) run() {
	mac, _ := vswitch.ParseMAC(webMAC)
	l.kernel.AddNetdev(kernel.Netdev{Name: "vnet0", Index: 70, Kind: "tun", MAC: mac.TapMAC(), MTU: 1500, Master: "pb-lan", Ethernet: true, Up: true, Carrier: true})
	l.web.running = true
}

// told changes libvirt, which tells of it, and lets everybody finish.
func (l *lab) told(e follow.Event, what func()) {
	l.libvirt.change(e, what)
	if e.Unplugs == "" && e.Migration == "" { // which are heeded at once
		l.pass(time.Second)
	}
	synctest.Wait()
}

// pass lets time pass, by the clock of the test.
func (l *lab) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (l *lab) ports() []vswitch.Port {
	l.t.Helper()
	all, err := l.Ports(l.t.Context(), "")
	if err != nil {
		l.t.Fatal(err)
	}
	return all
}

// wantBound fails unless the one port is that of the domain, with its profile and its tap.
func (l *lab) wantBound() {
	l.t.Helper()
	all := l.ports()
	if len(all) != 1 || all[0].Owner.Endpoint != webPort || all[0].Netdev != "vnet0" || !all[0].Policy.DHCPGuard || all[0].VM.Alias != "ua-web" {
		l.t.Fatalf("ports: %+v", all)
	}
}

func (l *lab) wantNone() {
	l.t.Helper()
	if all := l.ports(); len(all) > 0 {
		l.t.Fatalf("ports: %+v", all)
	}
}

// TestMissedHooks: what no hook has told of is found at the start, and at an event.
func TestMissedHooks(t *testing.T) {
	t.Run("at the start", func(t *testing.T) { tried(t, (*lab).run, (*lab).wantBound) })
	t.Run("at an event", func(t *testing.T) {
		tried(t, nothing, func(l *lab) {
			l.wantNone()
			l.told(follow.Event{Domain: webUUID}, l.run)
			l.wantBound()
		})
	})
	t.Run("after a minute", func(t *testing.T) {
		tried(t, nothing, func(l *lab) {
			l.libvirt.mu.Lock()
			l.run()
			l.libvirt.mu.Unlock()
			l.pass(61 * time.Second)
			l.wantBound()
		})
	})
}

// TestForeignBridge: a domain on a bridge that is called as ours are, and is somebody else's, is left alone.
func TestForeignBridge(t *testing.T) {
	tried(t, func(l *lab) { l.run(); l.web.bridge, l.web.port = "pb-other", "" }, func(l *lab) {
		l.pass(3 * time.Minute)
		l.wantNone()
		if text := l.log.String(); strings.Contains(text, "bound") || strings.Contains(text, "WARN") {
			t.Error("it is not left alone")
		}
	})
}

// TestStopsMeanwhile: a domain that stops between two questions to libvirt gets no port.
func TestStopsMeanwhile(t *testing.T) {
	stops := func(l *lab) {
		l.run()
		l.libvirt.listed = func() { l.web.running = false }
	}
	tried(t, stops, func(l *lab) {
		l.wantNone()
		if !strings.Contains(l.log.String(), "reserved a port that no hook told of") {
			l.t.Error("the port was not missed")
		}
	})
}

// TestStartIsLeftAlone: libvirt is busy while a domain starts, and is not asked about each port of
// it.
func TestStartIsLeftAlone(t *testing.T) {
	tried(t, nothing, func(l *lab) {
		asked := func(want int) {
			l.libvirt.mu.Lock()
			defer l.libvirt.mu.Unlock()
			if l.libvirt.asked != want {
				l.t.Fatalf("libvirt was asked %d times, want %d", l.libvirt.asked, want)
			}
		}
		l.follower.Changed(webUUID) // by the hook
		synctest.Wait()
		asked(0)
		l.told(follow.Event{Domain: webUUID, Speaks: true}, l.run)
		l.wantBound()
		asked(2)                    // a second time because no hook has told of its port
		l.follower.Changed(webUUID) // by somebody who sets a policy
		synctest.Wait()
		asked(3)
	})
}

// TestStalePort: libvirt keeps ports of starts that were cut off, and no interface has them.
func TestStalePort(t *testing.T) {
	tried(t, func(l *lab) { l.web.stale = []string{"5b2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b77"}; l.run() }, func(l *lab) {
		l.wantBound()
		l.pass(10 * time.Minute)
		l.wantBound()
	})
}

// TestLeftOver: a port whose domain has stopped unseen goes, but not before libvirt has had
// its time to tell.
func TestLeftOver(t *testing.T) {
	tried(t, (*lab).run, func(l *lab) {
		l.told(follow.Event{Domain: webUUID}, func() { l.web.running = false })
		l.wantBound()
		l.pass(29 * time.Second)
		l.wantBound()
		l.pass(2 * time.Second)
		l.wantNone()
	})
}

// TestLeftOverAmongOthers: what is told of other domains puts off no release.
func TestLeftOverAmongOthers(t *testing.T) {
	tried(t, (*lab).run, func(l *lab) {
		l.told(follow.Event{Domain: webUUID}, func() { l.web.running = false })
		l.pass(10 * time.Second)
		l.told(follow.Event{Domain: "4a2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b02"}, func() {})
		l.wantBound()
		l.pass(20 * time.Second)
		l.wantNone()
	})
}

// TestStarting: libvirt calls the hook for a port before it lists the domain as running, and
// a start may take its time.
func TestStarting(t *testing.T) {
	tried(t, nothing, func(l *lab) {
		mac, _ := vswitch.ParseMAC(webMAC)
		if _, err := l.ReservePort(t.Context(), engine.ReservePortRequest{
			Owner:  vswitch.Owner{Kind: vswitch.OwnerVM, ID: webUUID, Endpoint: webPort, Name: "web01"},
			Switch: "lan", MAC: mac,
		}); err != nil {
			t.Fatal(err)
		}
		l.told(follow.Event{Domain: webUUID}, func() {})
		l.pass(20 * time.Second)
		if all := l.ports(); len(all) != 1 {
			t.Fatalf("ports: %+v", all)
		}
		l.told(follow.Event{Domain: webUUID}, l.run)
		l.pass(20 * time.Second)
		if all := l.ports(); len(all) != 1 || all[0].Netdev != "vnet0" {
			t.Fatalf("ports: %+v", all)
		}
	})
}

// TestLibvirtdGone: ports stay as they are, and the next libvirtd is found as soon as it
// calls a hook.
func TestLibvirtdGone(t *testing.T) {
	tried(t, (*lab).run, func(l *lab) {
		l.libvirt.mu.Lock()
		lost := l.libvirt.lost
		l.libvirt.refuses = errors.New("connection refused")
		l.libvirt.mu.Unlock()
		lost()
		l.pass(10 * time.Minute)
		l.wantBound()
		tries := l.libvirt.dialled()
		if tries < 10 || tries > 20 {
			t.Errorf("%d attempts in ten minutes", tries)
		}
		if s := l.follower.Status(); s[0].Connected || s[0].Reason != "connection refused" {
			t.Errorf("status: %+v", s)
		}
		if _, err := l.follower.Define("<network/>"); !errors.Is(err, follow.ErrNotFollowed) {
			t.Errorf("define: %v", err)
		}
		l.libvirt.mu.Lock()
		l.libvirt.refuses = nil
		l.libvirt.mu.Unlock()
		l.follower.Heard()
		synctest.Wait()
		if l.libvirt.dialled() != tries+1 || !l.follower.Status()[0].Connected {
			t.Errorf("a hook was called, and libvirtd is not found: %+v", l.follower.Status())
		}
		l.wantBound()
	})
}

// TestLookFails: a libvirtd that cannot list is asked again, and an event meanwhile is no
// harm.
func TestLookFails(t *testing.T) {
	tried(t, func(l *lab) { l.libvirt.fails = errors.New("a hook is waited for") }, func(l *lab) {
		l.told(follow.Event{Domain: webUUID}, func() {})
		l.wantNone()
		l.told(follow.Event{Domain: webUUID}, func() { l.run(); l.libvirt.fails = nil })
		l.pass(2 * time.Second)
		l.wantBound()
	})
}

// TestNoLibvirt: a host without libvirt is not asked again.
func TestNoLibvirt(t *testing.T) {
	for _, reason := range []error{follow.ErrWithout, follow.ErrNoLibrary} {
		tried(t, func(l *lab) { l.libvirt.refuses = reason }, func(l *lab) {
			l.pass(time.Hour)
			if n := l.libvirt.dialled(); n != 1 {
				t.Errorf("%d attempts", n)
			}
			if s := l.follower.Status(); s[0].Reason != reason.Error() {
				t.Errorf("status: %+v", s)
			}
		})
	}
}

// TestArrival: a domain that has come from another host is announced when it begins to run
// here, and not before.
func TestArrival(t *testing.T) {
	tried(t, nothing, func(l *lab) {
		if err := l.ExpectDomain(t.Context(), engine.ExpectDomainRequest{Domain: vswitch.DomainRef{ID: webUUID, Name: "web01"}}); err != nil {
			t.Fatal(err)
		}
		l.told(follow.Event{Domain: webUUID}, l.run)
		l.wantBound()
		if stage := l.ports()[0].VM.Stage; stage != vswitch.VMActive { // it runs, as far as the fake tells
			t.Errorf("stage: %q", stage)
		}
	})
}

// TestStateTravels: what a port is like is in the running domain's metadata, written when it
// changes and, because of what is counted, once a minute at most.
func TestStateTravels(t *testing.T) {
	tried(t, (*lab).run, func(l *lab) {
		if !strings.Contains(l.web.state, `&#34;dhcpGuard&#34;:true`) || l.libvirt.writes != 1 {
			t.Fatalf("state after %d writes: %s", l.libvirt.writes, l.web.state)
		}
		limit := 1234
		if _, err := l.SetPort(t.Context(), l.ports()[0].ID, engine.PortChange{Policy: vswitch.PolicyChange{StormLimit: &limit}}); err != nil {
			t.Fatal(err)
		}
		l.follower.Changed(webUUID)
		synctest.Wait()
		if !strings.Contains(l.web.state, "1234") || l.libvirt.writes != 2 {
			t.Fatalf("state after %d writes: %s", l.libvirt.writes, l.web.state)
		}
		l.kernel.SetCounters("vnet0", kernel.PortCounters{})
		for range 5 {
			l.told(follow.Event{Domain: webUUID}, func() {})
		}
		if l.libvirt.writes != 2 {
			t.Errorf("%d writes, though nothing has changed", l.libvirt.writes)
		}
	})
}

// TestStateOfLeaving: nothing is written to a domain that is on its way, which libvirt would have wait, and what has changed
// meanwhile is when it stays.
func TestStateOfLeaving(t *testing.T) {
	for _, leaving := range []follow.Leaving{follow.Leaves, follow.Moves} {
		tried(t, (*lab).run, func(l *lab) {
			wantWrites := func(want int) {
				t.Helper()
				l.libvirt.mu.Lock()
				defer l.libvirt.mu.Unlock()
				if l.libvirt.writes != want || strings.Contains(l.web.state, "1234") != (want > 1) {
					t.Errorf("state after %d writes, want %d: %s", l.libvirt.writes, want, l.web.state)
				}
			}
			limit := 1234
			if _, err := l.SetPort(t.Context(), l.ports()[0].ID, engine.PortChange{Policy: vswitch.PolicyChange{StormLimit: &limit}}); err != nil {
				t.Fatal(err)
			}
			l.told(follow.Event{Domain: webUUID}, func() { l.web.leaving = leaving })
			l.pass(3 * time.Minute)
			wantWrites(1)
			l.told(follow.Event{Domain: webUUID, Migration: "failed"}, func() { l.web.leaving = follow.Stays })
			l.pass(time.Second)
			wantWrites(2)
		})
	}
}

// TestHeldMACs: a domain's addresses are its own as long as it is defined.
func TestHeldMACs(t *testing.T) {
	tried(t, nothing, func(l *lab) {
		mac, _ := vswitch.ParseMAC(webMAC)
		other := engine.HoldMACRequest{Domain: vswitch.DomainRef{Name: "other"}, MAC: mac}
		if _, err := l.HoldMAC(t.Context(), other); !errors.Is(err, vswitch.MACDuplicate) {
			t.Errorf("held for another: %v", err)
		}
		l.told(follow.Event{Domain: webUUID}, func() { l.web.gone = true })
		if _, err := l.HoldMAC(t.Context(), other); err != nil {
			t.Errorf("it was let go of: %v", err)
		}
	})
}

// TestNICLeaves: an address goes with the interface that had it in the definition, and one that
// is held for an interface to be stays.
func TestNICLeaves(t *testing.T) {
	mac, planned := vswitch.MAC{0x52, 0x54, 0, 0xaa, 0, 1}, vswitch.MAC{0x52, 0x54, 0, 0xaa, 0, 10}
	other := vswitch.DomainRef{Name: "other"}
	tried(t, nothing, func(l *lab) {
		hold := func(d vswitch.DomainRef, mac vswitch.MAC, nic string) error {
			_, err := l.HoldMAC(t.Context(), engine.HoldMACRequest{Domain: d, MAC: mac, NIC: nic})
			return err
		}
		if err := hold(vswitch.DomainRef{Name: "web01"}, planned, "ua-next"); err != nil {
			t.Fatal(err)
		}
		l.told(follow.Event{Domain: webUUID}, func() { l.web.mac = "52:54:00:aa:00:02" })
		if err := hold(other, mac, ""); err != nil {
			t.Errorf("the interface has another address now: %v", err)
		}
		for _, kept := range []vswitch.MAC{planned, {0x52, 0x54, 0, 0xaa, 0, 2}} {
			if err := hold(other, kept, ""); !errors.Is(err, vswitch.MACDuplicate) {
				t.Errorf("%s: %v", kept, err)
			}
		}
	})
}

// TestNICLeavesUnseen: the same, where the definition was changed while nobody looked, and of an
// interface without a name.
func TestNICLeavesUnseen(t *testing.T) {
	mac := vswitch.MAC{0x52, 0x54, 0, 0xaa, 0, 9}
	hold := func(l *lab) {
		if _, err := l.HoldMAC(t.Context(), engine.HoldMACRequest{Domain: vswitch.DomainRef{ID: webUUID, Name: "web01"}, MAC: mac}); err != nil {
			t.Fatal(err)
		}
	}
	tried(t, hold, func(l *lab) {
		if _, err := l.HoldMAC(t.Context(), engine.HoldMACRequest{Domain: vswitch.DomainRef{Name: "other"}, MAC: mac}); err != nil {
			t.Error(err)
		}
	})
}

// TestUndefinedUnseen: what was held for a domain that was undefined while nobody looked is
// let go of, and what waits for a domain to be defined is not.
func TestUndefinedUnseen(t *testing.T) {
	mac, later := vswitch.MAC{0x52, 0x54, 0, 0xaa, 0, 9}, vswitch.MAC{0x52, 0x54, 0, 0xaa, 0, 10}
	hold := func(l *lab) {
		for _, req := range []engine.HoldMACRequest{
			{Domain: vswitch.DomainRef{ID: "4a2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b99", Name: "old"}, MAC: mac},
			{Domain: vswitch.DomainRef{Name: "new"}, MAC: later},
		} {
			if _, err := l.HoldMAC(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
	}
	tried(t, hold, func(l *lab) {
		other := vswitch.DomainRef{Name: "other"}
		if _, err := l.HoldMAC(t.Context(), engine.HoldMACRequest{Domain: other, MAC: mac}); !errors.Is(err, vswitch.MACDuplicate) {
			t.Errorf("of a domain that was missed once: %v", err)
		}
		l.pass(61 * time.Second)
		if _, err := l.HoldMAC(t.Context(), engine.HoldMACRequest{Domain: other, MAC: mac}); err != nil {
			t.Errorf("of a domain that is gone: %v", err)
		}
		if _, err := l.HoldMAC(t.Context(), engine.HoldMACRequest{Domain: other, MAC: later}); !errors.Is(err, vswitch.MACDuplicate) {
			t.Errorf("of a domain to be: %v", err)
		}
	})
}
