package engine_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestPortStats(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	l.mustAdd(policed())
	l.kernel.AddNetdev(kernel.Netdev{Name: "tap7", MTU: 1500, Ethernet: true, Up: true})
	a := l.mustAttach(guarded(0, vswitch.PolicyChange{DHCPGuard: ptr(true), StormLimit: ptr(5), Mirror: ptr(vswitch.MirrorSource)}))
	tap := l.mustAttach(engine.AttachRequest{
		Owner: vswitch.Owner{Kind: vswitch.OwnerVM, ID: "vm", Endpoint: "net0"}, Switch: "lan", Netdev: "tap7", MACSpoofing: true,
	})
	lost := l.mustAttach(engine.AttachRequest{Owner: owner(1), Switch: "lan"})
	l.kernel.RemoveNetns(netns(1))
	l.kernel.SetCounters(a.Port.Netdev, kernel.PortCounters{
		Counters: kernel.Counters{RxPackets: 1, TxPackets: 2, RxBytes: 3, TxBytes: 4, RxErrors: 5, TxErrors: 6, RxDropped: 7, TxDropped: 8},
		Guards:   kernel.GuardDrops{DHCP: 9, Router: 10, Address: 11, Storm: 12},
		Sources:  kernel.Sources{By: map[vswitch.MAC]uint64{a.Port.MAC: 100, {2, 5: 1}: 13}},
	})
	sources := kernel.Sources{By: map[vswitch.MAC]uint64{{2, 5: 1}: 13}}
	l.kernel.SetCounters("tap7", kernel.PortCounters{Counters: kernel.Counters{RxPackets: 20}, Sources: sources})
	l.kernel.SetMirrorCounters(a.Port.Netdev, kernel.MirrorCounters{Copies: 14, Lost: 1})
	l.kernel.SetCounters("pbp-prod", kernel.PortCounters{Counters: kernel.Counters{TxPackets: 30}})

	all, err := l.PortStats(context.Background(), engine.PortStatsRequest{})
	must(t, err)
	byNetdev := make(map[string]engine.PortStats)
	for _, s := range all {
		byNetdev[s.Netdev] = s
	}
	want := engine.PortStats{
		ID: a.Port.ID, Switch: "lan", Owner: a.Port.Owner, Netdev: a.Port.Netdev,
		In:       engine.Traffic{Packets: 2, Bytes: 4, Dropped: 8, Errors: 6},
		Out:      engine.Traffic{Packets: 1, Bytes: 3, Dropped: 7, Errors: 5},
		Guarded:  map[string]uint64{"dhcpGuard": 9, "stormLimit": 12, "macSpoofing": 13},
		Mirrored: &kernel.MirrorCounters{Copies: 14, Lost: 1},
	}
	if diff := cmp.Diff(want, byNetdev[a.Port.Netdev]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s := byNetdev["tap7"]; s.Out.Packets != 20 || s.ID != tap.Port.ID || s.Guarded != nil {
		t.Errorf("of the adopted netdev: %+v", s)
	}
	if s := byNetdev["pbp-prod"]; s.In.Packets != 30 || s.Owner.Kind != vswitch.OwnerHost {
		t.Errorf("of the host's port: %+v", s)
	}
	if s := byNetdev[lost.Port.Netdev]; !s.Gone {
		t.Errorf("of a port whose owner has ended: %+v", s)
	}

	for _, c := range []struct {
		req  engine.PortStatsRequest
		n    int
		kind vswitch.Kind
	}{
		{engine.PortStatsRequest{Port: "vm"}, 1, ""},
		{engine.PortStatsRequest{Port: "vm", Switch: "lan"}, 1, ""},
		{engine.PortStatsRequest{Switch: "prod"}, 1, ""},
		{engine.PortStatsRequest{Port: "vm", Switch: "prod"}, 0, vswitch.NotFound},
		{engine.PortStatsRequest{Port: "nobody"}, 0, vswitch.NotFound},
		{engine.PortStatsRequest{Switch: "nowhere"}, 0, vswitch.NotFound},
	} {
		got, err := l.PortStats(context.Background(), c.req)
		if len(got) != c.n {
			t.Errorf("%+v: %d ports, want %d", c.req, len(got), c.n)
		}
		if c.kind != "" {
			wantKind(t, err, c.kind)
		} else {
			must(t, err)
		}
	}
}
