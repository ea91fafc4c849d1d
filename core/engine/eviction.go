package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file is about guests who have to go because their switch does. They go last, when
// all else of the transaction has succeeded, and what fails then brings them back: a
// guest loses its network only by a verb that has done what it was asked for.

// lingering are the switches that go and have guests, as they are until these have left:
// closed, without what others may be taking over already.
func (t *transaction) lingering() (records []store.SwitchRecord) {
	for _, c := range t.changes {
		if c.new != nil || !slices.ContainsFunc(t.guests, func(p vswitch.Port) bool { return p.Switch == c.old.Name }) {
			continue
		}
		closed, no := *c.old, false
		closed.Uplink, closed.HostAccess, closed.Host = "", &no, store.HostElsewhere
		closed.Gateway, closed.Masquerade, closed.VLAN = nil, vswitch.Masquerade{}, 0
		records = append(records, closed)
	}
	return records
}

// evict takes the transaction's guests out of the kernel, and then what is left of their
// switches. The records stay until the transaction is concluded.
func (e *Engine) evict(ctx context.Context, t *transaction) error {
	if len(t.guests) == 0 {
		return nil
	}
	netdevs, err := e.kernel.Netdevs(ctx)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(netdevs))
	for _, n := range netdevs {
		there[n.Name] = true
	}
	out := func(found []reservation) error { return e.evictTogether(ctx, t, found, there) }
	if err := e.together(t.guests, out); err != nil {
		return err
	}
	left := plan.State{}
	for _, r := range t.lingering() {
		left = plan.Union(left, wholeState(r, t.caps, t.segments[r.Name]))
		left.Rules = plan.Union(left, plan.State{Rules: pastRules(r, t.caps)}).Rules
	}
	t.guests = nil
	desired, err := e.desired(t)
	if err != nil {
		return err
	}
	for _, p := range t.evicted {
		delete(desired.Rules.Guard, p.Netdev)
		delete(desired.Rules.Apart, p.Netdev)
		delete(desired.Rules.Priority, p.Netdev)
		delete(desired.Rules.Guards, p.Netdev)
		delete(desired.Rules.ACLs, p.Netdev)
	}
	desired.Rules.GuardBase, desired.Rules.ACLBase = len(desired.Rules.Guards) > 0, len(desired.Rules.ACLs) > 0
	return e.reach(ctx, plan.State{Rules: desired.Rules}, left)
}

// evictTogether notes which of the guests are there before it takes them out: those that
// had ended before do not come back.
func (e *Engine) evictTogether(ctx context.Context, t *transaction, found []reservation, there map[string]bool) error {
	found = slices.DeleteFunc(found, func(r reservation) bool { return !r.known || recordOf(t.olds(), r.port.Switch).Name == "" })
	for _, r := range found {
		t.evicted = append(t.evicted, r.port)
		if there[r.port.Netdev] || r.port.OnVF() {
			t.missed = append(t.missed, r.port)
		}
	}
	return e.withdrawTogether(ctx, found)
}

// readmit brings the guests back whom a transaction has taken out before it failed. It
// tells of those that it cannot reach: they have ended, or their namespace has no path any
// more.
func (e *Engine) readmit(ctx context.Context, t *transaction) error {
	var errs []error
	for _, p := range t.missed {
		r := recordOf(t.olds(), p.Switch)
		err := e.withGuest(p.ID, r, func(p vswitch.Port) error { return e.replug(ctx, p, r, t) })
		if err != nil {
			errs = append(errs, fault("", "port "+p.ID, err))
		}
	}
	return errors.Join(errs...)
}

// replug makes again what is missing of a port, and leaves alone the owner's end of one
// that has not gone.
func (e *Engine) replug(ctx context.Context, p vswitch.Port, r store.SwitchRecord, t *transaction) error {
	if p.OnVF() {
		return e.reach(ctx, attachedState(p, r, t.caps), plan.State{})
	}
	if !p.Plugged() {
		return nil
	}
	whole := attachedState(p, r, t.caps)
	side := whole.Ports[p.Netdev]
	side.Endpoint = nil
	seen, err := e.kernel.Observe(ctx, plan.State{Ports: map[string]plan.Port{p.Netdev: side}})
	if err != nil {
		return err
	}
	if _, there := seen.Ports[p.Netdev]; there {
		whole.Ports[p.Netdev] = side
	} else if p.Adopted {
		return nil
	}
	err = e.reach(ctx, whole, plan.State{})
	if lacksGuards(err) { // they went with the last port that had any
		if err = e.guard(ctx); err == nil {
			err = e.reach(ctx, whole, plan.State{})
		}
	}
	return err
}

// dismiss drops the records of the guests that are gone.
func (t *transaction) dismiss(tx *store.Tx) error {
	for _, gone := range t.evicted {
		p, err := tx.Port(gone.ID)
		if errors.Is(err, vswitch.NotFound) || err == nil && recordOf(t.olds(), p.Switch).Name == "" {
			continue // it has left by itself, and may have come back elsewhere
		}
		var r store.Removed
		if err == nil {
			r, err = tx.RemovePort(p.ID)
		}
		if err != nil {
			return err
		}
		t.dismissed = append(t.dismissed, r)
	}
	return nil
}

// reinstate puts the records of dismissed guests back: what came after that has failed. It
// goes on after errors.
func (e *Engine) reinstate(t *transaction) error {
	var errs []error
	for _, r := range t.dismissed {
		errs = append(errs, e.store.Update(func(tx *store.Tx) error { return tx.ReturnPort(r) }))
	}
	return errors.Join(errs...)
}
