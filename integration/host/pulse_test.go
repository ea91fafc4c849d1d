package host_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/host"
)

// TestPingTo: pings come back from who is there, and none from who is not.
func TestPingTo(t *testing.T) {
	h := newHost(t)
	far, err := h.Neighbour("far")
	if err == nil {
		err = host.Cable(h.Netns, "near0", far, "far0")
	}
	if err == nil {
		_, err = h.Run("ip", "addr", "add", "10.0.0.1/24", "dev", "near0")
	}
	if err == nil {
		_, err = far.Run("ip", "addr", "add", "10.0.0.2/24", "dev", "far0")
	}
	if err != nil {
		t.Fatal(err)
	}
	for addr, there := range map[string]bool{"10.0.0.2": true, "10.0.0.3": false} {
		p, err := h.PingTo(netip.MustParseAddr(addr), 10*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := p.During(func() {}, 2*time.Second); (err == nil) != there {
			t.Errorf("%s: %+v %v", addr, out, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}
