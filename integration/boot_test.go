package integration_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
)

// bootBar is what a boot may take: 8 switches are made, and 500 ports are found that are
// there. A busy machine needs several times as long.
const (
	bootBar  = 2 * time.Second
	bootSlow = 5 // times
)

// TestBoot makes 8 switches as at boot, and has a patchbayd that begins take over 500 ports.
func TestBoot(t *testing.T) {
	guest.Needs(t, guest.Bridged)
	if took := boot(t, 500, ""); took > bootSlow*bootBar {
		t.Errorf("it took %s", took)
	}
}

// TestBootWithTeams is TestBoot with two of the switches on teams, and fewer ports, which
// teams are no concern of. A guest is slower than a machine, so what counts is how much
// slower it is there than without teams: on this kind of machine TestBoot takes a tenth of the bar.
func TestBootWithTeams(t *testing.T) {
	guest.Needs(t, guest.Bonding)
	const limit, ports = 8, 50
	var with, without time.Duration
	t.Run("without", func(t *testing.T) { without = boot(t, ports, "") })
	t.Run("with", func(t *testing.T) {
		with = boot(t, ports, "teams:\n- {name: team0, members: [eth0, eth1], lab: true}\n- {name: team1, members: [eth2, eth3], lab: true}\n")
	})
	if t.Logf("with teams %.2f times as long", with.Seconds()/without.Seconds()); with > limit*without {
		t.Errorf("%s with teams, %s without", with, without)
	}
}

// boot returns how long it takes to apply 8 switches, of which two have uplinks, and teams,
// and until a patchbayd is ready that finds so many ports on them: of each the shortest of
// three times, since a machine does other things as well.
func boot(t *testing.T, ports int, teams string) time.Duration {
	t.Helper()
	h, _ := teamed(t, 4)
	uplinks := []string{"eth0", "eth2"}
	if teams != "" {
		uplinks = []string{"team0", "team1"}
	}
	var names []string
	var switches strings.Builder
	add := func(format string, args ...any) {
		name := fmt.Sprintf("s%d", len(names))
		names = append(names, name)
		fmt.Fprintf(&switches, "- {name: "+name+format+"}\n", args...)
	}
	for _, u := range uplinks {
		add(", uplink: %s", u)
	}
	for i := range 3 {
		add(", type: internal, gateway: [10.7.%d.1/24]", i)
	}
	for range 3 {
		add(", type: private")
	}
	file := h.file("version: 1\n%sswitches:\n%s", teams, switches.String())
	nothing := h.file("version: 1\n")
	applied := shortest(func() time.Duration {
		h.patchbay("apply", "-f", nothing, "--prune")
		return timed(func() { h.patchbay("apply", "-f", file) })
	})

	h.patchbay("mac", "pool", "set", "--first", "0a:77:00:00:00:00", "--last", "0a:77:00:00:ff:ff")
	e := engineOn(h, vswitch.SegmentSizes{})
	c := h.container("crowd")
	h.workers(4, ports, func(i int) error {
		owner := ownerOf(c)
		owner.Endpoint = fmt.Sprintf("p%d", i)
		_, err := e.Attach(context.Background(), engine.AttachRequest{
			Owner: owner, Switch: names[i%len(names)],
			Ranges: []vswitch.IPRangeSet{{{Subnet: netip.MustParsePrefix(fmt.Sprintf("10.8.%d.0/24", i%len(names)))}}},
		})
		return err
	})
	ready := shortest(func() time.Duration {
		h.stopDaemon()
		return timed(func() { h.startDaemon() }) // and wait until it has looked at all that is there
	})
	h.wantUndrifted()
	if n := len(h.ports()); n < ports {
		t.Errorf("%d ports", n)
	}
	t.Logf("8 switches applied in %.2f s, patchbayd ready with %d ports in %.2f s", applied.Seconds(), ports, ready.Seconds())
	h.stopDaemon() // the switches go by this process's own hand
	for _, name := range names {
		h.patchbay("switch", "delete", name, "--force")
	}
	return applied + ready
}

func timed(do func()) time.Duration {
	start := time.Now()
	do()
	return time.Since(start)
}

func shortest(of func() time.Duration) time.Duration { return min(of(), of(), of()) }
