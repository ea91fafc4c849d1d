package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Attach gives an owner a port on a switch. The same request again returns the
// same port, repaired if need be; another request for the same owner is a
// Conflict. What fails is undone, and what a killed process left is finished by
// Attach, or removed by Detach and GC. PowerShell twin: Add-VMNetworkAdapter
// -SwitchName.
func (e *Engine) Attach(ctx context.Context, req AttachRequest) (Attachment, error) {
	object := fmt.Sprintf("%s to switch %s", req.Owner, req.Switch)
	if err := req.validate(); err != nil {
		return Attachment{}, fault("attach", object, err)
	}
	a, err := e.attach(ctx, req)
	return a, fault("attach", object, err)
}

func (e *Engine) attach(ctx context.Context, req AttachRequest) (Attachment, error) {
	return realising(ctx, e, &req, func() (Attachment, error) { return e.tryAttach(ctx, req) })
}

// realising tries what needs a switch that is as it should be. One that is not is made so,
// under its lock, for what the request wants of it, and it is tried again: somebody else may
// delete the switch in between, or harm it, but hardly twice.
func realising[T any](ctx context.Context, e *Engine, req *AttachRequest, try func() (T, error)) (T, error) {
	const repairs = 2
	done, err := try()
	if e.mayHave(ctx, err) {
		done, err = try()
	}
	for range repairs {
		if !errors.Is(err, errNotRealised) {
			return done, err
		}
		if err := e.realise(ctx, *req, err); err != nil {
			var none T
			return none, err
		}
		done, err = try()
	}
	return done, unsteady(err)
}

// unsteady tells of a switch that has been made whole again and again.
func unsteady(err error) error {
	if !errors.Is(err, errNotRealised) {
		return err
	}
	return &vswitch.Error{
		Kind: vswitch.Drifted, Err: fmt.Errorf("the switch does not stay as it was made: %w", err),
		Hint: "find out who changes it: `patchbay status` shows what is missing",
	}
}

// tryAttach fails with errNotRealised, having changed nothing, if the switch has
// to be made or repaired first.
func (e *Engine) tryAttach(ctx context.Context, req AttachRequest) (Attachment, error) {
	unlock, err := e.store.LockSwitch(req.Switch, store.Shared)
	if err != nil {
		return Attachment{}, err
	}
	defer unlock()
	unlockPort, err := e.store.LockPort(req.Owner.PortID())
	if err != nil {
		return Attachment{}, err
	}
	defer unlockPort()
	r, err := e.reserve(req)
	if err != nil {
		return Attachment{}, err
	}
	if err := e.admissible(ctx, r); err != nil {
		return Attachment{}, undone(err, e.forget(r)) // nothing is touched yet
	}
	if err := e.equipReserved(ctx, &r); err != nil {
		return Attachment{}, undone(err, e.forget(r))
	}
	err = e.plug(ctx, r)
	if lacksGuards(err) {
		if err = e.guard(ctx); err == nil {
			begun := r
			begun.known = true // in parts, perhaps
			err = e.plug(ctx, begun)
		}
	}
	if err == nil {
		err = e.accord(ctx, r.port)
	}
	if err != nil {
		return Attachment{}, undone(err, e.unplug(ctx, r))
	}
	e.settlePolicy(r.port)
	return r.attachment(), nil
}

// reservation is a port as the store has it, with all that is needed to plug it.
type reservation struct {
	port   vswitch.Port
	record store.SwitchRecord
	caps   kernel.Capabilities // as far as ports need them
	known  bool                // the port was there before; the kernel may have any part of it
	// segments is how many further segments the switch has.
	segments int
	carried  vswitch.VLANSet // the VLANs that its switch carries
	netns    kernel.NetnsID  // the owner's namespace as it is now; 0 if nobody can tell
	// stays says that somebody else's netdev is left in the bridge when the port is withdrawn,
	// where it is shut.
	stays bool
}

func (r reservation) attachment() Attachment {
	s := SwitchStatus{
		Switch: r.record.Switch, EffectiveMTU: r.record.EffectiveMTU,
		Bridge: vswitch.BridgeName(r.record.Name), BridgeMAC: r.record.BridgeMAC,
	}
	if r.record.HostPort() {
		s.HostPortNetdev = vswitch.HostPortName(r.record.Name)
	}
	a := Attachment{Port: r.port, Switch: s}
	a.HostMAC = portState(r.port, r.record, r.caps).MAC
	return a
}

// errNotRealised says that a switch is unknown, was not made since the boot, that a
// process was killed while it changed, or that the kernel lacks some of it.
var errNotRealised = errors.New("the switch is not realised")

// errNotGrown is errNotRealised of a switch that lacks a segment and nothing else.
var errNotGrown = fmt.Errorf("it needs another segment: %w", errNotRealised)

// realise makes the request's switch, or makes it again, for the reason that an attach
// found.
func (e *Engine) realise(ctx context.Context, req AttachRequest, reason error) error {
	unlock, err := e.lockSwitches(req.Switch)
	if err != nil {
		return err
	}
	defer unlock()
	if errors.Is(reason, errNotGrown) {
		if grown, err := e.grown(req.Switch); grown || err != nil {
			return err
		}
	}
	if req.Define != nil && !errors.Is(reason, errNotCarried) {
		if err := req.Define.Validate(); err != nil {
			return err
		}
		_, err := e.foreseeing().addSwitch(ctx, AddSwitchRequest{Switch: *req.Define})
		return err
	}
	r, err := e.record(req.Switch)
	if err != nil {
		return err
	}
	if errors.Is(reason, errNotCarried) {
		return e.carry(ctx, r, defaultVLAN(req, r))
	}
	caps, err := e.capabilitiesFor(ctx, r.Switch)
	if err != nil {
		return err
	}
	_, err = e.repairSwitch(ctx, r, caps)
	return err
}

// reserve writes the port with its leases: the intent, in one transaction.
func (e *Engine) reserve(req AttachRequest) (reservation, error) {
	var r reservation
	if req.Netdev == "" {
		r.netns, _ = e.kernel.NetnsID(req.Owner.Netns) // a path that leads nowhere is told later
	}
	err := e.store.Update(func(tx *store.Tx) (err error) {
		realised, found, err := tx.Realised(req.Switch)
		if err != nil {
			return err
		}
		if !found || realised.Changing {
			return errNotRealised
		}
		r.record, r.segments = realised.SwitchRecord, realised.Segments
		r.carried, r.caps = realised.Carried, realisedCapabilities(realised)
		if req.Define != nil {
			have := r.record
			if len(req.Define.PortProfiles) > 0 { // which the run file leaves out
				if have, err = tx.Switch(req.Switch); err != nil {
					return err
				}
			}
			if err := agrees(*req.Define, have); err != nil {
				return err
			}
		}
		r.port, err = tx.Port(req.Owner.PortID())
		switch {
		case err == nil:
			r.known = true
			return e.resume(tx, req, &r)
		case errors.Is(err, vswitch.NotFound):
			return e.lease(tx, req, realised, &r)
		}
		return err
	})
	return r, err
}

// resume continues an attachment that the store knows already.
func (e *Engine) resume(tx *store.Tx, req AttachRequest, r *reservation) error {
	if reason := differs(req, r.port, r.record); reason != "" {
		return &vswitch.Error{
			Kind: vswitch.Conflict, Err: fmt.Errorf("is attached already, with another %s", reason),
			Hint: fmt.Sprintf("run `patchbay port delete %s`, or have the runtime delete the attachment", r.port.ID),
		}
	}
	if r.port.Segment > r.segments {
		return errNotRealised
	}
	if r.port.Owner.Netns == req.Owner.Netns && (r.netns == 0 || r.port.NetnsID == uint64(r.netns)) {
		return nil
	}
	r.port.Owner.Netns, r.port.NetnsID = req.Owner.Netns, uint64(r.netns)
	return tx.PutPort(r.port)
}

// differs names what the request asks for and the port has otherwise.
func differs(req AttachRequest, p vswitch.Port, r store.SwitchRecord) string {
	mtu := req.MTU
	if mtu == 0 {
		mtu = r.EffectiveMTU
	}
	switch {
	case p.Switch != req.Switch:
		return "switch"
	case !req.MAC.IsZero() && req.MAC != p.MAC:
		return "MAC address"
	case p.MTU != mtu:
		return "MTU"
	case p.MACSpoofing != req.MACSpoofing:
		return "macSpoofing"
	case req.VLAN != nil && !p.VLAN.Equal(*req.VLAN):
		return "VLAN"
	case p.Isolated != req.Isolated:
		return "isolation"
	case !req.Policy.Apply(p.Policy).Equal(p.Policy):
		return "policy"
	case p.Adopted != (req.Netdev != "") || p.Adopted && p.Netdev != req.Netdev:
		return "netdev"
	}
	if len(req.Ranges)+len(req.Addresses) != len(p.Addresses) {
		return "number of addresses"
	}
	for i, set := range req.Ranges {
		if !within(set, p.Addresses[i]) {
			return "range"
		}
	}
	for i, a := range req.Addresses {
		if a.Prefix != p.Addresses[len(req.Ranges)+i].Prefix {
			return "address"
		}
	}
	if routes, err := routesVia(req.Routes, p.Addresses); err != nil || !slices.EqualFunc(routes, p.Routes, sameRoute) {
		return "set of routes"
	}
	for _, want := range req.Requested {
		if !slices.ContainsFunc(p.Addresses, func(a vswitch.Address) bool { return a.Prefix.Addr() == want }) {
			return "address"
		}
	}
	return ""
}

// within reports whether an address is of one of the set's subnets.
func within(set vswitch.IPRangeSet, a vswitch.Address) bool {
	_, ok := set.RangeOf(a.Prefix.Addr())
	return ok
}

func sameRoute(a, b vswitch.Route) bool {
	equal := func(x, y *int) bool { return x == nil && y == nil || x != nil && y != nil && *x == *y }
	return equal(a.Table, b.Table) && equal(a.Scope, b.Scope) &&
		a.Dst == b.Dst && a.Gateway == b.Gateway && a.MTU == b.MTU && a.AdvMSS == b.AdvMSS && a.Priority == b.Priority
}

// plug brings the kernel to the reserved port. A new one is made without looking:
// nothing can be there. Where something is all the same, look and repair. What the
// port needs of its switch and does not find is for the switch's lock to mend.
func (e *Engine) plug(ctx context.Context, r reservation) error {
	desired := attachedState(r.port, r.record, r.caps)
	if needsRules(r) {
		if err := e.kernel.Apply(ctx, []plan.Step{plan.RequireRules{NoNAT: r.record.EffectiveMasquerade().IsZero()}}); err != nil {
			return needsRepair(err)
		}
	}
	if !r.known && !r.port.Adopted {
		err := e.kernel.Apply(ctx, plan.Diff(desired, around(r.port, r.record)))
		if !errors.Is(err, vswitch.AlreadyExists) {
			return needsRepair(err)
		}
	}
	if !r.port.Adopted {
		if err := e.kernel.CheckNetns(r.port.Owner.Netns); err != nil {
			return err
		}
	}
	if err := e.bridgesWhole(ctx, r); err != nil {
		return err
	}
	return needsRepair(e.reach(ctx, desired, earlierRules(r.port)))
}

// bridgesWhole fails with errNotRealised unless the bridges that a port needs are as they
// should be.
func (e *Engine) bridgesWhole(ctx context.Context, r reservation) error {
	bridge := plan.State{Bridges: switchState(r.record, r.caps, r.carried).Bridges}
	if r.port.Segment > 0 {
		bridge = plan.Union(bridge, segmentState(r.record, r.caps, extent{want: r.segments, carried: r.carried}))
	}
	seen, err := e.kernel.Observe(ctx, bridge)
	if err == nil && len(plan.Diff(bridge, seen)) > 0 {
		return errNotRealised
	}
	return err
}

// needsRules reports whether the port would be less than promised without the rules
// of its switch: on one that is closed to the host, with masquerade, and where rules
// bind ports or have elements of this one. On the others they only save the flooding of multicast, and asking
// for them has its price.
func needsRules(r reservation) bool {
	return r.caps.BridgeRules &&
		(!r.record.HostPort() || !r.record.EffectiveMasquerade().IsZero() || !r.caps.PortLocked || apart(r.port) || r.port.Policy.IEEEPriorityTag)
}

// needsRepair tells what the switch lacks from what the port does wrong.
func needsRepair(err error) error {
	if errors.Is(err, vswitch.NotFound) || errors.Is(err, vswitch.Drifted) {
		return fmt.Errorf("%w: %w", errNotRealised, err)
	}
	return err
}

// validate bounds what a face passes on from outside.
func (req AttachRequest) validate() error {
	errs := []error{req.Owner.Validate(), vswitch.ValidateName(req.Switch)}
	if req.Define != nil && req.Define.Name != req.Switch {
		errs = append(errs, &vswitch.Error{Kind: vswitch.Invalid, Object: "switch", Err: fmt.Errorf("%q is asked for and %q defined", req.Switch, req.Define.Name)})
	}
	if req.Netdev == "" && req.Owner.Netns == "" {
		errs = append(errs, &vswitch.Error{Kind: vswitch.NetnsNotFound, Object: "netns", Err: fmt.Errorf("no network namespace is given"), Hint: "give the path of the container's network namespace"})
	}
	errs = append(errs, vswitch.ValidateRoutes(req.Routes))
	if !req.MAC.IsZero() {
		errs = append(errs, req.MAC.ValidateStatic())
	}
	if req.MTU != 0 && (req.MTU < vswitch.MinMTU || req.MTU > vswitch.MaxMTU) {
		errs = append(errs, &vswitch.Error{Kind: vswitch.Invalid, Object: "mtu", Err: fmt.Errorf("%d is outside %d-%d", req.MTU, vswitch.MinMTU, vswitch.MaxMTU)})
	}
	const maxPath = 4096
	if len(req.Owner.Netns) > maxPath {
		errs = append(errs, &vswitch.Error{Kind: vswitch.NetnsNotFound, Object: "netns", Err: fmt.Errorf("the path is longer than %d bytes", maxPath)})
	}
	if req.VLAN != nil {
		errs = append(errs, req.VLAN.Validate())
	}
	if req.Netdev != "" {
		errs = append(errs, vswitch.ValidateNetdevName(req.Netdev))
	}
	return errors.Join(errs...)
}
