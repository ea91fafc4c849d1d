package plan_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TestFailOver moves guests whose hashes are 0 and 1 without a tag; in VLAN 1 it is the
// other way round.
func TestFailOver(t *testing.T) {
	even := plan.Guest{MAC: vswitch.MAC{2, 0, 0, 2, 0, 0}, VLANs: []int{0}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	odd := plan.Guest{MAC: vswitch.MAC{2, 0, 0, 2, 0, 1}, VLANs: []int{0, 1, 2}, Addresses: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}
	oddIn := func(vlans ...int) plan.Guest {
		g := plan.Guest{MAC: odd.MAC, VLANs: vlans}
		if vlans[0] == 0 {
			g.Addresses = odd.Addresses
		}
		return g
	}
	standby := func(active string) plan.Carriage {
		return plan.Carriage{Mode: vswitch.TeamActiveStandby, Members: []string{"m0", "m1"}, Active: active}
	}
	spread := func(up ...string) plan.Carriage {
		return plan.Carriage{Mode: vswitch.TeamActiveActive, Members: []string{"m0", "m1"}, Up: up}
	}
	lacp := func(up ...string) plan.Carriage {
		return plan.Carriage{Mode: vswitch.TeamLACP, Members: []string{"m0", "m1"}, Up: up}
	}
	at := func(netdev string, guests ...plan.Guest) plan.AnnounceMACs {
		return plan.AnnounceMACs{Netdev: netdev, Guests: guests}
	}
	for name, c := range map[string]struct {
		was, now plan.Carriage
		announce []plan.AnnounceMACs
	}{
		"the active member fails":     {was: standby("m0"), now: standby("m1"), announce: []plan.AnnounceMACs{at("m1", even, odd)}},
		"nothing has moved":           {was: standby("m0"), now: standby("m0")},
		"the last member fails":       {was: standby("m0"), now: standby("")},
		"the first member comes":      {was: standby(""), now: standby("m0"), announce: []plan.AnnounceMACs{at("m0", even, odd)}},
		"a daemon starts":             {now: standby("m0"), announce: []plan.AnnounceMACs{at("m0", even, odd)}},
		"the designated member fails": {was: spread("m0", "m1"), now: spread("m1"), announce: []plan.AnnounceMACs{at("m1", even, oddIn(1))}},
		"it comes back":               {was: spread("m1"), now: spread("m0", "m1"), announce: []plan.AnnounceMACs{at("m0", even, oddIn(1))}},
		"the other member fails":      {was: spread("m0", "m1"), now: spread("m0"), announce: []plan.AnnounceMACs{at("m0", oddIn(0, 2))}},
		"all members fail":            {was: spread("m0", "m1"), now: spread()},
		"a group loses a member":      {was: lacp("m0", "m1"), now: lacp("m1")},
		"from active-standby to active-active": {
			was: standby("m0"), now: spread("m0", "m1"), announce: []plan.AnnounceMACs{at("m1", oddIn(0, 2))},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := plan.Failover{Now: c.now, Announce: c.announce}
			got := plan.FailOver(c.was, c.now, []plan.Guest{even, odd})
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("decided otherwise (-want +got):\n%s", diff)
			}
		})
	}
}

// A member stays designated as long as it has a link: each change loses frames.
func TestDesignate(t *testing.T) {
	for _, c := range []struct{ members, up, now, want string }{
		{"m0 m1", "m0 m1", "", "m0"},
		{"m0 m1", "m0 m1", "m1", "m1"},
		{"m0 m1", "m0", "m1", "m0"},
		{"m0 m1 m2", "m1 m2", "m0", "m1"},
		{"m0 m1", "", "m1", "m1"},
		{"m0 m1", "", "", "m0"},
		{"m0 m1", "m1", "gone", "m1"},
		{"m0 m1", "", "gone", "m0"},
		{"", "", "gone", "gone"},
	} {
		hasLink := func(m string) bool { return slices.Contains(strings.Fields(c.up), m) }
		if got := plan.Designate(strings.Fields(c.members), hasLink, c.now); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
