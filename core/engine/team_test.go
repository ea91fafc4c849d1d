package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// teamLab is a lab with two more NICs.
func teamLab(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	for i, name := range []string{"nic2", "nic3"} {
		l.kernel.AddNetdev(kernel.Netdev{
			Name: name, MAC: vswitch.MAC{0x52, 0x54, 0, 0, 0, byte(3 + i)}, MTU: 1500, Ethernet: true, Up: true, Carrier: true, Speed: 1000,
		})
	}
	return l
}

func teamOf(members ...string) vswitch.Team { return vswitch.Team{Name: "team0", Members: members} }

func (l *lab) mustTeam(t vswitch.Team) engine.TeamStatus {
	l.t.Helper()
	s, err := l.AddTeam(context.Background(), t)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

func (l *lab) wantSound() {
	l.t.Helper()
	s, err := l.Status(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, p := range s.Problems {
		if strings.Contains(p.Message, "patchbayd does not run") {
			continue // it does not
		}
		l.t.Errorf("status: %s: %s", p.Kind, p.Message)
	}
}

func wanOn(uplink string) vswitch.Switch { return vswitch.Switch{Name: "wan", Uplink: uplink} }

func TestTeamFromMakingToDeleting(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	pristine := l.kernel.String()
	got := l.mustTeam(teamOf("nic1", "nic2"))
	if got.State == nil || got.State.Active != "nic1" || len(got.Degraded) > 0 || got.MAC != (vswitch.MAC{0x52, 0x54, 0, 0, 0, 2}) {
		t.Errorf("a new team is %+v", got)
	}
	l.mustAdd(wanOn("team0"))
	l.wantSound()
	for _, want := range []string{
		`team0: bond 52:54:00:00:00:02 mtu 1500 up master pb-wan group 0x50420000 mode active-backup miimon 100 primary_reselect failure primary nic1 active nic1 alias "patchbay:team name=team0"`,
		"nic1: 52:54:00:00:00:02 mtu 1500 up master team0 prio 2",
		"nic2: 52:54:00:00:00:02 mtu 1500 up master team0 prio 1",
	} {
		if !strings.Contains(l.kernel.String(), want) {
			t.Errorf("no %q in:\n%s", want, l.kernel)
		}
	}
	wantKind(t, l.DeleteTeam(ctx, "team0", false), vswitch.InUse)
	if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan"}); err != nil {
		t.Fatal(err)
	}
	if err := l.DeleteTeam(ctx, "team0", false); err != nil {
		t.Fatal(err)
	}
	l.wantClean(pristine)
	wantKind(t, l.DeleteTeam(ctx, "team0", false), vswitch.NotFound)
}

func TestTeamChangesInPlace(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	l.mustTeam(teamOf("nic1", "nic2"))
	l.mustAdd(wanOn("team0"))
	for _, c := range []struct {
		name   string
		change engine.TeamChange
		want   []string
	}{
		{"a member more", engine.TeamChange{Members: ptr([]string{"nic1", "nic2", "nic3"})}, []string{"nic3: 52:54:00:00:00:02 mtu 1500 up master team0 prio 1"}},
		{"another order", engine.TeamChange{Members: ptr([]string{"nic1", "nic3", "nic2"})}, []string{"master team0 prio 2 alias", "nic2: 52:54:00:00:00:02 mtu 1500 up master team0 prio 1"}},
		{"primary", engine.TeamChange{Primary: ptr("nic2")}, []string{"primary nic2 active nic2"}},
		{"reselect and monitor", engine.TeamChange{Reselect: ptr(vswitch.ReselectAlways), Monitor: ptr(50), UpDelay: ptr(200)}, []string{"miimon 50 updelay 200 primary_reselect always"}},
		{"active-active", engine.TeamChange{Mode: ptr(vswitch.TeamActiveActive)}, []string{"mode balance-xor miimon 50 updelay 200 xmit_hash_policy vlan+srcmac"}},
		{"lacp", engine.TeamChange{Mode: ptr(vswitch.TeamLACP), MinLinks: ptr(2)}, []string{"mode 802.3ad", "xmit_hash_policy layer3+4 min_links 2 lacp_rate fast"}},
		{"slow", engine.TeamChange{LACPRate: ptr(vswitch.LACPSlow), Hash: ptr(vswitch.HashIPAddresses)}, []string{"layer2+3", "lacp_rate slow"}},
		{"fewer members", engine.TeamChange{Members: ptr([]string{"nic3", "nic2"})}, []string{"nic1: 52:54:00:00:00:02 mtu 1500 up\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := l.SetTeam(ctx, "team0", c.change); err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(l.kernel.String(), strings.TrimSuffix(want, " alias")) {
					t.Errorf("no %q in:\n%s", want, l.kernel)
				}
			}
			l.wantSound()
		})
	}
}

func TestTeamRefusesMembers(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	l.kernel.AddNetdev(kernel.Netdev{Name: "br9", Kind: "bridge", Ethernet: true, MTU: 1500, Up: true})
	l.kernel.AddNetdev(kernel.Netdev{Name: "ve0", Kind: "macvlan", Ethernet: true, MTU: 1500, Up: true})
	l.kernel.AddNetdev(kernel.Netdev{Name: "vlan5", Kind: "vlan", Lower: "nic3", Ethernet: true, MTU: 1500})
	l.kernel.AddNetdev(kernel.Netdev{Name: "dum0", Kind: "dummy", Ethernet: true, MTU: 1500, Up: true, Carrier: true})
	l.kernel.AddNetdev(kernel.Netdev{Name: "wlan0", Ethernet: true, NoBridge: true, MTU: 1500})
	l.mustAdd(wanOn("nic2"))
	l.mustTeam(vswitch.Team{Name: "other", Members: []string{"nic1"}})
	pristine := l.kernel.String()
	for name, c := range map[string]struct {
		member string
		kind   vswitch.Kind
	}{
		"missing":          {"nic9", vswitch.UplinkNotFound},
		"bridge":           {"br9", vswitch.TeamMember},
		"macvlan":          {"ve0", vswitch.TeamMember},
		"VLAN device":      {"vlan5", vswitch.TeamMember},
		"no hardware":      {"dum0", vswitch.TeamMember},
		"loopback":         {"lo", vswitch.TeamMember},
		"wireless":         {"wlan0", vswitch.TeamMember},
		"another team":     {"other", vswitch.TeamMember},
		"our bridge":       {"pb-wan", vswitch.TeamMember},
		"uplink":           {"nic2", vswitch.UplinkInUse},
		"member elsewhere": {"nic1", vswitch.UplinkInUse},
		"under a VLAN":     {"nic3", vswitch.UplinkInUse},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := l.AddTeam(ctx, teamOf(c.member))
			wantKind(t, err, c.kind)
			if got := l.kernel.String(); got != pristine {
				t.Errorf("the kernel was touched:\n%s", cmp.Diff(pristine, got))
			}
		})
	}
	if _, err := l.AddTeam(ctx, vswitch.Team{Name: "team0", Members: []string{"dum0"}, Lab: true}); err != nil {
		t.Errorf("with lab: %v", err)
	}
	_, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "lan", Uplink: "nic1"}})
	wantKind(t, err, vswitch.UplinkInUse)
}

func TestTeamNeedsBonding(t *testing.T) {
	caps := allCapabilities()
	caps.Bonding = false
	l := newLabWith(t, caps)
	_, err := l.AddTeam(context.Background(), teamOf("nic1"))
	wantKind(t, err, vswitch.CapabilityMissing)
	if !strings.Contains(err.Error(), "CONFIG_BONDING") {
		t.Errorf("%v does not name the symbol", err)
	}
}

func TestTeamReadded(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	l.mustTeam(teamOf("nic1", "nic2"))
	l.mustAdd(wanOn("team0"))
	whole := l.kernel.String()
	l.kernel.RemoveNetdev("team0")
	l.mustTeam(teamOf("nic1", "nic2"))
	l.mustAdd(wanOn("team0"))
	if diff := cmp.Diff(whole, l.kernel.String()); diff != "" {
		t.Errorf("it is not as it was (-want +got):\n%s", diff)
	}
	l.kernel.RemoveNetdev("team0")
	l.mustAdd(wanOn("team0"))
	if diff := cmp.Diff(whole, l.kernel.String()); diff != "" {
		t.Errorf("the switch did not bring its team back (-want +got):\n%s", diff)
	}
	_, err := l.AddTeam(ctx, teamOf("nic1"))
	wantKind(t, err, vswitch.Conflict)
}

func TestTeamWithoutAMember(t *testing.T) {
	l := teamLab(t)
	l.mustTeam(teamOf("nic1", "nic2"))
	l.mustAdd(wanOn("team0"))
	l.kernel.RemoveNetdev("nic1")
	got := l.mustTeam(teamOf("nic1", "nic2"))
	if got.State.Active != "nic2" || len(got.Degraded) != 1 {
		t.Errorf("without one of its members the team is %+v", got)
	}
	l.mustAdd(wanOn("team0"))
}

func TestTeamFailsOver(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	l.mustTeam(teamOf("nic1", "nic2"))
	l.kernel.SetCarrier("nic1", false)
	s, err := l.Team(ctx, "team0")
	if err != nil || s.State.Active != "nic2" || len(s.Degraded) != 1 {
		t.Errorf("after the loss it is %+v, %v", s, err)
	}
	l.kernel.SetCarrier("nic1", true)
	if s, _ = l.Team(ctx, "team0"); s.State.Active != "nic2" || len(s.Degraded) != 0 {
		t.Errorf("with the link back it is %+v", s)
	}
}

func TestTeamWithoutLACPPartner(t *testing.T) {
	l := teamLab(t)
	l.kernel.SetLACPPartner(vswitch.MAC{})
	team := teamOf("nic1", "nic2")
	team.Mode = vswitch.TeamLACP
	if s := l.mustTeam(team); len(s.Degraded) != 1 || !strings.Contains(s.Degraded[0], "no LACP partner answers") {
		t.Errorf("it is degraded by %q", s.Degraded)
	}
}

func TestForcedDeleteLeavesTheSwitchAMember(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	l.mustAdd(wanOn("nic1"))
	alone := l.kernel.String()
	if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan"}); err != nil {
		t.Fatal(err)
	}
	l.mustTeam(teamOf("nic1", "nic2"))
	l.mustAdd(wanOn("team0"))
	if err := l.DeleteTeam(ctx, "team0", true); err != nil {
		t.Fatal(err)
	}
	if s, err := l.Switch(ctx, "wan"); err != nil || s.Uplink != "nic1" {
		t.Errorf("the switch is %+v, %v", s, err)
	}
	l.wantSound()
	_ = alone
}

// TestTeamKilledBetweenSteps kills each verb before each step; the next process does
// the verb again, or takes everything away.
func TestTeamKilledBetweenSteps(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	none := func(*lab) {}
	pair := func(l *lab) { l.mustTeam(teamOf("nic1", "nic2")) }
	switched := func(l *lab) { pair(l); l.mustAdd(wanOn("team0")) }
	set := func(c engine.TeamChange) func(*lab) error {
		return func(l *lab) error { _, err := l.SetTeam(ctx, "team0", c); return err }
	}
	for name, c := range map[string]struct {
		prepare func(*lab)
		verb    func(*lab) error
	}{
		"add":          {none, func(l *lab) error { _, err := l.AddTeam(ctx, teamOf("nic1", "nic2")); return err }},
		"delete":       {pair, func(l *lab) error { return l.DeleteTeam(ctx, "team0", false) }},
		"members":      {switched, set(engine.TeamChange{Members: ptr([]string{"nic3", "nic2"})})},
		"mode":         {switched, set(engine.TeamChange{Mode: ptr(vswitch.TeamLACP)})},
		"force delete": {switched, func(l *lab) error { return l.DeleteTeam(ctx, "team0", true) }},
		"under switch": {pair, func(l *lab) error {
			_, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: wanOn("team0")})
			return err
		}},
		"from a switch": {switched, func(l *lab) error { return l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan"}) }},
	} {
		steps := stepsOfTeam(t, c.prepare, c.verb)
		for n := 1; n <= steps; n++ {
			for _, mishap := range []string{"killed, again", "killed, all away", "failed"} {
				t.Run(fmt.Sprintf("%s step %d %s", name, n, mishap), func(t *testing.T) {
					l := teamLab(t)
					pristine := l.kernel.String()
					c.prepare(l)
					before := l.kernel.String()
					if mishap == "failed" {
						l.kernel.FailAt(n, errors.New("no"))
						if c.verb(l) == nil {
							t.Fatal("it did not fail")
						}
						if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
							t.Errorf("it is not as it was (-want +got):\n%s", diff)
						}
						return
					}
					l.kernel.DieAt(n)
					if !dies(func() error { return c.verb(l) }) {
						t.Fatal("the process was not killed")
					}
					l.kernel.Revive()
					l.open()
					if mishap == "killed, again" {
						if err := c.verb(l); err != nil && !errors.Is(err, vswitch.NotFound) {
							t.Fatal(err)
						}
						l.wantSound()
					}
					l.allAway()
					l.wantClean(pristine)
				})
			}
		}
	}
}

func (l *lab) allAway() {
	l.t.Helper()
	for _, err := range []error{
		l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan", Force: true}),
		l.DeleteTeam(context.Background(), "team0", true),
	} {
		if err != nil && !errors.Is(err, vswitch.NotFound) {
			l.t.Fatal(err)
		}
	}
}

func stepsOfTeam(t *testing.T, prepare func(*lab), verb func(*lab) error) int {
	t.Helper()
	l := teamLab(t)
	prepare(l)
	before := l.kernel.Steps()
	if err := verb(l); err != nil {
		t.Fatal(err)
	}
	return l.kernel.Steps() - before
}

func TestExplainTeam(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	l.mustTeam(teamOf("nic1", "nic2"))
	x, err := l.Explain(ctx, engine.ExplainRequest{Name: "team0"})
	if err != nil || x.Object != "team team0" || len(x.Parts) != 1 {
		t.Fatalf("it is explained as %+v, %v", x, err)
	}
	all := strings.Join(x.Parts[0].Commands, "\n")
	for _, want := range []string{"type bond mode active-backup", "ip link set nic1 down", "ip link set nic2 master team0", "primary \"nic1\""} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
}

// A change that failed leaves the network knowing by which member guests are reached again.
func TestGuestsAreAnnouncedAfterARevert(t *testing.T) {
	heard := ""
	for n := 1; ; n++ {
		l := teamLab(t)
		l.mustTeam(teamOf("nic1", "nic2"))
		l.mustAdd(wanOn("team0"))
		guest := l.mustAttach(engine.AttachRequest{Owner: owner(0), Switch: "wan"}).Port
		l.kernel.FailAt(n, errBroken)
		_, err := l.SetTeam(context.Background(), "team0", engine.TeamChange{Members: &[]string{"nic2"}})
		l.kernel.FailAt(0, nil)
		if err == nil {
			break
		}
		heard = l.kernel.Heard(guest.MAC, 0)
	}
	if heard != "nic1" {
		t.Errorf("the guest was heard of by %q", heard)
	}
}
