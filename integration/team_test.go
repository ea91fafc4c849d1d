package integration_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// teamed is a host with NICs, each plugged into the port of its number of a physical
// switch outside, which is a bridge with the address 192.0.2.1.
func teamed(t *testing.T, nics int) (h *testHost, outside *host.Netns) {
	t.Helper()
	h = newHost(t)
	outside, err := h.Neighbour("physical")
	ok(t, err)
	h.script(outside, "link add sw type bridge forward_delay 0\nlink set sw up\naddr add 192.0.2.1/24 dev sw")
	for i := range nics {
		nic, port := fmt.Sprintf("eth%d", i), fmt.Sprintf("port%d", i)
		ok(t, host.Cable(h.Netns, nic, outside, port))
		h.keeps = append(h.keeps, nic)
		h.script(outside, "link set "+port+" master sw")
	}
	return h, outside
}

func (h *testHost) team(name string) (s engine.TeamStatus) {
	h.t.Helper()
	ok(h.t, h.PatchbayJSON(&s, "team", "show", name))
	return s
}

// wantUndrifted fails if the kernel is not as Patchbay wants it.
func (h *testHost) wantUndrifted() {
	h.t.Helper()
	var s engine.Status
	ok(h.t, h.PatchbayJSON(&s, "status"))
	for _, p := range s.Problems {
		if p.Kind == "DRIFTED" {
			h.t.Errorf("%s: %s", p.Kind, p.Message)
		}
	}
}

const teamGuests = `{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"patchbay","switch":"wan","ipam":{"type":"patchbay","ranges":[[{"subnet":"192.0.2.0/24","rangeStart":"192.0.2.100"}]]}}]}`

// TestTeam takes a team under a switch through its life, with a connection on it.
func TestTeam(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.Netdev)
	h, outside := teamed(t, 3)
	h.patchbay("team", "add", "team0", "--members", "eth0,eth1", "--lab")
	h.patchbay("switch", "add", "wan", "--uplink", "team0")
	h.wantUndrifted()
	if s := h.team("team0"); s.State.Active != "eth0" || len(s.Degraded) > 0 || len(s.State.Members) != 2 {
		t.Errorf("a new team is %+v", s)
	}
	n := h.network(teamGuests)
	c, r := h.attached(n, "a")
	guest := r.IPs[0].Address.IP.String()
	stream, err := outside.Connect(netip.Addr{}, c.Netns, netip.MustParseAddr(guest))
	ok(t, err)
	for _, args := range [][]string{
		{"--members", "eth0,eth1,eth2"},
		{"--members", "eth2,eth1,eth0"},
		{"--primary", "eth1"},
		{"--reselect", "always", "--monitor", "50", "--up-delay", "100", "--down-delay", "50"},
		{"--mode", "static", "--hash", "ip-addresses"},
		{"--mode", "active-active"},
		{"--mode", "active-standby", "--members", "eth1,eth2"},
	} {
		h.patchbay(append([]string{"team", "set", "team0"}, args...)...)
		h.wantUndrifted()
		longest, err := stream.Longest()
		if err != nil {
			t.Errorf("team set %v: %v", args, err)
		}
		t.Logf("team set %v: longest gap %v", args, longest.Round(time.Millisecond))
	}
	h.patchbay("team", "delete", "team0", "--force")
	if _, err := stream.Longest(); err != nil {
		t.Errorf("without the team: %v", err)
	}
	h.wantUndrifted()
	ok(t, stream.Close())
	ok(t, n.Del(c))
	h.patchbay("switch", "delete", "wan")
	if got := h.run(h.Netns, "ip", "-br", "link"); strings.Contains(got, "team0") || strings.Count(got, "UP,LOWER_UP") < 4 {
		t.Errorf("not as before:\n%s", got)
	}
}

// patienceForLACP is how long two partners may take to agree.
const patienceForLACP = 30 * time.Second

// awaitWhole waits until both members of team0 carry, and patchbayd has seen it after so
// many lines of its log. LACP may leave one out once more before it has converged.
func (h *testHost) awaitWhole(lines int) {
	h.t.Helper()
	for {
		_, err := h.daemon.Await(lines, patienceForLACP, "msg=failover", "team=team0", "to=eth0,eth1")
		lines = h.daemon.Lines()
		if len(h.team("team0").Degraded) == 0 {
			return
		}
		ok(h.t, err)
	}
}

// TestTeamLACPPartner finds the partner, a bond in another namespace, and misses one
// where the physical switches do not speak LACP.
func TestTeamLACPPartner(t *testing.T) {
	guest.Needs(t, guest.Bonding)
	for name, c := range map[string]struct {
		group    string
		degraded string // "" if it is whole
	}{
		"with":    {"mode 802.3ad lacp_rate fast", ""},
		"without": {"", "no LACP partner answers"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.stopDaemon()
			d := h.startDaemon()
			outside := h.physical(c.group)
			lines := d.Lines()
			h.patchbay("team", "add", "team0", "--members", "eth0,eth1", "--mode", "lacp", "--lab")
			if c.group != "" {
				h.awaitWhole(lines)
			}
			s := h.team("team0")
			if got := strings.Join(s.Degraded, "; "); (got == "") != (c.degraded == "") || !strings.Contains(got, c.degraded) {
				t.Errorf("it is degraded by %q, want %q", got, c.degraded)
			}
			if far := h.run(outside, "ip", "-o", "link", "show", "far"); c.group != "" && !strings.Contains(far, s.State.Partner.String()) {
				t.Errorf("the partner is %s, want that of %s", s.State.Partner, far)
			}
			h.patchbay("team", "delete", "team0")
		})
	}
}
