package engine

import (
	"context"
	"errors"
	"sync"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// denials are what plugins have not given, and why, until they give it or nobody asks any
// more. The zero value is none.
type denials struct {
	mu sync.Mutex
	by map[vswitch.OffloadRef]*vswitch.Denied
}

// note keeps why; nil forgets it.
func (d *denials) note(ref vswitch.OffloadRef, why *vswitch.Denied) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if why == nil {
		delete(d.by, ref)
		return
	}
	if d.by == nil {
		d.by = make(map[vswitch.OffloadRef]*vswitch.Denied)
	}
	d.by[ref] = why
}

func (d *denials) of(ref vswitch.OffloadRef) *vswitch.Denied {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.by[ref]
}

// ensure has a plugin give what is decided, unless it has. What is about to be asked for is
// written first, and a process that is killed over it leaves a record by which the plugin is
// asked for the same again, or to take it back. The caller holds the lock of offloads.
func (e *Engine) ensure(ctx context.Context, v *verdict, d vswitch.OffloadDecision) error {
	plugin, want := v.request(d)
	had, known := v.grants[want.OffloadRef]
	same := had.Request
	same.Generation = 0
	if known && had.Plugin != plugin {
		if err := e.release(ctx, had); err != nil {
			return err
		}
		had, known = store.Grant{}, false
	}
	if known && !had.Going && same == want {
		if had.Given != nil {
			e.denials.note(want.OffloadRef, nil)
			return nil
		}
		want.Generation = had.Request.Generation
	}
	intent := store.Grant{Request: want, Plugin: plugin, Switch: v.record.Name, Given: had.Given}
	err := e.store.Update(func(tx *store.Tx) (err error) {
		if intent.Request.Generation == 0 {
			if intent.Request.Generation, err = tx.NextGeneration(e.now()); err != nil {
				return err
			}
		}
		return tx.PutGrant(intent)
	})
	if err != nil {
		return err
	}
	given, err := e.hardware.Ensure(ctx, plugin, intent.Request)
	if err != nil {
		return e.denied(intent, had, err)
	}
	intent.Given = &given
	e.denials.note(want.OffloadRef, nil)
	v.grants[want.OffloadRef] = intent
	return e.store.Update(func(tx *store.Tx) error { return tx.PutGrant(intent) })
}

// denied notes why a plugin did not give what it was asked for. One that failed may have
// given it all the same: that is asked again.
func (e *Engine) denied(intent, had store.Grant, err error) error {
	why := &vswitch.Denied{Reason: vswitch.Refused, Detail: err.Error()}
	errors.As(err, &why)
	e.denials.note(intent.Request.OffloadRef, why)
	if why.Reason == vswitch.ProviderFailed {
		return err
	}
	back := e.store.Update(func(tx *store.Tx) error {
		if had.Given != nil {
			return tx.PutGrant(had)
		}
		return tx.DeleteGrant(intent.Request.OffloadRef)
	})
	return errors.Join(err, back)
}

// release has a plugin take back what it gave. One that is not installed any more has
// nothing to take back.
func (e *Engine) release(ctx context.Context, g store.Grant) error {
	g.Going = true
	if err := e.store.Update(func(tx *store.Tx) error { return tx.PutGrant(g) }); err != nil {
		return err
	}
	err := e.hardware.Release(ctx, g.Plugin, g.Request.OffloadRef, g.Request.Generation)
	if err != nil && !errors.Is(err, vswitch.NotFound) {
		return err
	}
	e.denials.note(g.Request.OffloadRef, nil)
	return e.store.Update(func(tx *store.Tx) error { return tx.DeleteGrant(g.Request.OffloadRef) })
}
