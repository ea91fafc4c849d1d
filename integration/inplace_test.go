package integration_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/host"
)

const inplace = `{"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "patchbay",
  "switch": "lan", "ipam": {"type": "patchbay", "subnet": "192.0.2.0/24", "rangeStart": "192.0.2.10"}}]}`

// TestSwitchChangesInPlace takes a switch through every type, two uplinks and three
// MTUs while two containers talk on it: they never stop hearing each other, and the
// world around them is what the switch says it is.
func TestSwitchChangesInPlace(t *testing.T) {
	h := newHost(t)
	east, west := h.outside("eth0"), h.outside("eth1")
	for _, n := range []*host.Netns{east, west} {
		h.run(n, "ip", "addr", "add", "192.0.2.1/24", "dev", "wan")
	}
	out, err := h.Patchbay("switch", "add", "lan", "--type", "private")
	if err != nil {
		t.Fatal(err, out)
	}
	net := h.network(inplace)
	a, ra := h.attached(net, "a")
	b, rb := h.attached(net, "b")
	of := func(cidr string) netip.Addr { return netip.MustParsePrefix(cidr).Addr() }
	addrA, addrB := of(addresses(ra)[0]), of(addresses(rb)[0])
	stop := keepsReaching(t, a.Netns, addrB)
	for _, c := range []struct {
		set              []string
		mtu              string
		east, west, host bool // who reaches container a
	}{
		{[]string{"--uplink", "eth0"}, "1500", true, false, false},
		{[]string{"--uplink", "eth1"}, "1500", false, true, false},
		{[]string{"--mtu", "1400"}, "1400", false, true, false},
		{[]string{"--host-access=false"}, "1400", false, true, false},
		{[]string{"--type", "internal", "--gateway", "192.0.2.1/24"}, "1400", false, false, true},
		{[]string{"--mtu", "0"}, "1500", false, false, true},
		{[]string{"--uplink", "eth0", "--gateway=", "--mtu", "1300"}, "1300", true, false, false},
		{[]string{"--type", "private", "--mtu", "9000"}, "9000", false, false, false},
	} {
		out, err := h.Patchbay(append([]string{"switch", "set", "lan"}, c.set...)...)
		if err != nil {
			t.Fatalf("switch set %v: %v: %s", c.set, err, out)
		}
		for _, x := range []struct {
			name string
			from *host.Netns
			want bool
		}{{"east", east, c.east}, {"west", west, c.west}, {"host", h.Netns, c.host}} {
			within := silence
			if x.want {
				within = patience
			}
			if err := x.from.Ping(addrA, within); (err == nil) != x.want {
				t.Errorf("after %v %s reaches the container: %v, want %v (%v)", c.set, x.name, err == nil, x.want, err)
			}
		}
		for _, end := range []struct {
			at     *host.Netns
			netdev string
		}{{a.Netns, "eth0"}, {b.Netns, "eth0"}, {h.Netns, "pb-lan"}} {
			if got := h.run(end.at, "ip", "-o", "link", "show", "dev", end.netdev); !strings.Contains(got, " mtu "+c.mtu+" ") {
				t.Errorf("after %v: %s, want MTU %s", c.set, got, c.mtu)
			}
		}
		ok(t, net.Check(a))
		ok(t, net.Check(b))
	}
	stop()
	for _, nic := range []string{"eth0", "eth1"} {
		if got := h.run(h.Netns, "ip", "-o", "link", "show", "dev", nic); !strings.Contains(got, " mtu 1500 ") {
			t.Errorf("left behind: %s", got)
		}
	}
	ok(t, net.Del(a))
	ok(t, net.Del(b))
}

// keepsReaching pings without a pause until stop is called, and fails the test if dst
// is silent for a second.
func keepsReaching(t *testing.T, from *host.Netns, dst netip.Addr) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := from.Ping(dst, time.Second); err != nil {
				t.Errorf("the containers lost each other: %v", err)
				return
			}
		}
	})
	return func() { close(done); running.Wait() }
}
