package engine

import (
	"context"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// RestoreRequest asks for every switch of the configuration.
type RestoreRequest struct{}

// RestoreReport tells what became of each.
type RestoreReport struct {
	Restored []string  `json:"restored"`
	Teams    []string  `json:"teams,omitempty"`
	Failed   []Problem `json:"failed,omitempty"`
}

// Restore brings the kernel to the whole configuration, teams and switches, as after a reboot, when it has
// none of it: all switches in one pass. It may be repeated, and on a host that has
// everything it changes nothing. A switch that cannot be made, because its uplink is
// not there or the kernel cannot do it, is reported and does not stop the others. It
// fails only if nothing can be said.
func (e *Engine) Restore(ctx context.Context, _ RestoreRequest) (RestoreReport, error) {
	report := RestoreReport{Restored: []string{}}
	records, unlock, err := e.lockFor(vswitch.Config{})
	if err != nil {
		return report, fault("restore", "", err)
	}
	defer unlock()
	unended, err := e.endAll(ctx, &report, records)
	if err == nil {
		records, err = e.records()
	}
	if err != nil {
		return report, fault("restore", "", err)
	}
	records = slices.DeleteFunc(records, func(r store.SwitchRecord) bool { return unended[claimant{name: r.Name}] })
	if err := e.restoreTeams(ctx, &report, unended); err != nil {
		return report, fault("restore", "", err)
	}
	leaving, err := e.unfinished(records)
	if err != nil {
		return report, fault("restore", "", err)
	}
	var caps kernel.Capabilities
	var possible []store.SwitchRecord
	for _, r := range records {
		known, err := e.capabilitiesFor(ctx, r.Switch)
		if err == nil {
			caps, err = known, e.foreseeing().possible(ctx, r, known, leaving)
		}
		if err != nil {
			report.fail(claimant{name: r.Name}, err)
			continue
		}
		possible = append(possible, r)
	}
	if len(possible) > 0 {
		e.restore(ctx, &report, caps, possible)
	}
	return report, ctx.Err()
}

// endAll ends what killed processes have left disputed between switches and teams. Those of
// a dispute that cannot be ended are reported and returned: one of them alone is not made.
func (e *Engine) endAll(ctx context.Context, report *RestoreReport, records []store.SwitchRecord) (unended map[claimant]bool, err error) {
	teams, err := e.teamRecords()
	if err != nil {
		return nil, err
	}
	var all []claimant
	for _, r := range records {
		all = append(all, claimant{name: r.Name})
	}
	for _, r := range teams {
		all = append(all, claimant{team: true, name: r.Name})
	}
	unended = make(map[claimant]bool)
	for _, one := range all {
		if unended[one] {
			continue
		}
		c, err := e.disputeAmong(one)
		if err != nil {
			return nil, err
		}
		if _, err := e.end(ctx, c); err != nil {
			for _, of := range c.claimants() {
				report.fail(of, err)
				unended[of] = true
			}
		}
	}
	return unended, nil
}

// restoreTeams makes the teams, each for itself: one whose members are all gone is made
// without any, so that the switch on it stands and works inside. One that was being deleted
// goes.
func (e *Engine) restoreTeams(ctx context.Context, report *RestoreReport, unended map[claimant]bool) error {
	teams, err := e.teamRecords()
	if err != nil {
		return err
	}
	for _, r := range teams {
		who := claimant{team: true, name: r.Name}
		if unended[who] {
			continue
		}
		err := e.canBond(ctx)
		if err == nil {
			err = e.finishTeam(ctx, r)
		}
		if err != nil {
			report.fail(who, err)
		} else if !r.Going {
			report.Teams = append(report.Teams, r.Name)
		}
	}
	return nil
}

// restore makes the switches together; where that fails it makes one after the other,
// to find out which it is that cannot be made.
func (e *Engine) restore(ctx context.Context, report *RestoreReport, caps kernel.Capabilities, records []store.SwitchRecord) {
	err := e.repairSwitches(ctx, caps, records...)
	for _, r := range records {
		one := err
		if one != nil && len(records) > 1 {
			one = e.repairSwitches(ctx, caps, r)
		}
		if one != nil {
			report.fail(claimant{name: r.Name}, one)
		} else {
			report.Restored = append(report.Restored, r.Name)
		}
	}
}

func (r *RestoreReport) fail(of claimant, err error) {
	r.Failed = append(r.Failed, problem(fault("restore", of.String(), err)))
}
