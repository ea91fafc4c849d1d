package integration_test

import (
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
)

// TestLimits: a container is limited by its network's configuration, by what the runtime
// says and by a verb; DEL leaves nothing.
func TestLimits(t *testing.T) {
	guest.Needs(t, guest.TBF, guest.IFB)
	h := newHost(t)
	n := h.network(withHost(private(`,"bandwidth":{"in":{"max":"10M"},"out":{"max":"20M"}},"capabilities":{"bandwidth":true}`)))
	a, _ := h.attached(n, "a")
	b := h.container("b")
	b.CapabilityArgs = map[string]any{"bandwidth": map[string]any{"ingressRate": 30_000_000, "ingressBurst": 2147483647, "egressRate": 40_000_000, "egressBurst": 800_000}}
	_, err := n.Add(b)
	ok(t, err)
	wants := func(words ...string) {
		t.Helper()
		got := h.run(h.Netns, "tc", "qdisc", "show")
		for _, w := range words {
			if !strings.Contains(got, w) {
				t.Errorf("%q is not in\n%s", w, got)
			}
		}
	}
	wants("rate 10Mbit burst 24351b", "rate 20Mbit burst 25000b", "rate 30Mbit burst 37496b", "rate 40Mbit burst 100000b")
	reaches(t, a.Netns, "10.9.0.3")
	reaches(t, b.Netns, "10.9.0.2")

	first := h.ports()[0]
	if !strings.Contains(h.patchbay("port", "show", first.ID), "bandwidth") {
		t.Error("port show does not tell of limits")
	}
	if got := h.patchbay("explain", first.ID); !strings.Contains(got, "tc qdisc replace") || !strings.Contains(got, "mirred egress redirect") {
		t.Errorf("explain does not tell of tc:\n%s", got)
	}
	h.patchbay("port", "set", first.ID, "--max-in", "50M", "--max-out", "0")
	wants("rate 50Mbit")
	h.run(h.Netns, "tc", "qdisc", "del", "dev", first.Netdev, "root")
	h.patchbay("port", "set", first.ID, "--max-in", "60M")
	wants("rate 60Mbit")
	ok(t, n.Check(b))
	end := vswitch.HostPortSwitchEnd("box")
	h.patchbay("port", "set", end, "--max-in", "70M", "--max-out", "80M") // the host's own
	wants("rate 70Mbit", "rate 80Mbit")
	reaches(t, a.Netns, "10.9.0.1")
	h.patchbay("port", "set", end, "--max-in", "0", "--max-out", "0")
	if got := h.run(h.Netns, "tc", "qdisc", "show"); strings.Contains(got, "rate 70Mbit") || strings.Contains(got, "rate 80Mbit") {
		t.Errorf("the host's limits are left:\n%s", got)
	}
	ok(t, n.Del(a))
	ok(t, n.Del(b))
}

// TestLimitsAreKept: what somebody does to a limit patchbayd puts right, and says so. It
// is not told of its own looking.
func TestLimitsAreKept(t *testing.T) {
	guest.Needs(t, guest.TBF, guest.IFB)
	h := newHost(t)
	if h.daemon == nil {
		h.startDaemon()
	}
	n := h.network(private(`,"bandwidth":{"in":{"max":"10M"},"out":{"max":"20M"}}`))
	a, _ := h.attached(n, "a")
	port := h.ports()[0]
	shaper := "pq" + strings.TrimPrefix(port.ID, "pb")
	for _, harm := range []string{
		"tc qdisc del dev " + port.Netdev + " root", "tc qdisc del dev " + shaper + " root", "tc filter del dev " + port.Netdev + " ingress",
		"tc qdisc del dev " + port.Netdev + " clsact", "ip link del " + shaper, "ip link set " + shaper + " down",
		"tc qdisc replace dev " + port.Netdev + " root handle 5042: tbf rate 1gbit burst 1m latency 1ms",
	} {
		t.Run(harm, func(t *testing.T) {
			lines := h.daemon.Lines()
			h.run(h.Netns, strings.Fields(harm)...)
			_, err := h.daemon.Await(lines, patience, "msg=repaired", "port="+port.ID, "was not limited as it should be")
			ok(t, err)
			got := h.run(h.Netns, "tc", "qdisc", "show")
			for _, w := range []string{"rate 10Mbit burst 24351b", "rate 20Mbit burst 25000b"} {
				if !strings.Contains(got, w) {
					t.Errorf("%q is not in\n%s", w, got)
				}
			}
			ok(t, n.Check(a))
		})
	}
	ok(t, n.Del(a))
}
