package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// needsNIC reports whether a port wants something of the uplink that cannot wait until the
// arbiter has the time: what it requires.
func needsNIC(p vswitch.Port) bool {
	for _, f := range vswitch.Features() {
		if p.Policy.Offload.Wish(f).Mode == vswitch.OffloadRequire {
			return true
		}
	}
	return false
}

// equip gives a port that is about to be what it requires of the uplink, or fails with what
// it cannot have and why. The caller holds the port's lock, and on a failure of its own gives
// it back with strip.
func (e *Engine) equip(ctx context.Context, p vswitch.Port) error {
	if !needsNIC(p) {
		return nil
	}
	unlock, err := e.store.LockOffloads(p.Switch)
	if err != nil {
		return err
	}
	defer unlock()
	v, err := e.judge(ctx, p.Switch, &p)
	if err != nil {
		return err
	}
	if err := vswitch.Unmet(v.of(p.ID)); err != nil {
		return err
	}
	if err := v.yield(func(g store.Grant) error { return e.release(ctx, g) }); err != nil {
		return err
	}
	for _, d := range v.of(p.ID) {
		if d.Requested != vswitch.OffloadRequire || !asksPlugin(d) {
			continue
		}
		if err := e.ensure(ctx, &v, d); err != nil {
			return required(d, err)
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
