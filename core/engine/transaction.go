package engine

import (
	"context"
	"errors"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// change is a switch on its way from one record to another; nil is none.
type change struct{ old, new *store.SwitchRecord }

// transaction takes switches and teams from what they are to what they shall be: all of
// them, or none. Every verb that makes, changes or deletes switches is one.
//
// What the switches become is written first, then the kernel is taken there, and
// last it is noted that it is there. On a failure the same is done the other way
// round. A process killed in between leaves a record that says what shall be and
// a note of what was: the next verb on the switch settles it.
type transaction struct {
	caps    kernel.Capabilities
	changes []change
	// teams change before the switches that stand on them, and go after those.
	teams     []teamChange
	fromTeams []store.TeamRecord // of which the kernel may have something
	// from are the records of which the kernel may have something.
	from []store.SwitchRecord
	// before and after are guests' ports whose MTU changes with that of their switch.
	before, after []vswitch.Port
	// oldPool and newPool are the range of the MAC pool; two nils leave it alone, and
	// one stands for the default of this machine.
	oldPool, newPool *vswitch.MACRange
	segments         map[string]extent // by switch; nil for a mere look at what there is
	looks            bool              // nothing is to be carried out
	// asked are VLANs for a port that is to come, on the transaction's only switch.
	asked []vswitch.PortVLAN
	// departed is what the host had before it moved, and undo what it is to have again.
	departed, undo []departure
	// guests go with their switches: see eviction.go. evicted are those who have been taken
	// out, and missed those of them who were there.
	guests, evicted, missed []vswitch.Port
	// dismissed are those whose records are dropped.
	dismissed []store.Removed
	// unfiltered are the switches whose bridges have not filtered VLANs so far.
	unfiltered map[string]bool
}

// transact carries out changes whose new records are complete and valid. The
// caller holds the locks of all the switches.
func (e *Engine) transact(ctx context.Context, caps kernel.Capabilities, changes ...change) error {
	return e.carryOut(ctx, &transaction{caps: caps, changes: changes})
}

func (e *Engine) carryOut(ctx context.Context, t *transaction) error {
	if err := e.standOn(ctx, t); err != nil {
		return err
	}
	if err := e.strangers(ctx, t); err != nil {
		return err
	}
	if err := e.claim(ctx, t); err != nil {
		return err
	}
	e = e.actual()
	if err := e.begin(t); err != nil {
		return err
	}
	err := e.store.UpdateConfig(func(tx *store.Tx) error { return e.intend(tx, t) })
	if err == nil {
		err = e.shift(ctx, t)
	}
	if err == nil {
		err = e.evict(ctx, t)
	}
	if err == nil {
		err = e.conclude(ctx, t)
	}
	if err == nil {
		e.announceChanged(ctx, t)
		return nil
	}
	return undone(err, e.revert(context.WithoutCancel(ctx), t))
}

// begin goes before every change: it notes that the switches are not as realised any
// more, and collects what the kernel may have of what they were. If the process is
// killed in the middle, the next verb finds the same again, and removes what is not
// wanted of it.
func (e *Engine) begin(t *transaction) error {
	return e.store.Update(func(tx *store.Tx) error {
		if err := t.collect(tx, e.sizes); err != nil {
			return err
		}
		if err := t.beginTeams(tx); err != nil {
			return err
		}
		for _, name := range t.names() {
			was, found, err := tx.Realised(name)
			if err != nil {
				return err
			}
			reach := max(was.Segments, t.segments[name].want)
			if !found || was.Changing && was.Segments == reach {
				continue
			}
			was.Changing, was.Segments = true, reach
			if err := tx.PutRealised(was); err != nil {
				return err
			}
		}
		return nil
	})
}

// collect looks up what the kernel may have of the switches, and how far they reach.
func (t *transaction) collect(tx *store.Tx, sizes vswitch.SegmentSizes) error {
	if err := t.extents(tx, sizes); err != nil {
		return err
	}
	if err := t.collectTeams(tx); err != nil {
		return err
	}
	t.from, t.unfiltered = t.olds(), make(map[string]bool)
	for _, name := range t.names() {
		was, found, err := tx.Realised(name)
		if err != nil {
			return err
		}
		if found {
			t.from = append(t.from, was.SwitchRecord)
			t.unfiltered[name] = !was.FiltersVLANs
		}
	}
	return nil
}

// names are the switches of the transaction.
func (t *transaction) names() []string {
	var names []string
	for _, c := range t.changes {
		if c.new != nil {
			names = append(names, c.new.Name)
		} else {
			names = append(names, c.old.Name)
		}
	}
	return names
}

func (t *transaction) olds() (records []store.SwitchRecord) {
	for _, c := range t.changes {
		if c.old != nil {
			records = append(records, *c.old)
		}
	}
	return records
}

func (t *transaction) news() (records []store.SwitchRecord) {
	for _, c := range t.changes {
		if c.new != nil {
			records = append(records, *c.new)
		}
	}
	return records
}

// reverse is the transaction back.
func (t *transaction) reverse() *transaction {
	back := &transaction{caps: t.caps, from: t.news(), before: t.after, after: t.before, oldPool: t.newPool, newPool: t.oldPool, segments: make(map[string]extent), unfiltered: t.unfiltered, undo: t.departed}
	for name, x := range t.segments {
		back.segments[name] = extent{had: max(x.had, x.want), want: x.want, carried: x.hadCarried, apart: x.hadApart, hadCarried: x.carried, hadApart: x.apart}
	}
	for _, c := range t.changes {
		back.changes = append(back.changes, change{old: c.new, new: c.old})
	}
	back.fromTeams = t.newTeams()
	for _, c := range t.teams {
		back.teams = append(back.teams, teamChange{old: c.new, new: c.old})
	}
	return back
}

// revert takes the kernel back and then the store: until then the two records of a
// switch name all that may be there.
func (e *Engine) revert(ctx context.Context, t *transaction) error {
	back := t.reverse()
	err := e.shift(ctx, back)
	away := e.reinstate(t)
	away = errors.Join(away, e.readmit(ctx, t))
	away = errors.Join(away, e.accord(ctx, t.missed...))
	if err != nil {
		return errors.Join(err, away)
	}
	err = e.store.UpdateConfig(func(tx *store.Tx) error {
		for _, r := range back.news() {
			if err := tx.PutSwitch(r); err != nil {
				return err
			}
		}
		return errors.Join(back.putPool(tx), back.intendTeams(tx), putResized(tx, back.after))
	})
	if err == nil {
		err = e.conclude(ctx, back)
	}
	if err == nil {
		e.announceChanged(ctx, back) // on the way there the network may have heard of them elsewhere
	}
	return errors.Join(away, err)
}
