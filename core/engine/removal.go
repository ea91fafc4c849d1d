package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// removal says which of the ports that are looked at go.
type removal struct {
	// goes is asked about each port that has a record, under the port's lock: what
	// was stale a moment ago may have been attached anew since. A port without a
	// record goes in any case: its netdev has the name that follows from its owner.
	goes func(vswitch.Port) bool
	// owners are those of the ports, in their order, where they are known without a record.
	owners []vswitch.Owner
	// blind removes the netdevs even where the store cannot tell about them.
	blind bool
	// outgrown, if not nil, is told of a switch that can do without a segment now.
	outgrown func(name string)
}

func anyPort(vswitch.Port) bool { return true }

// ids are the ports of the owners.
func (r removal) ids() (ids []string) {
	for _, o := range r.owners {
		ids = append(ids, o.PortID())
	}
	return ids
}

func idsOf(ports []vswitch.Port) (ids []string) {
	for _, p := range ports {
		ids = append(ids, p.ID)
	}
	return ids
}

// removedTogether bounds how many ports are locked at a time, and with that how long
// one of them that is wanted again has to wait: 128 take the kernel 0.1 s.
const removedTogether = 128

// remove takes ports out of the kernel and out of the store, many at a time, and
// returns the ids of those that went. It goes on after errors and returns them joined.
func (e *Engine) remove(ctx context.Context, ids []string, r removal) (gone []string, err error) {
	for together := range slices.Chunk(ids, removedTogether) {
		went, failed := e.removeTogether(ctx, together, r)
		gone, err = append(gone, went...), errors.Join(err, failed)
	}
	return gone, err
}

func (e *Engine) removeTogether(ctx context.Context, ids []string, r removal) (gone []string, err error) {
	unlock, lockErr := e.store.LockPorts(ids)
	if lockErr == nil {
		defer unlock()
	}
	return e.removeHeld(ctx, ids, r, lockErr)
}

// removeHeld is removeTogether of ports whose locks are held, unless lockErr tells why
// they are not.
func (e *Engine) removeHeld(ctx context.Context, ids []string, r removal, lockErr error) (gone []string, err error) {
	found, viewErr := e.recall(ids)
	unsure := errors.Join(viewErr, lockErr)
	if unsure != nil && !r.blind {
		return nil, unsure
	}
	for i, o := range r.owners {
		if !found[i].known {
			found[i].port.Owner = o
		}
	}
	found = slices.DeleteFunc(found, func(x reservation) bool { return x.known && !r.goes(x.port) })
	out, err := e.withdraw(ctx, found)
	for _, x := range out {
		err = errors.Join(err, e.shutOut(ctx, x.record.Uplink, x.port))
	}
	if forgetErr := e.forgetAll(out, r.outgrown); forgetErr != nil {
		return nil, errors.Join(err, unsure, forgetErr)
	}
	var left []vswitch.Port
	for _, x := range out {
		if x.port.VF != "" {
			err = errors.Join(err, e.strip(ctx, x.port)) // before anybody asks for a VF
		}
		e.denials.forget(x.port.ID)
		gone, left = append(gone, x.port.ID), append(left, x.port)
	}
	return gone, errors.Join(err, unsure, e.accord(ctx, left...))
}

// forgetAll drops the records of ports that are out of the kernel.
func (e *Engine) forgetAll(ports []reservation, outgrown func(string)) error {
	if !slices.ContainsFunc(ports, func(x reservation) bool { return x.known }) {
		e.tellOutgrown(outgrown)
		return nil
	}
	return e.store.Update(func(tx *store.Tx) error {
		for _, x := range ports {
			if err := tx.DeletePort(x.port.ID); err != nil {
				return err
			}
			if outgrown == nil || !x.known {
				continue
			}
			if spare, err := x.leavesSpareVLAN(tx); err != nil {
				return err
			} else if spare {
				outgrown(x.port.Switch)
				continue
			}
			if x.segments == 0 {
				continue
			}
			load, err := tx.Load(x.port.Switch)
			if err != nil {
				return err
			}
			if load.Spare(e.sizes, x.segments) {
				outgrown(x.port.Switch)
			}
		}
		return nil
	})
}

// tellOutgrown tells of switches that are outgrown where no port has gone: whoever removed
// it was killed, perhaps, before its switch had shrunk.
func (e *Engine) tellOutgrown(outgrown func(string)) {
	if outgrown == nil {
		return
	}
	names, _ := e.outgrown() // no port has to go; GC looks again and tells
	for _, name := range names {
		outgrown(name)
	}
}

// recall reads what the store has of ports that are to go. One that it does not know,
// or cannot read, has its id and no more.
func (e *Engine) recall(ids []string) ([]reservation, error) {
	all := make([]reservation, len(ids))
	for i, id := range ids {
		all[i].port.ID = id
	}
	err := e.store.View(func(tx *store.Tx) error {
		var errs []error
		for i, id := range ids {
			errs = append(errs, all[i].recall(tx, id))
		}
		return errors.Join(errs...)
	})
	return all, err
}

// together locks the ports of guests, some at a time, and hands over what the store has of
// them then.
func (e *Engine) together(ports []vswitch.Port, do func([]reservation) error) error {
	for some := range slices.Chunk(idsOf(ports), removedTogether) {
		if err := e.withPorts(some, do); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) withPorts(ids []string, do func([]reservation) error) error {
	unlock, err := e.store.LockPorts(ids)
	if err != nil {
		return err
	}
	defer unlock()
	found, err := e.recall(ids)
	if err != nil {
		return err
	}
	return do(found)
}

func (r *reservation) recall(tx *store.Tx, id string) error {
	p, err := tx.Port(id)
	if errors.Is(err, vswitch.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	r.port, r.known = p, true
	// Of its switch no more matters now than where the port is known.
	r.record.Name = p.Switch
	realised, found, err := tx.Realised(p.Switch)
	r.segments = realised.Segments
	r.record.InternalVLAN, r.record.Uplink, r.record.Spread = realised.InternalVLAN, realised.Uplink, realised.Spread
	if r.caps = realisedCapabilities(realised); found || err != nil {
		return err
	}
	_, err = tx.Fact(capabilitiesFact, &r.caps)
	return err
}

// withdraw takes ports out of the kernel, known or not, and returns those that are
// out. All go in one plan; should that fail, each goes by itself, so that one that
// cannot does not keep the others.
func (e *Engine) withdraw(ctx context.Context, ports []reservation) (out []reservation, err error) {
	if len(ports) == 0 {
		return nil, nil
	}
	if err = e.withdrawTogether(ctx, ports); err == nil {
		return ports, nil
	}
	if len(ports) == 1 || ctx.Err() != nil {
		return nil, err
	}
	var errs []error
	for _, p := range ports {
		if err := e.withdrawTogether(ctx, []reservation{p}); err != nil {
			errs = append(errs, fmt.Errorf("port %s: %w", p.port.ID, err))
		} else {
			out = append(out, p)
		}
	}
	return out, errors.Join(errs...)
}

// withdrawTogether removes netdevs of ours without a look, for speed; at somebody
// else's it looks first, since the owner may have moved it elsewhere meanwhile.
func (e *Engine) withdrawTogether(ctx context.Context, ports []reservation) error {
	had, adopted, stays := plan.State{}, plan.State{}, plan.State{}
	away := make(map[string]bool) // netdevs of others in others' bridges
	var unlimited []plan.Step
	for _, r := range ports {
		unlimited = append(unlimited, unlimit(r.port)...)
		stays = plan.Union(stays, around(r.port, r.record))
		switch {
		case r.port.OnVF():
			had = plan.Union(had, attachedState(r.port, r.record, r.caps))
		case r.known && !r.port.Plugged(): // a VM's, without a tap
		case r.port.Netdev == "": // no record: the names follow from the owner
			had = plan.Union(had, lostState(r.port))
		case r.port.Adopted:
			adopted = plan.Union(plan.Union(adopted, attachedState(r.port, r.record, r.caps)), earlierRules(r.port))
		default:
			had = plan.Union(plan.Union(had, attachedState(r.port, r.record, r.caps)), earlierRules(r.port))
		}
	}
	if len(adopted.Ports) > 0 {
		seen, err := e.kernel.Observe(ctx, adopted)
		if err != nil {
			return err
		}
		for _, r := range ports { // the tap of another VM may have the name by now
			if place, _ := e.placeOf(ctx, r.port); place == tapGone && r.port.VM.Index != 0 {
				delete(seen.Ports, r.port.Netdev)
			}
		}
		for _, r := range ports {
			away[r.port.Netdev] = r.stays && r.caps.BridgeRules
		}
		for netdev, p := range seen.Ports {
			if p.Bridge != "" && p.Bridge != adopted.Ports[netdev].Bridge {
				p.FDB, away[netdev] = nil, true
				seen.Ports[netdev] = p
			}
		}
		had = plan.Union(had, seen)
	}
	for name := range stays.Ports { // as it is, but for the entries
		trunk, there := had.Ports[name]
		trunk.FDB, trunk.FDBIn = nil, nil
		if stays.Ports[name] = trunk; !there {
			delete(stays.Ports, name)
		}
	}
	steps := plan.Diff(stays, had)
	for i, s := range steps {
		if out, is := s.(plan.ReleasePort); is && away[out.Name] {
			out.Stays = true
			steps[i] = out
		}
	}
	return e.kernel.Apply(ctx, append(steps, unlimited...))
}

// unplug undoes a failed attach: out of the kernel, then out of the store. A port
// that was there before stays, for its owner to delete.
func (e *Engine) unplug(ctx context.Context, r reservation) error {
	if r.known {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := e.withdraw(ctx, []reservation{r}); err != nil {
		return err
	}
	return errors.Join(e.forget(r), e.accord(ctx, r.port))
}

// forget takes a reservation back.
func (e *Engine) forget(r reservation) error {
	if r.known {
		return nil
	}
	forgotten := e.store.Update(func(tx *store.Tx) error { return tx.DeletePort(r.port.ID) })
	err := errors.Join(forgotten, e.strip(context.Background(), r.port))
	e.denials.forget(r.port.ID)
	return err
}
