package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// preview tells what the application changes: the records are completed as they would
// be and not written, the kernel is looked at and not touched.
func (e *Engine) preview(ctx context.Context, a *application) (ConfigDiff, error) {
	t := a.transaction()
	if err := errors.Join(e.standOn(ctx, t), e.claim(ctx, t)); err != nil {
		return ConfigDiff{}, err
	}
	e = e.actual()
	err := e.store.Preview(func(tx *store.Tx) error {
		if err := t.collect(tx, e.sizes); err != nil {
			return err
		}
		return e.intend(tx, t)
	})
	if err != nil {
		return ConfigDiff{}, err
	}
	w, err := e.way(ctx, t)
	if err != nil {
		return ConfigDiff{}, err
	}
	steps := w.steps
	for _, p := range t.after {
		resized, err := e.resizeSteps(ctx, p, recordOf(t.news(), p.Switch), a.caps)
		if err != nil {
			return ConfigDiff{}, err
		}
		steps = append(steps, resized...)
	}
	lost, err := e.lostWithin(ctx, t, w.steps)
	if err != nil {
		return ConfigDiff{}, err
	}
	steps = append(steps, lost...)
	return a.diff(t, steps), nil
}

// lostWithin is what switches have lost of what they have for attached guests. One that is
// made again, or a part of it, is not looked at: its guests come with it.
func (e *Engine) lostWithin(ctx context.Context, t *transaction, steps []plan.Step) (lost []plan.Step, err error) {
	made := make(map[string]bool) // bridges
	for _, s := range steps {
		switch s := s.(type) {
		case plan.CreateBridge:
			made[s.Bridge.Name] = true
		case plan.CreateVeth:
			made[s.Port.Bridge] = made[s.Port.Bridge] || vswitch.IsTrunk(s.Port.Name)
		case plan.SetPort:
			made[s.Port.Bridge] = made[s.Port.Bridge] || vswitch.IsTrunk(s.Port.Name)
		}
	}
	for _, c := range t.changes {
		if c.old == nil || c.new == nil || made[vswitch.BridgeName(c.new.Name)] {
			continue
		}
		of, err := e.lostOfGuests(ctx, *c.new, t.caps)
		if err != nil {
			return nil, err
		}
		lost = append(lost, of...)
	}
	return lost, nil
}

func (a *application) diff(t *transaction, steps []plan.Step) ConfigDiff {
	d := ConfigDiff{Changes: []ConfigChange{}, Kept: a.kept, Commands: []string{}, Warnings: a.warnings}
	if a.newPool != nil {
		d.Changes = append(d.Changes, ConfigChange{Object: "MAC pool", Action: ActionChange, Fields: []FieldChange{{"range", a.pool.String(), a.newPool.String()}}})
	}
	for _, c := range t.teams {
		if change, differs := describeTeam(c); differs {
			d.Changes = append(d.Changes, change)
		}
	}
	for _, c := range t.changes {
		if change, differs := describe(c); differs {
			for _, p := range a.detach {
				if c.new == nil && p.Switch == c.old.Name {
					change.Detached++
				}
			}
			for _, p := range t.after {
				if p.Switch == change.name() {
					change.Resized++
				}
			}
			d.Changes = append(d.Changes, change)
		}
	}
	for _, s := range steps {
		d.Commands = append(d.Commands, s.String())
	}
	if len(d.Changes) == 0 && len(steps) > 0 {
		d.Changes = append(d.Changes, ConfigChange{Object: "kernel", Action: ActionRepair, Fields: []FieldChange{{"lost", fmt.Sprint(len(steps)), "0"}}})
	}
	return d
}
