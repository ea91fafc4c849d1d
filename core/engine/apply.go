package engine

import (
	"context"
	"maps"
	"slices"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ApplyRequest says what the host is to be like. Switches that the configuration does
// not mention stay, unless Prune deletes them; one that guests are attached to is
// deleted only with Force, which detaches them.
type ApplyRequest struct {
	Config vswitch.Config `json:"config"`
	Prune  bool           `json:"prune,omitempty"`
	Force  bool           `json:"force,omitempty"`
	// Yes consents to what the switches take from the host: see AddSwitchRequest.
	Yes bool `json:"yes,omitempty"`
}

// Apply takes the host to a configuration in one transaction: the switches that it
// defines are made, changed in place or, with Prune, deleted, all of them or none.
// What is as defined already is not touched, and what the kernel has lost is
// repaired. Killed in the middle, the same Apply again finishes it. Guests that Force
// detaches go last; where that fails, those who have gone are attached again.
func (e *Engine) Apply(ctx context.Context, req ApplyRequest) (ConfigDiff, error) {
	var d ConfigDiff
	err := e.applying(ctx, req, e.lockFor, func(e *Engine, a *application) (err error) {
		if d, err = e.preview(ctx, a); err != nil || !d.Differs() && a.noted {
			return err
		}
		if err := e.finish(ctx, a); err != nil {
			return err
		}
		t := a.transaction()
		t.guests = a.detach
		return e.carryOut(ctx, t)
	})
	return d, fault("apply", "", err)
}

// DiffConfig tells what Apply would do, and changes nothing: a store that can only be
// read will do. It waits for verbs that are changing switches, and keeps none waiting
// longer than it looks.
func (e *Engine) DiffConfig(ctx context.Context, req ApplyRequest) (ConfigDiff, error) {
	var d ConfigDiff
	err := e.applying(ctx, req, e.lookFor, func(e *Engine, a *application) (err error) {
		d, err = e.preview(ctx, a)
		return err
	})
	return d, fault("diff", "", err)
}

// lookFor waits for those who are changing switches.
func (e *Engine) lookFor(vswitch.Config) (existing []store.SwitchRecord, unlock func(), err error) {
	if unlock, err = e.store.AwaitSwitch(allSwitches); err != nil {
		return nil, nil, err
	}
	if existing, err = e.records(); err != nil {
		unlock()
	}
	return existing, unlock, err
}

// lockFor locks the configuration's switches and those that exist.
func (e *Engine) lockFor(c vswitch.Config) (existing []store.SwitchRecord, unlock func(), err error) {
	for {
		before, err := e.records()
		if err != nil {
			return nil, nil, err
		}
		names := make(map[string]bool)
		for _, s := range c.Switches {
			names[s.Name] = true
		}
		for _, r := range before {
			names[r.Name] = true
		}
		if unlock, err = e.lockAlone(slices.Collect(maps.Keys(names))...); err != nil {
			return nil, nil, err
		}
		existing, err = e.records()
		if err == nil && !slices.ContainsFunc(existing, func(r store.SwitchRecord) bool { return !names[r.Name] }) {
			return existing, unlock, nil
		}
		unlock() // somebody made one meanwhile
		if err != nil {
			return nil, nil, err
		}
	}
}

func recordOf(records []store.SwitchRecord, name string) (r store.SwitchRecord) {
	if at := slices.IndexFunc(records, func(r store.SwitchRecord) bool { return r.Name == name }); at >= 0 {
		return records[at]
	}
	return r
}
