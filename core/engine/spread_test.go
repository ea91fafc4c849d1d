package engine_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func activeActive(members ...string) vswitch.Team {
	t := teamOf(members...)
	t.Mode = vswitch.TeamActiveActive
	return t
}

// spreadLab is a switch on an active/active team with guests: untagged, in VLAN 10, and a
// trunk of VLANs 20 and 21 with the native one 5.
func spreadLab(t *testing.T) (l *lab, guests []engine.Attachment) {
	t.Helper()
	l = teamLab(t)
	l.mustTeam(activeActive("nic1", "nic2"))
	l.mustAdd(wanOn("team0"))
	for i, vlan := range []string{"", "access 10", "trunk 20-21 native 5"} {
		req := inVLAN(t, i, vlan)
		req.Switch = "wan"
		guests = append(guests, l.mustAttach(req))
	}
	return l, guests
}

func (l *lab) wantKernel(lines ...string) {
	l.t.Helper()
	got := l.kernel.String()
	for _, want := range lines {
		if !strings.Contains(got, want) {
			l.t.Errorf("no %q in:\n%s", want, got)
		}
	}
}

func (l *lab) wantNoKernel(lines ...string) {
	l.t.Helper()
	got := l.kernel.String()
	for _, unwanted := range lines {
		if strings.Contains(got, unwanted) {
			l.t.Errorf("%q in:\n%s", unwanted, got)
		}
	}
}

func own(set string, mac vswitch.MAC, vlan string) string {
	return fmt.Sprintf("%s { %s%s }", set, mac, vlan)
}

func TestSpreadFollowsItsSwitch(t *testing.T) {
	ctx := context.Background()
	l, guests := spreadLab(t)
	l.wantSound()
	status, err := l.Switch(ctx, "wan")
	must(t, err)
	l.wantKernel("nft table patchbay-team0\n  at nic1 nic2, reports from ", "designated nic1\n  mute { nic2 }",
		own("own", guests[0].Port.MAC, ""), own("own_vlan", guests[1].Port.MAC, " . 10"),
		own("own_vlan", guests[2].Port.MAC, " . 5"), own("own_vlan", guests[2].Port.MAC, " . 20"), own("own_vlan", guests[2].Port.MAC, " . 21"),
		own("own_any", vswitch.MAC{0x52, 0x54, 0, 0, 0, 2}, ""))
	_ = status
	// A port that changes its VLAN, and one that goes.
	_, err = l.SetPort(ctx, guests[1].Port.ID, engine.PortChange{VLAN: ptr(vswitch.AccessVLAN(11))})
	must(t, err)
	l.wantKernel(own("own_vlan", guests[1].Port.MAC, " . 11"))
	l.wantNoKernel(own("own_vlan", guests[1].Port.MAC, " . 10"))
	must(t, l.Detach(ctx, guests[0].Port.Owner))
	l.wantNoKernel(guests[0].Port.MAC.String())
	l.wantSound()
	// Another member, and one that leaves.
	_, err = l.SetTeam(ctx, "team0", engine.TeamChange{Members: ptr([]string{"nic2", "nic3"})})
	must(t, err)
	l.wantKernel("at nic2 nic3", "designated nic2\n  mute { nic3 }", own("own_vlan", guests[1].Port.MAC, " . 11"))
	l.wantSound()
	// Other modes need none of it.
	for _, mode := range []vswitch.TeamMode{vswitch.TeamActiveStandby, vswitch.TeamActiveActive, vswitch.TeamLACP, vswitch.TeamActiveActive} {
		_, err = l.SetTeam(ctx, "team0", engine.TeamChange{Mode: ptr(mode)})
		must(t, err)
		if mode == vswitch.TeamActiveActive {
			l.wantKernel("at nic2 nic3", own("own_vlan", guests[1].Port.MAC, " . 11"), own("own_vlan", guests[2].Port.MAC, " . 5"))
		} else {
			l.wantNoKernel("patchbay-team0")
		}
		l.wantSound()
	}
	// Another uplink.
	_, err = l.SetSwitch(ctx, "wan", engine.SwitchChange{Uplink: ptr("nic1")})
	must(t, err)
	l.wantNoKernel("patchbay-team0")
	l.wantSound()
	_, err = l.SetSwitch(ctx, "wan", engine.SwitchChange{Uplink: ptr("team0")})
	must(t, err)
	l.wantKernel("at nic2 nic3", own("own_vlan", guests[1].Port.MAC, " . 11"))
	must(t, l.DeleteTeam(ctx, "team0", true))
	l.wantNoKernel("patchbay-team0")
	l.wantSound()
}

// What somebody takes out of the table is seen, and comes back.
func TestSpreadIsRepaired(t *testing.T) {
	ctx := context.Background()
	for _, set := range []string{"", "mute", "designated", "own", "own_vlan", "own_any"} {
		t.Run("set "+set, func(t *testing.T) {
			l, _ := spreadLab(t)
			want := l.kernel.String()
			l.kernel.FlushSpread("team0", set)
			s, err := l.Status(ctx)
			must(t, err)
			if !slices.ContainsFunc(s.Problems, func(p engine.Problem) bool { return p.Kind == vswitch.Drifted }) {
				t.Errorf("status: %+v", s.Problems)
			}
			l.mustAdd(wanOn("team0"))
			if got := l.kernel.String(); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			l.wantSound()
		})
	}
	t.Run("somebody else's address", func(t *testing.T) {
		l, _ := spreadLab(t)
		stray := plan.Own{Team: "team0", MAC: vswitch.MAC{2, 9, 9, 9, 9, 9}}
		must(t, l.kernel.Apply(ctx, []plan.Step{plan.SetRules{Add: plan.Rules{Own: map[plan.Own]bool{stray: true}}}}))
		l.mustAdd(wanOn("team0"))
		l.wantNoKernel(stray.MAC.String())
	})
	t.Run("attach without a table", func(t *testing.T) {
		l, guests := spreadLab(t)
		l.kernel.FlushSpread("team0", "")
		a := l.mustAttach(engine.AttachRequest{Owner: owner(5), Switch: "wan"})
		l.wantKernel(own("own", a.Port.MAC, ""), own("own", guests[0].Port.MAC, ""))
		l.wantSound()
	})
	t.Run("detach without a table", func(t *testing.T) {
		l, guests := spreadLab(t)
		l.kernel.FlushSpread("team0", "")
		must(t, l.Detach(ctx, guests[0].Port.Owner))
	})
}

// The next member that has a link hears what is for all, and goes on doing so.
func TestDesignatedMemberFailsOver(t *testing.T) {
	l, _ := spreadLab(t)
	for _, c := range []struct {
		nic  string
		link bool
		want string
	}{
		{"nic1", false, "designated nic2\n  mute { nic1 }"},
		{"nic1", true, "designated nic2\n  mute { nic1 }"},
		{"nic2", false, "designated nic1\n  mute { nic2 }"},
		{"nic1", false, "designated nic1\n  mute { nic2 }"},
		{"nic2", true, "designated nic2\n  mute { nic1 }"},
		{"nic1", true, "designated nic2\n  mute { nic1 }"},
	} {
		l.kernel.SetCarrier(c.nic, c.link)
		l.mustAdd(wanOn("team0"))
		l.wantKernel(c.want)
	}
	l.wantSound()
}

// Where a frame would be heard twice there is no team, and the reason is told.
func TestSpreadNeedsItsRules(t *testing.T) {
	ctx := context.Background()
	caps := allCapabilities()
	caps.MemberRules = false
	l := newLabWith(t, caps)
	_, err := l.AddTeam(ctx, activeActive("nic1"))
	wantKind(t, err, vswitch.CapabilityMissing)
	if !strings.Contains(err.Error(), "CONFIG_NF_TABLES_NETDEV") || !strings.Contains(vswitch.HintOf(err), "active-standby") {
		t.Errorf("%v; %s", err, vswitch.HintOf(err))
	}
	l.mustTeam(teamOf("nic1"))
	_, err = l.SetTeam(ctx, "team0", engine.TeamChange{Mode: ptr(vswitch.TeamActiveActive)})
	wantKind(t, err, vswitch.CapabilityMissing)
	l.kernel.SetCapabilities(allCapabilities()) // the module is loaded
	_, err = l.SetTeam(ctx, "team0", engine.TeamChange{Mode: ptr(vswitch.TeamActiveActive)})
	must(t, err)
}

// undesignated leaves out which member is designated: another one may be so after a
// change that was undone.
func undesignated(drawn string) string {
	return regexp.MustCompile(`(?m)^  (designated|mute) .*\n`).ReplaceAllString(drawn, "")
}

// Whatever step a verb fails at, or is killed at, all is as it was or as it shall be.
func TestSpreadSurvivesFailuresAndKills(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	verbs := map[string]func(l *lab) error{
		"mode": func(l *lab) error {
			_, err := l.SetTeam(ctx, "team0", engine.TeamChange{Mode: ptr(vswitch.TeamActiveStandby)})
			return err
		},
		"members": func(l *lab) error {
			_, err := l.SetTeam(ctx, "team0", engine.TeamChange{Members: ptr([]string{"nic2", "nic3"})})
			return err
		},
		"standby": func(l *lab) error {
			_, err := l.SetTeam(ctx, "team0", engine.TeamChange{Members: ptr([]string{"nic1", "nic2", "nic3"}), Standby: ptr("nic3")})
			return err
		},
		"a member stands by": func(l *lab) error {
			_, err := l.SetTeam(ctx, "team0", engine.TeamChange{Members: ptr([]string{"nic1", "nic2", "nic3"}), Standby: ptr("nic2")})
			return err
		},
		"uplink": func(l *lab) error {
			_, err := l.SetSwitch(ctx, "wan", engine.SwitchChange{Uplink: ptr("nic3")})
			return err
		},
		"attach": func(l *lab) error {
			_, err := l.Attach(ctx, engine.AttachRequest{Owner: owner(5), Switch: "wan"})
			return err
		},
		"detach": func(l *lab) error { return l.Detach(ctx, owner(0)) },
		"repair": func(l *lab) error {
			l.kernel.FlushSpread("team0", "")
			_, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: wanOn("team0")})
			return err
		},
	}
	for name, verb := range verbs {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				l, _ := spreadLab(t)
				before := undesignated(l.kernel.String())
				l.kernel.FailAt(n, errors.New("broken"))
				err := verb(l)
				if n > 1 && err == nil {
					l.kernel.FailAt(0, nil)
				}
				if err != nil && name != "detach" && name != "repair" && undesignated(l.kernel.String()) != before {
					t.Errorf("failed at step %d and not undone:\n%s\nwant\n%s", n, l.kernel, before)
				}
				if err != nil && name != "repair" && name != "detach" {
					l.wantSound()
				}
				l.kernel.FailAt(0, nil)
				killed, _ := spreadLab(t)
				killed.kernel.DieAt(n)
				dies(func() error { return verb(killed) })
				killed.kernel.Revive()
				killed.open()
				must(t, verb(killed))
				killed.wantSound()
				if err == nil {
					if n < 2 {
						t.Error("no step was taken")
					}
					return
				}
			}
		})
	}
}

// patchbayd lets another member hear what is for all, each time, and puts back what
// somebody takes out of the table.
func TestDesignatedMemberIsKept(t *testing.T) {
	l, _ := spreadLab(t)
	k := l.keep()
	defer k.stop()
	want := l.kernel.String()
	for range 3 {
		before, _ := k.logged()
		l.kernel.SetCarrier("nic1", false)
		k.await(before, "hears what is for all", "to=nic2")
		l.wantKernel("designated nic2\n  mute { nic1 }")
		before, _ = k.logged()
		l.kernel.SetCarrier("nic1", true)
		l.kernel.SetCarrier("nic2", false)
		k.await(before, "hears what is for all", "to=nic1")
		l.wantKernel("designated nic1\n  mute { nic2 }")
		l.kernel.SetCarrier("nic2", true)
	}
	for _, set := range []string{"", "mute", "own_vlan"} {
		before, _ := k.logged()
		l.kernel.FlushSpread("team0", set)
		k.await(before, "repaired")
		if got := l.kernel.String(); got != want {
			t.Errorf("set %q: got\n%s\nwant\n%s", set, got, want)
		}
	}
}

// Of all modes and hashes that bonding has and Patchbay has words for, those that are
// accepted keep a flow on one member, and each of the others is refused with a reason.
func TestNothingReorders(t *testing.T) {
	ctx := context.Background()
	safe := []string{
		"mode active-backup ", "mode balance-xor miimon 100 xmit_hash_policy vlan+srcmac ",
		"mode balance-xor miimon 100 xmit_hash_policy layer2 ", "mode balance-xor miimon 100 xmit_hash_policy layer2+3 ",
		"mode balance-xor miimon 100 xmit_hash_policy layer3+4 ", "mode 802.3ad ",
	}
	modes := []string{
		"", "active-standby", "active-active", "static", "lacp",
		"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb", "0", "5",
	}
	hashes := []string{
		"", "transport-ports", "ip-addresses", "mac-addresses",
		"layer2", "layer2+3", "layer3+4", "encap2+3", "encap3+4", "vlan+srcmac", "dynamic",
	}
	accepted := 0
	for _, mode := range modes {
		for _, hash := range hashes {
			l := teamLab(t)
			team := teamOf("nic1", "nic2")
			team.Mode, team.Hash = vswitch.TeamMode(mode), vswitch.TeamHash(hash)
			_, err := l.AddTeam(ctx, team)
			if err == nil {
				accepted++
				if drawn := l.kernel.String(); !slices.ContainsFunc(safe, func(words string) bool { return strings.Contains(drawn, words) }) {
					t.Errorf("mode %q hash %q is accepted as\n%s", mode, hash, drawn)
				}
				continue
			}
			kind := vswitch.KindOf(err)
			reason := strings.Contains(err.Error(), "mode") || strings.Contains(err.Error(), "hash")
			if kind != vswitch.TeamOption && kind != vswitch.Invalid || !reason || strings.Contains(l.kernel.String(), "team0") {
				t.Errorf("mode %q hash %q: %s: %v", mode, hash, kind, err)
			}
		}
	}
	if want := 3 + 2*4; accepted != want { // standby twice, active-active once, two groups with four hashes
		t.Errorf("%d are accepted, want %d", accepted, want)
	}
}
