package fleet_test

import (
	"context"
	"testing"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// liar is a nic that tells of each VF it gives something that is not so.
type liar struct {
	*nic
	lie func(*sdk.Grant)
}

func (n *liar) Ensure(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
	g, err := n.nic.Ensure(ctx, r)
	if err == nil && g.VF != nil {
		n.lie(&g)
	}
	return g, err
}

// A container that prefers a VF, and is given something that is none of its own, has a pair,
// and nothing is held for it.
func TestVFThatIsNone(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(*sdk.Grant)
		says string
	}{
		"a netdev that there is not": {func(g *sdk.Grant) { g.VF.Netdev = "nosuch0" }, "nosuch0"},
		"the uplink":                 {func(g *sdk.Grant) { g.VF.Netdev = "nic0" }, "MAC address"},
		"somebody else's netdev":     {func(g *sdk.Grant) { g.VF.Netdev = "other0" }, "MAC address"},
		"a VF that another port has": {func(g *sdk.Grant) { g.VF.Index = 0 }, "has it"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, sdk.Config{"vfs": 2, "queues": 4})
			l.kernel.AddNetdev(kernel.Netdev{Name: "other0", MAC: vswitch.MAC{2, 9, 9, 9, 9, 9}, MTU: 1500, Ethernet: true})
			n := &liar{l.nic, func(*sdk.Grant) {}}
			l.instead(n)
			first, err := l.attach(0, vf(vswitch.OffloadPrefer))
			if err != nil || first.VF == "" {
				t.Fatalf("%+v, %v", first, err)
			}
			n.lie = c.lie
			p, err := l.attach(1, vf(vswitch.OffloadPrefer))
			if err != nil || p.VF != "" || p.Netdev == "" {
				t.Errorf("VF %q, netdev %q, %v", p.VF, p.Netdev, err)
			}
			_, err = l.attach(2, vf(vswitch.OffloadRequire))
			wantMissing(t, err, c.says)
			l.wantDrawn(false, vfName(1))
			l.wantDrawn(true, "patchbay-vf: port="+first.ID)
		})
	}
}
