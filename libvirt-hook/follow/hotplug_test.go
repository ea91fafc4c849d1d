package follow_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
	"github.com/patchbay-net/patchbay/libvirt-hook/follow"
)

// wish sets what web01's metadata say of its interface.
func (l *lab) wish(says string) {
	l.web.state = "<p:ports xmlns:p='" + domain.Namespace + "'><p:port alias='ua-web' " + says + "/></p:ports>"
}

// wantNarrowed fails unless the one port has the alias and is isolated.
func (l *lab) wantNarrowed() {
	l.t.Helper()
	if p := l.ports()[0]; !p.Isolated || p.VM.Alias != "ua-web" || p.Netdev != "vnet0" {
		l.t.Errorf("isolated %v, alias %q, narrowed %q, netdev %q", p.Isolated, p.VM.Alias, p.VM.Narrowed, p.Netdev)
	}
}

// TestHotPlug: no hook is called for an interface that is plugged in while the domain runs. It carries nothing
// before it has what the metadata take away.
func TestHotPlug(t *testing.T) {
	tried(t, nothing, func(l *lab) {
		ctx, stop := context.WithCancel(l.t.Context())
		done := make(chan struct{})
		go func() { _ = l.Keep(ctx, slog.New(slog.NewTextHandler(&l.log, nil)), func() {}); close(done) }()
		synctest.Wait()
		l.reserve(webPort)
		l.wish("isolated='yes'")
		l.libvirt.mu.Lock()
		l.run()
		l.libvirt.mu.Unlock()
		l.pass(time.Second)
		if p := l.ports()[0]; p.Plugged() {
			t.Errorf("bound before libvirt has said how it is defined: %+v", p)
		}
		l.told(follow.Event{Domain: webUUID}, func() {}) // DeviceAdded
		l.wantNarrowed()
		stop()
		<-done
	})
}

// TestMetadataLater: metadata that are set while the domain runs take away at once, and what they do not say any more stays.
func TestMetadataLater(t *testing.T) {
	tried(t, (*lab).run, func(l *lab) {
		l.wantBound()
		l.told(follow.Event{Domain: webUUID}, func() { l.wish("isolated='yes' addresses='10.88.0.5'") })
		l.wantNarrowed()
		if all := l.ports()[0].Addresses; len(all) != 1 || all[0].Prefix.Addr().String() != "10.88.0.5" {
			t.Errorf("addresses: %v", all)
		}
		l.told(follow.Event{Domain: webUUID}, func() { l.web.state = "" })
		l.wantNarrowed()
	})
}

// TestBinds: taps of domains that libvirt may know are left to the follower, and others are not.
func TestBinds(t *testing.T) {
	const other = "4a2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b99"
	for name, c := range map[string]struct {
		refuses    error
		web, other bool
	}{
		"libvirt is followed":     {nil, true, false},
		"libvirtd is not there":   {follow.ErrNotFollowed, true, true},
		"there is no such driver": {follow.ErrNoDriver, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			tried(t, func(l *lab) { l.libvirt.refuses = c.refuses }, func(l *lab) {
				if web, other := l.follower.Binds(webUUID), l.follower.Binds(other); web != c.web || other != c.other {
					t.Errorf("web01's %v, another one's %v", web, other)
				}
			})
		})
	}
}
