package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// allSwitches is the lock that verbs on switches take before that of their own:
// they share the uplinks, the numbers and the rules.
const allSwitches = ""

// AddSwitch makes a switch. One that exists and agrees with what the definition
// says, whatever it leaves out, is brought to what it should be and returned; one
// that disagrees is a Conflict.
// PowerShell twin: New-VMSwitch.
func (e *Engine) AddSwitch(ctx context.Context, s vswitch.Switch) (SwitchStatus, error) {
	object := "switch " + s.Name
	if err := s.Validate(); err != nil {
		return SwitchStatus{}, fault("switch add", object, err)
	}
	unlock, err := e.lockSwitch(s.Name)
	if err != nil {
		return SwitchStatus{}, fault("switch add", object, err)
	}
	defer unlock()
	status, err := e.addSwitch(ctx, s)
	return status, fault("switch add", object, err)
}

// lockSwitch takes the locks of a verb that changes a switch.
func (e *Engine) lockSwitch(name string) (unlock func(), err error) {
	if err := vswitch.ValidateName(name); err != nil {
		return nil, &vswitch.Error{Kind: vswitch.Invalid, Err: err}
	}
	unlockAll, err := e.store.LockSwitch(allSwitches, store.Exclusive)
	if err != nil {
		return nil, err
	}
	unlockOne, err := e.store.LockSwitch(name, store.Exclusive)
	if err != nil {
		unlockAll()
		return nil, err
	}
	return func() { unlockOne(); unlockAll() }, nil
}

func (e *Engine) addSwitch(ctx context.Context, s vswitch.Switch) (SwitchStatus, error) {
	existing, err := e.record(s.Name)
	if err == nil {
		if err := agrees(s, existing); err != nil {
			return SwitchStatus{}, err
		}
		caps, err := e.capabilitiesFor(ctx, existing.Switch)
		if err != nil {
			return SwitchStatus{}, err
		}
		return e.repairSwitch(ctx, existing, caps)
	}
	if !errors.Is(err, vswitch.NotFound) {
		return SwitchStatus{}, err
	}
	caps, err := e.capabilitiesFor(ctx, s)
	if err != nil {
		return SwitchStatus{}, err
	}
	record := store.SwitchRecord{Switch: s.Normalized(), EffectiveMTU: s.MTU, Created: e.now()}
	if err := e.newRecord(ctx, &record); err != nil {
		return SwitchStatus{}, err
	}
	status, err := e.repairSwitch(ctx, record, caps)
	if err != nil {
		return status, undone(err, e.removeSwitch(ctx, record, caps))
	}
	return status, nil
}

// newRecord decides what a switch's record adds to its definition, and writes it:
// the intent, before anything is touched.
func (e *Engine) newRecord(ctx context.Context, r *store.SwitchRecord) error {
	if err := e.namesFree(ctx, r.Name); err != nil {
		return err
	}
	if r.Type == vswitch.External {
		nic, err := e.uplink(ctx, r.Switch)
		if err != nil {
			return err
		}
		if r.EffectiveMTU == 0 {
			r.EffectiveMTU = nic.MTU
		}
		if r.EffectiveMTU != nic.MTU {
			r.UplinkMTU = nic.MTU
		}
	}
	if r.EffectiveMTU == 0 {
		r.EffectiveMTU = vswitch.DefaultMTU
	}
	r.BridgeMAC = vswitch.DerivedMAC("bridge", r.Name, strconv.FormatUint(rand.Uint64(), 36))
	return e.store.UpdateConfig(func(tx *store.Tx) (err error) {
		if err := errors.Join(uplinkFree(tx, r.Switch), subnetsFree(tx, r.Switch)); err != nil {
			return err
		}
		if r.Number, err = tx.FreeSwitchNumber(); err != nil {
			return err
		}
		if r.HostPort() {
			if r.HostMAC, err = tx.LeaseMAC(vswitch.HostPortSwitchEnd(r.Name)); err != nil {
				return err
			}
		}
		return tx.PutSwitch(*r)
	})
}

func (e *Engine) record(name string) (r store.SwitchRecord, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		r, err = tx.Switch(name)
		return err
	})
	return r, err
}

// repairSwitch brings the kernel to what the record says: a new switch comes to
// be, one that lost something gets it back.
func (e *Engine) repairSwitch(ctx context.Context, r store.SwitchRecord, caps kernel.Capabilities) (SwitchStatus, error) {
	if err := supported(r.Switch, caps); err != nil {
		return SwitchStatus{}, err
	}
	if r.Uplink != "" {
		if _, err := e.uplink(ctx, r.Switch); err != nil {
			return SwitchStatus{}, err
		}
	}
	desired, err := e.desiredSwitch(r, caps)
	if err != nil {
		return SwitchStatus{}, err
	}
	had, err := e.changing(r.Name, caps)
	if err != nil {
		return SwitchStatus{}, err
	}
	if err := e.reach(ctx, desired, had); err != nil {
		return SwitchStatus{}, err
	}
	return e.realised(r, caps)
}

// realised notes that the kernel has all of a switch and no more: from now on
// attachments need not look.
func (e *Engine) realised(r store.SwitchRecord, caps kernel.Capabilities) (s SwitchStatus, err error) {
	err = e.store.Update(func(tx *store.Tx) error {
		if !r.HostPort() { // it had one, perhaps
			if err := tx.DeletePort(vswitch.HostPortSwitchEnd(r.Name)); err != nil {
				return err
			}
		}
		if s, err = statusOf(tx, r); err != nil {
			return err
		}
		return tx.PutRealised(store.Realised{SwitchRecord: r, LocksPorts: caps.PortLocked, HasRules: caps.BridgeRules})
	})
	return s, err
}

// changing goes before every change of a switch and returns what the kernel may
// still have of what the switch was: if the process is killed in the middle, the
// next verb finds the same again, and removes what is not wanted of it.
func (e *Engine) changing(name string, caps kernel.Capabilities) (had plan.State, err error) {
	err = e.store.Update(func(tx *store.Tx) error {
		was, found, err := tx.Realised(name)
		if err != nil || !found {
			return err
		}
		had = switchState(was.SwitchRecord, caps)
		had.Forward = plan.Families{}
		had.Rules = hostRules([]store.SwitchRecord{was.SwitchRecord}, caps)
		if was.Changing {
			return nil
		}
		was.Changing = true
		return tx.PutRealised(was)
	})
	return had, err
}

// desiredSwitch is a switch with the rules of the whole host.
func (e *Engine) desiredSwitch(r store.SwitchRecord, caps kernel.Capabilities) (plan.State, error) {
	desired := switchState(r, caps)
	err := e.store.View(func(tx *store.Tx) error {
		rules, err := allRules(tx, caps, "")
		desired.Rules = rules
		return err
	})
	return desired, err
}

// reach takes the kernel to desired; had names what was ours before and goes.
func (e *Engine) reach(ctx context.Context, desired, had plan.State) error {
	observed, err := e.kernel.Observe(ctx, plan.Union(desired, had))
	if err != nil {
		return err
	}
	return e.kernel.Apply(ctx, plan.Diff(desired, observed))
}

func (e *Engine) switchStatus(r store.SwitchRecord) (s SwitchStatus, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		s, err = statusOf(tx, r)
		return err
	})
	return s, err
}

func statusOf(tx *store.Tx, r store.SwitchRecord) (SwitchStatus, error) {
	s := SwitchStatus{
		Switch: r.Switch, EffectiveMTU: r.EffectiveMTU,
		Bridge: vswitch.BridgeName(r.Name), BridgeMAC: r.BridgeMAC,
	}
	if r.HostPort() {
		s.HostPortNetdev = vswitch.HostPortName(r.Name)
	}
	var err error
	s.Ports, err = tx.PortCount(r.Name)
	return s, err
}

// Switch returns one switch, or vswitch.NotFound. PowerShell twin: Get-VMSwitch.
func (e *Engine) Switch(_ context.Context, name string) (SwitchStatus, error) {
	r, err := e.record(name)
	if err != nil {
		return SwitchStatus{}, fault("switch show", "switch "+name, err)
	}
	return e.switchStatus(r)
}

// Switches returns all switches by name. PowerShell twin: Get-VMSwitch.
func (e *Engine) Switches(context.Context) ([]SwitchStatus, error) {
	all := []SwitchStatus{}
	err := e.store.View(func(tx *store.Tx) error {
		records, err := tx.Switches()
		if err != nil {
			return err
		}
		for _, r := range records {
			s, err := statusOf(tx, r)
			if err != nil {
				return err
			}
			all = append(all, s)
		}
		return nil
	})
	return all, fault("switch list", "", err)
}
