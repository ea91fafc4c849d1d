package engine_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file is about minimums where there is more than one netdev or bridge.

// Each member of a team is shared, also one that joins later; one that leaves is not.
func TestSharesOfATeam(t *testing.T) {
	for _, mode := range []vswitch.TeamMode{vswitch.TeamActiveStandby, vswitch.TeamActiveActive, vswitch.TeamLACP} {
		t.Run(string(mode), func(t *testing.T) {
			ctx := context.Background()
			l := teamLab(t)
			l.kernel.SetSpeed("nic1", 1000)
			pristine := l.kernel.String()
			team := teamOf("nic1", "nic2")
			team.Mode = mode
			l.mustTeam(team)
			s := wanOn("team0")
			s.MinBandwidth.Mode = "absolute"
			l.mustAdd(s)
			l.mustAttach(promised(0, atLeast(900e6)))
			l.wantParts("two members", "nic1 *:100.0 nic1 0:900.0 nic2 *:100.0 nic2 0:900.0")
			_, err := l.Attach(ctx, promised(1, atLeast(8e6)))
			wantKind(t, err, vswitch.Admission)
			_, err = l.SetTeam(ctx, "team0", engine.TeamChange{Members: &[]string{"nic2", "nic3"}})
			must(t, err)
			l.wantParts("others", "nic2 *:100.0 nic2 0:900.0 nic3 *:100.0 nic3 0:900.0")
			l.wantSound()
			l.mustDetach(0)
			l.wantParts("nobody", "")
			l.mustAttach(promised(0, atLeast(100e6)))
			must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan", Force: true}))
			l.wantParts("no switch", "")
			must(t, l.DeleteTeam(ctx, "team0", false))
			l.wantClean(pristine)
		})
	}
}

// Guests of further segments are told apart at the root.
func TestSharesAcrossSegments(t *testing.T) {
	l := newLab(t)
	l.sizes = vswitch.SegmentSizes{Root: 1, Further: 2}
	l.open()
	l.sharedWAN("")
	for i := range 4 {
		l.mustAttach(promised(i, weight(33)))
	}
	l.wantParts("four", l.expectedParts("nic0"))
	if strings.Count(l.parts(), "nic0") != 5 {
		t.Error(l.parts())
	}
	l.wantHealthy()
}

// What has left by the members of a team for a port is one sum, and what ports without a
// minimum have sent is the default flow's.
func TestUplinkTraffic(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	l.kernel.SetSpeed("nic1", 1000)
	l.mustTeam(teamOf("nic1", "nic2"))
	l.mustAdd(wanOn("team0"))
	l.mustAdd(policed()) // lan, without an uplink
	a := l.mustAttach(promised(0, weight(40))).Port
	l.mustAttach(promised(1, vswitch.PolicyChange{}))
	spoofing := promised(2, weight(9))
	spoofing.MACSpoofing = true
	l.mustAttach(spoofing)
	inside := promised(3, vswitch.PolicyChange{})
	inside.Switch = "lan"
	l.mustAttach(inside)
	l.kernel.SetShareCounters("nic1", kernel.ShareCounters{
		{}: {Packets: 1, Bytes: 60}, a.MAC: {Packets: 5, Bytes: 500, Dropped: 2, Borrowed: 3, Waiting: 100},
	})
	l.kernel.SetShareCounters("nic2", kernel.ShareCounters{{}: {Packets: 10, Bytes: 600}, a.MAC: {Packets: 7, Bytes: 700, Dropped: 1}})
	others := &engine.UplinkTraffic{DefaultFlow: true, ClassCounters: kernel.ClassCounters{Packets: 11, Bytes: 660}}
	want := map[string]*engine.UplinkTraffic{
		owner(0).ID: {ClassCounters: kernel.ClassCounters{Packets: 12, Bytes: 1200, Dropped: 3, Borrowed: 3, Waiting: 100}},
		owner(1).ID: others, owner(2).ID: others, owner(3).ID: nil,
	}
	stats, err := l.PortStats(ctx, engine.PortStatsRequest{})
	must(t, err)
	got := make(map[string]*engine.UplinkTraffic)
	for _, s := range stats {
		if s.Owner.Kind == vswitch.OwnerContainer {
			got[s.Owner.ID] = s.Uplink
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	must(t, l.promise(0, weight(0)))
	l.mustDetach(2)
	stats, err = l.PortStats(ctx, engine.PortStatsRequest{Port: owner(0).PortID()})
	must(t, err)
	if stats[0].Uplink != nil {
		t.Errorf("nothing is shared any more: %+v", stats[0].Uplink)
	}
}
