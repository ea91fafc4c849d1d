package fleet_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
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

// awaitOn waits until a container's queue and the host's SAs are on a NIC, or why they are not.
func (l *lab) awaitOn(container, nic string) {
	l.t.Helper()
	for f, port := range map[vswitch.Feature]string{vswitch.VMQ: container, vswitch.IPsec: l.hostPort()} {
		l.until(fmt.Sprintf("%s of %s is of %s", f, port, nic), func() (bool, string) {
			got := l.on(port, f)
			return got == nic, got
		})
	}
}

// newTeamLab is a lab whose switch is on team0 of nic1 and nic2, which take SAs.
func newTeamLab(t *testing.T) *lab {
	t.Helper()
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
	return l
}

// A failover takes queues and SAs to the member that carries the team since, though its
// plugin tells nothing new. Teams of other modes have none, and say so.
func TestOffloadsFollowTheActiveMember(t *testing.T) {
	l := newTeamLab(t)
	ctx := context.Background()
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

// What a port has of a member that carries nothing any more is taken back also where the
// other one refuses.
func TestTheOtherMemberRefuses(t *testing.T) {
	l := newTeamLab(t)
	a := l.mustAttach(0, vswitch.OffloadChange{})
	l.awaitOn(a, "example-0")
	l.nic.refuseAll(sdk.Deny(vswitch.Refused, "not today"))
	l.kernel.SetCarrier("nic1", false)
	l.awaitOn(a, "REFUSED")
	if n := l.grants(); n != 0 {
		t.Errorf("%d grants are left", n)
	}
	l.nic.refuseAll(nil)
	l.kernel.SetCarrier("nic1", true)
	l.kernel.SetCarrier("nic2", false)
	l.awaitOn(a, "example-0")
}

// The kernel ends the SAs of a NIC that is taken down, as one is that leaves a team, or whose
// team gets another mode: they are taken from it before.
func TestSAsLeaveAMemberFirst(t *testing.T) {
	l := newTeamLab(t)
	ctx, host := context.Background(), l.hostPort()
	awaitOn := func(want string) {
		t.Helper()
		l.until(want, func() (bool, string) {
			got := l.on(host, vswitch.IPsec)
			return got == want, got
		})
	}
	awaitOn("example-0")
	asked := len(l.nic.requests(host))
	if _, err := l.SetTeam(ctx, "team0", engine.TeamChange{Members: &[]string{"nic2"}}); err != nil {
		t.Fatal(err)
	}
	if then := l.nic.sas.left["example-0"]; !regexp.MustCompile(`nic1: .* master team0`).MatchString(then) {
		t.Errorf("when they left nic1, there was\n%s", then)
	}
	awaitOn("example-1")
	for _, r := range l.nic.requests(host)[asked:] {
		if r.NIC == "example-0" {
			t.Errorf("of the member that leaves %s was asked for", r.Feature)
		}
	}
	mode := vswitch.TeamStatic
	if _, err := l.SetTeam(ctx, "team0", engine.TeamChange{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	if then := l.nic.sas.left["example-1"]; !strings.Contains(then, "mode active-backup") {
		t.Errorf("when they left nic2, there was\n%s", then)
	}
	awaitOn("TEAM_MODE")
	mode = vswitch.TeamActiveStandby
	if _, err := l.SetTeam(ctx, "team0", engine.TeamChange{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	awaitOn("example-1")
	delete(l.nic.sas.left, "example-1")
	if err := l.DeleteTeam(ctx, "team0", true); err != nil {
		t.Fatal(err)
	}
	if then := l.nic.sas.left["example-1"]; !strings.Contains(then, "team0:") {
		t.Errorf("when they left nic2, there was\n%s", then)
	}
	awaitOn("example-1")
}
