package engine

import (
	"context"
	"errors"
	"reflect"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ReleasePort lets go of a VM's port, whose libvirt port is gone. With its tap it goes
// altogether. While the tap is there libvirt may have done no more than to change its link:
// the port works on, as VMReleased, until the tap goes or ReservePort takes the release back.
// A tap that Patchbay has made goes with its port, since nothing else is to end it.
// Where libvirt has put the tap into another network the port that waits there gets it. A
// port that is not there is released. PowerShell twin: Remove-VMNetworkAdapter.
func (e *Engine) ReleasePort(ctx context.Context, owner vswitch.Owner) error {
	if err := validateVMOwner(owner); err != nil {
		return fault("port release", owner.String(), err)
	}
	return fault("port release", owner.String(), e.releasePort(ctx, owner))
}

func (e *Engine) releasePort(ctx context.Context, owner vswitch.Owner) error {
	p, found, err := e.Attached(ctx, owner)
	if err != nil || !found {
		return err
	}
	switch place, tap := e.placeOf(ctx, p); {
	case place == tapGone && !p.Plugged():
		err = e.finishMove(ctx, p)
	case place == tapGone:
	case tap.Alias == tapOf(p).mark():
		err = e.deleteTaps(ctx, p)
	default:
		_, err = e.handOn(ctx, p, tap)
	}
	if err != nil {
		return err
	}
	return e.dismissVM(ctx, []string{p.ID}, func(now vswitch.Port) bool { return e.goneFrom(ctx, now) }, markReleased)
}

// markReleased is what becomes of ports that stay.
func markReleased(p *vswitch.Port) {
	if p.VM.Stage == vswitch.VMActive {
		p.VM.Stage = vswitch.VMReleased
	}
}

// dismissVM removes those of some ports that are to go, and changes the others.
func (e *Engine) dismissVM(ctx context.Context, ids []string, goes func(vswitch.Port) bool, stays func(*vswitch.Port)) error {
	var outgrown []string
	out := leaver(&outgrown)
	out.goes = goes
	err := e.dismissHeld(ctx, ids, out, stays)
	for _, name := range outgrown {
		_ = e.shrink(ctx, name) // the ports are gone; GC tries again and tells
	}
	return err
}

func (e *Engine) dismissHeld(ctx context.Context, ids []string, out removal, stays func(*vswitch.Port)) error {
	unlock, err := e.store.LockPorts(ids)
	if err != nil {
		return err
	}
	defer unlock()
	left, err := e.removeHeld(ctx, ids, out, nil)
	if stays == nil || len(left) == len(ids) {
		return err
	}
	return errors.Join(err, e.store.Update(func(tx *store.Tx) error {
		for _, id := range ids {
			p, err := tx.Port(id)
			if err != nil && !errors.Is(err, vswitch.NotFound) {
				return err
			}
			was := p.VM
			if stays(&p); err == nil && p.VM != was {
				if err := tx.PutPort(p); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// ReleaseDomain lets go of all ports of a VM that has stopped here, also those that nobody has
// released, and of what was expected of it. Taps that are there all the same are taken out of
// their bridges; those that Patchbay has made go, whether the VM's definition has them still
// or not. A VM without ports is released. The VM is named by its domain's UUID.
func (e *Engine) ReleaseDomain(ctx context.Context, id string) error {
	object := vswitch.DomainRef{ID: id}
	if err := object.Validate(); err != nil {
		return fault("domain release", object.String(), err)
	}
	return fault("domain release", object.String(), e.releaseDomain(ctx, id))
}

func (e *Engine) releaseDomain(ctx context.Context, id string) error {
	var ports []vswitch.Port
	expected := false
	err := e.store.View(func(tx *store.Tx) (err error) {
		if ports, err = tx.PortsOfDomain(id); err != nil {
			return err
		}
		_, expected, err = tx.Expected(id)
		return err
	})
	if err == nil && expected {
		err = e.store.Update(func(tx *store.Tx) error { return tx.DropExpected(id) })
	}
	if err != nil || len(ports) == 0 {
		return err
	}
	return errors.Join(e.deleteTaps(ctx, ports...), e.dismissVM(ctx, idsOf(ports), anyPort, nil))
}

// ReleaseUnused lets go of a VM's port that seems to be nobody's any more, and reports whether it
// is gone. It is the port as it was seen: one that has changed since, as by a start of its VM, stays,
// and so does all else that the VM has. Of a VM that does not run (stopped) the tap goes as by
// ReleaseDomain. Where nobody knows of the VM the port stays while it may be in use: while its
// netdev is there, but for a tap that no program has open.
func (e *Engine) ReleaseUnused(ctx context.Context, seen vswitch.Port, stopped bool) (gone bool, err error) {
	if err := validateVMOwner(seen.Owner); err != nil {
		return false, fault("port release", seen.Owner.String(), err)
	}
	gone, err = e.releaseUnused(ctx, seen, stopped)
	return gone, fault("port release", seen.Owner.String(), err)
}

func (e *Engine) releaseUnused(ctx context.Context, seen vswitch.Port, stopped bool) (gone bool, err error) {
	asSeen := func(now vswitch.Port) bool {
		gone = reflect.DeepEqual(now, seen)
		return gone
	}
	now, found, err := e.Attached(ctx, seen.Owner)
	if err != nil || !found || !asSeen(now) {
		return false, err
	}
	place, tap := e.placeOf(ctx, now)
	idle := place == tapGone || tap.Kind == "tun" && tap.Up && !tap.Carrier
	if !stopped && !idle {
		return false, nil
	}
	if place != tapGone { // or one of its name is that of a start
		err = e.deleteTaps(ctx, now)
	}
	if err == nil {
		err = e.dismissVM(ctx, []string{seen.ID}, asSeen, nil)
	}
	return gone && err == nil, err
}
