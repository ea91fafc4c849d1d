package engine

import (
	"context"
	"slices"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// retagged are the switches whose guests are in other VLANs now than they were: the
// untagged traffic has moved, or the bridges have begun to filter.
func (t *transaction) retagged() (records []store.SwitchRecord) {
	for _, r := range t.news() {
		if t.caps.VLANFiltering && (t.unfiltered[r.Name] || slices.ContainsFunc(t.from, func(was store.SwitchRecord) bool {
			return was.Name == r.Name && was.UntaggedVLAN() != r.UntaggedVLAN()
		})) {
			records = append(records, r)
		}
	}
	return records
}

// retag puts the guests of a switch into the VLANs that their records mean.
func (e *Engine) retag(ctx context.Context, t *transaction) error {
	for _, r := range t.retagged() {
		ports, err := e.portsOn(r.Name)
		if err != nil {
			return err
		}
		tag := func(found []reservation) error { return e.retagTogether(ctx, t, r, found) }
		if err := e.together(ports, tag); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) retagTogether(ctx context.Context, t *transaction, r store.SwitchRecord, found []reservation) error {
	var all []plan.Step
	for _, f := range found {
		if !f.known || f.port.Switch != r.Name {
			continue
		}
		steps, err := e.retagSteps(ctx, t, r, f.port)
		if err != nil {
			return err
		}
		all = append(all, steps...)
	}
	return ignoreNotFound(e.kernel.Apply(ctx, all))
}

// retagSteps leaves all alone but the VLANs and the entries in them.
func (e *Engine) retagSteps(ctx context.Context, t *transaction, r store.SwitchRecord, p vswitch.Port) ([]plan.Step, error) {
	if !p.Plugged() {
		return nil, nil
	}
	want := portState(p, r, t.caps)
	want.Endpoint = nil
	scope := plan.State{Ports: map[string]plan.Port{want.Name: want}}
	seen, err := e.kernel.Observe(ctx, scope)
	if err != nil {
		return nil, err
	}
	have, there := seen.Ports[want.Name]
	if !there || have.Bridge != want.Bridge {
		return nil, nil
	}
	now := have
	now.VLANs, now.FDB = want.VLANs, want.FDB
	return plan.Diff(plan.State{Ports: map[string]plan.Port{want.Name: now}}, seen), nil
}

// beforeFiltering divides a plan: what goes before a bridge begins to filter, and the rest.
func beforeFiltering(steps []plan.Step) (before, rest []plan.Step) {
	at := slices.IndexFunc(steps, func(s plan.Step) bool { _, is := s.(plan.FilterVLANs); return is })
	if at < 0 {
		return steps, nil
	}
	return steps[:at], steps[at:]
}
