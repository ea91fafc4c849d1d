package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// BindPort gives a reserved port its tap: when it returns, all that the port is granted and
// denied is in the kernel, and until then the tap's frames were dropped. The override is
// applied once, to what the port is then; another one later takes away more, and one that
// asks for more than there is fails with Widens and changes nothing. Bound again to the same
// tap it repairs what is missing. Bound to another tap, or with a tap that was another port's
// of the same VM, it leaves nothing of the port or the tap where they were. The port of a VM
// that is expected (ExpectDomain) is VMIncoming then, and ActivateDomain follows.
func (e *Engine) BindPort(ctx context.Context, req BindPortRequest) (vswitch.Port, error) {
	object := fmt.Sprintf("netdev %s to %s", req.Netdev, req.Owner)
	if err := req.validate(); err != nil {
		return vswitch.Port{}, fault("port bind", object, err)
	}
	var err error
	if req.Pair {
		req.Netdev, err = e.otherEnd(ctx, req.Netdev)
	}
	var p vswitch.Port
	if err == nil {
		p, err = e.bindPort(ctx, req)
	}
	return p, fault("port bind", object, err)
}

func (req BindPortRequest) validate() error {
	errs := []error{validateVMOwner(req.Owner), vswitch.ValidateVMAlias(req.Alias)}
	if err := vswitch.ValidateNetdevName(req.Netdev); err != nil {
		errs = append(errs, &vswitch.Error{Kind: vswitch.Invalid, Object: "netdev", Err: err, Hint: "name the VM's tap"})
	}
	if _, err := vswitch.ParseAddressList(string(req.Addresses)); err != nil {
		errs = append(errs, err)
	}
	if req.Override.VLAN != nil {
		errs = append(errs, req.Override.VLAN.Validate())
	}
	return errors.Join(errs...)
}

func (e *Engine) bindPort(ctx context.Context, req BindPortRequest) (vswitch.Port, error) {
	var want AttachRequest
	return realising(ctx, e, &want, func() (p vswitch.Port, err error) {
		p, err = e.tryBind(ctx, req)
		want.Switch, want.VLAN = p.Switch, &p.VLAN
		return p, err
	})
}

// binding is a port on its way to a tap.
type binding struct {
	now, next reservation
	// former is the port that has had the tap so far; not known if there is none.
	former reservation
}

// tryBind fails with errNotRealised, having changed nothing in the kernel, if the switch has to
// be made or repaired first.
func (e *Engine) tryBind(ctx context.Context, req BindPortRequest) (vswitch.Port, error) {
	id := req.Owner.PortID()
	p, former, err := e.whoIsAt(id, req.Netdev)
	if err != nil {
		return p, err
	}
	unlock, err := e.lockForBinding(p, former)
	if err != nil {
		return p, err
	}
	defer unlock()
	tap, err := e.kernel.Netdev(ctx, req.Netdev)
	if err != nil {
		return p, err
	}
	var b binding
	err = e.store.Update(func(tx *store.Tx) (err error) {
		b, err = e.bindIn(tx, req, tap, former)
		return err
	})
	if p = b.next.port; err != nil {
		return p, err
	}
	if err := e.plugTap(ctx, b); err != nil {
		if errors.Is(err, errNotRealised) {
			return p, err
		}
		back := context.WithoutCancel(ctx)
		return p, undone(err, errors.Join(e.unbind(back, b), e.accord(back, b.former.port, b.now.port)))
	}
	// That of the past first: copies of one tap's frames are in one place of it, whatever switch
	// they are for.
	err = errors.Join(e.accord(ctx, b.former.port), e.accordAnew(ctx, b.now.port), e.accord(ctx, b.now.port, b.next.port))
	if err == nil {
		e.settlePolicy(p)
	}
	return p, err
}

// whoIsAt reads which port is to be bound, and which one has the tap.
func (e *Engine) whoIsAt(id, netdev string) (p, former vswitch.Port, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		if p, err = tx.Port(id); err != nil {
			return reserveFirst(err)
		}
		other, found, err := tx.PortOfNetdev(netdev)
		if found && other.ID != id {
			former = other
		}
		return err
	})
	return p, former, err
}

func reserveFirst(err error) error {
	if !errors.Is(err, vswitch.NotFound) {
		return err
	}
	return &vswitch.Error{Kind: vswitch.NotFound, Err: errors.New("the port is not reserved"), Hint: "reserve it first: libvirt's `network` hook does, see `patchbay libvirt`"}
}

// lockForBinding locks what a binding changes: switches first, in order.
func (e *Engine) lockForBinding(p, former vswitch.Port) (unlock func(), err error) {
	switches, ports := []string{p.Switch}, []string{p.ID}
	if former.ID != "" {
		switches, ports = append(switches, former.Switch), append(ports, former.ID)
	}
	slices.Sort(switches)
	var held []func()
	unlock = func() {
		for _, let := range slices.Backward(held) {
			let()
		}
	}
	for _, name := range slices.Compact(switches) {
		let, err := e.store.LockSwitch(name, store.Shared)
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, let)
	}
	let, err := e.store.LockPorts(ports)
	if err != nil {
		unlock()
		return nil, err
	}
	held = append(held, let)
	return unlock, nil
}

// errMeanwhile is of a port that became another one before its locks were held.
var errMeanwhile = &vswitch.Error{Kind: vswitch.Conflict, Err: errors.New("the port or its netdev was given away meanwhile"), Hint: "try again"}

// bindIn writes the intent: the port with its tap, and whoever had that without.
func (e *Engine) bindIn(tx *store.Tx, req BindPortRequest, tap kernel.Netdev, former vswitch.Port) (b binding, err error) {
	if err := b.now.recall(tx, req.Owner.PortID()); err != nil {
		return b, err
	}
	if !b.now.known {
		return b, reserveFirst(vswitch.NotFound)
	}
	was, found, err := tx.Realised(b.now.port.Switch)
	if err != nil {
		return b, err
	}
	b.next = b.now
	if !found || was.Changing || b.now.port.Segment > was.Segments {
		return b, errNotRealised
	}
	b.next.record, b.next.segments, b.next.carried, b.next.caps = was.SwitchRecord, was.Segments, was.Carried, realisedCapabilities(was)
	other, found, err := tx.PortOfNetdev(req.Netdev)
	if err != nil {
		return b, err
	}
	if found && other.ID != b.now.port.ID {
		if other.ID != former.ID || other.Switch != former.Switch {
			return b, errMeanwhile
		}
		if err := b.takeFrom(tx, other, tap); err != nil {
			return b, err
		}
	}
	if err := b.bindable(tx, tap); err != nil {
		return b, err
	}
	return b, e.bound(tx, was, req, tap, &b)
}

// takeFrom takes the tap from another port of the same VM, which libvirt has put into
// another network, or from one whose own tap of that name is gone.
func (b *binding) takeFrom(tx *store.Tx, other vswitch.Port, tap kernel.Netdev) error {
	p := b.next.port
	gone := other.Owner.Kind == vswitch.OwnerVM && other.VM.Index != 0 && other.VM.Index != tap.Index
	if !gone && (other.Owner.Kind != vswitch.OwnerVM || other.Owner.ID != p.Owner.ID) {
		p.Netdev = tap.Name
		return adoptedOnce(tx, p)
	}
	if err := b.former.recall(tx, other.ID); err != nil {
		return err
	}
	if gone {
		return tx.DeletePort(other.ID)
	}
	other.Netdev, other.VM.Index, other.VM.Stage = "", 0, vswitch.VMReserved
	return tx.PutPort(other)
}

// bindable refuses a netdev that is ours, or in a bridge of somebody else.
func (b *binding) bindable(tx *store.Tx, tap kernel.Netdev) error {
	p := b.next.port
	if strings.HasPrefix(tap.Alias, vswitch.AliasPrefix) {
		return &vswitch.Error{Kind: vswitch.InUse, Err: fmt.Errorf("netdev %s is a part of Patchbay", tap.Name), Hint: "name the VM's tap"}
	}
	if err := plainNetdev(tx, tap); err != nil {
		return err
	}
	ours := map[string]bool{"": true}
	for _, r := range []reservation{b.next, b.former} {
		for k := 0; r.known && k <= r.segments; k++ {
			ours[vswitch.SegmentName(r.port.Switch, k)] = true
		}
	}
	if !ours[tap.Master] {
		return &vswitch.Error{
			Kind: vswitch.InUse, Err: fmt.Errorf("netdev %s belongs to %s, not to %s", tap.Name, tap.Master, vswitch.BridgeName(p.Switch)),
			Hint: fmt.Sprintf("see that the libvirt network names the bridge of switch %s: `patchbay libvirt network %s`", p.Switch, p.Switch),
		}
	}
	if reason := unsupported(tap); reason != "" {
		return &vswitch.Error{Kind: vswitch.Invalid, Err: fmt.Errorf("netdev %s cannot be a port: %s", tap.Name, reason)}
	}
	return nil
}

// plainNetdev refuses an uplink and a member of a team.
func plainNetdev(tx *store.Tx, n kernel.Netdev) error {
	records, err := tx.Switches()
	if err != nil {
		return err
	}
	teams, err := tx.Teams()
	if err != nil {
		return err
	}
	uplink := slices.ContainsFunc(records, func(r store.SwitchRecord) bool { return r.Uplink == n.Name })
	if uplink || slices.ContainsFunc(teams, func(t store.TeamRecord) bool { return slices.Contains(t.Members, n.Name) }) {
		return &vswitch.Error{Kind: vswitch.InUse, Err: fmt.Errorf("netdev %s is an uplink, or a member of a team", n.Name), Hint: "name the VM's tap"}
	}
	return nil
}

// bound writes the port as it is to be with its tap.
func (e *Engine) bound(tx *store.Tx, was store.Realised, req BindPortRequest, tap kernel.Netdev, b *binding) error {
	p := b.now.port
	_, comes, err := e.expected(tx, p.Owner.ID)
	if err != nil {
		return err
	}
	switch fresh := p.Netdev != tap.Name || p.VM.Index != tap.Index; {
	case fresh && comes:
		p.VM.Stage = vswitch.VMIncoming
	case fresh && p.VM.Stage != vswitch.VMIncoming, p.VM.Stage == vswitch.VMReserved:
		p.VM.Stage = vswitch.VMActive
	}
	p.Netdev, p.VM.Index = tap.Name, tap.Index
	if req.Alias != "" {
		p.VM.Alias = req.Alias
	}
	if req.Owner.Name != "" {
		p.Owner.Name = req.Owner.Name
	}
	if override := req.Override.String(); override != "" && override != p.VM.Narrowed {
		narrowed, err := req.Override.Apply(p)
		if err != nil {
			return err
		}
		narrowed.VM.Narrowed = override
		narrowed.PolicyChanged = p.PolicyChanged || !narrowed.Policy.Equal(p.Policy)
		p = narrowed
	}
	if req.Addresses != "" {
		if err := takeAddresses(tx, was.SwitchRecord, &p, req.Addresses.All()); err != nil {
			return err
		}
	}
	if b.former.known || b.now.port.Plugged() && b.now.port.Netdev != tap.Name {
		p.PolicyChanged = true // the tap may have rules of another port
	}
	b.next.port = p
	bare := p // it does not stand in its own way
	bare.VLAN, bare.Isolated, bare.Policy = vswitch.PortVLAN{}, false, b.now.port.Policy
	if err := tx.PutPort(bare); err != nil {
		return err
	}
	if err := errors.Join(e.admitVLAN(tx, was, p), e.admitPolicy(tx, was, p)); err != nil {
		return err
	}
	return tx.PutPort(p)
}

// takeAddresses gives a port the addresses that its VM is defined with.
func takeAddresses(tx *store.Tx, r store.SwitchRecord, p *vswitch.Port, all []netip.Addr) error {
	had := p.Addresses
	p.Addresses = nil
	for _, a := range all {
		if err := holdAddress(tx, r, a, p.ID); err != nil {
			return err
		}
		p.Addresses = append(p.Addresses, vswitch.Address{Prefix: netip.PrefixFrom(a, a.BitLen())})
	}
	p.PolicyChanged = p.PolicyChanged || p.Policy.AddressGuard && !slices.Equal(had, p.Addresses)
	return nil
}

// unbind takes back what a binding that failed has written and done. The tap is left as
// nobody's port, which is shut.
func (e *Engine) unbind(ctx context.Context, b binding) error {
	if b.now.port.Netdev == b.next.port.Netdev {
		return nil // it was there before, and whoever asks again finds it
	}
	b.next.stays = true // whoever asks again finds it there
	_, err := e.withdraw(ctx, []reservation{b.next})
	return errors.Join(err, e.store.Update(func(tx *store.Tx) error {
		p := b.now.port
		if p.Plugged() {
			p.Netdev, p.VM.Index, p.VM.Stage = "", 0, vswitch.VMReserved
		}
		return tx.PutPort(p)
	}))
}
