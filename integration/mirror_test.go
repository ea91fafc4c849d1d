package integration_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/host"
)

// TestMirroringTheHost: what the host sends and receives comes to a destination too.
func TestMirroringTheHost(t *testing.T) {
	h := newHost(t)
	var status engine.Status
	ok(t, h.PatchbayJSON(&status, "status"))
	if !status.Capabilities.Mirroring {
		t.Log("TestMirroring tells that it is refused")
		return
	}
	copied, others := h.network(withHost(private(`,"mirror":"destination"`))), h.network(strings.Replace(withHost(private("")), `"net1"`, `"net2"`, 1))
	analyser, _ := h.attached(copied, "analyser")
	b, _ := h.attached(others, "b")
	h.patchbay("port", "set", vswitch.HostPortSwitchEnd("box"), "--mirror", "source")
	reaches(t, b.Netns, "10.9.0.1")
	onHost, onB := h.tap(h.Netns, vswitch.HostPortName("box")), h.tap(b.Netns, "eth0")
	c := h.capturing("analyser", "--direction", "in")
	copies := func(all host.Capture) (n int) {
		for _, f := range all.Frames {
			if bytes.Contains(f.Data, []byte("of the host")) {
				n++
			}
		}
		return n
	}
	for i := range 20 {
		for _, way := range []struct{ from, to *host.Tap }{{onHost, onB}, {onB, onHost}} {
			f := append(append([]byte(nil), way.to.MAC()...), way.from.MAC()...)
			f = append(append(f, 0x88, 0xb5), fmt.Sprintf("of the host %d", i)...)
			ok(t, way.from.SendRaw(f))
			if came, err := way.to.HearsRaw(f, patience); err != nil || !came {
				t.Fatalf("frame %d did not arrive: %v", i, err)
			}
		}
	}
	for n := 40; copies(c.await(n)) < 40; n++ { // others have sent something too
	}
	all, _ := c.end()
	if got := copies(all); got != 40 {
		t.Errorf("%d copies of 40 frames", got)
	}
	ok(t, others.Del(b))
	ok(t, copied.Del(analyser))
}

// TestMirroring: what a source sends and receives comes to the destination once and in
// order, and stops when a verb says so. A kernel without nftables at netdevs refuses.
func TestMirroring(t *testing.T) {
	h := newHost(t)
	as := func(network, mode string) *host.Network {
		return h.network(strings.Replace(private(fmt.Sprintf(`,"mirror":%q`, mode)), `"net1"`, fmt.Sprintf("%q", network), 1))
	}
	sources, destinations, others := as("net1", "source"), as("net2", "destination"), as("net3", "none")
	var status engine.Status
	ok(t, h.PatchbayJSON(&status, "status"))
	if !status.Capabilities.Mirroring {
		if _, err := sources.Add(h.container("a")); err == nil || !strings.Contains(err.Error(), "CONFIG_NET_ACT_MIRRED") {
			t.Errorf("on a kernel that cannot: %v", err)
		}
		return
	}
	a, _ := h.attached(sources, "a")
	analyser, _ := h.attached(destinations, "analyser")
	b, _ := h.attached(others, "b")
	c := h.capturing("analyser", "--direction", "in")
	onA, onB := h.tap(a.Netns, "eth0"), h.tap(b.Netns, "eth0")
	var want [][]byte
	pass := func(from, to *host.Tap, text string) {
		t.Helper()
		f := append(append([]byte(nil), to.MAC()...), from.MAC()...)
		f = append(append(f, 0x88, 0xb5), text...)
		ok(t, from.SendRaw(f))
		if came, err := to.HearsRaw(f, patience); err != nil || !came {
			t.Fatalf("%s did not arrive: %v", text, err)
		}
		want = append(want, f)
	}
	for i := range 50 {
		pass(onA, onB, fmt.Sprintf("question %d", i))
		pass(onB, onA, fmt.Sprintf("answer %d", i))
	}
	c.await(len(want))
	if status.Capabilities.Limits { // what is held back is copied before that
		h.patchbay("port", "set", "a", "--max-out", "1G")
		for i := range 50 {
			pass(onA, onB, fmt.Sprintf("limited question %d", i))
			pass(onB, onA, fmt.Sprintf("answer to limited one %d", i))
		}
		c.await(len(want))
	}
	h.patchbay("port", "set", "a", "--mirror", "none")
	copied := want
	pass(onA, onB, "not copied")
	h.patchbay("port", "set", "b", "--mirror", "source")
	pass(onA, onB, "copied again, since the other one is a source")
	copied = append(slices.Clip(copied), want[len(want)-1])
	c.await(len(copied))
	all, _ := c.end()
	var got [][]byte
	for _, f := range ofTest(all.Frames) {
		got = append(got, f.Data)
	}
	if len(got) != len(copied) {
		t.Fatalf("%d copies of %d frames", len(got), len(copied))
	}
	for i := range got {
		if !bytes.Equal(got[i], copied[i]) {
			t.Errorf("copy %d is %x, want %x", i, got[i], copied[i])
		}
	}
	ok(t, sources.Del(a))
	ok(t, others.Del(b))
	ok(t, destinations.Del(analyser))
	if left := h.run(h.Netns, "nft", "list", "tables", "bridge"); strings.Contains(left, "mirror") {
		t.Errorf("left behind: %s", left)
	}
}
