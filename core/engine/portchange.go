package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// PortChange is what `port set` changes; nil fields stay as they are.
type PortChange struct {
	VLAN     *vswitch.PortVLAN    `json:"vlan,omitempty"`
	Isolated *bool                `json:"isolated,omitempty"`
	Policy   vswitch.PolicyChange `json:"policy,omitzero"`
	// ACL adds rules to the port's list, or takes some away.
	ACL *ACLChange `json:"acl,omitempty"`
}

// SetPort changes a guest's port while it is attached; on failure it is what it was. The
// port is named as in Port. PowerShell twin: Set-VMNetworkAdapterVlan,
// Set-VMNetworkAdapter.
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
	if p.Owner.Kind == vswitch.OwnerHost && c.VLAN == nil && c.Isolated == nil && (!c.Policy.IsZero() || c.ACL != nil) {
		return p, e.setHostPolicy(ctx, p, c)
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
	if e.mayHave(ctx, err) {
		spare, err = e.trySetPort(ctx, p.ID, c)
	}
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

// setHostPolicy changes the policy of the host's own port, which is its switch's.
func (e *Engine) setHostPolicy(ctx context.Context, p vswitch.Port, c PortChange) error {
	_, err := e.setSwitchTo(ctx, p.Switch, func(is vswitch.Switch) (SwitchChange, error) {
		if c.ACL != nil {
			rules, err := c.ACL.apply(c.Policy.Apply(is.HostPolicy).ACL)
			if err != nil {
				return SwitchChange{}, err
			}
			c.Policy.ACL = &rules
		}
		return SwitchChange{HostPolicy: &c.Policy}, nil
	})
	return err
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
		if next.port, err = c.of(old.port, was.SwitchRecord); err != nil {
			return err
		}
		bare := next.port // it does not stand in its own way
		bare.VLAN, bare.Isolated, bare.Policy = vswitch.PortVLAN{}, false, old.port.Policy
		if err := tx.PutPort(bare); err != nil {
			return err
		}
		if err := errors.Join(e.admitVLAN(tx, was, next.port), e.admitPolicy(tx, was, next.port)); err != nil {
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
	joint := discord(old.port, next.port)
	var changed bool
	equipped, err := e.equip(ctx, next.port, false)
	if err == nil && equipped.VF != next.port.VF { // with failover
		next.port.VF = equipped.VF
		err = e.store.Update(func(tx *store.Tx) error { return tx.PutPort(next.port) })
	}
	if err == nil {
		changed, err = e.changePort(ctx, old, next)
	}
	if err == nil {
		err = e.accord(ctx, joint...)
	}
	if err != nil {
		back := context.WithoutCancel(ctx)
		restored, undo := e.changePort(back, next, old)
		old.port.PolicyChanged = old.port.PolicyChanged || next.port.PolicyChanged && !restored
		undo = errors.Join(undo, e.store.Update(func(tx *store.Tx) error { return tx.PutPort(old.port) }))
		return false, undone(err, errors.Join(undo, e.accord(back, joint...)))
	}
	if changed {
		e.settlePolicy(next.port)
	}
	return spare, nil
}

// of is a port of a switch as it is asked to be.
func (c PortChange) of(p vswitch.Port, r store.SwitchRecord) (next vswitch.Port, err error) {
	if err := settledFailover(p, c); err != nil {
		return p, err
	}
	next = p
	if c.VLAN != nil {
		next.VLAN = defaultVLAN(AttachRequest{VLAN: c.VLAN}, r)
	}
	if c.Isolated != nil {
		next.Isolated = *c.Isolated
	}
	next.Policy = c.Policy.Apply(p.Policy)
	next.Policy.ACL, err = c.ACL.apply(next.Policy.ACL)
	next.PolicyChanged = p.PolicyChanged || !next.Policy.Equal(p.Policy)
	return next, err
}

// settledFailover refuses to give a port a standby beside its VF, or to take it: the owner
// has its netdev.
func settledFailover(p vswitch.Port, c PortChange) error {
	asked := c.Policy.Offload.SRIOV.Failover
	switch {
	case asked == nil || *asked == p.Failover:
		return nil
	case p.Owner.Kind == vswitch.OwnerVM:
		return &vswitch.Error{
			Kind: vswitch.Immutable, Object: "port " + p.ID, Field: "sriov.failover", Err: errors.New("a VM's standby beside its VF is libvirt's to give"),
			Hint: "make its interfaces with `patchbay libvirt interface --sriov`",
		}
	}
	return &vswitch.Error{
		Kind: vswitch.Immutable, Object: "port " + p.ID, Field: "sriov.failover", Err: errors.New("whether there is a standby beside the VF is settled when the container is attached"),
		Hint: `attach the container anew, with "offload": {"sriov": {"failover": ...}} in its network, or as a default of the switch's ports`,
	}
}

// settlePolicy notes that the kernel has nothing any more of what a port's policy was. The
// caller holds the port's lock. What cannot be noted is looked for once more.
func (e *Engine) settlePolicy(p vswitch.Port) {
	if p.PolicyChanged {
		p.PolicyChanged = false
		_ = e.store.Update(func(tx *store.Tx) error { return tx.PutPort(p) })
	}
}

// changePort takes the switch's side of a port to what it is to be. done is false also of
// one whose netdev is gone: what was made for that may be there all the same.
func (e *Engine) changePort(ctx context.Context, old, next reservation) (done bool, err error) {
	if !next.port.Plugged() {
		return true, nil // it has a tap when BindPort says so
	}
	side := func(r reservation) plan.State {
		s := attachedState(r.port, r.record, r.caps)
		p := s.Ports[r.port.Netdev]
		p.Endpoint = nil
		s.Ports[r.port.Netdev] = p
		return s
	}
	want, had := side(next), side(old)
	perhaps := had.Ports[old.port.Netdev] // a process that was killed may have left any
	perhaps.Limits = anyLimits(old.port)
	had.Ports[old.port.Netdev] = perhaps
	observed, err := e.kernel.Observe(ctx, plan.Union(plan.Union(want, had), earlierRules(next.port)))
	if err != nil {
		return false, err
	}
	if _, there := observed.Ports[next.port.Netdev]; !there {
		return false, nil // its owner has ended; the record is all there is
	}
	steps := plan.Diff(want, observed)
	err = e.kernel.Apply(ctx, steps)
	if lacksGuards(err) {
		if err = e.guard(ctx); err == nil {
			err = e.kernel.Apply(ctx, steps)
		}
	}
	return err == nil, err
}

// realisedCapabilities are what the kernel can do as far as ports need it.
func realisedCapabilities(was store.Realised) kernel.Capabilities {
	return kernel.Capabilities{PortLocked: was.LocksPorts, BridgeRules: was.HasRules, GuardRules: was.HasGuards, VLANFiltering: was.FiltersVLANs}
}
