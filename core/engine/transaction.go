package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
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
	// asked are VLANs for a port that is to come, on the transaction's only switch.
	asked []vswitch.PortVLAN
	// departed is what the host had before it moved, and undo what it is to have again.
	departed, undo []departure
	// guests go with their switches: see eviction.go. evicted are those who have been taken
	// out, and missed those of them who were there.
	guests, evicted, missed []vswitch.Port
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
	err := e.store.UpdateConfig(t.intend)
	if err == nil {
		err = e.shift(ctx, t)
	}
	if err == nil {
		err = e.evict(ctx, t)
	}
	if err == nil {
		err = e.conclude(t)
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

// intend writes what the switches become. One that goes stays written until it is
// gone: what a killed process left of it has a name by which it can be deleted.
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
	c.new.Spread = spreads(teams, c.new.Uplink)
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

// shift takes the kernel to the new records.
func (e *Engine) shift(ctx context.Context, t *transaction) error {
	w, err := e.way(ctx, t)
	if err != nil {
		return err
	}
	if err := e.depart(w); err != nil {
		return err
	}
	before, rest := beforeFiltering(w.steps)
	if err := e.kernel.Apply(ctx, before); err != nil {
		return err
	}
	if err := e.retag(ctx, t); err != nil {
		return err
	}
	if len(rest) > 0 {
		if err := e.kernel.Apply(ctx, rest); err != nil {
			return err
		}
	}
	if err := e.arrived(ctx, w); err != nil {
		return err
	}
	if err := e.joinGuests(ctx, t); err != nil {
		return err
	}
	if err := errors.Join(e.ownGuests(ctx, t), e.queryGuests(ctx, t, w.steps)); err != nil {
		return err
	}
	return e.resizeGuests(ctx, t)
}

// way is the way to the new records: the steps, and the journeys of the host's things.
type way struct {
	steps        []plan.Step
	desired, had plan.State
	journeys     []journey
}

// way looks at the kernel and plans.
func (e *Engine) way(ctx context.Context, t *transaction) (*way, error) {
	desired, err := e.desired(t)
	if err != nil {
		return nil, err
	}
	had := plan.State{}
	for _, r := range t.from {
		had = plan.Union(had, wholeState(r, t.caps, extent{want: t.segments[r.Name].had}))
		had.Rules = plan.Union(had, plan.State{Rules: hostRules([]store.SwitchRecord{r}, t.caps)}).Rules
		had.Rules.ApartIn = apartIn(had.Rules.ApartIn, r, t.segments[r.Name].hadApart)
	}
	had.Forward = plan.Families{} // others may count on it by now
	if err := e.placeTeams(ctx, t, &desired, &had); err != nil {
		return nil, err
	}
	if err := e.releaseUplinks(ctx, t.from, desired, had); err != nil {
		return nil, err
	}
	journeys, err := e.placeHost(ctx, t, &desired, &had)
	if err != nil {
		return nil, err
	}
	observed, err := e.kernel.Observe(ctx, plan.Union(desired, had))
	if err != nil {
		return nil, err
	}
	return &way{steps: plan.Diff(desired, observed), desired: desired, had: had, journeys: journeys}, nil
}

// desired is what the new records mean, with the rules of the whole host.
func (e *Engine) desired(t *transaction) (desired plan.State, err error) {
	if t.segments == nil {
		if err := e.store.View(t.standing); err != nil {
			return desired, err
		}
	}
	lingering := t.lingering()
	for _, r := range append(t.news(), lingering...) {
		desired = plan.Union(desired, wholeState(r, t.caps, t.segments[r.Name]))
	}
	if desired.Ports == nil { // to be put to: see releaseUplinks
		desired.Ports = make(map[string]plan.Port)
	}
	err = e.store.View(func(tx *store.Tx) error {
		switches, err := t.outcome(tx)
		if err != nil {
			return err
		}
		for _, r := range t.news() {
			if desired.Mirrors[vswitch.BridgeName(r.Name)], err = mirrorsOf(tx, r.Name); err != nil {
				return err
			}
		}
		if desired.Rules, err = rulesOf(tx, t.caps, append(switches, lingering...)); err != nil || !desired.Rules.Base {
			return err
		}
		for _, r := range t.news() {
			desired.Rules.ApartIn = apartIn(desired.Rules.ApartIn, r, t.segments[r.Name].apart)
		}
		return nil
	})
	return desired, err
}

// conclude forgets the switches that are gone and notes that the others are there.
func (e *Engine) conclude(t *transaction) error {
	if len(t.evicted) > 0 {
		// Before their switch: killed in between, the verb again finds the switch, and
		// killed the other way round it would find nothing and the guests' leases stay.
		if err := e.store.Update(t.dismiss); err != nil {
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

// revert takes the kernel back and then the store: until then the two records of a
// switch name all that may be there.
func (e *Engine) revert(ctx context.Context, t *transaction) error {
	back := t.reverse()
	err := e.shift(ctx, back)
	away := e.readmit(ctx, t)
	away = errors.Join(away, e.remirrorFor(ctx, t.missed...))
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
		err = e.conclude(back)
	}
	return errors.Join(away, err)
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
