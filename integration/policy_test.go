package integration_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/integration/host"
)

// dhcpOffer is a frame with what a DHCP server says to everybody, and a mark.
func dhcpOffer(from *host.Tap, mark string) []byte {
	ip := []byte{0x45, 0, 0, byte(28 + len(mark)), 0, 1, 0, 0, 64, 17, 0, 0, 10, 9, 0, 66, 255, 255, 255, 255}
	sum := uint32(0)
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	sum = ^(sum + sum>>16)
	ip[10], ip[11] = byte(sum>>8), byte(sum)
	udp := []byte{0, 67, 0, 68, 0, byte(8 + len(mark)), 0, 0}
	return slices.Concat([]byte(broadcast), []byte(from.MAC()), []byte{0x08, 0}, ip, udp, []byte(mark))
}

// TestGuards: what a container may not say does not arrive, whether the network's
// configuration or a verb says so.
func TestGuards(t *testing.T) {
	h := newHost(t)
	guarded := h.network(private(`,"dhcpGuard":true,"routerGuard":true,"addressGuard":true,"stormLimit":100000`))
	a, _ := h.attached(guarded, "a")
	open := h.network(strings.Replace(private(""), `"net1"`, `"net2"`, 1))
	b, _ := h.attached(open, "b")
	onA, onB := h.tap(a.Netns, "eth0"), h.tap(b.Netns, "eth0")
	offer := func(mark string, from, to *host.Tap, hears bool) {
		t.Helper()
		frame, within := dhcpOffer(from, mark), silence
		if hears {
			within = patience
		}
		ok(t, from.SendRaw(frame))
		heard, err := to.HearsRaw(frame, within)
		ok(t, err)
		if heard != hears {
			t.Errorf("an offer %s: heard %v, want %v", mark, heard, hears)
		}
	}
	offer("of the guarded", onA, onB, false)
	if stats := h.patchbay("port", "stats", "a"); !strings.Contains(stats, "dhcpGuard 1 frame\n") {
		t.Errorf("what the guard has dropped is not counted:\n%s", stats)
	}
	offer("of the other", onB, onA, true)
	reaches(t, a.Netns, "10.9.0.3") // what it may say arrives
	reaches(t, b.Netns, "10.9.0.2")
	for _, p := range h.ports() {
		h.patchbay("port", "set", p.ID, "--dhcp-guard="+map[bool]string{true: "false", false: "true"}[p.Owner.Network == "net1"])
	}
	offer("of the one that is free now", onA, onB, true)
	offer("of the one that is guarded now", onB, onA, false)
	ok(t, open.Del(b))
	ok(t, guarded.Del(a))
}
