package integration_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/integration/host"
)

var broadcast = net.HardwareAddr{255, 255, 255, 255, 255, 255}

func private(more string) string {
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net1","plugins":[{"type":"patchbay","switch":{"name":"box","type":"private"},
		"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.9.0.0/24"}]]}%s}]}`, more)
}

// withHost is a network of private's whose switch the host is on.
func withHost(list string) string {
	return strings.Replace(list, `"type":"private"`, `"type":"internal","gateway":["10.9.0.1/24"]`, 1)
}

// TestPrivateIsClosed: not even a raw socket on the bridge device hears a Private
// switch or is heard on it.
func TestPrivateIsClosed(t *testing.T) {
	h := newHost(t)
	n := h.network(private(""))
	a, _ := h.attached(n, "a")
	b, _ := h.attached(n, "b")
	onA, onB, onBridge := h.tap(a.Netns, "eth0"), h.tap(b.Netns, "eth0"), h.tap(h.Netns, "pb-box")
	for _, x := range []struct {
		name     string
		from, to *host.Tap
		dst      net.HardwareAddr
		hears    bool
	}{
		{"container to container", onA, onB, onB.MAC(), true},
		{"container to all", onA, onB, broadcast, true},
		{"container to all, on the bridge", onA, onBridge, broadcast, false},
		{"container to the bridge's MAC", onA, onBridge, onBridge.MAC(), false},
		{"container to container, on the bridge", onA, onBridge, onB.MAC(), false},
		{"bridge to all", onBridge, onA, broadcast, false},
		{"bridge to container", onBridge, onA, onA.MAC(), false},
	} {
		t.Run(x.name, func(t *testing.T) {
			tryFrame(t, x.from, x.to, host.Frame{Dst: x.dst, Src: x.from.MAC(), Payload: x.name}, x.hears)
		})
	}
	ok(t, n.Del(a))
	ok(t, n.Del(b))
}

// TestSpoofing: a port sends from its own address alone, unless told otherwise.
func TestSpoofing(t *testing.T) {
	for _, x := range []struct {
		name, more string
		hears      bool
	}{
		{"guarded", "", false},
		{"macSpoofing", `,"macSpoofing":true`, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			h := newHost(t)
			n := h.network(private(x.more))
			a, _ := h.attached(n, "a")
			b, _ := h.attached(n, "b")
			onA, onB := h.tap(a.Netns, "eth0"), h.tap(b.Netns, "eth0")
			tryFrame(t, onA, onB, host.Frame{Dst: broadcast, Src: onA.MAC(), Payload: "own source"}, true)
			for name, src := range map[string]net.HardwareAddr{
				"unknown source":     {0x02, 0xba, 0xd0, 0, 0, 1},
				"receiver as source": onB.MAC(),
			} {
				tryFrame(t, onA, onB, host.Frame{Dst: broadcast, Src: src, Payload: name}, x.hears)
			}
			for port, want := range map[string]bool{"a": !x.hears, "b": false} {
				stats := h.patchbay("port", "stats", port)
				if counted := strings.Contains(stats, "macSpoofing 2 frames\n"); counted != want {
					t.Errorf("port %s: 2 spoofed frames are counted: %v, want %v\n%s", port, counted, want, stats)
				}
			}
			reaches(t, b.Netns, "10.9.0.2") // and nobody's address has moved
			reaches(t, a.Netns, "10.9.0.3")
			ok(t, n.Del(a))
			ok(t, n.Del(b))
		})
	}
}

func tryFrame(t *testing.T, from, to *host.Tap, f host.Frame, hears bool) {
	t.Helper()
	ok(t, from.Send(f))
	within := silence
	if hears {
		within = patience
	}
	heard, err := to.Hears(f.Payload, within)
	ok(t, err)
	if heard != hears {
		t.Errorf("%s: heard %v, want %v", f.Payload, heard, hears)
	}
}
