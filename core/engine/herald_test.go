package engine_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// guestsOn attaches guests to wan, the third in VLAN 7, and returns their addresses.
func (l *lab) guestsOn() (macs []vswitch.MAC) {
	l.t.Helper()
	for i := range 3 {
		req := engine.AttachRequest{Owner: owner(i), Switch: "wan"}
		if i == 2 {
			vlan := vswitch.AccessVLAN(7)
			req.VLAN = &vlan
		}
		macs = append(macs, l.mustAttach(req).Port.MAC)
	}
	return macs
}

// heardBy lists by which netdev the network outside has heard of each guest.
func (l *lab) heardBy(macs []vswitch.MAC) (netdevs []string) {
	for i, mac := range macs {
		netdevs = append(netdevs, l.kernel.Heard(mac, map[int]int{2: 7}[i]))
	}
	return netdevs
}

// TestFailoverAnnounced loses a member and gets it back: the network hears of every guest
// by the member that carries him, in his VLAN, and of none by a group of ports.
func TestFailoverAnnounced(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		team       vswitch.Team
		lost, back string // what carries the guests then; "" where they are not announced
	}{
		{vswitch.Team{Mode: vswitch.TeamActiveStandby}, "nic2", "nic2"},
		{vswitch.Team{Mode: vswitch.TeamActiveStandby, Reselect: vswitch.ReselectAlways}, "nic2", "nic1"},
		{vswitch.Team{Mode: vswitch.TeamActiveActive}, "nic2", "hash"},
		{vswitch.Team{Mode: vswitch.TeamStatic}, "", ""},
	} {
		t.Run(fmt.Sprint(c.team.Mode, " ", c.team.Reselect), func(t *testing.T) {
			l := teamLab(t)
			c.team.Name, c.team.Members = "team0", []string{"nic1", "nic2"}
			l.mustTeam(c.team)
			l.mustAdd(wanOn("team0"))
			macs := l.guestsOn()
			k := l.keep()
			for _, at := range []struct {
				link bool
				want string
				why  string
			}{{false, c.lost, "nic1 lost its link"}, {true, c.back, "nic1 has its link back"}} {
				before, _ := k.logged()
				carriersChange := c.team.Mode != vswitch.TeamActiveStandby || !at.link || c.team.Reselect == vswitch.ReselectAlways
				l.kernel.SetCarrier("nic1", at.link)
				if !carriersChange {
					continue
				}
				k.await(before, "failover", "team=team0", at.why)
				var want []string
				for i, mac := range macs {
					home := at.want
					if home == "hash" {
						home = []string{"nic1", "nic2"}[hashOf(mac, map[int]int{2: 7}[i])%2]
					}
					want = append(want, home)
				}
				if c.team.Mode != vswitch.TeamActiveActive || !at.link {
					if diff := cmp.Diff(want, l.heardBy(macs)); diff != "" {
						t.Errorf("link of nic1 %v: heard otherwise (-want +got):\n%s", at.link, diff)
					}
				} else if got := l.heardBy(macs); !slices.Equal(want, got) {
					t.Errorf("heard by %v, they are on %v", got, want)
				}
			}
			s, err := l.Team(ctx, "team0")
			if err != nil || s.LastFailover == nil || !strings.Contains(s.LastFailover.Why, "nic1") {
				t.Errorf("the last failover is %+v, %v", s.LastFailover, err)
			}
		})
	}
}

// hashOf is what bonding computes for vlan+srcmac.
func hashOf(mac vswitch.MAC, vlan int) int {
	return vlan ^ (int(mac[0])<<16 | int(mac[1])<<8 | int(mac[2])) ^ (int(mac[3])<<16 | int(mac[4])<<8 | int(mac[5]))
}

// TestUplinkChangeAnnounced gives a switch another uplink: its guests are announced there
// by the verb, also where no patchbayd runs.
func TestUplinkChangeAnnounced(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	l.mustTeam(teamOf("nic2", "nic3"))
	l.mustAdd(wanOn("nic1"))
	macs := l.guestsOn()
	for _, c := range []struct{ uplink, member string }{{"team0", "nic2"}, {"nic1", "nic1"}} {
		if _, err := l.SetSwitch(ctx, "wan", engine.SwitchChange{Uplink: &c.uplink, Yes: true}); err != nil {
			t.Fatal(err)
		}
		want := []string{c.member, c.member, c.member}
		if diff := cmp.Diff(want, l.heardBy(macs)); diff != "" {
			t.Errorf("uplink %s: heard otherwise (-want +got):\n%s", c.uplink, diff)
		}
	}
}

// TestAnnouncementsOff is what a host without patchbayd is told, and one with it is not.
func TestAnnouncementsOff(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	l.mustTeam(teamOf("nic1", "nic2"))
	l.mustAdd(wanOn("team0"))
	says := func() (status, doctor bool) {
		s, err := l.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		d, err := l.Doctor(ctx, engine.DoctorRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(s.Problems, func(p engine.Problem) bool { return strings.Contains(p.Message, "nobody announces") }),
			slices.ContainsFunc(d.Findings, func(f engine.Finding) bool { return f.Check == "announcements" })
	}
	if status, doctor := says(); !status || !doctor {
		t.Errorf("without patchbayd it is said by status: %v, by doctor: %v", status, doctor)
	}
	l.keep()
	if status, doctor := says(); status || doctor {
		t.Errorf("with patchbayd it is said by status: %v, by doctor: %v", status, doctor)
	}
}

// TestResidentLeavesADeletedTeamAlone deletes a team while the resident engine looks at
// what the verb does to it: it does not come back.
func TestResidentLeavesADeletedTeamAlone(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	k := l.keep()
	for range 5 {
		l.mustTeam(teamOf("nic1", "nic2"))
		if err := l.DeleteTeam(ctx, "team0", false); err != nil {
			t.Fatal(err)
		}
	}
	// A team that is harmed later is repaired after what was noted before.
	l.mustTeam(vswitch.Team{Name: "team1", Members: []string{"nic3"}})
	before, _ := k.logged()
	k.kernel.SetNetdevDown("", "team1")
	k.await(before, "team=team1", "was down")
	if text, _ := k.logged(); strings.Contains(text, "repaired team=team0") {
		t.Errorf("a deleted team was repaired:\n%s", text)
	}
	if teams, err := l.Teams(ctx); err != nil || len(teams) != 1 {
		t.Errorf("the teams are %v, %v", teams, err)
	}
}
