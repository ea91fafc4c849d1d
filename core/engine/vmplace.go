package engine

import (
	"context"
	"errors"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file finds out where the tap of a VM's port is: libvirt makes it, moves it to another
// network while the VM runs, and removes it, and tells of these in another order each time.

// tapPlace is where the tap of a port is.
type tapPlace int

const (
	tapHome tapPlace = iota // in its switch, or in no bridge at all
	tapGone                 // not on the host; its name may be another tap's by now
	tapAway                 // in another bridge
)

// placeOf finds out where a port's tap is; one that cannot be looked for is at home. A port
// without a tap has one that is gone.
func (e *Engine) placeOf(ctx context.Context, p vswitch.Port) (tapPlace, kernel.Netdev) {
	if !p.Plugged() {
		return tapGone, kernel.Netdev{}
	}
	tap, err := e.kernel.Netdev(ctx, p.Netdev)
	switch {
	case errors.Is(err, vswitch.NotFound) || err == nil && p.VM.Index != 0 && p.VM.Index != tap.Index:
		return tapGone, tap
	case err != nil || tap.Master == "" || tap.Master == vswitch.BridgeName(p.Switch) || tap.Master == vswitch.SegmentName(p.Switch, p.Segment):
		return tapHome, tap
	}
	return tapAway, tap
}

// goneFrom reports whether a port has nothing left to be for.
func (e *Engine) goneFrom(ctx context.Context, p vswitch.Port) bool {
	place, _ := e.placeOf(ctx, p)
	return place != tapHome
}

// heir is the port of the same VM that waits for a tap where that of p is now: libvirt has put
// it into another network, or has given it another port on the same.
func (e *Engine) heir(p vswitch.Port, tap kernel.Netdev) (heir vswitch.Port, found bool, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		all, err := tx.PortsOfDomain(p.Owner.ID)
		for _, o := range all {
			if o.ID != p.ID && !o.Plugged() && o.MAC == p.MAC && tap.Master == vswitch.BridgeName(o.Switch) {
				heir, found = o, true
			}
		}
		return err
	})
	return heir, found, err
}

// finishMove binds what the tap of a port has gone to, where whoever moved it was killed or
// failed over it.
func (e *Engine) finishMove(ctx context.Context, p vswitch.Port) error {
	var others []vswitch.Port
	err := e.store.View(func(tx *store.Tx) error {
		all, err := tx.PortsOfDomain(p.Owner.ID)
		for _, o := range all {
			if o.ID != p.ID && o.MAC == p.MAC {
				others = append(others, o)
			}
		}
		return err
	})
	if err != nil || len(others) == 0 {
		return err
	}
	netdevs, err := e.kernel.Netdevs(ctx)
	if err != nil {
		return err
	}
	for _, o := range others {
		for _, n := range netdevs {
			// One that was bound, but perhaps not to the end, or one that waits for its tap.
			waits := !o.Plugged() && n.MAC == o.MAC.TapMAC() && n.Master == vswitch.BridgeName(o.Switch) && n.Group&vswitch.GroupMask != vswitch.GroupMark
			if waits && !e.isLeft(o) || o.Plugged() && n.Name == o.Netdev && n.Index == o.VM.Index {
				if _, err := e.bindPort(ctx, BindPortRequest{Owner: o.Owner, Netdev: n.Name}); err != nil {
					return err
				}
				break
			}
		}
	}
	return nil
}

// handOn gives the tap of a port to the one that waits for it, if there is one, and if what the NIC's definition
// says fits it: else a tap in another bridge is nobody's, and shut.
func (e *Engine) handOn(ctx context.Context, p vswitch.Port, tap kernel.Netdev) (done bool, err error) {
	heir, found, err := e.heir(p, tap)
	if err != nil || !found {
		return false, err
	}
	_, err = e.bindPort(ctx, BindPortRequest{Owner: heir.Owner, Netdev: tap.Name})
	switch vswitch.KindOf(err) {
	case vswitch.Widens, vswitch.IPInUse, vswitch.Invalid:
		return false, nil // whoever binds it by its definition hears why
	}
	return err == nil, err
}
