package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file decides whether a switch has what the host has on its NIC. It is part of the
// transaction that makes or changes the switch: nothing here is a verb.

// claim decides for each switch where what the host has on the NIC is to be. A host port
// that takes it over has the NIC's address: neighbours need not learn another.
func (e *Engine) claim(ctx context.Context, t *transaction) error {
	all, err := e.crews(t)
	if err != nil {
		return err
	}
	for _, c := range t.changes {
		if c.old != nil && c.old.Uplink != "" && (c.new == nil || c.new.Uplink == "") {
			if err := e.notRenamed(ctx, *c.old); err != nil {
				return err
			}
		}
		if c.new == nil {
			continue
		}
		if err := errors.Join(t.inherit(c.new, all), e.inheritTeam(ctx, t, c.new, all)); err != nil {
			return err
		}
		if err := e.claimFor(ctx, c.old, c.new); err != nil {
			return err
		}
	}
	return nil
}

// inherit is for a switch that takes its NIC over from one that has what the host has
// on it, and gives it up without another: the host goes from port to port.
func (t *transaction) inherit(r *store.SwitchRecord, all crews) error {
	for _, c := range t.changes {
		if c.old == nil || c.old.Name == r.Name || !all.share(c.old.Uplink, r.Uplink) || c.new != nil && c.new.Uplink != "" {
			continue
		}
		if c.old.Host == store.HostElsewhere {
			continue
		}
		if err := takesOver(r, "switch "+c.old.Name); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) claimFor(ctx context.Context, old, r *store.SwitchRecord) error {
	place, err := e.place(ctx, old, *r)
	if err != nil {
		return err
	}
	if r.Host == store.HostOnPort && place != store.HostOnPort {
		r.HostMAC = vswitch.MAC{} // was the NIC's
	}
	if r.Host = place; place != store.HostOnPort {
		return nil
	}
	r.HostMAC, err = e.uplinkMAC(ctx, r.Uplink)
	return err
}

// place is where what the host has on the uplink is to be.
func (e *Engine) place(ctx context.Context, old *store.SwitchRecord, r store.SwitchRecord) (store.HostPlace, error) {
	if r.Uplink == "" {
		return store.HostElsewhere, nil
	}
	has := r.Host != store.HostElsewhere || old != nil && old.Host != store.HostElsewhere
	if !has {
		_, carries, err := e.livesOn(ctx, r.Uplink)
		if err != nil {
			return store.HostElsewhere, err
		}
		has = len(carries) > 0
	}
	switch {
	case !has:
		return store.HostElsewhere, nil
	case r.HostPort():
		return store.HostOnPort, nil
	}
	return store.HostKept, nil
}

// notRenamed refuses to take the host from a NIC that is there under another name: what
// it has would go to nobody.
func (e *Engine) notRenamed(ctx context.Context, r store.SwitchRecord) error {
	if r.Host == store.HostElsewhere {
		return nil
	}
	if _, err := e.kernel.Netdev(ctx, r.Uplink); !errors.Is(err, vswitch.NotFound) {
		return err
	}
	n, found, err := e.renamed(ctx, r)
	if !found {
		return err
	}
	return fault("", "switch "+r.Name, &vswitch.Error{
		Kind: vswitch.UplinkNotFound, Err: fmt.Errorf("there is no NIC %s that the host could go back to, but the switch has %s, which may be the same", r.Uplink, n.Name),
		Hint: renaming(n.Name, r.Uplink),
	})
}

// hosted reads the note of a switch; an empty one if there is none. One that was taken
// before the boot says so.
func (e *Engine) hosted(name string) (note plan.HostNote, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		body, found, err := tx.Hosted(name)
		past := false
		if err == nil && !found {
			body, past, err = tx.KeptForHost(name)
		}
		if err != nil || !found && !past {
			return err
		}
		note.Past = past
		return json.Unmarshal(body, &note)
	})
	return note, err
}

// note writes what has to be known of the host's things, or forgets it.
func (e *Engine) note(name string, note plan.HostNote) error {
	return e.store.Update(func(tx *store.Tx) error { return putNote(tx, name, note) })
}

func putNote(tx *store.Tx, name string, note plan.HostNote) error {
	if note.Empty() {
		return tx.DropHosted(name)
	}
	body, err := json.Marshal(note)
	if err != nil {
		return err
	}
	return tx.PutHosted(name, body)
}

// keep is note for what the switch keeps while the host has it nowhere: a reboot does not
// take it away.
func (e *Engine) keep(name string, note plan.HostNote) error {
	kept := false
	err := e.store.View(func(tx *store.Tx) (err error) {
		_, kept, err = tx.KeptForHost(name)
		return err
	})
	if err != nil || !kept && len(note.Items) == 0 {
		return errors.Join(err, e.note(name, note))
	}
	return e.store.UpdateConfig(func(tx *store.Tx) error {
		if err := putNote(tx, name, note); err != nil {
			return err
		}
		if len(note.Items) == 0 {
			return tx.DropKeptForHost(name)
		}
		body, err := json.Marshal(note.Lasting())
		if err != nil {
			return err
		}
		return tx.KeepForHost(name, body)
	})
}
