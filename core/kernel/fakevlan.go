package kernel

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file is what a bridge does with VLANs and with the addresses in them.

// mayFilter fails for a port in VLANs on a kernel that knows none.
func (f *Fake) mayFilter(p plan.Port) error {
	if p.VLANs.IsZero() || f.caps.VLANFiltering {
		return nil
	}
	return fmt.Errorf("%s in VLANs %s: %w", p.Name, p.VLANs.All(), syscall.EOPNOTSUPP)
}

// setVLANs adds what the port is to be in and then takes it out of what it leaves. In
// each VLAN that it comes into the bridge takes the port's own address for itself.
func (l *fakeLink) setVLANs(want vswitch.Membership, leave vswitch.VLANSet) {
	if want.IsZero() {
		return
	}
	have := l.vlans
	for id := range want.All().Minus(have.All()).All() {
		l.claim(id)
	}
	l.vlans = vswitch.Membership{
		PVID:     want.PVID,
		Untagged: have.Untagged.Minus(want.Tagged).Union(want.Untagged).Minus(leave),
		Tagged:   have.Tagged.Minus(want.Untagged).Union(want.Tagged).Minus(leave),
	}
}

func (f *Fake) filterVLANs(s plan.FilterVLANs) error {
	link, err := f.host.bridge(s.Bridge)
	if err != nil {
		return err
	}
	if s.On && !f.caps.VLANFiltering {
		return fmt.Errorf("bridge %s: %w", s.Bridge, syscall.EOPNOTSUPP)
	}
	link.options.VLANFiltering, link.options.Member = s.On, false
	return nil
}

// addFDB puts an entry in no VLAN also into all that the port is in, as br_fdb_add does.
func (f *Fake) addFDB(name string, e plan.Entry) error {
	port, err := f.host.link(name)
	if err != nil {
		return err
	}
	if port.master == nil || port.master.Kind != "bridge" {
		return refused(vswitch.Drifted, syscall.EOPNOTSUPP, "%s is no bridge's port", name)
	}
	if err := e.MAC.ValidateStatic(); err != nil {
		return errors.Join(err, syscall.EINVAL)
	}
	if e.VLAN != 0 && !port.vlans.All().Contains(e.VLAN) {
		return refused(vswitch.Drifted, syscall.EINVAL, "%s is not in VLAN %d", name, e.VLAN)
	}
	port.master.fdb[e] = port // `replace` moves an entry from another port
	if e.VLAN == 0 {
		for id := range port.vlans.All().All() {
			port.master.fdb[plan.Entry{MAC: e.MAC, VLAN: id}] = port
		}
	}
	return nil
}

func (f *Fake) deleteFDB(s plan.DeleteFDB) {
	port := f.host.links[s.Port]
	if port == nil || port.master == nil {
		return
	}
	for e, at := range port.master.fdb {
		if at == port && e.MAC == s.MAC && (s.VLAN == 0 || e.VLAN == s.VLAN) {
			delete(port.master.fdb, e)
		}
	}
}

// LeaveVLAN takes a port of the host out of a VLAN behind Patchbay's back, as
// `bridge vlan del` does.
func (f *Fake) LeaveVLAN(netdev string, id int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	link := f.host.links[netdev]
	if link == nil {
		return
	}
	gone := vswitch.VLANs(id)
	if link.vlans.PVID == id {
		link.vlans.PVID = 0
	}
	link.vlans.Untagged, link.vlans.Tagged = link.vlans.Untagged.Minus(gone), link.vlans.Tagged.Minus(gone)
}

// entriesOf finds those of scope's entries that point to the link.
func (l *fakeLink) entriesOf(scope plan.Port, p *plan.Port) {
	ids := []int{0}
	if !scope.VLANs.IsZero() {
		ids = ids[:0]
		for id := range scope.VLANs.All().All() {
			ids = append(ids, id)
		}
	}
	for _, mac := range scope.FDB {
		all := true
		for _, id := range ids {
			all = all && l.master.fdb[plan.Entry{MAC: mac, VLAN: id}] == l
		}
		if all {
			p.FDB = append(p.FDB, mac)
		}
	}
	for _, e := range scope.FDBIn {
		if l.master.fdb[e] == l {
			p.FDBIn = append(p.FDBIn, e)
		}
	}
}
