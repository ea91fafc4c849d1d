package engine

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Failover is a change of the members that carry a team's traffic.
type Failover struct {
	Time time.Time `json:"time"`
	From []string  `json:"from"` // the members that carried before
	To   []string  `json:"to"`   // those that do since
	Why  string    `json:"why"`
	// Announced is how many guests the network was told of, on another member.
	Announced int `json:"announced"`
}

// bearing is how a team was.
type bearing struct {
	plan.Carriage
	members []kernel.MemberState
	standby string
}

func (h *herald) failedOver(name string, was, now bearing, announced int) {
	f := Failover{Time: h.now(), From: was.carriers(), To: now.carriers(), Why: why(now.standby, was.members, now.members), Announced: announced}
	h.ledger.failedOver(name, f)
	h.offloadsChanged() // queues and SAs follow the member that carries
	h.log.Info("failover", "team", name, "from", strings.Join(f.From, ","), "to", strings.Join(f.To, ","), "why", f.Why, "announced", announced)
}

// carriage is what a failover is decided from.
func carriage(t vswitch.Team, state kernel.TeamState) plan.Carriage {
	c := plan.Carriage{Mode: t.Mode, Active: state.Active}
	for _, m := range state.Members {
		c.Members = append(c.Members, m.Name)
		if m.Link && (m.InUse || t.Mode != vswitch.TeamLACP) {
			c.Up = append(c.Up, m.Name)
		}
	}
	return c
}

// carriers are the members that carry traffic.
func (b bearing) carriers() []string {
	switch {
	case b.Mode != vswitch.TeamActiveStandby:
		return append([]string{}, b.Up...)
	case b.Active == "":
		return []string{}
	}
	return []string{b.Active}
}

// why says in words what has happened to members: of losses first, since the rest
// follows from those, but for what the standby does.
func why(standby string, was, now []kernel.MemberState) string {
	var lost, found, chosen, relief []string
	for _, m := range was {
		at := slices.IndexFunc(now, func(n kernel.MemberState) bool { return n.Name == m.Name })
		switch {
		case at < 0 && m.Name == standby:
			relief = append(relief, "standby "+m.Name+" stands by again")
		case at < 0:
			lost = append(lost, m.Name+" left the team")
		case m.Link && !now[at].Up:
			lost = append(lost, m.Name+" was taken down")
		case m.Link && !now[at].Link:
			lost = append(lost, m.Name+" lost its link")
		case m.InUse && !now[at].InUse:
			chosen = append(chosen, m.Name+" is not in use any more")
		case !m.Link && now[at].Link && m.Name == standby: // it joins before its link is there again
			relief = append(relief, tookOver(standby, now))
		case !m.Link && now[at].Link:
			found = append(found, m.Name+" has its link back")
		case !m.InUse && now[at].InUse:
			chosen = append(chosen, m.Name+" was chosen")
		}
	}
	for _, n := range now {
		switch {
		case slices.ContainsFunc(was, func(m kernel.MemberState) bool { return n.Name == m.Name }):
		case n.Name == standby:
			relief = append(relief, tookOver(standby, now))
		default:
			found = append(found, n.Name+" joined the team")
		}
	}
	var words []string
	for _, first := range [][]string{lost, found, chosen} {
		if len(words) == 0 {
			words = first
		}
	}
	return cmp.Or(strings.Join(append(words, relief...), ", "), "its definition was changed")
}

func tookOver(standby string, now []kernel.MemberState) string {
	words := "standby " + standby + " took over"
	for _, m := range now {
		if !m.Link && m.Name != standby {
			words += " for " + m.Name
		}
	}
	return words
}
