package fleet_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// on is the NIC by which a port has a feature, or why it has it not.
func (l *lab) on(port string, f vswitch.Feature) string {
	l.t.Helper()
	p, err := l.Port(context.Background(), port)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, o := range p.Offload {
		if o.Feature == f && o.Effective {
			return o.NIC
		} else if o.Feature == f {
			return string(o.Reason)
		}
	}
	return "nothing"
}

func (l *lab) awaitOn(port, nic string) {
	l.t.Helper()
	for _, f := range []vswitch.Feature{vswitch.VMQ, vswitch.IPsec} {
		l.until(fmt.Sprintf("%s of %s is of %s", f, port, nic), func() (bool, string) {
			got := l.on(port, f)
			return got == nic, got
		})
	}
}

// A failover takes queues and SAs to the member that carries the team since, though its
// plugin tells nothing new. Teams of other modes have none, and say so.
func TestOffloadsFollowTheActiveMember(t *testing.T) {
	l := newLab(t, sdk.Config{"netdevs": []string{"nic1", "nic2"}, "vfs": 1, "queues": 4})
	l.nic.become(func(n *sdk.NIC) { n.Capabilities.IPsec = vswitch.Capability{Capacity: 33} })
	for i, name := range []string{"nic1", "nic2"} {
		l.kernel.AddNetdev(kernel.Netdev{
			Name: name, MAC: vswitch.MAC{0x52, 0x54, 0, 0, 0, byte(2 + i)}, MTU: 1500, MaxMTU: 9000, Ethernet: true, Up: true, Carrier: true, Speed: 1000,
		})
	}
	ctx := context.Background()
	team := vswitch.Team{Name: "team0", Mode: vswitch.TeamActiveStandby, Members: []string{"nic1", "nic2"}}
	if _, err := l.AddTeam(ctx, team); err != nil {
		t.Fatal(err)
	}
	if _, err := l.SetSwitch(ctx, "wan", engine.SwitchChange{Uplink: &team.Name, Yes: true}); err != nil {
		t.Fatal(err)
	}
	a := l.mustAttach(0, vswitch.OffloadChange{})
	l.awaitOn(a, "example-0")
	l.kernel.SetCarrier("nic1", false)
	l.awaitOn(a, "example-1")
	l.kernel.SetCarrier("nic1", true)
	l.kernel.SetCarrier("nic2", false)
	l.awaitOn(a, "example-0")
	mode := vswitch.TeamStatic
	if _, err := l.SetTeam(ctx, "team0", engine.TeamChange{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	l.awaitOn(a, "TEAM_MODE")
}
