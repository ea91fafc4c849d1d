package engine

import (
	"context"
	"fmt"
	"maps"

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
