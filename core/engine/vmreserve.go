package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ReservePort admits a VM's port and writes it down, before there is a tap: the switch is
// there and has room, the MAC address is nobody else's, the VLAN and the policy can be. In
// the kernel it makes no more than the VLANs that the switch has to carry. Asked again for
// a port that has a tap it changes nothing but the domain's name, and takes a release back;
// for one that has none the newest request counts. BindPort follows, or ReleasePort.
// PowerShell twin: Add-VMNetworkAdapter -SwitchName, of a VM that is off.
func (e *Engine) ReservePort(ctx context.Context, req ReservePortRequest) (vswitch.Port, error) {
	object := fmt.Sprintf("%s on switch %s", req.Owner, req.Switch)
	if err := req.validate(); err != nil {
		return vswitch.Port{}, fault("port reserve", object, err)
	}
	want := AttachRequest{Switch: req.Switch, VLAN: req.VLAN}
	p, err := realising(ctx, e, &want, func() (p vswitch.Port, err error) {
		p, err = e.tryReserve(ctx, req)
		want.VLAN = &p.VLAN // another one, perhaps, of a VM that comes from another host
		return p, err
	})
	return p, fault("port reserve", object, err)
}

// validate bounds what libvirt, and whoever defines VMs, may say.
func (req ReservePortRequest) validate() error {
	errs := []error{validateVMOwner(req.Owner), vswitch.ValidateName(req.Switch), req.MAC.ValidateStatic()}
	if req.MTU != 0 && (req.MTU < vswitch.MinMTU || req.MTU > vswitch.MaxMTU) {
		errs = append(errs, &vswitch.Error{Kind: vswitch.Invalid, Object: "mtu", Err: fmt.Errorf("%d is outside %d-%d", req.MTU, vswitch.MinMTU, vswitch.MaxMTU)})
	}
	if req.VLAN != nil {
		errs = append(errs, req.VLAN.Validate())
	}
	return errors.Join(errs...)
}

// validateVMOwner demands what tells a VM's port from all others.
func validateVMOwner(o vswitch.Owner) error {
	if o.Kind != vswitch.OwnerVM {
		return &vswitch.Error{Kind: vswitch.Invalid, Object: "owner", Err: fmt.Errorf("kind %.32q is not a VM", string(o.Kind)), Hint: "containers are attached, not reserved"}
	}
	if o.Endpoint == "" {
		return &vswitch.Error{Kind: vswitch.Invalid, Object: "port id", Err: errors.New("none is given"), Hint: "use the UUID of the libvirt port, or the alias of the device"}
	}
	return o.Validate()
}

// tryReserve fails with errNotRealised, having changed nothing, if the switch has to be made
// or repaired first.
func (e *Engine) tryReserve(ctx context.Context, req ReservePortRequest) (vswitch.Port, error) {
	unlock, err := e.store.LockSwitch(req.Switch, store.Shared)
	if err != nil {
		return vswitch.Port{}, err
	}
	defer unlock()
	unlockPort, err := e.store.LockPort(req.Owner.PortID())
	if err != nil {
		return vswitch.Port{}, err
	}
	defer unlockPort()
	if err := e.addressForVM(ctx, req.MAC); err != nil {
		return vswitch.Port{}, err
	}
	var p vswitch.Port
	err = e.store.Update(func(tx *store.Tx) (err error) {
		p, err = e.reserveFor(tx, req)
		return err
	})
	if err != nil || p.Plugged() {
		return p, err
	}
	if _, err := e.equip(ctx, p, false); err != nil {
		return p, undone(err, e.forget(reservation{port: p}))
	}
	e.offloadsChanged()
	return p, nil
}

// addressForVM refuses the address of a netdev of the host. A VM may have the address of a
// VF, or of a macvtap: both may be its own, to fail over to.
func (e *Engine) addressForVM(ctx context.Context, mac vswitch.MAC) error {
	return e.addressOfNobody(ctx, mac, "give the VM another one: `patchbay libvirt mac` chooses one from the pool", func(n kernel.Netdev) string {
		if n.Kind == "macvtap" || n.Kind == "macvlan" {
			return ""
		}
		return holderByItself(n, mac)
	})
}

func (e *Engine) reserveFor(tx *store.Tx, req ReservePortRequest) (p vswitch.Port, err error) {
	was, found, err := tx.Realised(req.Switch)
	if err != nil {
		return p, err
	}
	if !found || was.Changing {
		return p, errNotRealised
	}
	created := e.now().UTC()
	switch p, err = tx.Port(req.Owner.PortID()); {
	case err == nil && p.Plugged():
		return e.reserveAgain(tx, req, p)
	case err == nil: // nothing but the record is there, and the newest request counts
		created = p.Created
		err = tx.DeletePort(p.ID)
	case errors.Is(err, vswitch.NotFound):
		err = nil
	}
	if err != nil {
		return p, err
	}
	if p, err = vmPort(tx, req, was.SwitchRecord); err != nil {
		return p, err
	}
	p.Created = created
	if p, err = e.arriving(tx, p); err != nil {
		return p, err
	}
	if err := e.admitVM(tx, was, &p); err != nil {
		return p, err
	}
	return p, tx.PutPort(p)
}

// reserveAgain is for a port that has a tap: libvirt asks for all of them when it has been
// started again. What was changed since stays.
func (e *Engine) reserveAgain(tx *store.Tx, req ReservePortRequest, p vswitch.Port) (vswitch.Port, error) {
	if p.Switch != req.Switch || p.MAC != req.MAC {
		return p, &vswitch.Error{
			Kind: vswitch.Conflict, Err: fmt.Errorf("it is in use on switch %s with MAC address %s", p.Switch, p.MAC),
			Hint: fmt.Sprintf("shut the VM down, or run `patchbay port delete %s`", p.ID),
		}
	}
	was := p
	if req.Owner.Name != "" {
		p.Owner.Name = req.Owner.Name
	}
	if p.VM.Stage == vswitch.VMReleased {
		p.VM.Stage = vswitch.VMActive
	}
	if p.Owner == was.Owner && p.VM == was.VM {
		return p, nil
	}
	return p, tx.PutPort(p)
}

// vmPort is what the request asks for.
func vmPort(tx *store.Tx, req ReservePortRequest, r store.SwitchRecord) (vswitch.Port, error) {
	p := vswitch.Port{
		ID: req.Owner.PortID(), Switch: req.Switch, Owner: req.Owner, MAC: req.MAC, StaticMAC: true, Adopted: true,
		MACSpoofing: req.MACSpoofing, Isolated: req.Isolated, VM: vswitch.VMPort{Stage: vswitch.VMReserved},
	}
	p.VLAN = defaultVLAN(AttachRequest{VLAN: req.VLAN}, r)
	p.Policy = req.Policy.Apply(r.PortDefaults)
	if err := chooseMTU(&p, req.MTU, r); err != nil {
		return p, err
	}
	return p, tx.HoldVMMAC(p.MAC, p.Owner.Domain())
}

// arriving is a port as the host that its VM comes from has described it.
func (e *Engine) arriving(tx *store.Tx, p vswitch.Port) (vswitch.Port, error) {
	expected, comes, err := e.expected(tx, p.Owner.ID)
	if err != nil || !comes || len(expected.State) == 0 {
		return p, err
	}
	var state DomainState
	if err := json.Unmarshal(expected.State, &state); err != nil {
		return p, err
	}
	at := slices.IndexFunc(state.Ports, func(s PortState) bool { return s.Switch == p.Switch && s.MAC == p.MAC })
	if at < 0 {
		return p, nil
	}
	s := state.Ports[at]
	p.VLAN, p.Isolated, p.MACSpoofing, p.Policy = s.VLAN, s.Isolated, s.MACSpoofing, s.Policy
	p.VM.Narrowed, p.VM.Before = s.Narrowed, s.Counted
	return p, nil
}

// admitVM gives a port of a VM its place, and refuses what cannot be.
func (e *Engine) admitVM(tx *store.Tx, was store.Realised, p *vswitch.Port) error {
	if err := e.admitVLAN(tx, was, *p); err != nil {
		return err
	}
	load, err := tx.Load(p.Switch)
	if err != nil {
		return err
	}
	if p.Segment, err = load.Next(e.sizes, p.MACSpoofing); err != nil {
		return err
	}
	if p.Segment > was.Segments {
		return errNotGrown // but it will be: see vswitch.Load.Wanted
	}
	return e.admitPolicy(tx, was, *p)
}
