package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// HoldMAC gives a VM a MAC address, from the pool or the one that is asked for, before the VM
// is defined: no hook of libvirt's can choose one. The VM has it until ReleaseMAC, running or
// not and across reboots, or until the same NIC is held another one. A hold with the domain's
// UUID is of a NIC as libvirt has it, one without is of a NIC that is yet to be defined so: a plan
// replaces the NIC's plan, and a definition both. It fails with MACDuplicate if somebody else
// has the address. For a VM that was known by its name alone, a call with its UUID adds that.
func (e *Engine) HoldMAC(ctx context.Context, req HoldMACRequest) (vswitch.MACHold, error) {
	err := errors.Join(req.Domain.Validate(), vswitch.ValidateVMAlias(req.NIC), vswitch.ValidateDriver(req.Driver))
	if err == nil && !req.MAC.IsZero() {
		if err = req.MAC.ValidateStatic(); err == nil {
			err = e.addressForVM(ctx, req.MAC)
		}
	}
	if err != nil {
		return vswitch.MACHold{}, fault("mac hold", req.Domain.String(), err)
	}
	var h vswitch.MACHold
	err = e.store.UpdateConfig(func(tx *store.Tx) (err error) {
		h, err = e.holdMAC(tx, req)
		return err
	})
	return h, fault("mac hold", req.Domain.String(), err)
}

func (e *Engine) holdMAC(tx *store.Tx, req HoldMACRequest) (vswitch.MACHold, error) {
	h := vswitch.MACHold{MAC: req.MAC, Domain: req.Domain, NIC: req.NIC, Driver: req.Driver, Static: !req.MAC.IsZero(), Created: e.now().UTC()}
	all, err := tx.MACHolds()
	if err != nil {
		return h, err
	}
	holds := slices.DeleteFunc(all, func(h vswitch.MACHold) bool { return !h.Domain.Is(req.Domain) })
	if was, found := heldAlready(holds, req); found {
		h = was
		h.Domain.ID = cmp.Or(req.Domain.ID, h.Domain.ID)
		h.Domain.Name = cmp.Or(req.Domain.Name, h.Domain.Name)
		h.NIC = cmp.Or(req.NIC, h.NIC)
		h.Driver = cmp.Or(req.Driver, h.Driver)
		if h == was {
			return h, nil
		}
	}
	if h, err = tx.PutMACHold(h); err != nil {
		return h, err
	}
	for _, was := range holds {
		if was.NIC == "" || was.NIC != h.NIC || was.MAC == h.MAC || h.Domain.ID == "" && was.Domain.ID != "" {
			continue
		}
		if err := tx.DropMACHold(was.MAC); err != nil {
			return h, err
		}
	}
	return h, nil
}

// heldAlready is which of a VM's holds is asked for again: that of the address, or of the NIC,
// what is planned for it before what it is defined with.
func heldAlready(holds []vswitch.MACHold, req HoldMACRequest) (h vswitch.MACHold, found bool) {
	for _, was := range holds {
		switch {
		case !req.MAC.IsZero() && was.MAC == req.MAC:
			return was, true
		case req.MAC.IsZero() && req.NIC != "" && was.NIC == req.NIC && (!found || was.Domain.ID == ""):
			h, found = was, true
		}
	}
	return h, found
}

// ReleaseMAC ends the holds of one address, or of all of a VM, and returns them. A VM that
// runs keeps its addresses as long as it does. What is not held is released.
func (e *Engine) ReleaseMAC(_ context.Context, req ReleaseMACRequest) ([]vswitch.MACHold, error) {
	released := []vswitch.MACHold{}
	object := "MAC address " + req.MAC.String()
	if req.MAC.IsZero() {
		object = req.Domain.String()
		if err := req.Domain.Validate(); err != nil {
			return released, fault("mac release", object, err)
		}
	}
	err := e.store.UpdateConfig(func(tx *store.Tx) error {
		released = released[:0]
		holds, err := tx.MACHolds()
		if err != nil {
			return err
		}
		for _, h := range holds {
			if !req.MAC.IsZero() && h.MAC != req.MAC || !req.Domain.IsZero() && !h.Domain.Is(req.Domain) {
				continue
			}
			if err := tx.DropMACHold(h.MAC); err != nil {
				return err
			}
			released = append(released, h)
		}
		return nil
	})
	return released, fault("mac release", object, err)
}
