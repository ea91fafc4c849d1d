package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

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
		if err := e.canSpread(ctx, t); err != nil {
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
