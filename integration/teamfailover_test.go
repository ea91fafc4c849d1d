package integration_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// physical is what a team of two NICs, eth0 and eth1, is plugged into: two switches that
// are joined, with a host behind the second one, or one switch with its ports in a group.
// The far end has the address 192.0.2.1.
func (h *testHost) physical(group string) *host.Netns {
	h.t.Helper()
	outside, err := h.Neighbour("physical")
	ok(h.t, err)
	for _, n := range []string{"0", "1"} {
		ok(h.t, host.Cable(h.Netns, "eth"+n, outside, "port"+n))
		h.keeps = append(h.keeps, "eth"+n)
	}
	if group != "" {
		h.script(outside, "link add far type bond miimon 20 "+group+
			"\nlink set port0 down\nlink set port1 down\nlink set port0 master far\nlink set port1 master far\nlink set far up\naddr add 192.0.2.1/24 dev far")
		return outside
	}
	h.script(outside, `link add swA type bridge forward_delay 0
link add swB type bridge forward_delay 0
link add joinA type veth peer name joinB
link add far type veth peer name farB
link set port0 master swA
link set joinA master swA
link set port1 master swB
link set joinB master swB
link set farB master swB
link set swA up
link set swB up
link set joinA up
link set joinB up
link set farB up
link set far up
addr add 192.0.2.1/24 dev far`)
	return outside
}

// TestTeamFailover takes each member's link away and gives it back, and takes each down
// and up, in every mode, while somebody outside talks to a guest who only answers. Its
// log is the table of docs/performance.md.
func TestTeamFailover(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.Netdev)
	const interval = 5 * time.Millisecond
	t.Log("| mode | link lost | link back | taken down | brought up | all links back |")
	for _, mode := range []struct{ name, group string }{
		{"active-standby", ""},
		{"active-active", ""},
		{"static", "mode balance-xor xmit_hash_policy layer3+4"},
		{"lacp", "mode 802.3ad lacp_rate fast xmit_hash_policy layer3+4"},
	} {
		t.Run(mode.name, func(t *testing.T) {
			h := newHost(t)
			h.stopDaemon()
			h.startDaemon()
			outside := h.physical(mode.group)
			h.patchbay("team", "add", "team0", "--members", "eth0,eth1", "--mode", mode.name, "--lab")
			h.patchbay("switch", "add", "wan", "--uplink", "team0")
			n := h.network(teamGuests)
			c, r := h.attached(n, "a")
			pulse, err := outside.Pulse(c.Netns, netip.MustParseAddr(r.IPs[0].Address.IP.String()), interval)
			ok(t, err)
			measure := func(what string, in *host.Netns, script string) host.Outage {
				t.Helper()
				return h.outage(pulse, what+" ("+script+")", func() { h.script(in, script) })
			}
			measure("before", outside, "link show lo")
			var lost, back, down, up host.Outage
			for _, m := range []string{"0", "1"} {
				lost = lost.Max(measure("link lost", outside, "link set port"+m+" down"))
				back = back.Max(measure("link back", outside, "link set port"+m+" up"))
				down = down.Max(measure("taken down", h.Netns, "link set eth"+m+" down"))
				up = up.Max(measure("brought up", h.Netns, "link set eth"+m+" up"))
			}
			h.script(outside, "link set port0 down\nlink set port1 down")
			all := measure("all links back", outside, "link set port0 up\nlink set port1 up")
			t.Logf("| %s | %s | %s | %s | %s | %s |", mode.name, cell(lost), cell(back), cell(down), cell(up), cell(all))
			if s := h.team("team0"); s.LastFailover == nil || len(s.Degraded) > 0 {
				t.Errorf("after it the team is %+v", s)
			}
			if mode.group == "" && max(lost.Lost, back.Lost, down.Lost, up.Lost) > unannounced {
				t.Errorf("more than %d datagrams, one every %v, were lost", unannounced, interval)
			}
			ok(t, pulse.Close())
			ok(t, n.Del(c))
			h.patchbay("switch", "delete", "wan")
			h.patchbay("team", "delete", "team0")
		})
	}
}

// unannounced is how many datagrams are lost, one every 5 ms, where nobody announces: a
// guest is out of reach for 5 s and more then.
const unannounced = 200

// outage is what a pulse misses because of an event.
func (h *testHost) outage(p *host.Pulse, what string, event func()) host.Outage {
	h.t.Helper()
	o, err := p.During(event, 30*time.Second)
	if err != nil {
		h.t.Errorf("%s: %v", what, err)
	}
	h.t.Logf("%s: %s", what, cell(o))
	return o
}

func cell(o host.Outage) string {
	return fmt.Sprintf("%v, %d lost", o.Silence.Round(time.Millisecond), o.Lost)
}
