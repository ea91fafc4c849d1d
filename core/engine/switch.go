package engine

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
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
// that disagrees is a Conflict. Without consent one that takes the host's default
// route, or a NIC that a running network manager holds, is UplinkInUse, with what would
// be lost and what to do. PowerShell twin: New-VMSwitch.
func (e *Engine) AddSwitch(ctx context.Context, req AddSwitchRequest) (SwitchStatus, error) {
	s := req.Switch
	object := "switch " + s.Name
	if err := s.Validate(); err != nil {
		return SwitchStatus{}, fault("switch add", object, err)
	}
	unlock, err := e.lockSwitches(s.Name)
	if err != nil {
		return SwitchStatus{}, fault("switch add", object, err)
	}
	defer unlock()
	status, err := e.foreseeing().addSwitch(ctx, req)
	return status, fault("switch add", object, err)
}

// lockSwitches takes the locks of a verb that changes switches, and ends what a killed
// process has left disputed between these and others.
func (e *Engine) lockSwitches(names ...string) (unlock func(), err error) {
	_, unlock, err = e.lockSettled(names...)
	return unlock, err
}

// lockAlone takes the locks of switches and settles nothing.
func (e *Engine) lockAlone(names ...string) (unlock func(), err error) {
	return e.lockWith(names, func() ([]string, error) { return nil, nil })
}

// lockWith takes the lock of all switches, and then those of some and of those that also
// names by then.
func (e *Engine) lockWith(names []string, also func() ([]string, error)) (unlock func(), err error) {
	for _, name := range names {
		if err := vswitch.ValidateName(name); err != nil {
			return nil, &vswitch.Error{Kind: vswitch.Invalid, Err: err}
		}
	}
	var held []func()
	unlock = func() {
		for _, let := range slices.Backward(held) {
			let()
		}
	}
	lock := func(name string) error {
		let, err := e.store.LockSwitch(name, store.Exclusive)
		if err == nil {
			held = append(held, let)
		}
		return err
	}
	if err := lock(allSwitches); err != nil {
		return nil, err
	}
	more, err := also()
	for _, name := range slices.Compact(slices.Sorted(slices.Values(append(more, names...)))) {
		if err == nil {
			err = lock(name)
		}
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func (e *Engine) addSwitch(ctx context.Context, req AddSwitchRequest) (SwitchStatus, error) {
	s := req.Switch
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
	caps, err := e.capabilitiesToDefine(ctx, vswitch.Switch{}, s)
	if err != nil {
		return SwitchStatus{}, err
	}
	if err := e.namesFree(ctx, s.Name); err != nil {
		return SwitchStatus{}, err
	}
	record := store.SwitchRecord{
		Switch: s.Normalized(), Created: e.now(),
		BridgeMAC: vswitch.DerivedMAC("bridge", s.Name, strconv.FormatUint(rand.Uint64(), 36)),
	}
	if err := e.complete(ctx, &record, nil); err != nil {
		return SwitchStatus{}, err
	}
	warnings, err := e.consent(ctx, nil, record, req.Yes)
	if err != nil {
		return SwitchStatus{}, err
	}
	if err := e.transact(ctx, caps, change{new: &record}); err != nil {
		return SwitchStatus{}, err
	}
	status, err := e.switchStatus(record)
	status.Warnings = warnings
	return status, err
}

// complete decides what the host adds to a switch's definition: the MTU where it
// names none, and that of the uplink to put back. leaving are the records, of this
// switch and of others, that are given up for the new one.
func (e *Engine) complete(ctx context.Context, r *store.SwitchRecord, leaving []store.SwitchRecord) error {
	natural := vswitch.DefaultMTU
	r.UplinkMTU = 0
	if r.Uplink != "" {
		nic, err := e.uplink(ctx, r.Switch, leaving)
		if err != nil {
			return err
		}
		natural = nic.MTU
		for _, was := range leaving {
			if was.Uplink == r.Uplink && was.UplinkMTU != 0 {
				natural = was.UplinkMTU
			}
		}
	}
	r.EffectiveMTU = cmp.Or(r.MTU, natural)
	if r.Uplink != "" && r.EffectiveMTU != natural {
		r.UplinkMTU = natural
	}
	return nil
}

func (e *Engine) record(name string) (r store.SwitchRecord, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		r, err = tx.Switch(name)
		return err
	})
	return r, err
}

// repairSwitch brings the kernel to what the record says: a switch that lost something
// gets it back, a change that a process was killed in is finished. The caller holds the
// lock of all switches and that of this one.
func (e *Engine) repairSwitch(ctx context.Context, r store.SwitchRecord, caps kernel.Capabilities) (SwitchStatus, error) {
	if err := e.repairSwitches(ctx, caps, r); err != nil {
		return SwitchStatus{}, err
	}
	return e.switchStatus(r)
}

// reach takes the kernel to desired; had names what was ours before and goes.
func (e *Engine) reach(ctx context.Context, desired, had plan.State) error {
	observed, err := e.kernel.Observe(ctx, plan.Union(desired, had))
	if err != nil {
		return err
	}
	steps := plan.Diff(desired, observed)
	if len(steps) == 0 {
		return nil
	}
	return e.perform(ctx, steps)
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
	if s.Ports, err = tx.PortCount(r.Name); err != nil {
		return s, err
	}
	realised, _, err := tx.Realised(r.Name)
	if realised.Segments > 0 {
		s.Segments = 1 + realised.Segments
	}
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
