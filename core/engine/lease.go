package engine

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// lease takes addresses for a new port and writes it.
func (e *Engine) lease(tx *store.Tx, req AttachRequest, was store.Realised, r *reservation) error {
	p := vswitch.Port{
		ID: req.Owner.PortID(), Switch: req.Switch, Owner: req.Owner, MTU: r.record.EffectiveMTU,
		MAC: req.MAC, StaticMAC: !req.MAC.IsZero(), MACSpoofing: req.MACSpoofing, Created: e.now().UTC(),
	}
	p.VLAN, p.Isolated = defaultVLAN(req, r.record), req.Isolated
	p.Policy = req.Policy.Apply(r.record.PortDefaults)
	p.NetnsID = uint64(r.netns)
	p.Netdev = p.ID
	if req.Netdev != "" {
		p.Netdev, p.Adopted = req.Netdev, true
	}
	p.Failover = r.record.SRIOV && !p.Adopted && p.Owner.Kind == vswitch.OwnerContainer && p.Policy.Offload.SRIOV.Failover
	if p.Adopted {
		if err := adoptedOnce(tx, p); err != nil {
			return err
		}
	}
	if err := chooseMTU(&p, req.MTU, r.record); err != nil {
		return err
	}
	if err := e.admitVLAN(tx, was, p); err != nil {
		return err
	}
	load, err := tx.Load(req.Switch)
	if err != nil {
		return err
	}
	if p.Segment, err = load.Next(e.sizes, p.AtRoot()); err != nil {
		return err
	}
	if p.Segment > r.segments {
		return errNotGrown // but it will be: see vswitch.Load.Wanted
	}
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
	for _, a := range req.Addresses { // of another IPAM, but on the switch all the same
		if err := holdAddress(tx, r.record, a.Prefix.Addr(), p.ID); err != nil {
			return err
		}
	}
	p.Addresses = append(p.Addresses, req.Addresses...)
	if err := e.admitPolicy(tx, was, p); err != nil {
		return err
	}
	if err := fitsIPv6(p); err != nil {
		return err
	}
	if p.Routes, err = routesVia(req.Routes, p.Addresses); err != nil {
		return err
	}
	r.port = p
	return tx.PutPort(p)
}

// chooseMTU gives a port the MTU that is asked for; 0 is the switch's.
func chooseMTU(p *vswitch.Port, asked int, r store.SwitchRecord) error {
	if asked > r.EffectiveMTU {
		return &vswitch.Error{
			Kind: vswitch.Invalid, Err: fmt.Errorf("MTU %d is more than the switch's %d", asked, r.EffectiveMTU),
			Hint: fmt.Sprintf("use %d or less", r.EffectiveMTU),
		}
	}
	p.MTU = cmp.Or(asked, r.EffectiveMTU)
	return nil
}

// adoptedOnce refuses a netdev that is another owner's port already.
func adoptedOnce(tx *store.Tx, p vswitch.Port) error {
	other, found, err := tx.PortOfNetdev(p.Netdev)
	if err != nil || !found || other.ID == p.ID {
		return err
	}
	return &vswitch.Error{
		Kind: vswitch.InUse, Err: fmt.Errorf("netdev %s is port %s of %s", p.Netdev, other.ID, other.Owner),
		Hint: fmt.Sprintf("run `patchbay port delete %s` if that owner is gone", other.ID),
	}
}

// leaseAddresses takes one address from each set of ranges: the one requested for
// it, or the next free one.
func leaseAddresses(tx *store.Tx, req AttachRequest, r store.SwitchRecord) ([]vswitch.Address, error) {
	sets := make([]vswitch.IPRangeSet, len(req.Ranges))
	for i, set := range req.Ranges {
		for _, rng := range set {
			sets[i] = append(sets[i], withoutGateways(rng.WithDefaults(r.GatewayFor), r))
		}
	}
	if err := vswitch.ValidateIPRangeSets(sets); err != nil {
		return nil, err
	}
	port := req.Owner.PortID()
	unused := slices.Compact(slices.SortedFunc(slices.Values(req.Requested), netip.Addr.Compare)) // one may be asked for twice
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

// withoutGateways keeps the switch's own addresses out of a range.
func withoutGateways(rng vswitch.IPRange, r store.SwitchRecord) vswitch.IPRange {
	rng.Exclude = slices.Clone(rng.Exclude)
	for _, g := range r.Gateway {
		if g.Addr().Is4() == rng.Subnet.Addr().Is4() {
			rng.Exclude = append(rng.Exclude, vswitch.Span{First: g.Addr(), Last: g.Addr()})
		}
	}
	return rng
}

// holdAddress keeps an address for the port that somebody else chose.
func holdAddress(tx *store.Tx, r store.SwitchRecord, addr netip.Addr, port string) error {
	for _, g := range r.Gateway {
		if g.Addr() == addr {
			return &vswitch.Error{
				Kind: vswitch.IPInUse, Err: fmt.Errorf("address %s is the gateway of switch %s", addr, r.Name),
				Hint: "have the IPAM plugin leave the gateway's address out",
			}
		}
	}
	return tx.HoldIP(r.Name, addr, port)
}

// fitsIPv6 refuses an MTU with which the kernel switches IPv6 off.
func fitsIPv6(p vswitch.Port) error {
	for _, a := range p.Addresses {
		if a.Prefix.Addr().Is6() && p.MTU < vswitch.MinIPv6MTU {
			return &vswitch.Error{
				Kind: vswitch.Invalid, Err: fmt.Errorf("MTU %d is below IPv6's minimum of %d, and address %s is IPv6", p.MTU, vswitch.MinIPv6MTU, a.Prefix),
				Hint: fmt.Sprintf("use an MTU of %d or more", vswitch.MinIPv6MTU),
			}
		}
	}
	return nil
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
