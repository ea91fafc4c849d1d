package engine

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file moves what the host has on a NIC to the host port of the switch that takes
// the NIC, and back. It is part of the transaction that makes or changes the switch:
// nothing here is a verb.

// hosted is the note of what the host had on a switch's uplink. It lies in the run
// file: after a reboot the host configures its NICs anew.
type hosted struct {
	// NIC is the uplink that the settings were changed of, and Settings what they were.
	NIC      string            `json:"nic,omitempty"`
	Settings map[string]string `json:"settings,omitempty"`
	// Port are the settings that the host port is to have, and Former those that it had
	// before.
	Port   map[string]string `json:"port,omitempty"`
	Former map[string]string `json:"former,omitempty"`
	// Items are on their way, or kept for the host while it has no port on the switch.
	Items []plan.Item `json:"items,omitempty"`
}

const (
	rpFilter    = "ipv4/rp_filter"
	addrGenMode = "ipv6/addr_gen_mode"
	// addrGenNone keeps the kernel from giving the NIC the link-local address again that
	// has moved to the host port.
	addrGenNone = "1"
)

// claim decides for each switch whether its host port takes over what the host has on
// the NIC. It then has the NIC's address: neighbours need not learn another.
func (e *Engine) claim(ctx context.Context, t *transaction) error {
	for _, c := range t.changes {
		if c.old != nil && c.old.Uplink != "" && (c.new == nil || c.new.Uplink == "") {
			if err := e.notRenamed(ctx, *c.old); err != nil {
				return err
			}
		}
		if c.new == nil {
			continue
		}
		if err := e.inherit(t, c.new); err != nil {
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
func (e *Engine) inherit(t *transaction, r *store.SwitchRecord) error {
	for _, c := range t.changes {
		if c.old == nil || c.old.Name == r.Name || r.Uplink == "" || c.old.Uplink != r.Uplink || c.new != nil && c.new.Uplink != "" {
			continue
		}
		note, err := e.hosted(c.old.Name)
		if err != nil {
			return err
		}
		if !c.old.CarriesHost && len(note.Items) == 0 {
			continue
		}
		if !r.HostPort() {
			return fault("", "switch "+r.Name, &vswitch.Error{
				Kind: vswitch.UplinkInUse, Err: fmt.Errorf("it takes NIC %s, and what the host has on it, from switch %s and has no port for the host", r.Uplink, c.old.Name),
				Hint: "leave host access on; take it away with `patchbay switch set` when the switch has the NIC",
			})
		}
		r.CarriesHost = true
	}
	return nil
}

func (e *Engine) claimFor(ctx context.Context, old, r *store.SwitchRecord) error {
	carries, err := e.carries(ctx, old, *r)
	if err != nil {
		return err
	}
	if r.CarriesHost && !carries {
		r.HostMAC = vswitch.MAC{} // was the NIC's
	}
	r.CarriesHost = carries
	if !carries {
		return nil
	}
	nic, err := e.kernel.Netdev(ctx, r.Uplink)
	r.HostMAC = nic.MAC
	return err
}

// carries reports whether the host's connections go by the switch.
func (e *Engine) carries(ctx context.Context, old *store.SwitchRecord, r store.SwitchRecord) (bool, error) {
	if r.Uplink == "" || !r.HostPort() {
		return false, nil
	}
	if r.CarriesHost || old != nil && old.CarriesHost {
		return true, nil
	}
	note, err := e.hosted(r.Name)
	if err != nil || len(note.Items) > 0 {
		return err == nil, err
	}
	a, err := e.kernel.Addressing(ctx, r.Uplink)
	return a.CarriesHost(), err
}

// hosted reads the note of a switch; an empty one if there is none.
func (e *Engine) hosted(name string) (note hosted, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		body, found, err := tx.Hosted(name)
		if err != nil || !found {
			return err
		}
		return json.Unmarshal(body, &note)
	})
	return note, err
}

// note writes what has to be known of the host's things, or forgets it.
func (e *Engine) note(name string, note hosted) error {
	return e.store.Update(func(tx *store.Tx) error {
		if note.NIC == "" && len(note.Items) == 0 {
			return tx.DropHosted(name)
		}
		body, err := json.Marshal(note)
		if err != nil {
			return err
		}
		return tx.PutHosted(name, body)
	})
}
