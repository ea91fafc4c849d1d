package integration_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/integration/lab"
)

// TestReachability asks everybody to reach everybody: containers on an External,
// an Internal and a Private switch, the host, and a server outside.
func TestReachability(t *testing.T) {
	h := newHost(t)
	h.keeps = append(h.keeps, "eth0")
	l, err := lab.Build(h.Host)
	ok(t, err)
	wrong := 0
	for _, c := range l.Probe() {
		if !c.Ok() {
			wrong++
			t.Errorf("%s -> %s (%s): reached %v, want %v (%v)", c.From.Name, c.To.Name, c.Dst, c.Got, c.Want, c.Err)
		}
	}
	t.Run("masquerade", func(t *testing.T) { masquerade(t, l) })
	out, err := h.Patchbay("topology")
	ok(t, err)
	for _, name := range []string{"eth0", "lan", "nat", "box", "nat-a", "box-b"} {
		if !strings.Contains(out, name) {
			t.Errorf("topology does not show %s:\n%s", name, out)
		}
	}
	ok(t, l.Dismantle())
}

// masquerade: the server outside sees the host's address, of both families.
func masquerade(t *testing.T, l *lab.Lab) {
	points := map[string]lab.Point{}
	for _, p := range l.Points {
		points[p.Name] = p
	}
	for _, family := range []struct{ server, want string }{
		{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"},
	} {
		server := netip.AddrPortFrom(netip.MustParseAddr(family.server), 80)
		s, err := points["outside"].Netns.Serve(server)
		ok(t, err)
		seen, err := points["nat-a"].Netns.Ask(server, patience)
		if err != nil || seen.Addr().String() != family.want {
			t.Errorf("the server saw %v (%v), want the host's address %s", seen.Addr(), err, family.want)
		}
		ok(t, s.Close())
	}
}
