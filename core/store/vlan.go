package store

import (
	"slices"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// vlanUses are what the ports of a switch do with VLANs, each kind once with the number of
// ports. Untagged ports that hear each other, which most are, are not counted.
type vlanUses []vlanUse

type vlanUse struct {
	vlan     vswitch.PortVLAN
	isolated bool
	ports    int
}

func vlanKey(switchName string) string { return switchName + "\x00v" }

// PortVLANs lists what the ports of a switch do with VLANs, each kind once, and tells
// whether any port is Isolated. Its cost grows with the kinds, not with the ports.
func (tx *Tx) PortVLANs(switchName string) (vlans []vswitch.PortVLAN, isolated bool, err error) {
	var uses vlanUses
	_, err = tx.run.table(countTable).load(vlanKey(switchName), &uses)
	for _, u := range uses {
		isolated = isolated || u.isolated
		if !u.vlan.IsZero() && !slices.ContainsFunc(vlans, u.vlan.Equal) {
			vlans = append(vlans, u.vlan)
		}
	}
	return vlans, isolated, err
}

// addVLAN counts a port that comes (1) or goes (-1).
func (tx *Tx) addVLAN(p vswitch.Port, delta int) error {
	if p.VLAN.IsZero() && !p.Isolated {
		return nil
	}
	var uses vlanUses
	if _, err := tx.run.table(countTable).load(vlanKey(p.Switch), &uses); err != nil {
		return err
	}
	at := slices.IndexFunc(uses, func(u vlanUse) bool { return u.isolated == p.Isolated && u.vlan.Equal(p.VLAN) })
	if at < 0 {
		at, uses = len(uses), append(uses, vlanUse{vlan: p.VLAN, isolated: p.Isolated})
	}
	if uses[at].ports += delta; uses[at].ports <= 0 {
		uses = slices.Delete(uses, at, at+1)
	}
	if len(uses) == 0 {
		return tx.run.table(countTable).remove(vlanKey(p.Switch))
	}
	return tx.run.table(countTable).store(vlanKey(p.Switch), &uses)
}

func (v *vlanUses) encode() []byte {
	p := make(packer, 0, 64)
	p.number(uint64(len(*v)))
	for _, u := range *v {
		p.vlan(u.vlan)
		p.flag(u.isolated)
		p.integer(u.ports)
	}
	return p
}

func (v *vlanUses) decode(body []byte) error {
	u := unpacker{rest: body}
	*v = nil
	for range u.count() {
		*v = append(*v, vlanUse{vlan: u.vlan(), isolated: u.flag(), ports: u.integer()})
	}
	return u.err()
}

func (p *packer) vlan(v vswitch.PortVLAN) {
	p.text(string(v.Mode))
	if v.Mode == "" {
		return
	}
	for _, id := range []int{v.ID, v.Native, v.Primary, v.Secondary} {
		p.integer(id)
	}
	p.vlanSet(v.Allowed)
	p.vlanSet(v.Secondaries)
}

func (u *unpacker) vlan() (v vswitch.PortVLAN) {
	if v.Mode = vswitch.VLANMode(u.text()); v.Mode == "" {
		return v
	}
	v.ID, v.Native, v.Primary, v.Secondary = u.integer(), u.integer(), u.integer(), u.integer()
	v.Allowed, v.Secondaries = u.vlanSet(), u.vlanSet()
	return v
}

func (p *packer) vlanSet(set vswitch.VLANSet) {
	p.number(uint64(len(set)))
	for _, s := range set {
		p.integer(s.First)
		p.integer(s.Last)
	}
}

func (u *unpacker) vlanSet() (set vswitch.VLANSet) {
	for range u.count() {
		set = append(set, vswitch.VLANSpan{First: u.integer(), Last: u.integer()})
	}
	return set
}
