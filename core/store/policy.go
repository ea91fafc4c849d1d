package store

import "github.com/patchbay-net/patchbay/core/vswitch"

// A port's policy is a record of its own within the port's: fields may be added at its
// end. One that says nothing takes one byte.

func (p *packer) policy(v vswitch.Policy) {
	if v.IsZero() {
		p.text("")
		return
	}
	body := make(packer, 0, 16)
	body.flag(v.DHCPGuard)
	body.flag(v.RouterGuard)
	body.flag(v.AddressGuard)
	body.integer(v.StormLimit)
	body.acl(v.ACL)
	body.limit(v.Bandwidth.In)
	body.limit(v.Bandwidth.Out)
	body.text(string(v.Mirror))
	body.integer(int(v.Bandwidth.Min.Rate))
	body.integer(v.Bandwidth.Min.Weight)
	body.flag(v.IEEEPriorityTag)
	body.offload(v.Offload)
	p.text(string(body))
}

func (u *unpacker) policy() (v vswitch.Policy) {
	body := unpacker{rest: u.bytes(u.number())}
	v.DHCPGuard, v.RouterGuard, v.AddressGuard = body.flag(), body.flag(), body.flag()
	v.StormLimit = body.integer()
	v.ACL = body.acl()
	v.Bandwidth.In, v.Bandwidth.Out = body.limit(), body.limit()
	v.Mirror = vswitch.MirrorMode(body.text())
	v.Bandwidth.Min = vswitch.Minimum{Rate: vswitch.Bits(body.integer()), Weight: body.integer()}
	v.IEEEPriorityTag = body.flag()
	v.Offload = body.offload()
	u.bad = u.bad || body.bad
	return v
}

// offload is a record of its own within the policy's.
func (p *packer) offload(v vswitch.OffloadPolicy) {
	if v == (vswitch.OffloadPolicy{}) {
		p.text("")
		return
	}
	body := make(packer, 0, 32)
	body.text(string(v.VMQ.Mode))
	body.given(v.VMQ.Weight)
	body.text(string(v.SRIOV.Mode))
	body.given(v.SRIOV.Weight)
	body.given(v.SRIOV.QueuePairs)
	body.text(string(v.SRIOV.Moderation))
	body.text(string(v.IPsec.Mode))
	body.given(v.IPsec.MaxSAs)
	body.flag(v.SRIOV.Failover)
	p.text(string(body))
}

func (u *unpacker) offload() (v vswitch.OffloadPolicy) {
	body := unpacker{rest: u.bytes(u.number())}
	v.VMQ = vswitch.VMQPolicy{Mode: vswitch.OffloadMode(body.text()), Weight: body.given()}
	v.SRIOV = vswitch.SRIOVPolicy{Mode: vswitch.OffloadMode(body.text()), Weight: body.given(), QueuePairs: body.given(), Moderation: vswitch.Moderation(body.text())}
	v.IPsec = vswitch.IPsecPolicy{Mode: vswitch.OffloadMode(body.text()), MaxSAs: body.given()}
	v.SRIOV.Failover = body.flag()
	u.bad = u.bad || body.bad
	return v
}

// given is a number that may have been left out.
func (p *packer) given(n vswitch.Number) {
	if p.flag(n.Given()); n.Given() {
		p.integer(n.Or(0))
	}
}

func (u *unpacker) given() (n vswitch.Number) {
	if u.flag() {
		n = vswitch.NumberOf(u.integer())
	}
	return n
}

func (p *packer) limit(l vswitch.Limit) {
	p.integer(int(l.Max))
	p.integer(int(l.Burst))
}

func (u *unpacker) limit() vswitch.Limit {
	return vswitch.Limit{Max: vswitch.Bits(u.integer()), Burst: vswitch.Bits(u.integer())}
}

func policyKey(switchName string) string { return switchName + "\x00g" }

// ruled reports that rules are about the port alone: it has a policy, or is bound to its
// address by rules while its VM is elsewhere.
func ruled(p vswitch.Port) bool {
	p.Policy.Offload = vswitch.OffloadPolicy{} // no rule is about that
	return !p.Policy.IsZero() || p.VM.Stage == vswitch.VMIncoming
}

// HasPolicies reports, in constant time, whether any port of the switch has a policy, or is
// that of a VM that has not come yet.
func (tx *Tx) HasPolicies(switchName string) (bool, error) {
	var n count
	_, err := tx.run.table(countTable).load(policyKey(switchName), &n)
	return n > 0, err
}

// addPolicy counts a port with a policy that comes (1) or goes (-1).
func (tx *Tx) addPolicy(p vswitch.Port, delta int) error {
	if !ruled(p) {
		return nil
	}
	var n count
	if _, err := tx.run.table(countTable).load(policyKey(p.Switch), &n); err != nil {
		return err
	}
	if n += count(delta); n > 0 {
		return tx.run.table(countTable).store(policyKey(p.Switch), &n)
	}
	return tx.run.table(countTable).remove(policyKey(p.Switch))
}
