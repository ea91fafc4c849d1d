package store

import "github.com/patchbay-net/patchbay/core/vswitch"

// portRecord is a port with an encoding of its own.
type portRecord vswitch.Port

func (r *portRecord) encode() []byte {
	p := make(packer, 0, 256)
	p.text(r.ID)
	p.text(r.Switch)
	for _, s := range []string{string(r.Owner.Kind), r.Owner.Network, r.Owner.ID, r.Owner.Endpoint, r.Owner.Netns} {
		p.text(s)
	}
	p.mac(r.MAC)
	p.flag(r.StaticMAC)
	p.flag(r.MACSpoofing)
	p.integer(r.MTU)
	p.text(r.Netdev)
	p.flag(r.Adopted)
	p.number(uint64(len(r.Addresses)))
	for _, a := range r.Addresses {
		p.prefix(a.Prefix)
		p.addr(a.Gateway)
		p.flag(a.DAD)
	}
	p.number(uint64(len(r.Routes)))
	for _, route := range r.Routes {
		p.route(route)
	}
	p.time(r.Created)
	p.integer(r.Segment)
	p.vlan(r.VLAN)
	p.flag(r.Isolated)
	p.number(r.NetnsID)
	p.policy(r.Policy)
	p.flag(r.PolicyChanged)
	p.text(r.Owner.Name)
	p.vm(r.VM)
	p.text(r.VF)
	p.flag(r.Failover)
	return p
}

// vm is a record of its own within the port's, as a policy is.
func (p *packer) vm(v vswitch.VMPort) {
	if v == (vswitch.VMPort{}) {
		p.text("")
		return
	}
	body := make(packer, 0, 64)
	body.text(string(v.Stage))
	body.text(v.Alias)
	body.integer(v.Index)
	body.text(v.Narrowed)
	for _, n := range []uint64{v.Before.InPackets, v.Before.InBytes, v.Before.OutPackets, v.Before.OutBytes} {
		body.number(n)
	}
	body.text(v.VFAway)
	body.flag(v.Team)
	body.text(string(v.VFTurn))
	p.text(string(body))
}

func (u *unpacker) vm() (v vswitch.VMPort) {
	body := unpacker{rest: u.bytes(u.number())}
	v.Stage, v.Alias = vswitch.VMStage(body.text()), body.text()
	v.Index, v.Narrowed = body.integer(), body.text()
	v.Before = vswitch.VMCounts{InPackets: body.number(), InBytes: body.number(), OutPackets: body.number(), OutBytes: body.number()}
	v.VFAway, v.Team, v.VFTurn = body.text(), body.flag(), vswitch.VFTurn(body.text())
	u.bad = u.bad || body.bad
	return v
}

func (p *packer) route(r vswitch.Route) {
	p.prefix(r.Dst)
	p.addr(r.Gateway)
	p.integer(r.MTU)
	p.integer(r.AdvMSS)
	p.integer(r.Priority)
	p.optional(r.Table)
	p.optional(r.Scope)
}

func (r *portRecord) decode(body []byte) error {
	u := unpacker{rest: body}
	r.ID, r.Switch = u.text(), u.text()
	r.Owner = vswitch.Owner{Kind: vswitch.OwnerKind(u.text()), Network: u.text(), ID: u.text(), Endpoint: u.text(), Netns: u.text()}
	r.MAC, r.StaticMAC, r.MACSpoofing = u.mac(), u.flag(), u.flag()
	r.MTU, r.Netdev, r.Adopted = u.integer(), u.text(), u.flag()
	r.Addresses = nil
	for range u.count() {
		r.Addresses = append(r.Addresses, vswitch.Address{Prefix: u.prefix(), Gateway: u.addr(), DAD: u.flag()})
	}
	r.Routes = nil
	for range u.count() {
		r.Routes = append(r.Routes, vswitch.Route{
			Dst: u.prefix(), Gateway: u.addr(), MTU: u.integer(), AdvMSS: u.integer(), Priority: u.integer(),
			Table: u.optional(), Scope: u.optional(),
		})
	}
	r.Created = u.time()
	r.Segment = u.integer()
	r.VLAN, r.Isolated = u.vlan(), u.flag()
	r.NetnsID = u.number()
	r.Policy, r.PolicyChanged = u.policy(), u.flag()
	r.Owner.Name, r.VM = u.text(), u.vm()
	r.VF, r.Failover = u.text(), u.flag()
	return u.err()
}
