package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Detach removes an owner's port: its netdevs and rules, then its record and
// leases, which rest a while before they are given to others. It needs neither
// the owner's namespace nor a record, and detaching what is not there succeeds.
// Where the store cannot be read, the netdev, whose name follows from the owner,
// is removed all the same and the store's error returned.
// PowerShell twin: Remove-VMNetworkAdapter.
func (e *Engine) Detach(ctx context.Context, owner vswitch.Owner) error {
	if err := owner.Validate(); err != nil {
		return fault("detach", owner.String(), err)
	}
	d, err := e.detachOne(ctx, owner, always)
	if err == nil && d.outgrown {
		_ = e.shrink(ctx, d.from) // the owner is detached; GC tries again and tells
	}
	return fault("detach", owner.String(), err)
}

func always(vswitch.Port) bool { return true }

func (e *Engine) detach(ctx context.Context, owner vswitch.Owner) error {
	_, err := e.detachIf(ctx, owner, always)
	return err
}

// detachIf detaches an owner unless its port, looked at under its lock, is to stay,
// and reports whether it went.
func (e *Engine) detachIf(ctx context.Context, owner vswitch.Owner, goes func(vswitch.Port) bool) (gone bool, err error) {
	d, err := e.detachOne(ctx, owner, goes)
	return d.gone, err
}

// detached is what came of a detach.
type detached struct {
	gone     bool
	from     string // the switch
	outgrown bool   // which can do without its last segment now
}

func (e *Engine) detachOne(ctx context.Context, owner vswitch.Owner, goes func(vswitch.Port) bool) (d detached, err error) {
	id := owner.PortID()
	unlock, lockErr := e.store.LockPort(id)
	if lockErr == nil {
		defer unlock()
	}
	var r reservation
	viewErr := e.store.View(func(tx *store.Tx) (err error) {
		if r.port, err = tx.Port(id); err != nil {
			return err
		}
		r.known = true
		// Of its switch only the name matters now.
		r.record.Name = r.port.Switch
		realised, found, err := tx.Realised(r.port.Switch)
		r.segments = realised.Segments
		if r.caps.PortLocked = realised.LocksPorts; found || err != nil {
			return err
		}
		_, err = tx.Fact(capabilitiesFact, &r.caps)
		return err
	})
	if errors.Is(viewErr, vswitch.NotFound) {
		viewErr = nil
	}
	if r.known && !goes(r.port) {
		return d, nil
	}
	r.port.ID = id
	if err := e.withdraw(ctx, r); err != nil {
		return d, errors.Join(err, viewErr, lockErr)
	}
	if err := errors.Join(viewErr, lockErr); err != nil || !r.known {
		return detached{gone: err == nil}, err
	}
	err = e.store.Update(func(tx *store.Tx) error {
		if err := tx.DeletePort(id); err != nil || r.segments == 0 {
			return err
		}
		load, err := tx.Load(r.port.Switch)
		d.outgrown = load.Spare(e.sizes, r.segments)
		return err
	})
	d.gone, d.from = err == nil, r.port.Switch
	return d, err
}

// withdraw takes a port out of the kernel, known or not. A netdev of ours goes
// without a look, for speed; at somebody else's we look first, since its owner
// may have moved it elsewhere meanwhile.
func (e *Engine) withdraw(ctx context.Context, r reservation) error {
	if r.port.Netdev == "" { // no record: the name follows from the owner
		return e.kernel.Apply(ctx, []plan.Step{plan.DeleteNetdev{Name: r.port.ID}})
	}
	had, rest := attachedState(r.port, r.record, r.caps), around(r.port, r.record)
	if r.port.Adopted {
		seen, err := e.kernel.Observe(ctx, had)
		if err != nil {
			return err
		}
		if at := seen.Ports[r.port.Netdev].Bridge; at != "" && at != vswitch.SegmentName(r.record.Name, r.port.Segment) {
			delete(seen.Ports, r.port.Netdev)
		}
		for name := range rest.Ports { // as it is, but for the entry
			trunk, there := seen.Ports[name]
			trunk.FDB = nil
			if rest.Ports[name] = trunk; !there {
				delete(rest.Ports, name)
			}
		}
		had = seen
	}
	return e.kernel.Apply(ctx, plan.Diff(rest, had))
}

// DeletePort detaches the owner of a port that is named as in `port show`. The
// host's port goes with `switch set --host-access=false`.
func (e *Engine) DeletePort(ctx context.Context, name string) error {
	p, err := e.findPort(name)
	if err != nil {
		return fault("port delete", "port "+name, err)
	}
	if p.Owner.Kind == vswitch.OwnerHost {
		return fault("port delete", "port "+name, &vswitch.Error{
			Kind: vswitch.InUse, Err: fmt.Errorf("this is the host's own port"),
			Hint: fmt.Sprintf("run `patchbay switch set %s --host-access=false`, or delete the switch", p.Switch),
		})
	}
	return fault("port delete", "port "+name, e.detach(ctx, p.Owner))
}
