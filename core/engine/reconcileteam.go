package engine

import (
	"context"
	"errors"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// touch finds the teams that netdevs belong to and takes those from names. Teams with a
// switch are looked at with that.
func (t *targets) touch(teams []store.TeamRecord, switches []store.SwitchRecord, names map[string]uint64) map[string]bool {
	touched := make(map[string]bool)
	under := make(map[string]bool)
	for _, s := range switches {
		under[s.Uplink] = true
	}
	for _, r := range teams {
		for _, name := range append([]string{r.Name}, r.Members...) {
			if _, hit := names[name]; hit {
				touched[r.Name] = true
			}
			if name != r.Name || !under[r.Name] { // that one is a port of the switch too
				delete(names, name)
			}
		}
		if touched[r.Name] && !under[r.Name] {
			t.teams = append(t.teams, r.Name)
		}
	}
	return touched
}

// teamChanged puts a team right, if it has to be. It looks without a lock first.
func (r *reconciler) teamChanged(ctx context.Context, name string, p pending) {
	if ctx.Err() != nil {
		return
	}
	object, about := "team "+name, []any{"team", name}
	_, drift, state, err := r.lookAtTeam(ctx, name)
	if errors.Is(err, vswitch.NotFound) {
		r.ledger.fine(object) // it was deleted
		return
	}
	if err == nil && len(drift) == 0 {
		r.ledger.fine(object)
		r.settle(p, netdevsOf(state)...)
		return
	}
	if !r.mayTry(object, about, drift) {
		return
	}
	var done bool
	if err == nil {
		done, err = r.repairTeam(ctx, name)
	}
	if err == nil && !done {
		r.ledger.fine(object)
		return
	}
	r.mend(object, about, drift, err)
}

// repairTeam takes the team's locks, looks again and repairs. done is false if there is
// nothing to do any more: a verb was at work, and may have deleted the team.
func (r *reconciler) repairTeam(ctx context.Context, name string) (done bool, err error) {
	_, err = r.withTeams(ctx, name, func() (TeamStatus, error) {
		record, drift, _, err := r.lookAtTeam(ctx, name)
		if errors.Is(err, vswitch.NotFound) {
			return TeamStatus{}, nil
		}
		if err != nil || len(drift) == 0 {
			return TeamStatus{}, err
		}
		done = true
		return TeamStatus{}, r.finishTeam(context.WithoutCancel(ctx), record)
	})
	return done, err
}

// finishTeam makes a team as its record says, or ends its deletion.
func (e *Engine) finishTeam(ctx context.Context, r store.TeamRecord) error {
	c := toTheEnd(r)
	if c.new != nil {
		_, err := e.changeTeam(ctx, c, nil)
		return err
	}
	caps, err := e.capabilities(ctx)
	if err != nil {
		return err
	}
	return e.foreseeing(c).carryOut(ctx, &transaction{caps: caps, teams: []teamChange{c}})
}

// lookAtTeam compares a team with the kernel.
func (e *Engine) lookAtTeam(ctx context.Context, name string) (record store.TeamRecord, drift []string, desired plan.State, err error) {
	if record, err = e.teamRecord(name); err != nil {
		return record, nil, desired, err
	}
	var was store.RealisedTeam
	var found bool
	err = e.store.View(func(tx *store.Tx) (err error) {
		was, found, err = tx.RealisedTeam(name)
		return err
	})
	if err != nil {
		return record, nil, desired, err
	}
	t := &transaction{teams: []teamChange{{new: &record}}, looks: true}
	if err = e.placeTeams(ctx, t, &desired, &plan.State{}); err != nil {
		return record, nil, desired, err
	}
	observed, err := e.kernel.Observe(ctx, desired)
	if err != nil {
		return record, nil, desired, err
	}
	switch {
	case !found:
		drift = []string{"it was not made since the boot"}
	case was.Changing:
		drift = []string{"a process was killed while it changed"}
	default:
		drift = driftWords(plan.Diff(desired, observed), observed)
	}
	return record, drift, desired, nil
}
