package store

import (
	"fmt"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Removed is a port that RemovePort has deleted, with all that it held.
type Removed struct {
	Port vswitch.Port
	held []holding
	// domainMAC says that its VM held its MAC address.
	domainMAC bool
}

type holding struct {
	key string
	record
}

// RemovePort is DeletePort for who may have to put the port back. It fails with
// vswitch.NotFound if there is none.
func (tx *Tx) RemovePort(id string) (r Removed, err error) {
	if r.Port, err = tx.Port(id); err != nil {
		return r, err
	}
	keys, err := tx.run.table(portTable).keys(holdingPrefix(id))
	if err != nil {
		return r, err
	}
	for _, key := range keys {
		space, a, err := tx.spaceOf(key)
		if err != nil {
			return r, err
		}
		rec, _, err := space.record(a)
		if err != nil {
			return r, err
		}
		r.held = append(r.held, holding{key, rec})
	}
	if r.domainMAC, err = tx.heldByVM(r.Port); err != nil {
		return r, err
	}
	return r, tx.DeletePort(id)
}

// ReturnPort puts a port back with the addresses that it held. It fails with
// vswitch.InUse if somebody has been given one of them since, or the port itself.
func (tx *Tx) ReturnPort(r Removed) error {
	object := "port " + r.Port.ID
	if _, found, err := tx.findPort(r.Port.ID); err != nil || found {
		if err == nil {
			err = &vswitch.Error{Kind: vswitch.InUse, Object: object, Err: fmt.Errorf("its owner has another one by now"), Hint: "leave it as it is"}
		}
		return err
	}
	for _, h := range r.held {
		space, a, err := tx.spaceOf(h.key)
		if err != nil {
			return err
		}
		now, found, err := space.record(a)
		if err != nil {
			return err
		}
		if found && now.held() {
			return &vswitch.Error{
				Kind: vswitch.InUse, Object: object, Err: fmt.Errorf("port %s has been given its address", now.Port),
				Hint: "restart the owner of the port, which gets another one",
			}
		}
		if err := space.take(a, h.record); err != nil {
			return err
		}
	}
	if r.domainMAC {
		if err := tx.HoldVMMAC(r.Port.MAC, r.Port.Owner.Domain()); err != nil {
			return err
		}
	}
	return tx.PutPort(r.Port)
}
