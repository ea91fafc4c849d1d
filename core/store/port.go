package store

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// All that concerns a port has one key prefix, so that it lies on one page.
func portKey(id string) string               { return id + "\x00p" }
func holdingPrefix(port string) string       { return port + "\x00l" }
func memberKey(switchName, id string) string { return switchName + "\x00" + id }

// Port returns a port, or an error of kind vswitch.NotFound.
func (tx *Tx) Port(id string) (vswitch.Port, error) {
	p, found, err := tx.findPort(id)
	if err == nil && !found {
		err = &vswitch.Error{
			Kind: vswitch.NotFound, Object: "port " + id,
			Err: fmt.Errorf("no such port"), Hint: "`patchbay port list` shows those that exist",
		}
	}
	return p, err
}

func (tx *Tx) findPort(id string) (p vswitch.Port, found bool, err error) {
	found, err = tx.run.table(portTable).load(portKey(id), (*portRecord)(&p))
	return p, found, err
}

// Ports returns all ports, sorted by id.
func (tx *Tx) Ports() ([]vswitch.Port, error) {
	t := tx.run.table(portTable)
	var all []vswitch.Port
	err := t.walk("", "", func(r row) error {
		if _, rest, _ := bytes.Cut(r.key, []byte{0}); string(rest) != "p" {
			return nil // an address that the port holds
		}
		var p vswitch.Port
		err := t.decode(r.body, (*portRecord)(&p))
		all = append(all, p)
		return err
	})
	return all, err
}

// PortsOf returns the ports on a switch, sorted by id.
func (tx *Tx) PortsOf(switchName string) ([]vswitch.Port, error) {
	ids, err := tx.run.table(memberTable).keys(memberKey(switchName, ""))
	if err != nil {
		return nil, err
	}
	ports := make([]vswitch.Port, 0, len(ids))
	for _, id := range ids {
		p, found, err := tx.findPort(id)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, tx.run.fault(fmt.Errorf("port %s is listed for switch %s and has no record", id, switchName))
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// PortCount returns the number of ports on a switch, in constant time.
func (tx *Tx) PortCount(switchName string) (int, error) {
	var n count
	_, err := tx.run.table(countTable).load(switchName, &n)
	return int(n), err
}

// PutPort stores a port in place of the one with its id, if any. The addresses
// that it names are to be leased or held in the same transaction.
func (tx *Tx) PutPort(p vswitch.Port) error {
	if err := checkKey("port", p.ID); err != nil {
		return err
	}
	if err := checkKey("switch", p.Switch); err != nil {
		return err
	}
	if p.Segment < 0 || p.Segment > vswitch.MaxSegments {
		return &vswitch.Error{Kind: vswitch.Invalid, Object: "port " + p.ID, Err: fmt.Errorf("segment %d cannot be", p.Segment)}
	}
	old, found, err := tx.findPort(p.ID)
	if err != nil {
		return err
	}
	moved := old.Switch != p.Switch || old.Segment != p.Segment || old.MACSpoofing != p.MACSpoofing ||
		old.Isolated != p.Isolated || !old.VLAN.Equal(p.VLAN) || ruled(old) != ruled(p)
	if found && moved {
		if err := tx.leaveSwitch(old); err != nil {
			return err
		}
	}
	if err := tx.noteNetdev(old, p); err != nil {
		return err
	}
	if !found {
		if err := tx.joinDomain(p); err != nil {
			return err
		}
	}
	if !found || moved {
		if err := tx.run.table(memberTable).put(memberKey(p.Switch, p.ID), nil); err != nil {
			return err
		}
		if err := tx.addCount(p, 1); err != nil {
			return err
		}
	}
	return tx.run.table(portTable).store(portKey(p.ID), (*portRecord)(&p))
}

// DeletePort removes a port, which need not exist, and releases every address
// that it holds.
func (tx *Tx) DeletePort(id string) error {
	if err := checkKey("port", id); err != nil {
		return err
	}
	held, err := tx.run.table(portTable).keys(holdingPrefix(id))
	if err != nil {
		return err
	}
	for _, key := range held {
		space, a, err := tx.spaceOf(key)
		if err != nil {
			return err
		}
		if err := space.release(a); err != nil {
			return err
		}
	}
	old, found, err := tx.findPort(id)
	if !found || err != nil {
		return err
	}
	if err := errors.Join(tx.leaveSwitch(old), tx.leaveDomain(old), tx.noteNetdev(old, vswitch.Port{})); err != nil {
		return err
	}
	return tx.run.table(portTable).remove(portKey(id))
}

func (tx *Tx) leaveSwitch(p vswitch.Port) error {
	if err := tx.run.table(memberTable).remove(memberKey(p.Switch, p.ID)); err != nil {
		return err
	}
	return tx.addCount(p, -1)
}

// addCount counts a port that comes (1) or goes (-1).
func (tx *Tx) addCount(p vswitch.Port, delta int) error {
	n, err := tx.PortCount(p.Switch)
	if err != nil {
		return err
	}
	if err := errors.Join(tx.addLoad(p, delta), tx.addVLAN(p, delta), tx.addPolicy(p, delta)); err != nil {
		return err
	}
	if c := count(n + delta); c > 0 {
		return tx.run.table(countTable).store(p.Switch, &c)
	}
	return tx.run.table(countTable).remove(p.Switch)
}
