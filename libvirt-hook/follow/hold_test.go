package follow_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/libvirt-hook/follow"
)

// holder is the domain that an address is held for; "" for none.
func (l *lab) holder(mac string) string {
	l.t.Helper()
	all, err := l.MACs(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(m engine.MACLease) bool { return m.MAC.String() == mac && m.Held })
	if i < 0 {
		return ""
	}
	return all[i].Domain.Name
}

// db01 is a domain beside web01, with its address.
func db01() *fakeDomain {
	return &fakeDomain{uuid: "4a2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b02", name: "db01", mac: webMAC, port: "5b2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b02", netdev: "vnet1"}
}

// TestHeldOnceNetworkStarts: whose network a network is cannot be told before it is active.
func TestHeldOnceNetworkStarts(t *testing.T) {
	tried(t, func(l *lab) { l.libvirt.stopped = true }, func(l *lab) {
		if held := l.holder(webMAC); held != "" {
			t.Fatalf("it is held for %s", held)
		}
		l.told(follow.Event{}, func() { l.libvirt.stopped = false })
		if held := l.holder(webMAC); held != "web01" {
			t.Errorf("it is held for %q", held)
		}
	})
}

// TestHeldOnceFree: an address that another domain had is held as soon as that one is gone, and
// is complained of once.
func TestHeldOnceFree(t *testing.T) {
	tried(t, nothing, func(l *lab) {
		db := db01()
		l.told(follow.Event{Domain: db.uuid}, func() { l.libvirt.domains = append(l.libvirt.domains, db) })
		l.pass(10 * time.Minute)
		if held := l.holder(webMAC); held != "web01" {
			t.Fatalf("it is held for %q", held)
		}
		l.told(follow.Event{Domain: webUUID}, func() { l.web.gone = true })
		l.pass(time.Minute)
		if held := l.holder(webMAC); held != "db01" {
			t.Errorf("it is held for %q", held)
		}
		if n := strings.Count(l.log.String(), "not its own"); n != 1 {
			t.Errorf("complained of %d times", n)
		}
	})
}

// TestTransientIsHeldOnce: what a transient domain carries changes its text, and not its addresses.
func TestTransientIsHeldOnce(t *testing.T) {
	tried(t, func(l *lab) { l.run(); l.web.transient = true }, func(l *lab) {
		for n := range uint64(10) {
			l.kernel.SetCounters("vnet0", kernel.PortCounters{Counters: kernel.Counters{RxPackets: n}})
			l.pass(time.Minute)
		}
		if n := strings.Count(l.log.String(), "addresses are held"); n != 1 {
			t.Errorf("told %d times that addresses are held", n)
		}
		if l.libvirt.writes < 5 {
			t.Errorf("its text has changed %d times", l.libvirt.writes)
		}
	})
}
