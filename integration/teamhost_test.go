package integration_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// hostOnMember is what the host has on eth0, which becomes a team's member.
const hostOnMember = `
addr add 192.0.2.5/24 brd + dev eth0
addr add 192.0.2.6/24 brd + dev eth0
addr add 2001:db8:1::5/64 dev eth0 nodad
route add default via 192.0.2.1 metric 100 proto static
route add 203.0.113.0/25 via 192.0.2.1 dev eth0 src 192.0.2.6
rule add iif eth0 lookup 100 pref 1001
-6 route add default via 2001:db8:1::1 dev eth0 metric 1024
neigh add 192.0.2.77 lladdr 02:00:00:00:77:77 dev eth0 nud permanent`

// TestTheHostMovesThroughTeams takes a NIC that the host lives on into a team, and back,
// in every order, with connections on it.
func TestTheHostMovesThroughTeams(t *testing.T) {
	guest.Needs(t, guest.Bonding)
	h, outside := teamed(t, 2)
	h.script(outside, "addr add 2001:db8:1::1/64 dev sw nodad")
	for _, nic := range []string{"eth0", "eth1"} { // what they have of IPv6 is there at once
		ok(t, h.Write("/proc/sys/net/ipv6/conf/"+nic+"/accept_dad", "0"))
		h.script(h.Netns, "link set "+nic+" down\nlink set "+nic+" up")
	}
	h.script(h.Netns, hostOnMember)
	both := h.file(`version: 1
teams:
  - name: team0
    members: [eth0, eth1]
    lab: true
switches:
  - name: wan
    uplink: team0
`)
	none := h.file("version: 1\n")
	before := h.things()
	connections := make(map[string]*host.Stream)
	for name, x := range map[string]struct {
		from, to *host.Netns
		src, dst string
	}{
		"in":          {outside, h.Netns, "192.0.2.1", "192.0.2.5"},
		"out":         {h.Netns, outside, "192.0.2.5", "192.0.2.1"},
		"out by IPv6": {h.Netns, outside, "2001:db8:1::5", "2001:db8:1::1"},
	} {
		s, err := x.from.Connect(netip.MustParseAddr(x.src), x.to, netip.MustParseAddr(x.dst))
		ok(t, err)
		t.Cleanup(func() { ok(t, s.Close()) })
		connections[name] = s
	}
	for _, step := range []struct {
		args []string
		on   string // where the host is then
	}{
		{[]string{"apply", "-f", both}, "pbh-wan"},
		{[]string{"team", "set", "team0", "--members", "eth1,eth0"}, "pbh-wan"},
		{[]string{"team", "set", "team0", "--reselect", "always", "--monitor", "50"}, "pbh-wan"},
		{[]string{"team", "set", "team0", "--mode", "static"}, "pbh-wan"},
		{[]string{"apply", "-f", none, "--prune"}, "eth0"},
		{[]string{"team", "add", "team0", "--members", "eth0,eth1", "--lab"}, "team0"},
		{[]string{"team", "set", "team0", "--mode", "static"}, "team0"},
		{[]string{"switch", "add", "wan", "--uplink", "team0"}, "pbh-wan"},
		{[]string{"switch", "delete", "wan"}, "team0"},
		{[]string{"team", "delete", "team0"}, "eth0"},
		{[]string{"switch", "add", "wan", "--uplink", "eth0"}, "pbh-wan"},
		{[]string{"apply", "-f", both}, "pbh-wan"},
		{[]string{"team", "delete", "team0", "--force"}, "pbh-wan"},
		{[]string{"switch", "delete", "wan"}, "eth0"},
	} {
		words := strings.Join(step.args[:2], " ")
		h.patchbay(step.args...)
		h.wantUndrifted()
		if got := h.run(h.Netns, "ip", "-br", "addr", "show", "dev", step.on); !strings.Contains(got, "192.0.2.5/24") || !strings.Contains(got, "2001:db8:1::5/64") {
			t.Errorf("after %s the host is not on %s: %s", words, step.on, got)
		}
		for name, s := range connections {
			longest, err := s.Longest()
			if err != nil {
				t.Fatalf("connection %s after %s: %v", name, words, err)
			}
			t.Logf("%s after %s: longest gap %v", name, words, longest.Round(time.Millisecond))
		}
	}
	if diff := cmp.Diff(before, h.things()); diff != "" {
		t.Errorf("the host is not as it was (-want +got):\n%s", diff)
	}
}
