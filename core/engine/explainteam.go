package engine

import (
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// explainTeam shows how a team is made of NICs that nobody else has, and which way a
// guest's frames take.
func explainTeam(r store.TeamRecord, switches []store.SwitchRecord, caps kernel.Capabilities) Explanation {
	whole := func(string) bool { return true }
	s := plan.State{Bonds: map[string]plan.Bond{r.Name: teamState(r, r.MTU, false, whole)}}
	silence(&s, r, whole)
	x := Explanation{
		Object: "team " + r.Name,
		Parts: []Part{{
			What: "bond " + r.Name, Commands: commands(s),
			Why: "The members as one netdev, with an address that stays when they change. " + teamWhy(r.Team),
		}},
		Paths: []PacketPath{{From: "a guest", To: "the outside", Via: []string{"the switch", "team " + r.Name, teamChoice(r.Team)}}},
	}
	for _, on := range switches {
		if on.Uplink == r.Name && on.Spread {
			rules := spreadState(r, on, s.Bonds[r.Name], caps)
			rules.Spreads[r.Name] = rules.Spreads[r.Name].With(r.Active()[0])
			x.Parts = append(x.Parts, Part{
				What: "rules at the members", Commands: commands(rules),
				Why: "The physical switches send what is for all by every member, and what the host has sent for all comes back. One member is designated to hear it; at the others it is dropped, and so is what comes from an address of the host's own.",
			})
		}
	}
	return x
}

func teamWhy(t vswitch.Team) string {
	switch t.Mode {
	case vswitch.TeamActiveActive:
		why := "By VLAN and source address each guest is on one member, so the physical switches see him in one place."
		if t.Standby != "" {
			why += fmt.Sprintf(" %s stands by outside, up and silent: patchbayd makes it a member when another one has no link, and takes it out when all have theirs.", t.Standby)
		}
		return why
	case vswitch.TeamStatic, vswitch.TeamLACP:
		return "The physical switch takes its ports for one; a flow, by its hash, is on one member."
	}
	return fmt.Sprintf("One member carries everything; if it fails, the first of %s that has a link takes over.", strings.Join(t.Preference(), ", "))
}

// teamChoice is which member a frame leaves by.
func teamChoice(t vswitch.Team) string {
	switch t.Mode {
	case vswitch.TeamActiveActive:
		return "the member of the guest's address: (the tag's VLAN id and priority xor the address's first half xor its second half) modulo the number of members with a link"
	case vswitch.TeamStatic, vswitch.TeamLACP:
		return "the member of the flow, by " + t.HashWords()
	}
	return "the active member"
}
