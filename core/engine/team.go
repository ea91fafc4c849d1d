package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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
	// LastFailover is the last change of the members that carry traffic since patchbayd
	// runs.
	LastFailover *Failover `json:"lastFailover,omitempty"`
	// Degraded says in words what keeps the team from being whole.
	Degraded []string `json:"degraded,omitempty"`
	// Warnings are what the user should know of what the verb has done.
	Warnings []string `json:"warnings,omitempty"`
}

// TeamChange is what `team set` changes; nil fields stay as they are.
type TeamChange struct {
	Mode      *vswitch.TeamMode `json:"mode,omitempty"`
	Members   *[]string         `json:"members,omitempty"`
	Primary   *string           `json:"primary,omitempty"`
	Reselect  *vswitch.Reselect `json:"reselect,omitempty"`
	Standby   *string           `json:"standby,omitempty"`
	Hash      *vswitch.TeamHash `json:"hash,omitempty"`
	MinLinks  *int              `json:"minLinks,omitempty"`
	LACPRate  *vswitch.LACPRate `json:"lacpRate,omitempty"`
	Monitor   *int              `json:"monitor,omitempty"`
	UpDelay   *int              `json:"upDelay,omitempty"`
	DownDelay *int              `json:"downDelay,omitempty"`
	Notes     *string           `json:"notes,omitempty"`
}

// apply returns the definition with the changes made. Options that another mode does
// not have go with the old one, unless the change names them.
func (c TeamChange) apply(t vswitch.Team) vswitch.Team {
	if c.Mode != nil && *c.Mode != t.Mode {
		t.Mode, t.Primary, t.Reselect, t.Standby = *c.Mode, "", "", ""
		t.MinLinks, t.LACPRate = 0, ""
		if !t.Mode.Grouped() {
			t.Hash = ""
		}
	}
	if c.Members != nil {
		t.Members = slices.Clone(*c.Members)
		if c.Primary == nil && t.Mode == vswitch.TeamActiveStandby && !slices.Contains(t.Members, t.Primary) {
			t.Primary = ""
		}
		if c.Standby == nil && !slices.Contains(t.Members, t.Standby) {
			t.Standby = ""
		}
	}
	set(&t.Primary, c.Primary)
	set(&t.Reselect, c.Reselect)
	set(&t.Standby, c.Standby)
	set(&t.Hash, c.Hash)
	set(&t.MinLinks, c.MinLinks)
	set(&t.LACPRate, c.LACPRate)
	set(&t.Monitor, c.Monitor)
	set(&t.UpDelay, c.UpDelay)
	set(&t.DownDelay, c.DownDelay)
	set(&t.Notes, c.Notes)
	return t
}

func set[T any](field *T, to *T) {
	if to != nil {
		*field = *to
	}
}

// AddTeam makes a team. One that exists and is defined in the same way is brought to
// what it should be and returned; one that differs is a Conflict. What the host has on
// a member moves to the port of the switch on the team, or to the team.
// PowerShell twin: New-NetLbfoTeam.
func (e *Engine) AddTeam(ctx context.Context, t vswitch.Team) (TeamStatus, error) {
	object := "team " + t.Name
	status, err := e.withTeams(ctx, t.Name, func() (TeamStatus, error) {
		if err := t.Validate(); err != nil {
			return TeamStatus{}, err
		}
		existing, err := e.teamRecord(t.Name)
		if err == nil {
			return e.readdTeam(ctx, t, existing)
		}
		if !errors.Is(err, vswitch.NotFound) {
			return TeamStatus{}, err
		}
		record, warnings, err := e.newTeam(ctx, t, memberCheck{})
		if err != nil {
			return TeamStatus{}, err
		}
		return e.changeTeam(ctx, teamChange{new: &record}, warnings)
	})
	return status, fault("team add", object, err)
}

// withTeams runs a verb with the locks of all switches and of those on the team.
func (e *Engine) withTeams(_ context.Context, name string, do func() (TeamStatus, error)) (TeamStatus, error) {
	for {
		before, err := e.standing(name)
		if err != nil {
			return TeamStatus{}, err
		}
		unlock, err := e.lockSwitches(before.names()...)
		if err != nil {
			return TeamStatus{}, err
		}
		now, err := e.standing(name)
		if err != nil || slices.Equal(now.names(), before.names()) {
			defer unlock()
			if err != nil {
				return TeamStatus{}, err
			}
			return do()
		}
		unlock() // somebody gave the team to another switch meanwhile
	}
}

// standing are the switches on a team: whose uplink it is, and those that a process was
// killed in taking from it.
type standing struct{ on, leaving []store.SwitchRecord }

func (s standing) names() (names []string) {
	for _, r := range append(slices.Clone(s.on), s.leaving...) {
		names = append(names, r.Name)
	}
	return names
}

func (e *Engine) standing(team string) (s standing, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		records, err := tx.Switches()
		if err != nil {
			return err
		}
		for _, r := range records {
			was, found, err := tx.Realised(r.Name)
			if err != nil {
				return err
			}
			switch {
			case r.Uplink == team:
				s.on = append(s.on, r)
			case found && was.Changing && was.Uplink == team:
				s.leaving = append(s.leaving, r)
			}
		}
		return nil
	})
	return s, err
}

// switchOn is the switch whose uplink a team is, or "".
func (e *Engine) switchOn(team string) (string, error) {
	s, err := e.standing(team)
	if err != nil || len(s.on) == 0 {
		return "", err
	}
	return s.on[0].Name, nil
}

func (e *Engine) teamRecord(name string) (r store.TeamRecord, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		r, err = tx.Team(name)
		return err
	})
	return r, err
}

func (e *Engine) teamRecords() (all []store.TeamRecord, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		all, err = tx.Teams()
		return err
	})
	return all, err
}

// readdTeam repairs a team that is defined already.
func (e *Engine) readdTeam(ctx context.Context, t vswitch.Team, r store.TeamRecord) (TeamStatus, error) {
	if fields := teamFields(r.Team, t.Normalized()); len(fields) > 0 {
		return TeamStatus{}, &vswitch.Error{
			Kind: vswitch.Conflict, Err: fmt.Errorf("it exists with another %s: %s instead of %s", fields[0].Field, orNone(fields[0].Old), orNone(fields[0].New)),
			Hint: fmt.Sprintf("run `patchbay team set %s` to change it", t.Name),
		}
	}
	return e.changeTeam(ctx, teamChange{new: &r}, nil)
}

// newTeam measures a definition against the host and completes the record: see
// completeTeam.
func (e *Engine) newTeam(ctx context.Context, t vswitch.Team, c memberCheck) (store.TeamRecord, []string, error) {
	r := store.TeamRecord{Team: t.Normalized(), Created: e.now()}
	if err := feasible(t); err != nil {
		return r, nil, err
	}
	if err := errors.Join(e.canBond(ctx), e.canSpread(ctx, t)); err != nil {
		return r, nil, err
	}
	if err := e.teamNameFree(ctx, t.Name); err != nil {
		return r, nil, err
	}
	warnings, err := e.completeTeam(ctx, &r, nil, c)
	return r, warnings, err
}

// feasible refuses what this version can define and not carry out.
func feasible(t vswitch.Team) error {
	if t.Standby == "" {
		return nil
	}
	return &vswitch.Error{
		Kind: vswitch.CapabilityMissing, Err: errors.New("a standby beside several active members is not in this version of Patchbay"),
		Hint: "leave the standby out, or use mode active-standby",
	}
}

// canBond fails with vswitch.CapabilityMissing where the kernel has no bonding. It may
// have been loaded since the kernel was looked at.
func (e *Engine) canBond(ctx context.Context) error {
	caps, err := e.capabilities(ctx)
	if err == nil && !caps.Bonding {
		caps, err = e.probe(ctx)
	}
	if err == nil && !caps.Bonding {
		return missing("teams of NICs", "CONFIG_BONDING", "name one NIC as the uplink, or use a kernel that has it")
	}
	return err
}

func (e *Engine) teamNameFree(ctx context.Context, name string) error {
	n, err := e.kernel.Netdev(ctx, name)
	if errors.Is(err, vswitch.NotFound) || err == nil && isTeam(n) {
		return nil
	}
	if err != nil {
		return err
	}
	return &vswitch.Error{
		Kind: vswitch.AlreadyExists, Err: fmt.Errorf("there is a netdev %s already, and it is somebody else's", n.Name),
		Hint: "choose another name for the team; it becomes that of its netdev",
	}
}

// changeTeam carries a change out and tells what became of it.
func (e *Engine) changeTeam(ctx context.Context, c teamChange, warnings []string) (TeamStatus, error) {
	caps, err := e.capabilities(ctx)
	if err != nil {
		return TeamStatus{}, err
	}
	t := &transaction{caps: caps, teams: []teamChange{c}}
	if err := e.takeAlong(t, *c.new); err != nil {
		return TeamStatus{}, err
	}
	if err := e.foreseeing(c).carryOut(ctx, t); err != nil {
		return TeamStatus{}, err
	}
	status, err := e.teamStatus(ctx, *c.new)
	status.Warnings = warnings
	return status, err
}

// takeAlong has the switch on a team change with it, if it has to do with how the team's
// members share the traffic. The caller holds its lock.
func (e *Engine) takeAlong(t *transaction, r store.TeamRecord) error {
	s, err := e.standing(r.Name)
	for _, on := range s.on {
		if next := on; on.Spread || r.Mode == vswitch.TeamActiveActive {
			t.changes = append(t.changes, change{old: &on, new: &next})
		}
	}
	return err
}

// SetTeam changes a team in place. Members that come are there before any goes. Another
// mode, and another rate of LACP, take the link away for a moment: the kernel sets them
// only on a bond without members. PowerShell twin: Set-NetLbfoTeam.
func (e *Engine) SetTeam(ctx context.Context, name string, c TeamChange) (TeamStatus, error) {
	status, err := e.withTeams(ctx, name, func() (TeamStatus, error) {
		old, err := e.teamRecord(name)
		if err != nil {
			return TeamStatus{}, err
		}
		t := c.apply(old.Team)
		if err := t.Validate(); err != nil {
			return TeamStatus{}, err
		}
		if err := errors.Join(feasible(t), e.canSpread(ctx, t)); err != nil {
			return TeamStatus{}, err
		}
		if err := e.settleTeam(ctx, old); err != nil {
			return TeamStatus{}, err
		}
		record := old
		record.Team = t.Normalized()
		warnings, err := e.completeTeam(ctx, &record, &old, memberCheck{})
		if err != nil {
			return TeamStatus{}, err
		}
		return e.changeTeam(ctx, teamChange{old: &old, new: &record}, warnings)
	})
	return status, fault("team set", "team "+name, err)
}

// settleTeam ends a change that a process was killed in: see settle.
func (e *Engine) settleTeam(ctx context.Context, r store.TeamRecord) error {
	var was store.RealisedTeam
	err := e.store.View(func(tx *store.Tx) (err error) {
		was, _, err = tx.RealisedTeam(r.Name)
		return err
	})
	if err == nil && was.Changing {
		_, err = e.changeTeam(ctx, teamChange{new: &r}, nil)
	}
	return err
}

// DeleteTeam removes a team; its members are what they were before. One that is a
// switch's uplink is InUse: with force the switch keeps the preferred member alone.
// Deleting what is not there is NotFound. PowerShell twin: Remove-NetLbfoTeam.
func (e *Engine) DeleteTeam(ctx context.Context, name string, force bool) error {
	_, err := e.withTeams(ctx, name, func() (TeamStatus, error) {
		r, err := e.teamRecord(name)
		if err != nil {
			return TeamStatus{}, err
		}
		caps, err := e.capabilities(ctx)
		if err != nil {
			return TeamStatus{}, err
		}
		t := &transaction{caps: caps, teams: []teamChange{{old: &r}}}
		s, err := e.standing(name)
		if err == nil && len(s.on) > 0 {
			err = t.dissolve(r, s.on[0], force)
		}
		if err != nil {
			return TeamStatus{}, err
		}
		for _, left := range s.leaving {
			t.changes = append(t.changes, change{old: &left, new: &left})
		}
		return TeamStatus{}, e.foreseeing(t.teams...).carryOut(ctx, t)
	})
	return fault("team delete", "team "+name, err)
}

// dissolve leaves a switch the preferred member of its team.
func (t *transaction) dissolve(r store.TeamRecord, on store.SwitchRecord, force bool) error {
	member := r.Preference()[0]
	if !force {
		return &vswitch.Error{
			Kind: vswitch.InUse, Err: fmt.Errorf("it is the uplink of switch %s", on.Name),
			Hint: fmt.Sprintf("give the switch another one with `patchbay switch set %s --uplink NIC`, or run `patchbay team delete %s --force`, which leaves it %s alone", on.Name, r.Name, member),
		}
	}
	record := on
	record.Uplink = member
	t.changes = append(t.changes, change{old: &on, new: &record})
	return nil
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
	s.Degraded = degraded(r.Team, state)
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

// teamFields compares what a user may write of a team.
func teamFields(old, new vswitch.Team) (fields []FieldChange) {
	compare := func(field, was, is string) {
		if was != is {
			fields = append(fields, FieldChange{field, was, is})
		}
	}
	compare("mode", string(old.Mode), string(new.Mode))
	compare("members", strings.Join(old.Members, " "), strings.Join(new.Members, " "))
	compare("primary", old.Primary, new.Primary)
	compare("reselect", string(old.Reselect), string(new.Reselect))
	compare("standby", old.Standby, new.Standby)
	compare("hash", string(old.Hash), string(new.Hash))
	compare("min links", number(old.MinLinks), number(new.MinLinks))
	compare("LACP rate", string(old.LACPRate), string(new.LACPRate))
	compare("monitor", number(old.Monitor), number(new.Monitor))
	compare("up delay", number(old.UpDelay), number(new.UpDelay))
	compare("down delay", number(old.DownDelay), number(new.DownDelay))
	if old.Lab != new.Lab {
		compare("lab", yesNo(old.Lab), yesNo(new.Lab))
	}
	compare("notes", quotedText(old.Notes), quotedText(new.Notes))
	return fields
}
