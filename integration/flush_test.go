package integration_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/integration/host"
)

// TestRulesetFlushed: `nft flush ruleset`, which firewalls begin with, takes our
// tables along. The next ADD puts them back, so that a Private switch is closed
// and an Internal one masquerades again.
func TestRulesetFlushed(t *testing.T) {
	h := newHost(t)
	outside := h.outside("eth0")
	h.run(h.Netns, "ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
	h.run(outside, "ip", "addr", "add", "192.0.2.1/24", "dev", "wan")
	closed, hidden := h.network(private("")), h.network(hiding())
	a, _ := h.attached(closed, "a")
	one, _ := h.attached(hidden, "one")
	before := h.run(h.Netns, "nft", "list", "tables")
	if !strings.Contains(before, "patchbay") {
		t.Fatalf("no tables of ours: %s", before)
	}

	h.run(h.Netns, "nft", "flush", "ruleset")
	b, _ := h.attached(closed, "b")
	two, _ := h.attached(hidden, "two")
	if after := h.run(h.Netns, "nft", "list", "tables"); after != before {
		t.Errorf("tables after the flush and an ADD:\n%s\nbefore:\n%s", after, before)
	}
	onA, onB, onBridge := h.tap(a.Netns, "eth0"), h.tap(b.Netns, "eth0"), h.tap(h.Netns, "pb-box")
	for _, x := range []struct {
		name     string
		from, to *host.Tap
		hears    bool
	}{
		{"container to container", onA, onB, true},
		{"container to the bridge", onA, onBridge, false},
		{"bridge to the old container", onBridge, onA, false},
		{"bridge to the new container", onBridge, onB, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			tryFrame(t, x.from, x.to, host.Frame{Dst: broadcast, Src: x.from.MAC(), Payload: x.name}, x.hears)
		})
	}
	server := netip.MustParseAddrPort("192.0.2.1:80")
	s, err := outside.Serve(server)
	ok(t, err)
	for name, c := range map[string]*host.Container{"old": one, "new": two} {
		seen, err := c.Ask(server, patience)
		if err != nil || seen.Addr().String() != "192.0.2.2" {
			t.Errorf("from the %s container the server saw %v (%v), want the host's address", name, seen, err)
		}
	}
	ok(t, s.Close())
	for _, c := range []*host.Container{a, b} {
		ok(t, closed.Del(c))
	}
	for _, c := range []*host.Container{one, two} {
		ok(t, hidden.Del(c))
	}
}

// hiding is a masquerading network with room for a few.
func hiding() string { return strings.ReplaceAll(single, "/30", "/29") }
