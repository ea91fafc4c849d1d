package integration_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/host"
)

// question is a connection from somewhere to a server.
type question struct {
	what     string
	from, to *host.Netns
	server   string
}

// asks fails unless the server can be connected to, or cannot.
func asks(t *testing.T, q question, want bool) {
	t.Helper()
	at := netip.MustParseAddrPort(q.server)
	l, err := q.to.Serve(at)
	ok(t, err)
	defer func() { ok(t, l.Close()) }()
	within := silence
	if want {
		within = patience
	}
	if _, err := q.from.Ask(at, within); (err == nil) != want {
		t.Errorf("%s: connected %v, want %v (%v)", q.what, err == nil, want, err)
	}
}

// TestACL: what an ACL of a network or of the command says is so between containers, and
// between a container and the host.
func TestACL(t *testing.T) {
	h := newHost(t)
	list := internal("1.1.0")
	n := h.network(strings.Replace(list, `"ipam"`, `"acl":["deny in tcp to port 25 weight 20",{"direction":"out","action":"deny","remote":"10.0.0.3"},"deny out fd00::3"],"ipam"`, 1))
	a, _ := h.attached(n, "a") // 10.0.0.2
	open := h.network(strings.Replace(list, `"net1"`, `"net2"`, 1))
	b, _ := h.attached(open, "b")
	port := func(id string) string {
		at := slices.IndexFunc(h.ports(), func(p portRecord) bool { return p.Owner.ID == id })
		return h.ports()[at].ID
	}
	asks(t, question{"to a denied port", b.Netns, a.Netns, "10.0.0.2:25"}, false)
	asks(t, question{"to a denied port, from the host", h.Netns, a.Netns, "10.0.0.2:25"}, false)
	asks(t, question{"to the host", a.Netns, h.Netns, "10.0.0.1:25"}, true)
	asks(t, question{"to another port, from the host", h.Netns, a.Netns, "10.0.0.2:26"}, true)
	asks(t, question{"to a denied address", a.Netns, b.Netns, "10.0.0.3:80"}, false)
	asks(t, question{"to a denied address of IPv6", a.Netns, b.Netns, "[fd00::3]:80"}, false)

	h.patchbay("port", "acl", "delete", port("a"), "deny out to 10.0.0.3", "deny out to fd00::3", "deny in tcp to port 25 weight 20")
	asks(t, question{"to an address that was denied", a.Netns, b.Netns, "10.0.0.3:80"}, true)
	asks(t, question{"to an address that was denied, of IPv6", a.Netns, b.Netns, "[fd00::3]:80"}, true)
	asks(t, question{"to a port that was denied", h.Netns, a.Netns, "10.0.0.2:25"}, true)

	h.patchbay("port", "acl", "add", port("b"), "allow out tcp weight 10 stateful", "deny in weight 1", "deny out weight 1", "meter both any")
	asks(t, question{"from one that may ask", b.Netns, a.Netns, "10.0.0.2:80"}, true)
	asks(t, question{"the host, from one that may ask", b.Netns, h.Netns, "10.0.0.1:80"}, true)
	asks(t, question{"by IPv6", b.Netns, a.Netns, "[fd00::2]:80"}, true)
	asks(t, question{"one that may be asked nothing", a.Netns, b.Netns, "10.0.0.3:80"}, false)
	asks(t, question{"one that may be asked nothing, from the host", h.Netns, b.Netns, "[fd00::3]:80"}, false)
	if err := b.Ping(netip.MustParseAddr("10.0.0.2"), silence); err == nil {
		t.Error("what no rule allows out came through")
	}
	var entries []engine.ACLEntry
	ok(t, h.PatchbayJSON(&entries, "port", "acl", "list", port("b")))
	if len(entries) != 4 || entries[0].Text != "meter both any" || len(entries[0].Hits) != 2 || entries[0].Hits[0].Packets == 0 || entries[0].Hits[1].Bytes == 0 {
		t.Errorf("listed: %+v", entries)
	}

	h.run(h.Netns, "nft", "flush", "ruleset")
	h.patchbay("restore")
	for _, e := range []struct{ c, other string }{{"a", "b"}, {"b", "a"}} {
		if out, err := h.Patchbay("port", "show", port(e.c)); err != nil || !strings.Contains(out, "as it should be") {
			t.Errorf("after the flush: %v\n%s", err, out)
		}
	}
	ok(t, open.Check(b))
	asks(t, question{"one that may be asked nothing, after a flush", a.Netns, b.Netns, "10.0.0.3:80"}, false)
	asks(t, question{"from one that may ask, after a flush", b.Netns, a.Netns, "10.0.0.2:80"}, true)
	ok(t, open.Del(b))
	ok(t, n.Del(a))
}

// TestACLAcrossSegments: frames come to a port by a trunk, and are looked at all the same.
func TestACLAcrossSegments(t *testing.T) {
	h := newHost(t)
	e := engineOn(h, vswitch.SegmentSizes{Root: 1, Spoofing: 1, Further: 1})
	ok(t, h.Do(func() error {
		_, err := e.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: vswitch.Switch{
			Name: "wide", Type: vswitch.Internal, Gateway: []netip.Prefix{netip.MustParsePrefix("10.7.0.1/24"), netip.MustParsePrefix("fd07::1/64")},
		}})
		return err
	}))
	at := site{e, "wide", []string{"10.7.0.0/24", "fd07::/64"}}
	guests := []attachedGuest{attachTo(h, at, "a", false), attachTo(h, at, "b", false), attachTo(h, at, "c", false)}
	for i, g := range guests {
		if g.port.Segment != i {
			t.Fatalf("guest %d is on segment %d", i, g.port.Segment)
		}
	}
	c := guests[2]
	h.patchbay("port", "acl", "add", c.port.ID, "allow out any weight 10 stateful", "deny in tcp from 10.7.0.0/24 weight 5", "deny in tcp from fd07::/64 weight 5")
	for _, other := range []struct {
		name   string
		netns  *host.Netns
		v4, v6 string
	}{{"root", guests[0].Netns, guests[0].v4.String(), guests[0].v6.String()}, {"another segment", guests[1].Netns, guests[1].v4.String(), guests[1].v6.String()}, {"host", h.Netns, "10.7.0.1", "fd07::1"}} {
		asks(t, question{"to the " + other.name, c.Netns, other.netns, netip.AddrPortFrom(netip.MustParseAddr(other.v4), 80).String()}, true)
		asks(t, question{"by IPv6 to the " + other.name, c.Netns, other.netns, netip.AddrPortFrom(netip.MustParseAddr(other.v6), 80).String()}, true)
		asks(t, question{"from the " + other.name, other.netns, c.Netns, netip.AddrPortFrom(c.v4, 80).String()}, false)
		asks(t, question{"by IPv6 from the " + other.name, other.netns, c.Netns, netip.AddrPortFrom(c.v6, 80).String()}, false)
	}
	for _, g := range guests {
		g.detach(h, e)
	}
	h.patchbay("switch", "delete", "wide")
}
