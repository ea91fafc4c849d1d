package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
)

// repairSwitches brings the kernel to what the records say, in one pass. The caller
// holds the locks of all of them.
func (e *Engine) repairSwitches(ctx context.Context, caps kernel.Capabilities, records ...store.SwitchRecord) error {
	t := &transaction{caps: caps}
	err := e.store.View(func(tx *store.Tx) (err error) {
		t.teams, err = unfinishedTeams(tx)
		return err
	})
	if err != nil {
		return err
	}
	e = e.foreseeing(t.teams...)
	leaving, err := e.unfinished(records)
	if err != nil {
		return err
	}
	for i, r := range records {
		if err := e.possible(ctx, r, caps, leaving); err != nil {
			return err
		}
		if err := e.reclaim(ctx, caps, &records[i]); err != nil {
			return err
		}
		t.changes = append(t.changes, change{new: &records[i]})
	}
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
	for _, r := range records {
		was := slices.IndexFunc(t.from, func(f store.SwitchRecord) bool { return f.Name == r.Name })
		if was < 0 || t.from[was].EffectiveMTU == r.EffectiveMTU {
			continue
		}
		if err := e.resumeResize(ctx, r, caps); err != nil {
			return err
		}
	}
	return e.conclude(t)
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

// repairTogether is for a switch that waits for a NIC of another one, which a killed
// process was changing too: two that exchange their uplinks are repaired at once or
// not at all. refused is what repairing the switch alone failed with.
func (e *Engine) repairTogether(ctx context.Context, caps kernel.Capabilities, r store.SwitchRecord, refused error) error {
	records, err := e.records()
	if err != nil {
		return err
	}
	were, err := e.unfinished(records)
	if err != nil {
		return err
	}
	unfinished := func(name string) bool {
		return slices.ContainsFunc(were, func(w store.SwitchRecord) bool { return w.Name == name })
	}
	if len(were) < 2 || !unfinished(r.Name) {
		return refused
	}
	records = slices.DeleteFunc(records, func(r store.SwitchRecord) bool { return !unfinished(r.Name) })
	for _, other := range records {
		if other.Name == r.Name {
			continue
		}
		// Only who holds the lock of all switches waits for a second one.
		unlock, err := e.store.LockSwitch(other.Name, store.Exclusive)
		if err != nil {
			return err
		}
		defer unlock()
	}
	if err := e.repairSwitches(ctx, caps, records...); err != nil {
		return errors.Join(refused, err)
	}
	return nil
}

// records are all switches of the host.
func (e *Engine) records() (records []store.SwitchRecord, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		records, err = tx.Switches()
		return err
	})
	return records, err
}
