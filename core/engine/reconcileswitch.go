package engine

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// switchDrift is how a switch differs from its record.
type switchDrift struct {
	record store.SwitchRecord
	caps   kernel.Capabilities
	steps  []plan.Step
	words  []string
	unmade bool // not made since the boot, or a process was killed over it
	// segments is how many further segments it has.
	segments int
	bonds    plan.State // the team that it stands on
}

func (d switchDrift) none() bool { return len(d.steps) == 0 && !d.unmade }

// switchChanged puts a switch right, if it has to be. It looks without a lock
// first: most changes are a verb's own, and are whole when it is done.
func (r *reconciler) switchChanged(ctx context.Context, name string, p pending) {
	if ctx.Err() != nil {
		return
	}
	object, about := "switch "+name, []any{"switch", name}
	d, err := r.lookAtSwitch(ctx, name)
	if errors.Is(err, vswitch.NotFound) {
		r.ledger.fine(object) // it was deleted
		return
	}
	if err == nil && d.none() {
		r.tellStrays(ctx, d.record)
		r.ledger.fine(object)
		r.settle(p, netdevsOf(plan.Union(wholeState(d.record, d.caps, extent{want: d.segments}), d.bonds))...)
		r.belongs(d.record.HostMAC, vswitch.HostPortSwitchEnd(name))
		return
	}
	if !r.mayTry(object, about, d.words) {
		return
	}
	var done bool
	if err == nil {
		done, d, err = r.repairDrift(ctx, name)
	}
	if err == nil && !done {
		r.ledger.fine(object)
		return
	}
	r.mend(object, about, d.words, err)
	if err == nil && slices.ContainsFunc(d.steps, isCreateBridge) {
		r.allPortsChanged(ctx, name)
	}
}

func isCreateBridge(s plan.Step) bool {
	_, ok := s.(plan.CreateBridge)
	return ok
}

// allPortsChanged looks at all ports of a switch, whose bridge is another one now.
func (r *reconciler) allPortsChanged(ctx context.Context, name string) {
	var ports []vswitch.Port
	err := r.store.View(func(tx *store.Tx) (err error) {
		ports, err = tx.PortsOf(name)
		return err
	})
	if err != nil {
		r.unreadable(err)
	}
	r.portsChanged(ctx, idsOf(ports), pending{})
}

// repairDrift takes the switch's locks, looks again and repairs. done is false if
// nothing was left to do.
func (r *reconciler) repairDrift(ctx context.Context, name string) (done bool, d switchDrift, err error) {
	settled, unlock, err := r.lockSettled(name)
	if err != nil {
		return false, d, err
	}
	defer unlock()
	d, err = r.lookAtSwitch(ctx, name)
	gone := errors.Is(err, vswitch.NotFound)
	if gone || err == nil && d.none() {
		if len(settled) > 0 {
			d.words = []string{"a process was killed while a NIC went from one to another of " + strings.Join(settled, ", ")}
		}
		return len(settled) > 0, d, nil
	}
	if err != nil {
		return false, d, err
	}
	_, err = r.repairSwitch(context.WithoutCancel(ctx), d.record, d.caps)
	return err == nil, d, err
}

// lookAtSwitch compares a switch, with all rules of the host, with the kernel.
func (r *reconciler) lookAtSwitch(ctx context.Context, name string) (d switchDrift, err error) {
	if d.record, err = r.record(name); err != nil {
		return d, err
	}
	if d.caps, err = r.capabilities(ctx); err != nil {
		return d, err
	}
	err = r.store.View(func(tx *store.Tx) error {
		was, found, err := tx.Realised(name)
		d.unmade, d.segments = !found || was.Changing, was.Segments
		if !found {
			d.words = []string{"it was not made since the boot"}
		} else if was.Changing {
			d.words = []string{"a process was killed while it changed"}
		}
		return err
	})
	if err != nil {
		return d, err
	}
	t := &transaction{caps: d.caps, changes: []change{{new: &d.record}}, looks: true}
	desired, err := r.desired(t)
	if err == nil {
		err = r.placeTeams(ctx, t, &desired, &plan.State{})
	}
	if err != nil {
		return d, err
	}
	d.bonds.Bonds = desired.Bonds
	observed, err := r.kernel.Observe(ctx, desired)
	if err != nil {
		return d, err
	}
	d.steps = plan.Diff(desired, observed)
	if len(d.steps) == 0 && (d.segments > 0 || d.record.Spread) {
		if d.steps, err = r.lostOfGuests(ctx, d.record, d.caps); err != nil {
			return d, err
		}
	}
	if !d.unmade {
		d.words = driftWords(d.steps, observed)
	}
	return d, nil
}
