package engine

import (
	"context"
	"errors"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file takes guests' ports along when the MTU of their switch changes.

// resize gives the guests of a switch its new MTU: those that had the switch's own
// follow it, those that asked for less keep it as far as it fits.
func (t *transaction) resize(tx *store.Tx, old, new store.SwitchRecord) error {
	ports, err := tx.PortsOf(new.Name)
	if err != nil {
		return err
	}
	for _, p := range ports {
		resized := p
		if p.MTU == old.EffectiveMTU || p.MTU > new.EffectiveMTU {
			resized.MTU = new.EffectiveMTU
		}
		if resized.MTU == p.MTU {
			continue
		}
		if err := fitsIPv6(resized); err != nil {
			return err
		}
		t.before, t.after = append(t.before, p), append(t.after, resized)
	}
	return putResized(tx, t.after)
}

// putResized writes the MTU of ports that are still there: a guest may go at any
// time, and its record with it.
func putResized(tx *store.Tx, ports []vswitch.Port) error {
	for _, p := range ports {
		now, err := tx.Port(p.ID)
		if errors.Is(err, vswitch.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		now.MTU = p.MTU
		if err := tx.PutPort(now); err != nil {
			return err
		}
	}
	return nil
}

// resizeGuests brings the kernel to the MTU of the resized ports.
func (e *Engine) resizeGuests(ctx context.Context, t *transaction) error {
	records := make(map[string]store.SwitchRecord)
	for _, r := range t.news() {
		records[r.Name] = r
	}
	for _, p := range t.after {
		if err := e.resizeGuest(ctx, p, records[p.Switch], t.caps); err != nil {
			return err
		}
	}
	return nil
}

// resizeGuest brings what there is of a guest's port to its MTU and leaves all else
// alone. What is gone, or out of sight in a namespace that has no path any more, is
// for its owner's runtime.
func (e *Engine) resizeGuest(ctx context.Context, p vswitch.Port, r store.SwitchRecord, caps kernel.Capabilities) error {
	steps, err := e.resizeSteps(ctx, p, r, caps)
	if err != nil {
		return err
	}
	err = e.kernel.Apply(ctx, steps)
	if errors.Is(err, vswitch.NotFound) || errors.Is(err, vswitch.NetnsNotFound) {
		return nil
	}
	return err
}

func (e *Engine) resizeSteps(ctx context.Context, p vswitch.Port, r store.SwitchRecord, caps kernel.Capabilities) ([]plan.Step, error) {
	observed, err := e.kernel.Observe(ctx, attachedState(p, r, caps))
	if err != nil {
		return nil, err
	}
	seen, there := observed.Ports[p.Netdev]
	if !there {
		return nil, nil
	}
	want := seen
	want.MTU, want.Limits = p.MTU, limits(p)
	if seen.Endpoint != nil {
		end := *seen.Endpoint
		end.MTU = p.MTU
		want.Endpoint = &end
	}
	resized, had := plan.State{Ports: map[string]plan.Port{p.Netdev: want}}, plan.State{Ports: map[string]plan.Port{p.Netdev: seen}}
	for id, twin := range observed.Twins { // its members go with it
		had.Twins = map[string]plan.Endpoint{id: twin}
		twin.MTU = p.MTU
		resized.Twins = map[string]plan.Endpoint{id: twin}
	}
	return plan.Diff(resized, had), nil
}

// resumeResize ends the resizing of guests that a process was killed in: the record
// of the switch and those of its ports say what is meant.
func (e *Engine) resumeResize(ctx context.Context, r store.SwitchRecord, caps kernel.Capabilities) error {
	ports, err := e.portsOn(r.Name)
	if err != nil {
		return err
	}
	for _, p := range ports {
		if err := e.resizeGuest(ctx, p, r, caps); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) portsOn(name string) (ports []vswitch.Port, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		ports, err = tx.PortsOf(name)
		return err
	})
	return ports, err
}
