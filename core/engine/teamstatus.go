package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TeamStatus is a team with what the engine knows of it.
type TeamStatus struct {
	vswitch.Team
	MAC vswitch.MAC `json:"mac"`
	// Switch is the switch whose uplink the team is, or "".
	Switch string `json:"switch,omitempty"`
	// State is how the team is in the kernel; nil while it is not there.
	State *kernel.TeamState `json:"state,omitempty"`
	// StandsIn says why the standby is among those who carry; "" while it stands by.
	StandsIn string `json:"standsIn,omitempty"`
	// LastFailover is the last change of the members that carry traffic since patchbayd
	// runs.
	LastFailover *Failover `json:"lastFailover,omitempty"`
	// Degraded says in words what keeps the team from being whole.
	Degraded []string `json:"degraded,omitempty"`
	// Warnings are what the user should know of what the verb has done.
	Warnings []string `json:"warnings,omitempty"`
}

// Team returns one team, or vswitch.NotFound. PowerShell twin: Get-NetLbfoTeam.
func (e *Engine) Team(ctx context.Context, name string) (TeamStatus, error) {
	r, err := e.teamRecord(name)
	if err != nil {
		return TeamStatus{}, fault("team show", "team "+name, err)
	}
	return e.teamStatus(ctx, r)
}

// Teams returns all teams by name. PowerShell twin: Get-NetLbfoTeam.
func (e *Engine) Teams(ctx context.Context) ([]TeamStatus, error) {
	all := []TeamStatus{}
	records, err := e.teamRecords()
	for _, r := range records {
		s, err := e.teamStatus(ctx, r)
		if err != nil {
			return all, fault("team list", "", err)
		}
		all = append(all, s)
	}
	return all, fault("team list", "", err)
}

func (e *Engine) teamStatus(ctx context.Context, r store.TeamRecord) (TeamStatus, error) {
	s := TeamStatus{Team: r.Team, MAC: r.MAC, LastFailover: e.resident.Load().failover(r.Name)}
	var err error
	if s.Switch, err = e.switchOn(r.Name); err != nil {
		return s, err
	}
	state, err := e.kernel.Team(ctx, r.Name)
	if errors.Is(err, vswitch.NotFound) {
		s.Degraded = []string{"its netdev is not there"}
		return s, nil
	}
	s.State = &state
	if err != nil {
		return s, err
	}
	s.Degraded = degraded(r.Team, state)
	standby, err := e.judgeStandby(ctx, &s)
	s.Degraded = append(s.Degraded, standby...)
	return s, err
}

// degraded says in words what a team lacks.
func degraded(t vswitch.Team, state kernel.TeamState) (reasons []string) {
	inUse := 0
	for _, m := range t.Members {
		at := slices.IndexFunc(state.Members, func(s kernel.MemberState) bool { return s.Name == m })
		switch {
		case at < 0 && m == t.Standby:
		case at < 0:
			reasons = append(reasons, fmt.Sprintf("member %s is not in it", m))
		case !state.Members[at].Link:
			reasons = append(reasons, fmt.Sprintf("member %s has no link", m))
		case state.Members[at].InUse:
			inUse++
		case t.Mode == vswitch.TeamLACP && !state.Partner.IsZero():
			reasons = append(reasons, fmt.Sprintf("the partner has member %s not in the group", m))
		}
	}
	if t.Mode == vswitch.TeamLACP && state.Partner.IsZero() {
		reasons = append(reasons, "no LACP partner answers: at most one member carries traffic; switch LACP on for these ports of the physical switch")
	}
	if t.Mode == vswitch.TeamLACP && inUse < t.MinLinks {
		reasons = append(reasons, fmt.Sprintf("%d of at least %d members are in use: the team has no link", inUse, t.MinLinks))
	}
	return reasons
}
