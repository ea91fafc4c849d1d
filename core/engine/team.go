package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

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
			if err == nil {
				err = e.endAmongTeams(name)
			}
			if err != nil {
				return TeamStatus{}, err
			}
			return do()
		}
		unlock() // somebody gave the team to another switch meanwhile
	}
}

// endAmongTeams ends what a killed process has left disputed between a team and others,
// and no switch: see lockSettled. The caller holds the lock of all switches.
func (e *Engine) endAmongTeams(name string) error {
	c, err := e.disputeAmong(claimant{team: true, name: name})
	if err == nil && len(c.switches) == 0 {
		_, err = e.end(context.Background(), c)
	}
	return err
}

// standing are the switches on a team: whose uplink it is, and those that a process was
// killed in taking from it.
type standing struct{ on, leaving, tied []store.SwitchRecord }

func (s standing) names() (names []string) {
	for _, r := range slices.Concat(s.on, s.leaving, s.tied) {
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
		all, err := readClaims(tx)
		if err != nil {
			return err
		}
		tied := all.disputed(claimant{team: true, name: team})
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
			case tied[claimant{name: r.Name}]:
				s.tied = append(s.tied, r)
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
	if err := errors.Join(e.canBond(ctx), e.canSpread(ctx, t)); err != nil {
		return r, nil, err
	}
	if err := e.teamNameFree(ctx, t.Name); err != nil {
		return r, nil, err
	}
	warnings, err := e.completeTeam(ctx, &r, nil, c)
	return r, warnings, err
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

// DeleteTeam removes a team; its members are what they were before. One that is a
// switch's uplink is InUse: with force the switch keeps the preferred member alone.
// Deleting what is not there is NotFound. PowerShell twin: Remove-NetLbfoTeam.
func (e *Engine) DeleteTeam(ctx context.Context, name string, force bool) error {
	before, _ := e.teamRecord(name)
	_, err := e.withTeams(ctx, name, func() (TeamStatus, error) {
		r, err := e.teamRecord(name)
		if errors.Is(err, vswitch.NotFound) && before.Going {
			return TeamStatus{}, nil // somebody had begun to delete it
		}
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
