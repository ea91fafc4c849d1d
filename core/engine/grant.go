package engine

import (
	"context"
	"errors"
	"fmt"
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

// forget is note of all that a port asked for, which is no more.
func (d *denials) forget(port string) {
	for _, f := range vswitch.Features() {
		d.note(vswitch.OffloadRef{Port: port, Feature: f}, nil)
	}
}

func (d *denials) of(ref vswitch.OffloadRef) *vswitch.Denied {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.by[ref]
}

// ensure has a plugin give what is decided, unless it has. A VF that is refused, or given at
// last, decides about a queue of the port too. The caller holds the lock of offloads.
func (e *Engine) ensure(ctx context.Context, v *verdict, d vswitch.OffloadDecision) error {
	ref := vswitch.OffloadRef{Port: d.Port, Feature: d.Feature}
	was := e.denials.of(ref)
	err := e.obtain(ctx, v, d)
	if d.Feature == vswitch.SRIOV && (was == nil) != (e.denials.of(ref) == nil) {
		e.offloadsChanged()
	}
	return err
}

// obtain is ensure. What is about to be asked for is written first, and a process that is killed
// over it leaves a record by which the plugin is asked for the same again, or to take it back.
func (e *Engine) obtain(ctx context.Context, v *verdict, d vswitch.OffloadDecision) error {
	plugin, want := v.request(d)
	had, known := v.grants[want.OffloadRef]
	same := had.Request
	same.Generation = 0
	if known && (had.Plugin != plugin || had.Going) { // what goes is not to be had again as it is
		if err := e.release(ctx, had); err != nil {
			return err
		}
		had, known = store.Grant{}, false
	}
	if known && same == want {
		if had.Given != nil && e.useless(ctx, v, plugin, *had.Given) == nil {
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
		return e.denied(ctx, intent, had, err)
	}
	if why := e.useless(ctx, v, plugin, given); why != nil {
		if v.ports[d.Port].VF != "" { // its owner has one, which stays
			return e.denied(ctx, intent, had, why)
		}
		err := e.release(ctx, intent)
		e.denials.note(want.OffloadRef, why)
		return errors.Join(why, err)
	}
	intent.Given = &given
	e.denials.note(want.OffloadRef, nil)
	v.grants[want.OffloadRef] = intent
	return e.store.Update(func(tx *store.Tx) error { return tx.PutGrant(intent) })
}

// useless says why a container can do nothing with the VF that its port was given: that is held
// against the host before anybody counts on it. One without a netdev on the host is the one that
// the container has, if it has one.
func (e *Engine) useless(ctx context.Context, v *verdict, plugin string, g vswitch.OffloadGrant) *vswitch.Denied {
	if g.Feature != vswitch.SRIOV {
		return nil
	}
	p, netdev := v.ports[g.Port], ""
	if g.VF != nil {
		netdev = g.VF.Netdev
	}
	if p.VF != "" && (netdev == "" || netdev == p.VF) {
		return nil
	}
	if netdev == "" {
		if now, err := e.reserved(g.Port); err == nil && now.VF != "" {
			return nil // it was attached since the ports were read
		}
		return &vswitch.Denied{Reason: vswitch.Refused, Detail: "the plugin gave a VF without a netdev"}
	}
	nic, err := e.kernel.Netdev(ctx, netdev)
	if err == nil && nic.MAC != p.MAC {
		err = fmt.Errorf("its MAC address is %s, and the port's %s", nic.MAC, p.MAC)
	}
	if err = errors.Join(err, e.givenTwice(plugin, g)); err != nil {
		return &vswitch.Denied{Reason: vswitch.ProviderFailed, Detail: fmt.Sprintf("the plugin gave netdev %s as VF %d: %s", netdev, g.VF.Index, err)}
	}
	return nil
}

// givenTwice fails if another port has a VF too. Who gives one back has written that down before.
func (e *Engine) givenTwice(plugin string, g vswitch.OffloadGrant) error {
	return e.store.View(func(tx *store.Tx) error {
		all, err := tx.Grants()
		for _, other := range all {
			has := other.Given
			if has == nil || has.VF == nil || other.Going || other.Plugin != plugin || has.Port == g.Port {
				continue
			}
			if has.NIC == g.NIC && has.VF.Index == g.VF.Index {
				return fmt.Errorf("port %s has it", has.Port)
			}
		}
		return err
	})
}

// denied notes why a plugin did not give what it was asked for. One that failed may have
// given it all the same: that is asked again. What the port has stays, unless it is of a NIC
// that another one does the work of by now; a VF is its owner's wherever it is.
func (e *Engine) denied(ctx context.Context, intent, had store.Grant, err error) error {
	why := &vswitch.Denied{Reason: vswitch.Refused, Detail: err.Error()}
	errors.As(err, &why)
	defer e.denials.note(intent.Request.OffloadRef, why)
	if why.Reason == vswitch.ProviderFailed {
		return err
	}
	if had.Given != nil && had.Request.NIC != intent.Request.NIC && intent.Request.Feature != vswitch.SRIOV {
		return errors.Join(err, e.release(ctx, had))
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
