package integration_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/integration/guest"
)

// TestTeamKilled is TestKilled for the verbs of teams, at every fourth point: the sweep of
// all of them is on the Fake.
func TestTeamKilled(t *testing.T) {
	guest.Needs(t, guest.Bonding)
	both := apply("- {name: prod, uplink: team0}", "teams:", "- {name: team0, members: [eth1, eth2], lab: true}")
	team := cli("team", "add", "team0", "--members", "eth1,eth2", "--lab")
	for _, x := range []sweep{
		{name: "team and switch", verb: both, atLeast: 12},
		{name: "team set", stage: []op{both}, verb: cli("team", "set", "team0", "--mode", "static", "--members", "eth2"), atLeast: 8},
		{name: "team delete", stage: []op{team}, verb: op{name: "team delete", gone: "no such team", do: cli("team", "delete", "team0").do}, atLeast: 8},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newScene(t)
			s.sweep(x, x.verb, 4, func(n int) bool {
				out, err := x.verb.do(s, "bin/faults", []string{fmt.Sprintf("PATCHBAY_DIE_AT=%d", n)})
				if err != nil && !strings.Contains(err.Error(), "killed") {
					t.Fatalf("point %d: %v: %s", n, err, out)
				}
				return err == nil
			})
		})
	}
}
