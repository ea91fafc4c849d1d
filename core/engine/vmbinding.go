package engine

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file writes down which tap a port is to have, before the kernel knows.

// binding is a port on its way to a tap.
type binding struct {
	now, next reservation
	// former is the port that has had the tap so far; not known if there is none.
	former reservation
}

// bindIn writes the intent: the port with its tap, and whoever had that without.
func (e *Engine) bindIn(tx *store.Tx, req BindPortRequest, tap kernel.Netdev, former []vswitch.Port) (b binding, err error) {
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
		if !slices.ContainsFunc(former, func(p vswitch.Port) bool { return p.ID == other.ID && p.Switch == other.Switch }) {
			return b, errMeanwhile
		}
		if err := b.takeFrom(tx, other, tap); err != nil {
			return b, err
		}
	}
	if err := b.bindable(tx, tap); err != nil {
		return b, err
	}
	if b.former.known && b.former.port.Owner.ID == b.now.port.Owner.ID && b.former.port.VM.Index == tap.Index {
		if req, err = inherited(tx, req, b.former.port, b.now.port); err != nil {
			return b, err
		}
	}
	return b, e.bound(tx, was, req, tap, &b)
}

// inherited is a request for a tap that has come from another port of the same VM: what it does not say of
// the NIC is as the definition has said it for that port. The network alone is another one.
func inherited(tx *store.Tx, req BindPortRequest, former, heir vswitch.Port) (BindPortRequest, error) {
	req.Alias, req.Team = cmp.Or(req.Alias, former.VM.Alias), cmp.Or(req.Team, &former.VM.Team)
	if req.Override.IsZero() && former.VM.Narrowed != "" {
		if err := json.Unmarshal([]byte(former.VM.Narrowed), &req.Override); err != nil {
			return req, err
		}
	}
	var all []string
	for _, a := range former.Addresses {
		all = append(all, a.Prefix.Addr().String())
		if former.Switch != heir.Switch {
			continue
		}
		if err := tx.PassIP(heir.Switch, a.Prefix.Addr(), heir.ID); err != nil {
			return req, err
		}
	}
	req.Addresses = cmp.Or(req.Addresses, vswitch.AddressList(strings.Join(all, " ")))
	return req, nil
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
	if other.Switch == p.Switch {
		other.Addresses = nil // see inherited
	}
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
	if req.Team != nil {
		p.VM.Team = *req.Team
	}
	if !p.VM.Team {
		p.VM.VFTurn = "" // there is none
	}
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

// unboundIn writes the ports as they were; one that had another tap has none.
func unboundIn(tx *store.Tx, all []binding) error {
	for _, b := range all {
		p := b.now.port
		if p.Netdev == b.next.port.Netdev {
			continue
		}
		if p.Plugged() {
			p.Netdev, p.VM.Index, p.VM.Stage = "", 0, vswitch.VMReserved
		}
		if err := tx.PutPort(p); err != nil {
			return err
		}
	}
	return nil
}
