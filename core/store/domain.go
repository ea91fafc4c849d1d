package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file keeps what there is to know of VMs since the boot: their ports, and which of
// them are about to come from another host.

func domainKey(domain, port string) string { return "domain\x00" + domain + "\x00" + port }
func expectedKey(domain string) string     { return "expected\x00" + domain }

// PortsOfDomain returns the ports of a VM, sorted by id.
func (tx *Tx) PortsOfDomain(domain string) ([]vswitch.Port, error) {
	if err := checkKey("domain", domain); err != nil {
		return nil, err
	}
	ids, err := tx.run.table(factTable).keys(domainKey(domain, ""))
	if err != nil {
		return nil, err
	}
	var ports []vswitch.Port
	for _, id := range ids {
		p, found, err := tx.findPort(id)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, tx.run.fault(fmt.Errorf("port %s is listed for domain %s and has no record", id, domain))
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// HasDomains reports whether any VM has a port.
func (tx *Tx) HasDomains() (any bool, err error) {
	prefix := domainKey("", "")[:len("domain\x00")]
	err = tx.run.table(factTable).walk(prefix, prefix, func(row) error {
		any = true
		return errStop
	})
	return any, err
}

// joinDomain lists a new port of a VM.
func (tx *Tx) joinDomain(p vswitch.Port) error {
	if p.Owner.Kind != vswitch.OwnerVM {
		return nil
	}
	return errors.Join(checkKey("domain", p.Owner.ID), tx.run.table(factTable).put(domainKey(p.Owner.ID, p.ID), nil))
}

// leaveDomain strikes a port off the list, and lets its MAC address go with the last one
// that has it.
func (tx *Tx) leaveDomain(p vswitch.Port) error {
	if p.Owner.Kind != vswitch.OwnerVM {
		return nil
	}
	if err := tx.run.table(factTable).remove(domainKey(p.Owner.ID, p.ID)); err != nil {
		return err
	}
	held, err := tx.heldByVM(p)
	if err != nil || !held {
		return err
	}
	others, err := tx.PortsOfDomain(p.Owner.ID)
	for _, o := range others {
		if o.MAC == p.MAC {
			return err
		}
	}
	return errors.Join(err, tx.space(macScope).release(macAddress(p.MAC)))
}

// Expected is a VM that is about to come from another host.
type Expected struct {
	Since time.Time `json:"since"`
	// State is what the caller has to know when it comes.
	State []byte `json:"state,omitempty"`
}

// Expected returns what PutExpected stored for the VM since the boot.
func (tx *Tx) Expected(domain string) (e Expected, found bool, err error) {
	found, err = tx.run.table(factTable).load(expectedKey(domain), &e)
	return e, found, err
}

// PutExpected is called when a VM is about to come.
func (tx *Tx) PutExpected(domain string, e Expected) error {
	if err := checkKey("domain", domain); err != nil {
		return err
	}
	return tx.run.table(factTable).store(expectedKey(domain), e)
}

// DropExpected is called when the VM has come, or does not.
func (tx *Tx) DropExpected(domain string) error {
	return tx.run.table(factTable).remove(expectedKey(domain))
}

// DropExpectedLate drops of what PutExpected stored what is late: nobody may have come to say
// that a VM does not.
func (tx *Tx) DropExpectedLate(late func(Expected) bool) error {
	t := tx.run.table(factTable)
	prefix := expectedKey("")
	var keys []string
	err := t.walk(prefix, prefix, func(r row) error {
		var e Expected
		if err := t.decode(r.body, &e); err != nil || !late(e) {
			return err
		}
		keys = append(keys, string(r.key))
		return nil
	})
	for _, key := range keys {
		err = errors.Join(err, t.remove(key))
	}
	return err
}

func netdevKey(netdev string) string { return "netdev\x00" + netdev }

// PortOfNetdev returns the port that has somebody else's netdev.
func (tx *Tx) PortOfNetdev(netdev string) (p vswitch.Port, found bool, err error) {
	id, found, err := tx.run.table(factTable).get(netdevKey(netdev))
	if !found || err != nil {
		return p, false, err
	}
	return tx.findPort(string(id))
}

// noteNetdev keeps PortOfNetdev right where a port has become another one.
func (tx *Tx) noteNetdev(was, is vswitch.Port) error {
	if was.Adopted == is.Adopted && was.Netdev == is.Netdev {
		return nil
	}
	t := tx.run.table(factTable)
	if was.Adopted && was.Plugged() {
		holder, _, err := t.get(netdevKey(was.Netdev))
		if err == nil && string(holder) == was.ID {
			err = t.remove(netdevKey(was.Netdev))
		}
		if err != nil {
			return err
		}
	}
	if is.Adopted && is.Plugged() {
		return t.put(netdevKey(is.Netdev), []byte(is.ID))
	}
	return nil
}
