package integration_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/integration/host"
)

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
		if _, err := sources.Add(h.container("a")); err == nil || !strings.Contains(err.Error(), "CONFIG_NFT_DUP_NETDEV") {
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
	h.patchbay("port", "set", "a", "--mirror", "none")
	copied := want
	pass(onA, onB, "not copied")
	h.patchbay("port", "set", "b", "--mirror", "source")
	pass(onA, onB, "copied again, since the other one is a source")
	copied = append(copied[:100:100], want[len(want)-1])
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
	if left := h.run(h.Netns, "nft", "list", "tables", "netdev"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
