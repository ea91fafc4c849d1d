package engine

import (
	"fmt"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// explainTeam shows how a team is made of NICs that nobody else has, and which way a
// guest's frames take.
func explainTeam(r store.TeamRecord) Explanation {
	bond := teamState(r, r.MTU, func(string) bool { return true })
	return Explanation{
		Object: "team " + r.Name,
		Parts: []Part{{
			What: "bond " + r.Name, Commands: commands(plan.State{Bonds: map[string]plan.Bond{r.Name: bond}}),
			Why: "The members as one netdev, with an address that stays when they change. " + teamWhy(r.Team),
		}},
		Paths: []PacketPath{{From: "a guest", To: "the outside", Via: []string{"the switch", "team " + r.Name, teamChoice(r.Team)}}},
	}
}

func teamWhy(t vswitch.Team) string {
	switch t.Mode {
	case vswitch.TeamActiveActive:
		return "By VLAN and source address each guest is on one member, so the physical switches see him in one place."
	case vswitch.TeamStatic, vswitch.TeamLACP:
		return "The physical switch takes its ports for one; a flow, by its hash, is on one member."
	}
	return fmt.Sprintf("One member carries everything; if it fails, the first of %v that has a link takes over.", t.Preference())
}

// teamChoice is which member a frame leaves by.
func teamChoice(t vswitch.Team) string {
	switch t.Mode {
	case vswitch.TeamActiveActive:
		return "the member of the guest's address: (VLAN id xor the address's first half xor its second half) modulo the number of members with a link"
	case vswitch.TeamStatic, vswitch.TeamLACP:
		return fmt.Sprintf("the member of the flow, by %s", t.Normalized().Hash)
	}
	return "the active member"
}
