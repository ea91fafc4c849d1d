package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file is about what a transaction writes: what shall be, before the kernel is touched,
// and what is, when that is done.

// intend writes what shall be, if the uplinks can keep what switches and hosts are promised.
func (e *Engine) intend(tx *store.Tx, t *transaction) error {
	if err := t.intend(tx); err != nil {
		return err
	}
	for _, c := range t.changes {
		if c.new == nil || !promisesOther(c) {
			continue
		}
		if err := e.admitShares(tx, *c.new); err != nil {
			return fault("", "switch "+c.new.Name, err)
		}
	}
	return nil
}

// intend writes what the switches become. One that goes stays written until it is
// gone, with the note that it does: what a killed process left of it has a name by which it
// can be deleted, and gives way to who gets its uplink.
func (t *transaction) intend(tx *store.Tx) error {
	if err := errors.Join(t.putPool(tx), t.intendTeams(tx)); err != nil {
		return err
	}
	switches, err := t.outcome(tx)
	if err != nil {
		return err
	}
	teams, err := t.outcomeTeams(tx)
	if err != nil {
		return err
	}
	for _, c := range t.changes {
		if c.new == nil {
			going := *c.old
			going.Going = true
			if err := tx.PutSwitch(going); err != nil {
				return err
			}
			continue
		}
		if err := errors.Join(fits(tx, c.new.Switch, switches), noMembersUplink(teams, c.new.Switch)); err != nil {
			return fault("", "switch "+c.new.Name, err)
		}
		if err := t.put(tx, c); err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) put(tx *store.Tx, c change) (err error) {
	if c.new.Number == 0 {
		if c.new.Number, err = tx.FreeSwitchNumber(); err != nil {
			return err
		}
	}
	if err := t.chooseVLAN(tx, c.new); err != nil {
		return err
	}
	teams, err := t.outcomeTeams(tx)
	if err != nil {
		return err
	}
	c.new.Spread, c.new.Going = spreads(teams, c.new.Uplink), false
	if err := leaseHostMAC(tx, c.new); err != nil {
		return err
	}
	if err := tx.PutSwitch(*c.new); err != nil {
		return err
	}
	if c.old != nil && c.old.EffectiveMTU != c.new.EffectiveMTU {
		return t.resize(tx, *c.old, *c.new)
	}
	return nil
}

// putPool comes before any address is leased.
func (t *transaction) putPool(tx *store.Tx) error {
	switch {
	case t.newPool != nil:
		return tx.SetMACRange(*t.newPool)
	case t.oldPool != nil:
		return tx.ResetMACRange()
	}
	return nil
}

// outcome is every switch of the host as it is after the transaction.
func (t *transaction) outcome(tx *store.Tx) ([]store.SwitchRecord, error) {
	records, err := tx.Switches()
	names := t.names()
	records = slices.DeleteFunc(records, func(r store.SwitchRecord) bool { return slices.Contains(names, r.Name) })
	return append(records, t.news()...), err
}

// fits measures a switch against the others and against its guests.
func fits(tx *store.Tx, s vswitch.Switch, others []store.SwitchRecord) error {
	return errors.Join(uplinkFree(others, s), subnetsFree(others, s), gatewaysFree(tx, s))
}

// leaseHostMAC gives a host port an address. That of a port that goes is given back
// only when it is gone.
func leaseHostMAC(tx *store.Tx, r *store.SwitchRecord) (err error) {
	if !r.HostPort() {
		r.HostMAC = vswitch.MAC{}
	} else if r.HostMAC.IsZero() {
		r.HostMAC, err = tx.LeaseMAC(vswitch.HostPortSwitchEnd(r.Name))
	}
	return err
}

// conclude forgets the switches that are gone and notes that the others are there. Ports that
// have left meanwhile have waited for that with their parts of the uplinks.
func (e *Engine) conclude(ctx context.Context, t *transaction) error {
	if err := e.noteAll(t); err != nil {
		return err
	}
	defer e.offloadsChanged()
	names := t.names()
	for _, team := range t.newTeams() {
		s, _ := e.standing(team.Name)
		for _, r := range s.on {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		_ = e.reshare(context.WithoutCancel(ctx), name) // all is there; what is too much is drift
	}
	return nil
}

// noteAll writes down what conclude says.
func (e *Engine) noteAll(t *transaction) error {
	if len(t.evicted) > 0 {
		// Before their switch: killed in between, the verb again finds the switch, and
		// killed the other way round it would find nothing and the guests' leases stay.
		if err := e.store.Update(t.dismiss); err != nil {
			t.dismissed = nil // a commit that failed has dropped none
			return err
		}
	}
	write := e.store.Update
	if len(t.news()) < len(t.changes) || len(t.newTeams()) < len(t.teams) {
		write = e.store.UpdateConfig
	}
	return write(func(tx *store.Tx) error {
		for _, c := range t.changes {
			if c.new == nil {
				if err := forgetSwitch(tx, c.old.Name); err != nil {
					return err
				}
			} else if err := noteRealised(tx, *c.new, t.caps, t.segments[c.new.Name]); err != nil {
				return err
			}
		}
		return t.concludeTeams(tx)
	})
}

// noteRealised notes that the kernel has all of a switch and no more: from now on
// attachments need not look.
func noteRealised(tx *store.Tx, r store.SwitchRecord, caps kernel.Capabilities, x extent) error {
	if !r.HostPort() || r.Host == store.HostOnPort { // it had one with an address of the pool, perhaps
		if err := tx.DeletePort(vswitch.HostPortSwitchEnd(r.Name)); err != nil {
			return err
		}
	}
	return tx.PutRealised(store.Realised{
		SwitchRecord: r, LocksPorts: caps.PortLocked, HasRules: caps.BridgeRules, HasGuards: caps.GuardRules, FiltersVLANs: caps.VLANFiltering,
		Segments: x.want, Carried: x.carried, Apart: x.apart,
	})
}

// forgetSwitch drops a switch that the kernel has not any more, and with the host's
// port the lease of its address.
func forgetSwitch(tx *store.Tx, name string) error {
	return errors.Join(
		tx.DeletePort(vswitch.HostPortSwitchEnd(name)),
		tx.DropRealised(name),
		tx.DropHosted(name), // of a NIC that is gone
		tx.DropKeptForHost(name),
		tx.DeleteSwitch(name),
	)
}
