package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
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

// application is a configuration measured against what there is.
type application struct {
	caps     kernel.Capabilities
	existing []store.SwitchRecord
	changes  []change
	teams    []teamChange
	kept     []string // what is there, not mentioned, and stays: see ConfigDiff
	detach   []vswitch.Port
	oldPool  *vswitch.MACRange // as in transaction
	newPool  *vswitch.MACRange
	pool     vswitch.MACRange // as it is
	noted    bool             // every switch is noted as realised
	yes      bool             // the user consents to what is taken from the host
	dispute  dispute          // that switches of the configuration are in
	warnings []string
}

// transaction is a fresh one: intending it completes the records.
func (a *application) transaction() *transaction {
	t := &transaction{caps: a.caps, oldPool: a.oldPool, newPool: a.newPool, teams: a.teams}
	for _, c := range a.changes {
		if c.new != nil {
			record := *c.new
			c.new = &record
		}
		t.changes = append(t.changes, c)
	}
	return t
}

// applying hands do what is to change, while what lock takes is held.
func (e *Engine) applying(ctx context.Context, req ApplyRequest, lock func(vswitch.Config) ([]store.SwitchRecord, func(), error), do func(*Engine, *application) error) error {
	if err := req.Config.Validate(); err != nil {
		return err
	}
	existing, unlock, err := lock(req.Config)
	if err != nil {
		return err
	}
	defer unlock()
	a := &application{existing: existing, yes: req.Yes}
	if err := e.measureTeams(ctx, a, req); err != nil {
		return err
	}
	var names []string
	for _, s := range req.Config.Switches {
		names = append(names, s.Name)
	}
	if a.dispute, err = e.disputeOf(names...); err != nil {
		return err
	}
	a.teams = a.dispute.withTeams(a.teams)
	looking := e.foreseeing(a.teams...)
	if err := looking.measure(ctx, a, req); err != nil {
		return err
	}
	return do(looking, a)
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

// measure finds out what is to change and refuses what this host cannot have, all of
// it at once.
func (e *Engine) measure(ctx context.Context, a *application, req ApplyRequest) error {
	if err := e.measurePool(ctx, a, req.Config.MACPool); err != nil {
		return err
	}
	if err := e.measureAbsent(a, req); err != nil {
		return err
	}
	were, err := e.unfinished(a.existing)
	if err != nil {
		return err
	}
	leaving := append(were, a.existing...)
	var refused []error
	for _, s := range req.Config.Switches {
		if a.caps, err = e.capabilitiesFor(ctx, s); err == nil {
			err = e.measureSwitch(ctx, a, s, leaving)
		}
		if err != nil {
			refused = append(refused, fault("", "switch "+s.Name, err))
		}
	}
	if err := e.joinDispute(a); err != nil {
		return err
	}
	if a.caps == (kernel.Capabilities{}) {
		if a.caps, err = e.capabilities(ctx); err != nil {
			return err
		}
	}
	if a.noted, err = e.allRealised(a.changes, a.teams); err != nil {
		return err
	}
	return errors.Join(append(refused, e.measureReturn(ctx, a))...)
}

// joinDispute adds the switches that are not mentioned and in a dispute with one that is.
func (e *Engine) joinDispute(a *application) error {
	t := &transaction{changes: a.changes, guests: a.detach}
	if err := e.join(t, a.dispute); err != nil {
		return err
	}
	a.changes, a.detach = t.changes, t.guests
	a.kept = slices.DeleteFunc(a.kept, func(name string) bool { return recordOf(a.dispute.switches, name).Going })
	return nil
}

// measureReturn warns of what the host finds at home where no other switch takes it.
func (e *Engine) measureReturn(ctx context.Context, a *application) error {
	t := a.transaction()
	all, err := e.crews(t)
	if err != nil {
		return err
	}
	for _, c := range a.changes {
		if c.old == nil {
			continue
		}
		if heir, _ := t.heir(c.old.Uplink, all); heir != "" {
			continue
		}
		warnings, err := e.homecoming(ctx, c)
		if err != nil {
			return err
		}
		a.warnings = append(a.warnings, warnings...)
	}
	return nil
}

func (e *Engine) measurePool(ctx context.Context, a *application, want *vswitch.MACRange) error {
	var isDefault bool
	err := e.store.View(func(tx *store.Tx) (err error) {
		a.pool, isDefault, err = tx.MACRange()
		return err
	})
	if err != nil || want == nil || *want == a.pool {
		return err
	}
	if a.newPool = want; !isDefault {
		a.oldPool = &a.pool
	}
	return e.withoutNICs(ctx, *want)
}

// measureAbsent deals with switches that the configuration does not mention.
func (e *Engine) measureAbsent(a *application, req ApplyRequest) error {
	var held []error
	for _, r := range a.existing {
		if slices.ContainsFunc(req.Config.Switches, func(s vswitch.Switch) bool { return s.Name == r.Name }) {
			continue
		}
		if !req.Prune {
			a.kept = append(a.kept, r.Name)
			continue
		}
		ports, err := e.portsOn(r.Name)
		if err != nil {
			return err
		}
		if len(ports) > 0 && !req.Force {
			held = append(held, heldBy(r.Name, ports))
		}
		a.detach = append(a.detach, ports...)
		a.changes = append(a.changes, change{old: &r})
	}
	return errors.Join(held...)
}

func heldBy(name string, ports []vswitch.Port) error {
	err := holders(name, ports)
	var e *vswitch.Error
	if errors.As(err, &e) {
		named := *e
		named.Object, named.Hint = "switch "+name, "keep the switch in the file, end the owners of its ports, or add --force, which detaches them"
		return &named
	}
	return err
}

// measureSwitch adds the change of one switch. One that is as defined is in it too:
// what the kernel has lost of it comes back.
func (e *Engine) measureSwitch(ctx context.Context, a *application, s vswitch.Switch, leaving []store.SwitchRecord) error {
	s = s.Normalized()
	at := slices.IndexFunc(a.existing, func(r store.SwitchRecord) bool { return r.Name == s.Name })
	if at < 0 {
		if err := e.namesFree(ctx, s.Name); err != nil {
			return err
		}
		record := store.SwitchRecord{
			Switch: s, Created: e.now(),
			BridgeMAC: vswitch.DerivedMAC("bridge", s.Name, strconv.FormatUint(rand.Uint64(), 36)),
		}
		a.changes = append(a.changes, change{new: &record})
		if err := e.complete(ctx, &record, leaving); err != nil {
			return err
		}
		return e.agree(ctx, a, nil, record)
	}
	old := a.existing[at]
	record := old
	record.Switch = s
	a.changes = append(a.changes, change{old: &old, new: &record})
	var err error
	if s.MTU != old.MTU || s.Uplink != old.Uplink {
		err = e.complete(ctx, &record, leaving)
	} else if s.Uplink != "" {
		_, err = e.uplink(ctx, s, leaving)
	}
	if err == nil {
		err = e.agree(ctx, a, &old, record)
	}
	return err
}

// agree asks for consent to what a switch takes from the host.
func (e *Engine) agree(ctx context.Context, a *application, old *store.SwitchRecord, r store.SwitchRecord) error {
	warnings, err := e.consent(ctx, old, r, a.yes)
	a.warnings = append(a.warnings, warnings...)
	return err
}

// finish ends changes that a process was killed in, where the switch is to become a
// third thing now: the store has room for what it was and what it becomes.
func (e *Engine) finish(ctx context.Context, a *application) error {
	were, err := e.unfinished(a.existing)
	if err != nil {
		return err
	}
	var records []store.SwitchRecord
	var names []string
	for _, c := range a.changes {
		if c.old == nil || c.new == nil {
			continue
		}
		was := recordOf(were, c.old.Name)
		if was.Name != "" && len(fieldsOf(was, *c.old)) > 0 {
			records, names = append(records, *c.old), append(names, c.old.Name)
		}
	}
	c, err := e.disputeOf(names...)
	if err == nil {
		err = e.end(ctx, c)
	}
	settled := func(r store.SwitchRecord) bool { return slices.Contains(c.names(), r.Name) }
	records = slices.DeleteFunc(records, settled)
	if err != nil || len(records) == 0 {
		return err
	}
	return e.repairSwitches(ctx, a.caps, records...)
}

// allRealised tells that nothing is left to note of the switches and teams.
func (e *Engine) allRealised(changes []change, teams []teamChange) (all bool, err error) {
	all = true
	err = e.store.View(func(tx *store.Tx) error {
		for _, c := range changes {
			if c.old == nil {
				continue
			}
			was, found, err := tx.Realised(c.old.Name)
			if err != nil {
				return err
			}
			all = all && found && !was.Changing
		}
		for _, c := range teams {
			was, found, err := tx.RealisedTeam(c.name())
			if err != nil {
				return err
			}
			all = all && (c.old == nil || found && !was.Changing)
		}
		return nil
	})
	return all, err
}

// preview tells what the application changes: the records are completed as they would
// be and not written, the kernel is looked at and not touched.
func (e *Engine) preview(ctx context.Context, a *application) (ConfigDiff, error) {
	t := a.transaction()
	if err := errors.Join(e.standOn(ctx, t), e.claim(ctx, t)); err != nil {
		return ConfigDiff{}, err
	}
	e = e.actual()
	err := e.store.Preview(func(tx *store.Tx) error {
		if err := t.collect(tx, e.sizes); err != nil {
			return err
		}
		return t.intend(tx)
	})
	if err != nil {
		return ConfigDiff{}, err
	}
	w, err := e.way(ctx, t)
	if err != nil {
		return ConfigDiff{}, err
	}
	steps := w.steps
	for _, p := range t.after {
		resized, err := e.resizeSteps(ctx, p, recordOf(t.news(), p.Switch), a.caps)
		if err != nil {
			return ConfigDiff{}, err
		}
		steps = append(steps, resized...)
	}
	lost, err := e.lostWithin(ctx, t, w.steps)
	if err != nil {
		return ConfigDiff{}, err
	}
	steps = append(steps, lost...)
	return a.diff(t, steps), nil
}

// lostWithin is what switches have lost of what they have for attached guests. One that is
// made again, or a part of it, is not looked at: its guests come with it.
func (e *Engine) lostWithin(ctx context.Context, t *transaction, steps []plan.Step) (lost []plan.Step, err error) {
	made := make(map[string]bool) // bridges
	for _, s := range steps {
		switch s := s.(type) {
		case plan.CreateBridge:
			made[s.Bridge.Name] = true
		case plan.CreateVeth:
			made[s.Port.Bridge] = made[s.Port.Bridge] || vswitch.IsTrunk(s.Port.Name)
		case plan.SetPort:
			made[s.Port.Bridge] = made[s.Port.Bridge] || vswitch.IsTrunk(s.Port.Name)
		}
	}
	for _, c := range t.changes {
		if c.old == nil || c.new == nil || made[vswitch.BridgeName(c.new.Name)] {
			continue
		}
		of, err := e.lostOfGuests(ctx, *c.new, t.caps)
		if err != nil {
			return nil, err
		}
		lost = append(lost, of...)
	}
	return lost, nil
}

func recordOf(records []store.SwitchRecord, name string) (r store.SwitchRecord) {
	if at := slices.IndexFunc(records, func(r store.SwitchRecord) bool { return r.Name == name }); at >= 0 {
		return records[at]
	}
	return r
}

func (a *application) diff(t *transaction, steps []plan.Step) ConfigDiff {
	d := ConfigDiff{Changes: []ConfigChange{}, Kept: a.kept, Commands: []string{}, Warnings: a.warnings}
	if a.newPool != nil {
		d.Changes = append(d.Changes, ConfigChange{Object: "MAC pool", Action: ActionChange, Fields: []FieldChange{{"range", a.pool.String(), a.newPool.String()}}})
	}
	for _, c := range t.teams {
		if change, differs := describeTeam(c); differs {
			d.Changes = append(d.Changes, change)
		}
	}
	for _, c := range t.changes {
		if change, differs := describe(c); differs {
			for _, p := range a.detach {
				if c.new == nil && p.Switch == c.old.Name {
					change.Detached++
				}
			}
			for _, p := range t.after {
				if p.Switch == change.name() {
					change.Resized++
				}
			}
			d.Changes = append(d.Changes, change)
		}
	}
	for _, s := range steps {
		d.Commands = append(d.Commands, s.String())
	}
	if len(d.Changes) == 0 && len(steps) > 0 {
		d.Changes = append(d.Changes, ConfigChange{Object: "kernel", Action: ActionRepair, Fields: []FieldChange{{"lost", fmt.Sprint(len(steps)), "0"}}})
	}
	return d
}
