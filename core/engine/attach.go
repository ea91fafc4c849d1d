package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
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
	unlock, err := e.store.LockSwitch(req.Switch, store.Shared)
	if err != nil {
		return Attachment{}, err
	}
	defer func() { unlock() }()
	unlockPort, err := e.store.LockPort(req.Owner.PortID())
	if err != nil {
		return Attachment{}, err
	}
	defer unlockPort()

	r, err := e.reserve(req)
	if errors.Is(err, errNotRealised) {
		// First use, or first since the machine started: make the switch, which
		// needs its lock for ourselves alone.
		unlock()
		unlock = func() {}
		if err := e.realise(ctx, req); err != nil {
			return Attachment{}, err
		}
		if unlock, err = e.store.LockSwitch(req.Switch, store.Shared); err != nil {
			unlock = func() {}
			return Attachment{}, err
		}
		r, err = e.reserve(req)
	}
	if err != nil {
		return Attachment{}, err
	}
	if err := e.plug(ctx, r); err != nil {
		return Attachment{}, errors.Join(err, e.unplug(ctx, r))
	}
	return r.attachment(), nil
}

// reservation is a port as the store has it, with all that is needed to plug it.
type reservation struct {
	port   vswitch.Port
	record store.SwitchRecord
	caps   kernel.Capabilities // as far as ports need them
	known  bool                // the port was there before; the kernel may have any part of it
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

// errNotRealised says that a switch is unknown, was not made since the boot, or
// that a process was killed while it changed.
var errNotRealised = errors.New("the switch is not realised")

// realise makes the request's switch, or makes it again.
func (e *Engine) realise(ctx context.Context, req AttachRequest) error {
	unlock, err := e.lockSwitch(req.Switch)
	if err != nil {
		return err
	}
	defer unlock()
	if req.Define != nil {
		if err := req.Define.Validate(); err != nil {
			return err
		}
		_, err := e.addSwitch(ctx, *req.Define)
		return err
	}
	r, err := e.record(req.Switch)
	if err != nil {
		return err
	}
	caps, err := e.capabilities(ctx)
	if err != nil {
		return err
	}
	_, err = e.repairSwitch(ctx, r, caps)
	return err
}

// reserve writes the port with its leases: the intent, in one transaction.
func (e *Engine) reserve(req AttachRequest) (reservation, error) {
	var r reservation
	err := e.store.Update(func(tx *store.Tx) (err error) {
		realised, found, err := tx.Realised(req.Switch)
		if err != nil {
			return err
		}
		if !found {
			return errNotRealised
		}
		r.record, r.caps.PortLocked = realised.SwitchRecord, realised.LocksPorts
		if req.Define != nil {
			if err := agrees(*req.Define, r.record); err != nil {
				return err
			}
		}
		r.port, err = tx.Port(req.Owner.PortID())
		switch {
		case err == nil:
			r.known = true
			return e.resume(tx, req, &r)
		case errors.Is(err, vswitch.NotFound):
			return e.lease(tx, req, &r)
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
	if r.port.Owner.Netns == req.Owner.Netns {
		return nil
	}
	r.port.Owner.Netns = req.Owner.Netns
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
	case p.Adopted != (req.Netdev != "") || p.Adopted && p.Netdev != req.Netdev:
		return "netdev"
	}
	for _, want := range req.Requested {
		if !slices.ContainsFunc(p.Addresses, func(a vswitch.Address) bool { return a.Prefix.Addr() == want }) {
			return "address"
		}
	}
	return ""
}

// lease takes addresses for a new port and writes it.
func (e *Engine) lease(tx *store.Tx, req AttachRequest, r *reservation) error {
	p := vswitch.Port{
		ID: req.Owner.PortID(), Switch: req.Switch, Owner: req.Owner, MTU: r.record.EffectiveMTU,
		MAC: req.MAC, StaticMAC: !req.MAC.IsZero(), MACSpoofing: req.MACSpoofing, Created: e.now().UTC(),
	}
	p.Netdev = p.ID
	if req.Netdev != "" {
		p.Netdev, p.Adopted = req.Netdev, true
	}
	if req.MTU > r.record.EffectiveMTU {
		return &vswitch.Error{
			Kind: vswitch.Invalid, Err: fmt.Errorf("MTU %d is more than the switch's %d", req.MTU, r.record.EffectiveMTU),
			Hint: fmt.Sprintf("use %d or less", r.record.EffectiveMTU),
		}
	}
	if req.MTU != 0 {
		p.MTU = req.MTU
	}
	var err error
	if p.StaticMAC {
		err = tx.HoldMAC(p.MAC, p.ID)
	} else {
		p.MAC, err = tx.LeaseMAC(p.ID)
	}
	if err != nil {
		return err
	}
	if p.Addresses, err = leaseAddresses(tx, req, r.record); err != nil {
		return err
	}
	p.Addresses = append(p.Addresses, req.Addresses...)
	if p.Routes, err = routesVia(req.Routes, p.Addresses); err != nil {
		return err
	}
	r.port = p
	return tx.PutPort(p)
}

// leaseAddresses takes one address from each set of ranges: the one requested for
// it, or the next free one.
func leaseAddresses(tx *store.Tx, req AttachRequest, r store.SwitchRecord) ([]vswitch.Address, error) {
	sets := make([]vswitch.IPRangeSet, len(req.Ranges))
	for i, set := range req.Ranges {
		for _, rng := range set {
			sets[i] = append(sets[i], rng.WithDefaults(r.GatewayFor))
		}
	}
	if err := vswitch.ValidateIPRangeSets(sets); err != nil {
		return nil, err
	}
	port := req.Owner.PortID()
	unused := slices.Clone(req.Requested)
	var leased []vswitch.Address
	for _, set := range sets {
		addr, err := leaseFrom(tx, r.Name, set, &unused, port)
		if err != nil {
			return nil, err
		}
		rng, _ := set.RangeOf(addr)
		leased = append(leased, vswitch.Address{
			Prefix: netip.PrefixFrom(addr, rng.Subnet.Bits()), Gateway: rng.Gateway, DAD: req.DAD,
		})
	}
	if len(unused) > 0 {
		return nil, &vswitch.Error{
			Kind: vswitch.IPRangeInvalid, Err: fmt.Errorf("requested address %s is in none of the ranges", unused[0]),
			Hint: "request an address of the network's ranges, or widen them",
		}
	}
	return leased, nil
}

// leaseFrom takes the first of the requested addresses that lies in the set, or
// the next free one, and strikes it off the list.
func leaseFrom(tx *store.Tx, sw string, set vswitch.IPRangeSet, requested *[]netip.Addr, port string) (netip.Addr, error) {
	for i, want := range *requested {
		if _, inside := set.RangeOf(want); !inside {
			continue
		}
		if !slices.ContainsFunc(set.Spans(), func(s vswitch.Span) bool { return s.Contains(want) }) {
			return want, &vswitch.Error{
				Kind: vswitch.IPRangeInvalid, Err: fmt.Errorf("requested address %s is the gateway's, excluded or outside rangeStart-rangeEnd", want),
				Hint: "request another address of the range",
			}
		}
		*requested = slices.Delete(slices.Clone(*requested), i, i+1)
		return want, tx.HoldIP(sw, want, port)
	}
	return tx.LeaseIP(sw, set, port)
}

// routesVia completes routes that name no gateway with that of their family.
func routesVia(routes []vswitch.Route, addresses []vswitch.Address) ([]vswitch.Route, error) {
	const link = 253 // RT_SCOPE_LINK: no gateway wanted
	out := slices.Clone(routes)
	for i, r := range out {
		if r.Gateway.IsValid() || r.Scope != nil && *r.Scope >= link {
			continue
		}
		at := slices.IndexFunc(addresses, func(a vswitch.Address) bool {
			return a.Gateway.IsValid() && a.Gateway.Is4() == r.Dst.Addr().Is4()
		})
		if at < 0 {
			return nil, &vswitch.Error{
				Kind: vswitch.Invalid, Err: fmt.Errorf("route to %s has no gateway, and no address of its family has one", r.Dst),
				Hint: "give the route a gw, or a range of that family",
			}
		}
		out[i].Gateway = addresses[at].Gateway
	}
	return out, nil
}

// plug brings the kernel to the reserved port. A new one is made without looking:
// nothing can be there. Where something is all the same, or the switch is not as
// it should be, look and repair.
func (e *Engine) plug(ctx context.Context, r reservation) error {
	desired := attachedState(r.port, r.record, r.caps)
	if r.port.Adopted || r.port.StaticMAC {
		if err := e.admissible(ctx, r); err != nil {
			return err
		}
	}
	if !r.known && !r.port.Adopted {
		err := e.kernel.Apply(ctx, plan.Diff(desired, plan.State{}))
		if !errors.Is(err, vswitch.AlreadyExists) && !errors.Is(err, vswitch.NotFound) {
			return err
		}
	}
	if err := e.kernel.CheckNetns(r.port.Owner.Netns); err != nil && !r.port.Adopted {
		return err
	}
	desired = merged(switchState(r.record, r.caps), desired)
	return e.reach(ctx, desired, plan.State{})
}

// merged is a switch with one of its ports.
func merged(s, port plan.State) plan.State {
	rules := s.Rules
	s = plan.Union(s, port)
	s.Rules = rules
	s.Rules.Guard = port.Rules.Guard
	return s
}

// admissible looks at what an adopted netdev is and at who else has a static MAC.
func (e *Engine) admissible(ctx context.Context, r reservation) error {
	netdevs, err := e.kernel.Netdevs(ctx)
	if err != nil {
		return err
	}
	if r.port.Adopted {
		if err := adoptable(netdevs, r.port, vswitch.BridgeName(r.record.Name)); err != nil {
			return err
		}
	}
	if !r.port.StaticMAC {
		return nil
	}
	for _, n := range netdevs {
		holder := n.Name
		if n.MAC != r.port.MAC && !slices.Contains(n.VFs, r.port.MAC) || n.Name == r.port.Netdev {
			continue
		}
		if n.MAC != r.port.MAC {
			holder = "a VF of " + n.Name
		}
		return &vswitch.Error{
			Kind: vswitch.MACDuplicate, Err: fmt.Errorf("MAC address %s belongs to %s of this host", r.port.MAC, holder),
			Hint: "choose another address, or leave it out to get one from the pool",
		}
	}
	return nil
}

func adoptable(netdevs []kernel.Netdev, p vswitch.Port, bridge string) error {
	at := slices.IndexFunc(netdevs, func(n kernel.Netdev) bool { return n.Name == p.Netdev })
	if at < 0 {
		return &vswitch.Error{Kind: vswitch.NotFound, Err: fmt.Errorf("netdev %s of the previous result is not on this host", p.Netdev)}
	}
	n := netdevs[at]
	if n.Master != "" && n.Master != bridge {
		return &vswitch.Error{Kind: vswitch.InUse, Err: fmt.Errorf("netdev %s belongs to %s", n.Name, n.Master)}
	}
	if reason := unsupported(n); reason != "" {
		return &vswitch.Error{Kind: vswitch.Invalid, Err: fmt.Errorf("netdev %s cannot be attached: %s", n.Name, reason)}
	}
	return nil
}

// unplug undoes a failed attach: out of the kernel, then out of the store. A port
// that was there before stays, for its owner to delete.
func (e *Engine) unplug(ctx context.Context, r reservation) error {
	if r.known {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if err := e.kernel.Apply(ctx, plan.Diff(plan.State{}, attachedState(r.port, r.record, r.caps))); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	return e.store.Update(func(tx *store.Tx) error { return tx.DeletePort(r.port.ID) })
}

// validate bounds what a face passes on from outside.
func (req AttachRequest) validate() error {
	errs := []error{req.Owner.Validate(), vswitch.ValidateName(req.Switch)}
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
	if req.Netdev != "" {
		errs = append(errs, vswitch.ValidateNetdevName(req.Netdev))
	}
	return errors.Join(errs...)
}
