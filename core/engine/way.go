package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// shift takes the kernel to the new records.
func (e *Engine) shift(ctx context.Context, t *transaction) error {
	w, err := e.way(ctx, t)
	if err != nil {
		return err
	}
	if err := e.depart(w); err != nil {
		return err
	}
	if err := e.recallSAs(ctx, w.steps); err != nil {
		return err
	}
	before, rest := beforeFiltering(t.besidesMirrors(w.steps))
	if err := e.perform(ctx, before); err != nil {
		return err
	}
	if err := e.retag(ctx, t); err != nil {
		return err
	}
	if len(rest) > 0 {
		if err := e.perform(ctx, rest); err != nil {
			return err
		}
	}
	if err := e.arrived(ctx, w); err != nil {
		return err
	}
	if err := e.joinGuests(ctx, t); err != nil {
		return err
	}
	if err := errors.Join(e.ownGuests(ctx, t), e.queryGuests(ctx, t, w.steps)); err != nil {
		return err
	}
	for _, r := range t.news() {
		if err := e.remirrorAs(ctx, r, t.from); err != nil {
			return err
		}
	}
	e.announceRelieved(ctx, t, w.steps)
	return e.resizeGuests(ctx, t)
}

// besidesMirrors are steps without those about copies on switches that stay: whose copies
// those are may change until they are made, see remirror.
func (t *transaction) besidesMirrors(steps []plan.Step) []plan.Step {
	stay := make(map[string]bool)
	for _, r := range t.news() {
		stay[vswitch.BridgeName(r.Name)] = true
	}
	return slices.DeleteFunc(slices.Clone(steps), func(s plan.Step) bool {
		switch s := s.(type) {
		case plan.MakeMirror:
			return stay[s.Bridge]
		case plan.DeleteMirror:
			return stay[s.Bridge]
		}
		return false
	})
}

// way is the way to the new records: the steps, and the journeys of the host's things.
type way struct {
	steps        []plan.Step
	desired, had plan.State
	journeys     []journey
}

// way looks at the kernel and plans.
func (e *Engine) way(ctx context.Context, t *transaction) (*way, error) {
	desired, err := e.desired(t)
	if err != nil {
		return nil, err
	}
	had := plan.State{}
	for _, r := range t.from {
		had = plan.Union(had, wholeState(r, t.caps, extent{want: t.segments[r.Name].had}))
		had.Rules = plan.Union(had, plan.State{Rules: pastRules(r, t.caps)}).Rules
		had.Rules.ApartIn = apartIn(had.Rules.ApartIn, r, t.segments[r.Name].hadApart)
		had.Rules.Priority = priorityAt(had.Rules.Priority, r.Name, t.segments[r.Name].had)
	}
	err = e.store.View(func(tx *store.Tx) error {
		earlier, err := earlierRulesOn(tx, t.news()...)
		had.Rules = plan.Union(had, plan.State{Rules: earlier}).Rules
		return err
	})
	if err != nil {
		return nil, err
	}
	had.Forward = plan.Families{} // others may count on it by now
	if err := e.placeTeams(ctx, t, &desired, &had); err != nil {
		return nil, err
	}
	if err := e.releaseUplinks(ctx, t.from, desired, had); err != nil {
		return nil, err
	}
	journeys, err := e.placeHost(ctx, t, &desired, &had)
	if err != nil {
		return nil, err
	}
	observed, err := e.kernel.Observe(ctx, plan.Union(desired, had))
	if err != nil {
		return nil, err
	}
	return &way{steps: plan.Diff(desired, observed), desired: desired, had: had, journeys: journeys}, nil
}

// desired is what the new records mean, with the rules of the whole host.
func (e *Engine) desired(t *transaction) (desired plan.State, err error) {
	if t.segments == nil {
		if err := e.store.View(t.standing); err != nil {
			return desired, err
		}
	}
	lingering := t.lingering()
	for _, r := range append(t.news(), lingering...) {
		desired = plan.Union(desired, wholeState(r, t.caps, t.segments[r.Name]))
	}
	if desired.Ports == nil { // to be put to: see releaseUplinks
		desired.Ports = make(map[string]plan.Port)
	}
	err = e.store.View(func(tx *store.Tx) error {
		switches, err := t.outcome(tx)
		if err != nil {
			return err
		}
		for _, r := range t.news() {
			if err := addJoint(tx, desired, r, t.caps); err != nil {
				return err
			}
		}
		if desired.Rules, err = rulesOf(tx, t.caps, append(switches, lingering...), t.segments); err != nil || !desired.Rules.Base {
			return err
		}
		for _, r := range t.news() {
			desired.Rules.ApartIn = apartIn(desired.Rules.ApartIn, r, t.segments[r.Name].apart)
		}
		return nil
	})
	return desired, err
}
