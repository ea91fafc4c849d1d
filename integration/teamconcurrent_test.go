package integration_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
)

// TestTeamVerbsAtOnce has processes work at the same time on teams that want the same NICs
// and on switches that want the teams. Each verb is done or refused as if it were alone.
func TestTeamVerbsAtOnce(t *testing.T) {
	guest.Needs(t, guest.Bonding)
	h, _ := teamed(t, 3)
	var group sync.WaitGroup
	for _, script := range []string{
		`team add team0 --members eth0,eth1 --lab
switch add wan --uplink team0
team set team0 --mode static
switch delete wan
team delete team0`,
		`team add team1 --members eth1,eth2 --mode static --lab
switch add lan --uplink team1
team set team1 --members eth2,eth0
team set team1 --mode active-standby
switch delete lan
team delete team1`,
		`team add team0 --members eth2,eth0 --mode lacp --lab
switch add wan --uplink eth1
switch set wan --uplink team0
team delete team0 --force
team set team1 --mode lacp
switch delete wan`,
	} {
		group.Go(func() {
			for line := range strings.SplitSeq(script+"\n"+script, "\n") {
				out, err := h.Patchbay(append(strings.Fields(line), "-o", "json")...)
				if err != nil && !refused(err) {
					t.Errorf("%s: %v\n%s", line, err, out)
				}
			}
		})
	}
	group.Wait()
	h.wantUndrifted()
	h.patchbay("apply", "-f", h.file("version: 1\n"), "--prune")
}

// refused reports that a command failed for what others had done before.
func refused(err error) bool {
	return slices.ContainsFunc([]vswitch.Kind{
		vswitch.NotFound, vswitch.Conflict, vswitch.InUse, vswitch.UplinkInUse, vswitch.UplinkNotFound, vswitch.AlreadyExists,
	}, func(k vswitch.Kind) bool { return strings.Contains(err.Error(), `"kind":"`+string(k)+`"`) })
}
