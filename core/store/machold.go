package store

import (
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// A VM's MAC address belongs to the VM and not to a port: it may have two ports with one
// address, of which one fails over to the other, and gets a second one for a moment when
// it goes to another network. In the leases its holder is the VM, domainHolder. An address
// that is held for a VM whether it runs or not is in the configuration too, and its
// holder is holdHolder whatever the VM does.

const holdHolder = "held for a VM"

func domainHolder(domain string) string { return "vm " + domain }

// holderWords name who holds an address.
func holderWords(holder string) string {
	if holder == holdHolder {
		return "a VM that is not running"
	}
	if strings.HasPrefix(holder, domainHolder("")) {
		return holder
	}
	return "port " + holder
}

func holdKey(m vswitch.MAC) string { return "hold\x00" + string(m[:]) }

// MACHold returns the hold of an address.
func (tx *Tx) MACHold(m vswitch.MAC) (h vswitch.MACHold, found bool, err error) {
	t, err := tx.configTable(settingTable)
	if err != nil {
		return h, false, err
	}
	found, err = t.load(holdKey(m), &h)
	return h, found, err
}

// MACHolds returns all holds, sorted by address.
func (tx *Tx) MACHolds() (all []vswitch.MACHold, err error) {
	t, err := tx.configTable(settingTable)
	if err != nil {
		return nil, err
	}
	prefix := holdKey(vswitch.MAC{})[:len("hold\x00")]
	err = t.walk(prefix, prefix, func(r row) error {
		var h vswitch.MACHold
		err := t.decode(r.body, &h)
		all = append(all, h)
		return err
	})
	return all, err
}

// PutMACHold holds an address for a VM beyond reboots, or changes what is known of the
// VM. One without an address gets the next one of the pool. It fails with MACInvalid,
// MACPoolExhausted, or MACDuplicate if somebody else has the address. It needs UpdateConfig.
func (tx *Tx) PutMACHold(h vswitch.MACHold) (vswitch.MACHold, error) {
	r, err := tx.poolRange()
	if err != nil {
		return h, err
	}
	s := tx.space(macScope)
	if h.MAC.IsZero() {
		a, ok, err := s.lease(macPool(r), holdHolder)
		if err == nil && !ok {
			err = r.Exhausted()
		}
		if err != nil {
			return h, err
		}
		h.MAC, h.Static = a.mac(), false
	} else if err := tx.holdForVM(s, r, h.MAC, h.Domain); err != nil {
		return h, err
	} else if err := s.reassign(macAddress(h.MAC), holdHolder); err != nil {
		return h, err
	}
	t, err := tx.configTable(settingTable)
	if err != nil {
		return h, err
	}
	return h, t.store(holdKey(h.MAC), h)
}

// DropMACHold ends a hold; the address stays with the ports that have it. It needs
// UpdateConfig.
func (tx *Tx) DropMACHold(m vswitch.MAC) error {
	t, err := tx.configTable(settingTable)
	if err != nil {
		return err
	}
	if err := t.remove(holdKey(m)); err != nil {
		return err
	}
	return tx.unhold(tx.space(macScope), m)
}

// unhold gives an address that is held no more to the VM that runs with it, if any.
func (tx *Tx) unhold(s *space, m vswitch.MAC) error {
	rec, found, err := s.record(macAddress(m))
	if err != nil || !found || !rec.held() || rec.Port != holdHolder {
		return err
	}
	ports, err := tx.Ports()
	if err != nil {
		return err
	}
	for _, p := range ports {
		if p.Owner.Kind == vswitch.OwnerVM && p.MAC == m {
			return s.reassign(macAddress(m), domainHolder(p.Owner.ID))
		}
	}
	return s.release(macAddress(m))
}

// HoldVMMAC gives a VM that has a port the address m; asked again for the same VM it
// changes nothing. It fails with vswitch.MACInvalid or MACDuplicate.
func (tx *Tx) HoldVMMAC(m vswitch.MAC, domain vswitch.DomainRef) error {
	r, err := tx.poolRange()
	if err != nil {
		return err
	}
	return tx.holdForVM(tx.space(macScope), r, m, domain)
}

func (tx *Tx) holdForVM(s *space, r vswitch.MACRange, m vswitch.MAC, domain vswitch.DomainRef) error {
	if err := m.ValidateStatic(); err != nil {
		return err
	}
	rec, found, err := s.record(macAddress(m))
	if err != nil {
		return err
	}
	holder := holdHolder
	if domain.ID != "" {
		holder = domainHolder(domain.ID)
	}
	if !found || !rec.held() {
		fresh := record{Lease: Lease{Port: holder, Static: !r.Contains(m)}, Pool: noPool}
		if !fresh.Static {
			fresh.Pool = macPool(r).id
		}
		return s.take(macAddress(m), fresh)
	}
	whose := holderWords(rec.Port) + " has it"
	switch rec.Port {
	case holdHolder:
		h, held, err := tx.MACHold(m)
		if err != nil || !held || h.Domain.Is(domain) {
			return err
		}
		whose = fmt.Sprintf("it is held for %s", h.Domain)
	case holder:
		return nil
	default:
		is, err := tx.holderIs(rec.Port, domain)
		if err != nil || is {
			return err
		}
	}
	return &vswitch.Error{
		Kind: vswitch.MACDuplicate, Object: "MAC address " + m.String(), Err: fmt.Errorf("%s", whose),
		Hint: "choose another address; `patchbay mac list` shows every address in use",
	}
}

// holderIs reports whether an address that a running VM holds is that of a VM of which no
// more than the name may be known.
func (tx *Tx) holderIs(holder string, domain vswitch.DomainRef) (bool, error) {
	ports, err := tx.Ports()
	for _, p := range ports {
		if p.Owner.Kind == vswitch.OwnerVM && domainHolder(p.Owner.ID) == holder && p.Owner.Domain().Is(domain) {
			return true, err
		}
	}
	return false, err
}

// heldByVM reports whether the port's address is its VM's as long as it has a port with it.
func (tx *Tx) heldByVM(p vswitch.Port) (bool, error) {
	rec, found, err := tx.space(macScope).record(macAddress(p.MAC))
	return found && rec.held() && rec.Port == domainHolder(p.Owner.ID), err
}

// syncMACHolds makes the leases of held addresses those that the configuration records.
func (tx *Tx) syncMACHolds(s *space, r vswitch.MACRange) error {
	holds, err := tx.MACHolds()
	if err != nil {
		return err
	}
	wanted := make(map[vswitch.MAC]bool)
	for _, h := range holds {
		wanted[h.MAC] = true
		if err := tx.holdForVM(s, r, h.MAC, h.Domain); err != nil {
			if vswitch.KindOf(err) == vswitch.MACDuplicate {
				continue // whoever has it got it from this very configuration
			}
			return err
		}
		if err := s.reassign(macAddress(h.MAC), holdHolder); err != nil {
			return err
		}
	}
	noted, err := tx.run.table(portTable).keys(holdingPrefix(holdHolder))
	if err != nil {
		return err
	}
	for _, key := range noted {
		m := address([]byte(key[max(0, len(key)-len(address{})):])).mac()
		if wanted[m] {
			continue
		}
		if err := tx.unhold(s, m); err != nil {
			return err
		}
	}
	return nil
}
