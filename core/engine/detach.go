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
	return fault("detach", owner.String(), e.detach(ctx, owner))
}

func (e *Engine) detach(ctx context.Context, owner vswitch.Owner) error {
	_, err := e.detachIf(ctx, owner, func(vswitch.Port) bool { return true })
	return err
}

// detachIf detaches an owner unless its port, looked at under its lock, is to stay,
// and reports whether it went.
func (e *Engine) detachIf(ctx context.Context, owner vswitch.Owner, goes func(vswitch.Port) bool) (gone bool, err error) {
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
		return false, nil
	}
	r.port.ID = id
	if err := e.withdraw(ctx, r); err != nil {
		return false, errors.Join(err, viewErr, lockErr)
	}
	if err := errors.Join(viewErr, lockErr); err != nil || !r.known {
		return err == nil, err
	}
	err = e.store.Update(func(tx *store.Tx) error { return tx.DeletePort(id) })
	return err == nil, err
}

// withdraw takes a port out of the kernel, known or not. A netdev of ours goes
// without a look, for speed; at somebody else's we look first, since its owner
// may have moved it elsewhere meanwhile.
func (e *Engine) withdraw(ctx context.Context, r reservation) error {
	if r.port.Netdev == "" { // no record: the name follows from the owner
		return e.kernel.Apply(ctx, []plan.Step{plan.DeleteNetdev{Name: r.port.ID}})
	}
	had := attachedState(r.port, r.record, r.caps)
	if r.port.Adopted {
		seen, err := e.kernel.Observe(ctx, had)
		if err != nil {
			return err
		}
		if at := seen.Ports[r.port.Netdev].Bridge; at != "" && at != vswitch.BridgeName(r.record.Name) {
			delete(seen.Ports, r.port.Netdev)
		}
		had = seen
	}
	return e.kernel.Apply(ctx, plan.Diff(plan.State{}, had))
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
