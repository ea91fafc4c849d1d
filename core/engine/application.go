package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

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
		if a.caps, err = e.capabilitiesToDefine(ctx, recordOf(a.existing, s.Name).Switch, s); err == nil {
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
	if err := keepsFixed(old.Switch, s); err != nil {
		return err
	}
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
		_, err = e.end(ctx, c)
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
