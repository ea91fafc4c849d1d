package engine

import (
	"context"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
)

// repairSwitches brings the kernel to what the records say, in one pass. The caller
// holds the locks of all of them.
func (e *Engine) repairSwitches(ctx context.Context, caps kernel.Capabilities, records ...store.SwitchRecord) error {
	t := &transaction{caps: caps}
	for i := range records {
		t.changes = append(t.changes, change{new: &records[i]})
	}
	err := e.store.View(func(tx *store.Tx) (err error) {
		if t.teams, err = unfinishedTeams(tx); err != nil || len(t.teams) == 0 {
			return err
		}
		all, err := readClaims(tx)
		t.teams = slices.DeleteFunc(t.teams, func(c teamChange) bool { // these end with all that claim their NICs
			return all.disputed(claimant{team: true, name: c.name()}) != nil
		})
		return err
	})
	if err != nil {
		return err
	}
	e = e.foreseeing(t.teams...)
	if err := e.able(ctx, t, func(error) bool { return false }); err != nil {
		return err
	}
	for i := range records {
		if err := e.reclaim(ctx, caps, &records[i]); err != nil {
			return err
		}
	}
	if err := e.stay(records); err != nil {
		return err
	}
	return e.repair(ctx, t)
}

// stay notes that switches stay whose deletion was killed.
func (e *Engine) stay(records []store.SwitchRecord) error {
	if !slices.ContainsFunc(records, func(r store.SwitchRecord) bool { return r.Going }) {
		return nil
	}
	return e.store.UpdateConfig(func(tx *store.Tx) error {
		for i := range records {
			if !records[i].Going {
				continue
			}
			records[i].Going = false
			if err := tx.PutSwitch(records[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// able refuses a transaction's switches that this host cannot make now. Those whose refusal
// without agrees to are taken out of the transaction instead.
func (e *Engine) able(ctx context.Context, t *transaction, without func(error) bool) error {
	leaving, err := e.unfinished(append(t.news(), t.olds()...))
	if err != nil {
		return err
	}
	leaving = append(leaving, t.olds()...)
	var stay []change
	for _, c := range t.changes {
		if c.new != nil {
			if err := e.possible(ctx, *c.new, t.caps, leaving); err != nil && without(err) {
				continue
			} else if err != nil {
				return err
			}
		}
		stay = append(stay, c)
	}
	t.changes = stay
	return nil
}

// repair takes the kernel to the transaction's records, which are written already. What
// fails is left as it is: whoever comes next finds the same to do.
func (e *Engine) repair(ctx context.Context, t *transaction) error {
	if err := e.strangers(ctx, t); err != nil {
		return err
	}
	e = e.actual()
	if err := e.begin(t); err != nil {
		return err
	}
	if err := e.shift(ctx, t); err != nil {
		return err
	}
	if err := e.evict(ctx, t); err != nil {
		return err
	}
	for _, r := range t.news() {
		resizes := func(was store.SwitchRecord) bool { return was.Name == r.Name && was.EffectiveMTU != r.EffectiveMTU }
		if !slices.ContainsFunc(t.from, resizes) {
			continue
		}
		if err := e.resumeResize(ctx, r, t.caps); err != nil {
			return err
		}
	}
	return e.conclude(ctx, t)
}

// reclaim lets a host port take over what the host has got on the uplink since the
// switch was made.
func (e *Engine) reclaim(ctx context.Context, caps kernel.Capabilities, r *store.SwitchRecord) error {
	claimed := *r
	if err := e.claimFor(ctx, nil, &claimed); err != nil {
		return err
	}
	if claimed.Host == r.Host && claimed.HostMAC == r.HostMAC {
		return nil
	}
	was := *r
	*r = claimed
	return e.transact(ctx, caps, change{old: &was, new: r})
}

// possible refuses a switch that this host cannot make now.
func (e *Engine) possible(ctx context.Context, r store.SwitchRecord, caps kernel.Capabilities, leaving []store.SwitchRecord) error {
	if err := supported(r.Switch, caps); err != nil {
		return err
	}
	if r.Uplink == "" {
		return nil
	}
	_, err := e.uplink(ctx, r.Switch, leaving)
	return err
}

// unfinished are those of the switches that a process was killed in changing, as they
// were before.
func (e *Engine) unfinished(records []store.SwitchRecord) (were []store.SwitchRecord, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		for _, r := range records {
			was, found, err := tx.Realised(r.Name)
			if err != nil {
				return err
			}
			if found && was.Changing {
				were = append(were, was.SwitchRecord)
			}
		}
		return nil
	})
	return were, err
}

// records are all switches of the host.
func (e *Engine) records() (records []store.SwitchRecord, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		records, err = tx.Switches()
		return err
	})
	return records, err
}
