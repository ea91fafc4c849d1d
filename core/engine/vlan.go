package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file has a switch carry the VLANs of its ports, no more and no fewer. An Attach in
// a VLAN that the uplink is not in yet has the switch made again under its lock, with the
// VLAN; one that nobody uses any more goes when the port is detached, and at the latest
// with GC.
//
// Where the kernel filters VLANs every port is in some. Untagged traffic is in one of the
// switch's own, which leaves the host without a tag: 4094, until a port wants that.

// apart reports whether a port does not hear those that are apart too.
func apart(p vswitch.Port) bool { return p.Isolated || p.VLAN.Mode == vswitch.Isolated }

// carrying is the membership of what leads away from a bridge.
func carrying(r store.SwitchRecord, caps kernel.Capabilities, carried vswitch.VLANSet) vswitch.Membership {
	if !caps.VLANFiltering {
		return vswitch.Membership{}
	}
	return vswitch.CarryVLANs(r.UntaggedVLAN(), carried.Union(vswitch.VLANs(r.VLAN)))
}

// vlanDemand is what the ports of a switch want of it.
type vlanDemand struct {
	ports          []vswitch.PortVLAN
	carried, apart vswitch.VLANSet
}

// demand reads what the ports of a switch want, those that are not there yet included.
func demand(tx *store.Tx, name string, coming ...vswitch.PortVLAN) (d vlanDemand, err error) {
	if d.ports, _, err = tx.PortVLANs(name); err != nil {
		return d, err
	}
	d.ports = append(d.ports, coming...)
	for _, v := range d.ports {
		d.carried = d.carried.Union(v.Uses())
		if v.Mode == vswitch.Isolated {
			d.apart = d.apart.Union(vswitch.VLANs(v.Secondary))
		}
	}
	return d, nil
}

// errNotCarried is errNotRealised of a switch that lacks a VLAN and nothing else.
var errNotCarried = fmt.Errorf("it does not carry the VLAN: %w", errNotRealised)

// admitVLAN decides what a port does with VLANs and refuses what the others on the switch,
// or the kernel, do not allow.
func (e *Engine) admitVLAN(tx *store.Tx, was store.Realised, p vswitch.Port) error {
	if p.VLAN.IsZero() && !p.Isolated {
		return nil
	}
	if err := e.vlanPossible(tx, was, p); err != nil {
		return err
	}
	d, err := demand(tx, p.Switch)
	if err != nil {
		return err
	}
	if err := vswitch.CheckVLANs(append(d.ports, p.VLAN), was.VLAN); err != nil {
		return err
	}
	uses := p.VLAN.Uses()
	if len(uses.Minus(was.Carried)) > 0 || uses.Contains(was.UntaggedVLAN()) ||
		p.VLAN.Mode == vswitch.Isolated && !was.Apart.Contains(p.VLAN.Secondary) {
		return errNotCarried
	}
	return nil
}

func (e *Engine) vlanPossible(tx *store.Tx, was store.Realised, p vswitch.Port) error {
	if !p.VLAN.IsZero() && !was.FiltersVLANs {
		var caps kernel.Capabilities
		if _, err := tx.Fact(capabilitiesFact, &caps); err != nil {
			return err
		}
		if caps.VLANFiltering {
			return errNotRealised // it was made before
		}
		return missing("VLANs on ports", "CONFIG_BRIDGE_VLAN_FILTERING", "leave the VLAN out")
	}
	if apart(p) && !was.HasRules {
		return missing("ports that do not hear each other", "CONFIG_NF_TABLES_BRIDGE", "give each its own access VLAN")
	}
	return nil
}

// carry makes a switch again with the VLANs of a port that is to come. The caller holds
// the locks.
func (e *Engine) carry(ctx context.Context, r store.SwitchRecord, v vswitch.PortVLAN) error {
	caps, err := e.capabilitiesFor(ctx, r.Switch)
	if err != nil {
		return err
	}
	if err := e.settle(ctx, r, caps); err != nil {
		return err
	}
	if r, err = e.record(r.Name); err != nil {
		return err
	}
	next := r
	return e.carryOut(ctx, &transaction{caps: caps, changes: []change{{old: &r, new: &next}}, asked: []vswitch.PortVLAN{v}})
}

// chooseVLAN gives a switch's untagged traffic a VLAN that no port uses, and refuses what
// does not fit together.
func (t *transaction) chooseVLAN(tx *store.Tx, r *store.SwitchRecord) error {
	d, err := demand(tx, r.Name, t.asked...)
	if err != nil {
		return err
	}
	if err := vswitch.CheckVLANs(d.ports, r.VLAN); err != nil {
		return err
	}
	internal, err := vswitch.InternalVLAN(r.UntaggedVLAN(), d.carried.Union(vswitch.VLANs(r.VLAN)))
	if err == nil && internal != r.UntaggedVLAN() {
		r.InternalVLAN = internal
	}
	return err
}

// retagged are the switches whose guests are in other VLANs now than they were: the
// untagged traffic has moved, or the bridges have begun to filter.
func (t *transaction) retagged() (records []store.SwitchRecord) {
	for _, r := range t.news() {
		if t.caps.VLANFiltering && (t.unfiltered[r.Name] || slices.ContainsFunc(t.from, func(was store.SwitchRecord) bool {
			return was.Name == r.Name && was.UntaggedVLAN() != r.UntaggedVLAN()
		})) {
			records = append(records, r)
		}
	}
	return records
}

// retag puts the guests of a switch into the VLANs that their records mean.
func (e *Engine) retag(ctx context.Context, t *transaction) error {
	for _, r := range t.retagged() {
		ports, err := e.portsOn(r.Name)
		if err != nil {
			return err
		}
		for together := range slices.Chunk(ports, removedTogether) {
			if err := e.retagTogether(ctx, t, r, together); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Engine) retagTogether(ctx context.Context, t *transaction, r store.SwitchRecord, ports []vswitch.Port) error {
	var ids []string
	for _, p := range ports {
		ids = append(ids, p.ID)
	}
	unlock, err := e.store.LockPorts(ids)
	if err != nil {
		return err
	}
	defer unlock()
	found, err := e.recall(ids)
	if err != nil {
		return err
	}
	var all []plan.Step
	for _, f := range found {
		if !f.known || f.port.Switch != r.Name {
			continue
		}
		steps, err := e.retagSteps(ctx, t, r, f.port)
		if err != nil {
			return err
		}
		all = append(all, steps...)
	}
	return ignoreNotFound(e.kernel.Apply(ctx, all))
}

// retagSteps leaves all alone but the VLANs and the entries in them.
func (e *Engine) retagSteps(ctx context.Context, t *transaction, r store.SwitchRecord, p vswitch.Port) ([]plan.Step, error) {
	want := portState(p, r, t.caps)
	want.Endpoint = nil
	scope := plan.State{Ports: map[string]plan.Port{want.Name: want}}
	seen, err := e.kernel.Observe(ctx, scope)
	if err != nil {
		return nil, err
	}
	have, there := seen.Ports[want.Name]
	if !there || have.Bridge != want.Bridge {
		return nil, nil
	}
	now := have
	now.VLANs, now.FDB = want.VLANs, want.FDB
	return plan.Diff(plan.State{Ports: map[string]plan.Port{want.Name: now}}, seen), nil
}

// beforeFiltering divides a plan: what goes before a bridge begins to filter, and the rest.
func beforeFiltering(steps []plan.Step) (before, rest []plan.Step) {
	at := slices.IndexFunc(steps, func(s plan.Step) bool { _, is := s.(plan.FilterVLANs); return is })
	if at < 0 {
		return steps, nil
	}
	return steps[:at], steps[at:]
}

// spareVLANs reports whether a switch carries a VLAN that no port uses.
func spareVLANs(tx *store.Tx, was store.Realised) (bool, error) {
	if len(was.Carried) == 0 {
		return false, nil
	}
	d, err := demand(tx, was.Name)
	return len(was.Carried.Minus(d.carried))+len(was.Apart.Minus(d.apart)) > 0, err
}

// leavesSpareVLAN reports whether the port that has gone was the last one in a VLAN.
func (r reservation) leavesSpareVLAN(tx *store.Tx) (bool, error) {
	if r.port.VLAN.IsZero() {
		return false, nil
	}
	was, _, err := tx.Realised(r.port.Switch)
	if err != nil {
		return false, err
	}
	return spareVLANs(tx, was)
}

// defaultVLAN is that of a port whose request names none.
func defaultVLAN(req AttachRequest, r store.SwitchRecord) vswitch.PortVLAN {
	switch {
	case req.VLAN != nil && req.VLAN.IsZero():
		return vswitch.PortVLAN{}
	case req.VLAN != nil:
		return *req.VLAN
	case r.VLAN != 0:
		return vswitch.AccessVLAN(r.VLAN)
	}
	return vswitch.PortVLAN{}
}

// PortChange is what `port set` changes; nil fields stay as they are.
type PortChange struct {
	VLAN     *vswitch.PortVLAN `json:"vlan,omitempty"`
	Isolated *bool             `json:"isolated,omitempty"`
}

// SetPort changes a guest's port while it is attached; on failure it is what it was. The
// port is named as in Port. PowerShell twin: Set-VMNetworkAdapterVlan.
func (e *Engine) SetPort(ctx context.Context, name string, c PortChange) (PortStatus, error) {
	p, err := e.setPort(ctx, name, c)
	if err != nil {
		return PortStatus{}, fault("port set", "port "+name, err)
	}
	return e.Port(ctx, p.ID)
}

func (e *Engine) setPort(ctx context.Context, name string, c PortChange) (vswitch.Port, error) {
	p, err := e.findPort(name)
	if err != nil {
		return p, err
	}
	if p.Owner.Kind == vswitch.OwnerHost {
		return p, &vswitch.Error{
			Kind: vswitch.Invalid, Err: fmt.Errorf("this is the host's own port, whose VLAN is that of the switch"),
			Hint: fmt.Sprintf("run `patchbay switch set %s --vlan ID`", p.Switch),
		}
	}
	if c.VLAN != nil {
		if err := c.VLAN.Validate(); err != nil {
			return p, err
		}
	}
	if _, err := e.capabilities(ctx); err != nil { // which a transaction asks the store for
		return p, err
	}
	const repairs = 2
	spare, err := e.trySetPort(ctx, p.ID, c)
	for range repairs {
		if !errors.Is(err, errNotRealised) {
			break
		}
		if err := e.prepare(ctx, p.Switch, c, err); err != nil {
			return p, err
		}
		spare, err = e.trySetPort(ctx, p.ID, c)
	}
	if err == nil && spare {
		_ = e.shrink(ctx, p.Switch) // the port is changed; GC tries again and tells
	}
	return p, err
}

// prepare makes the port's switch again, for the reason that a change found.
func (e *Engine) prepare(ctx context.Context, name string, c PortChange, reason error) error {
	unlock, err := e.lockSwitches(name)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := e.record(name)
	if err != nil {
		return err
	}
	if errors.Is(reason, errNotCarried) && c.VLAN != nil {
		return e.carry(ctx, r, *c.VLAN)
	}
	caps, err := e.capabilitiesFor(ctx, r.Switch)
	if err != nil {
		return err
	}
	_, err = e.repairSwitch(ctx, r, caps)
	return err
}

// trySetPort fails with errNotRealised, having changed nothing, if the switch has to be
// made again first. spare tells that the switch carries a VLAN now that nobody uses.
func (e *Engine) trySetPort(ctx context.Context, id string, c PortChange) (spare bool, err error) {
	var sw string
	err = e.store.View(func(tx *store.Tx) error {
		p, err := tx.Port(id)
		sw = p.Switch
		return err
	})
	if err != nil {
		return false, err
	}
	unlock, err := e.store.LockSwitch(sw, store.Shared)
	if err != nil {
		return false, err
	}
	defer unlock()
	unlockPort, err := e.store.LockPort(id)
	if err != nil {
		return false, err
	}
	defer unlockPort()
	var old, next reservation
	err = e.store.Update(func(tx *store.Tx) error {
		was, found, err := tx.Realised(sw)
		if err != nil {
			return err
		}
		if !found || was.Changing {
			return errNotRealised
		}
		old.record, old.segments, old.caps = was.SwitchRecord, was.Segments, realisedCapabilities(was)
		if old.port, err = tx.Port(id); err != nil {
			return err
		}
		next = old
		if c.VLAN != nil {
			next.port.VLAN = defaultVLAN(AttachRequest{VLAN: c.VLAN}, was.SwitchRecord)
		}
		if c.Isolated != nil {
			next.port.Isolated = *c.Isolated
		}
		bare := next.port // it does not stand in its own way
		bare.VLAN, bare.Isolated = vswitch.PortVLAN{}, false
		if err := tx.PutPort(bare); err != nil {
			return err
		}
		if err := e.admitVLAN(tx, was, next.port); err != nil {
			return err
		}
		if err := tx.PutPort(next.port); err != nil {
			return err
		}
		spare, err = spareVLANs(tx, was)
		return err
	})
	if err != nil {
		return false, err
	}
	if err := e.changePort(ctx, old, next); err != nil {
		back := context.WithoutCancel(ctx)
		return false, undone(err, errors.Join(e.changePort(back, next, old), e.store.Update(func(tx *store.Tx) error { return tx.PutPort(old.port) })))
	}
	return spare, nil
}

// apartIn adds to rules the VLANs by which frames of isolated ports come in by a switch's
// uplink.
func apartIn(rules map[plan.Inlet]bool, r store.SwitchRecord, vlans vswitch.VLANSet) map[plan.Inlet]bool {
	if r.Uplink == "" || len(vlans) == 0 {
		return rules
	}
	all := maps.Clone(rules)
	if all == nil {
		all = make(map[plan.Inlet]bool)
	}
	for id := range vlans.All() {
		all[plan.Inlet{Netdev: r.Uplink, VLAN: id}] = true
	}
	return all
}

// changePort takes the switch's side of a port to what it is to be.
func (e *Engine) changePort(ctx context.Context, old, next reservation) error {
	side := func(r reservation) plan.State {
		s := attachedState(r.port, r.record, r.caps)
		p := s.Ports[r.port.Netdev]
		p.Endpoint = nil
		s.Ports[r.port.Netdev] = p
		return s
	}
	want, had := side(next), side(old)
	observed, err := e.kernel.Observe(ctx, plan.Union(want, had))
	if err != nil {
		return err
	}
	if _, there := observed.Ports[next.port.Netdev]; !there {
		return nil // its owner has ended; the record is all there is
	}
	return e.kernel.Apply(ctx, plan.Diff(want, observed))
}

// realisedCapabilities are what the kernel can do as far as ports need it.
func realisedCapabilities(was store.Realised) kernel.Capabilities {
	return kernel.Capabilities{PortLocked: was.LocksPorts, BridgeRules: was.HasRules, VLANFiltering: was.FiltersVLANs}
}
