package integration_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/guest"
)

// TestTeamKilled is TestKilled for the verbs of teams, at every third point: the sweep of
// all of them is on the Fake.
func TestTeamKilled(t *testing.T) {
	guest.Needs(t, guest.Bonding)
	pair := cli("team", "add", "team0", "--members", "eth1,eth2", "--lab")
	under := []op{pair, cli("switch", "add", "prod", "--uplink", "team0")}
	for _, x := range []sweep{
		{name: "team add", verb: pair, atLeast: 6},
		{name: "team set mode", stage: under, verb: cli("team", "set", "team0", "--mode", "static"), atLeast: 6},
		{name: "team set members", stage: under, verb: cli("team", "set", "team0", "--members", "eth2"), atLeast: 6},
		{name: "switch on a team", stage: under[:1], verb: under[1], atLeast: 9},
		{name: "team delete", stage: under[:1], verb: op{name: "team delete", gone: "no such team", do: cli("team", "delete", "team0").do}, atLeast: 6},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newScene(t)
			s.sweep(x, x.verb, 3, func(n int) bool {
				out, err := x.verb.do(s, "bin/faults", []string{fmt.Sprintf("PATCHBAY_DIE_AT=%d", n)})
				if err != nil && !strings.Contains(err.Error(), "killed") {
					t.Fatalf("point %d: %v: %s", n, err, out)
				}
				return err == nil
			})
		})
	}
}

// patienceForLACP is how long two partners may take to agree.
const patienceForLACP = 30 * time.Second

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
				_, err := d.Await(lines, patienceForLACP, "msg=failover", "team=team0", "to=eth0,eth1")
				ok(t, err)
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
