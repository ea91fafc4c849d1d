package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// needsNIC reports whether a port wants something of the uplink that cannot wait until the
// arbiter has the time: what it requires, and a VF, which is the owner's netdev.
func needsNIC(p vswitch.Port) bool {
	for _, f := range vswitch.Features() {
		w := p.Policy.Offload.Wish(f)
		if w.Mode == vswitch.OffloadRequire || f == vswitch.SRIOV && w.Mode != vswitch.OffloadOff {
			return true
		}
	}
	return p.VF != ""
}

// equip gives a port that is about to be, or to change, what it requires of the uplink, or
// fails with what it cannot have and why. A container that is being attached gets a VF, if
// one is to be had: the answer is the port with that. The caller holds the port's lock, and
// on a failure of its own gives it back with strip.
func (e *Engine) equip(ctx context.Context, p vswitch.Port, attaching bool) (vswitch.Port, error) {
	if !needsNIC(p) {
		return p, nil
	}
	unlock, err := e.store.LockOffloads(p.Switch)
	if err != nil {
		return p, err
	}
	defer unlock()
	v, err := e.judgeWith(ctx, p, attaching)
	if err != nil {
		return p, err
	}
	if err := e.admitOffloads(ctx, &v, p); err != nil {
		return p, err
	}
	equipped, refused, err := e.equipVF(ctx, &v, p)
	if err != nil {
		return p, err
	}
	if refused { // and with the VF the queues that it would have brought
		v.decide()
		if err := e.admitOffloads(ctx, &v, equipped); err != nil {
			return p, err
		}
	}
	for _, d := range v.of(p.ID) {
		if asksPlugin(d) && d.Feature != vswitch.SRIOV && d.Requested == vswitch.OffloadRequire {
			if err := e.ensure(ctx, &v, d); err != nil {
				return p, required(d, err)
			}
		}
	}
	return equipped, nil
}

// admitOffloads fails with what a port requires and is not to have, or has and cannot be without,
// and has taken back what others are to lose.
func (e *Engine) admitOffloads(ctx context.Context, v *verdict, p vswitch.Port) error {
	if err := errors.Join(vswitch.Unmet(v.of(p.ID)), v.keepsVF(p)); err != nil {
		return err
	}
	return e.yield(ctx, v, func(g store.Grant) error { return e.release(ctx, g) })
}

// equipVF gives a port the VF that it is to have, unless its plugin refuses, and takes from it
// the one that it is not to have.
func (e *Engine) equipVF(ctx context.Context, v *verdict, p vswitch.Port) (equipped vswitch.Port, refused bool, err error) {
	for _, d := range v.of(p.ID) {
		if v.loses(d) {
			p.VF = ""
		}
		if d.Feature != vswitch.SRIOV || !asksPlugin(d) {
			continue
		}
		err := e.ensure(ctx, v, d)
		if err != nil && (d.Requested == vswitch.OffloadRequire || p.VF != "") {
			return p, true, required(d, err)
		}
		if refused = err != nil; refused {
			continue
		}
		if g, _ := v.given(p.ID, d.Feature); g.Given.VF != nil && g.Given.VF.Netdev != "" { // else it is in its owner's namespace
			p.VF = g.Given.VF.Netdev
		}
	}
	if p.OnVF() { // no port of the bridge, and in no segment
		p.Netdev, p.Segment = "", 0
	}
	return p, refused, nil
}

// keepsVF refuses what a port that works by a VF cannot have: nothing else is there to do it,
// or the VF cannot be taken from its owner now.
func (v *verdict) keepsVF(p vswitch.Port) error {
	for _, d := range v.of(p.ID) {
		if p.VF == "" || v.loses(d) || d.Feature != vswitch.SRIOV || d.Effective {
			continue
		}
		cause, hint := d.Reason.Words()
		if d.Detail != "" {
			cause += ": " + d.Detail
		}
		if d.Reason == vswitch.NotAsked || d.Reason == vswitch.NeedsSoftwarePath {
			hint = "attach the container anew with what it is to have"
		}
		return &vswitch.Error{
			Kind: vswitch.Conflict, Object: "port " + p.ID, Hint: hint,
			Err: fmt.Errorf("its owner works on VF %s of the NIC, which cannot be changed to that: %s", p.VF, cause),
		}
	}
	return nil
}

// required is the error of what a plugin has not given and a port cannot do without.
func required(d vswitch.OffloadDecision, err error) error {
	var why *vswitch.Denied
	if !errors.As(err, &why) {
		return err
	}
	_, hint := why.Reason.Words()
	return &vswitch.Error{
		Kind: vswitch.CapabilityMissing, Object: "port " + d.Port, Hint: hint,
		Err: fmt.Errorf("%s is required: %w", d.Feature, err),
	}
}

// strip gives back what a port has that is not to be. What a plugin does not take back now
// it is asked to take back later.
func (e *Engine) strip(ctx context.Context, p vswitch.Port) error {
	if e.hardware == nil || !needsNIC(p) {
		return nil
	}
	var has []store.Grant
	err := e.store.View(func(tx *store.Tx) error {
		all, err := tx.Grants()
		for _, g := range all {
			if g.Request.Port == p.ID {
				has = append(has, g)
			}
		}
		return err
	})
	for _, g := range has {
		_ = e.release(context.WithoutCancel(ctx), g) // it is written that it goes
	}
	e.offloadsChanged()
	return err
}

// equipReserved is equip of a port that is being attached, and writes down which netdev it
// has instead of a pair, before that is made.
func (e *Engine) equipReserved(ctx context.Context, r *reservation) error {
	fresh := !r.port.Adopted && (!r.known || r.port.VF != "" || e.unmade(ctx, r.port))
	equipped, err := e.equip(ctx, r.port, fresh)
	if err != nil || equipped.VF == r.port.VF {
		return err
	}
	r.port = equipped
	return e.store.Update(func(tx *store.Tx) error { return tx.PutPort(r.port) })
}

// unmade reports that a port which wants a VF has no pair: who attached it was killed before.
func (e *Engine) unmade(ctx context.Context, p vswitch.Port) bool {
	if !needsNIC(p) {
		return false
	}
	_, err := e.kernel.Netdev(ctx, p.Netdev)
	return errors.Is(err, vswitch.NotFound)
}
