package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// measureTeams finds out what becomes of teams. Those that the configuration does not
// mention stay, unless Prune deletes them.
func (e *Engine) measureTeams(ctx context.Context, a *application, req ApplyRequest) error {
	existing, err := e.teamRecords()
	if err != nil {
		return err
	}
	if len(req.Config.Teams)+len(existing) == 0 {
		return nil
	}
	check := memberCheck{other: slices.Clone(req.Config.Teams), leaving: givingUp(a.existing, req), yes: a.yes}
	if check.other == nil {
		check.other = []vswitch.Team{}
	}
	var refused []error
	for _, r := range existing {
		if slices.ContainsFunc(req.Config.Teams, func(t vswitch.Team) bool { return t.Name == r.Name }) {
			continue
		}
		if !req.Prune {
			check.other = append(check.other, r.Team)
			a.kept = append(a.kept, "team "+r.Name)
			continue
		}
		a.teams = append(a.teams, teamChange{old: &r})
		if err := stands(req, r.Name); err != nil {
			refused = append(refused, fault("", "team "+r.Name, err))
		}
	}
	for _, t := range req.Config.Teams {
		if err := e.measureTeam(ctx, a, t, existing, check); err != nil {
			refused = append(refused, fault("", "team "+t.Name, err))
		}
	}
	return errors.Join(refused...)
}

// measureTeam adds the change of one team; one that is as defined is in it too.
func (e *Engine) measureTeam(ctx context.Context, a *application, t vswitch.Team, existing []store.TeamRecord, check memberCheck) error {
	at := slices.IndexFunc(existing, func(r store.TeamRecord) bool { return r.Name == t.Name })
	if at < 0 {
		record, warnings, err := e.newTeam(ctx, t, check)
		a.warnings = append(a.warnings, warnings...)
		a.teams = append(a.teams, teamChange{new: &record})
		return err
	}
	old := existing[at]
	record := old
	record.Team = t.Normalized()
	warnings, err := e.completeTeam(ctx, &record, &old, check)
	a.warnings = append(a.warnings, warnings...)
	a.teams = append(a.teams, teamChange{old: &old, new: &record})
	return err
}

// givingUp are the switches that have another uplink, or none, after the application.
func givingUp(existing []store.SwitchRecord, req ApplyRequest) (leaving []store.SwitchRecord) {
	for _, r := range existing {
		at := slices.IndexFunc(req.Config.Switches, func(s vswitch.Switch) bool { return s.Name == r.Name })
		if at < 0 && req.Prune || at >= 0 && req.Config.Switches[at].Uplink != r.Uplink {
			leaving = append(leaving, r)
		}
	}
	return leaving
}

// stands refuses to delete a team that is a switch's uplink afterwards.
func stands(req ApplyRequest, team string) error {
	for _, s := range req.Config.Switches {
		if s.Uplink == team {
			return &vswitch.Error{
				Kind: vswitch.InUse, Err: fmt.Errorf("it is the uplink of switch %s and not defined", s.Name),
				Hint: "define the team in the file too; `patchbay export` writes it",
			}
		}
	}
	return nil
}

// describeTeam names what of a team changes; differs is false if nothing does.
func describeTeam(c teamChange) (described ConfigChange, differs bool) {
	object := "team " + c.name()
	switch {
	case c.new == nil:
		return ConfigChange{Object: object, Action: ActionDelete}, true
	case c.old == nil:
		return ConfigChange{Object: object, Action: ActionAdd, Fields: teamFields(vswitch.Team{}, c.new.Bare())}, true
	}
	fields := teamFields(c.old.Team, c.new.Team)
	return ConfigChange{Object: object, Action: ActionChange, Fields: fields}, len(fields) > 0
}
