package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file keeps the ports of VMs with their taps: no hook of libvirt's tells of a tap that
// comes while the VM runs, nor of one that goes while libvirt is away.

// followTap sees to a VM's port whose tap is not where it was, and reports whether that is
// all there is to do about the port now.
func (r *reconciler) followTap(ctx context.Context, p vswitch.Port) bool {
	if p.Owner.Kind != vswitch.OwnerVM || !p.Plugged() {
		return false
	}
	place, tap := r.placeOf(ctx, p)
	if place == tapHome {
		return false
	}
	about := []any{"switch", p.Switch, "port", p.ID, "owner", p.Owner.String(), "netdev", p.Netdev}
	handed, err := false, error(nil)
	if place == tapAway {
		handed, err = r.handOn(ctx, p, tap)
	}
	if err == nil && !handed {
		err = r.leaveTap(ctx, p)
	}
	object := fmt.Sprintf("port %s (%s)", p.ID, p.Owner)
	switch {
	case err != nil:
		r.mend(object, about, nil, err)
		return true
	case handed:
		r.log.Info("its tap is another port's now", about...)
	case place == tapGone:
		r.log.Info("its tap is gone", about...)
	default:
		r.log.Info("its tap was put into another bridge", append(about, "bridge", tap.Master)...)
	}
	r.forgetPort(p.ID)
	return true
}

// leaveTap removes a port whose tap is gone, or in somebody else's bridge: of the tap it takes
// what was the port's, and leaves it where it is.
func (e *Engine) leaveTap(ctx context.Context, p vswitch.Port) error {
	return e.dismissVM(ctx, []string{p.ID}, func(now vswitch.Port) bool {
		return now.Plugged() && e.goneFrom(ctx, now)
	}, nil)
}

// findStrangers looks for netdevs in our bridges that are nobody's ports.
func (r *reconciler) findStrangers(ctx context.Context) {
	netdevs, err := r.kernel.Netdevs(ctx)
	if err != nil {
		return // the next event tells of them
	}
	found := strangersAmong(netdevs)
	r.mu.Lock()
	for _, n := range found {
		r.strangers[n.Name] = true
	}
	r.mu.Unlock()
	r.admitStrangers(ctx)
}

// strangersAmong are the netdevs in bridges of ours that bear no mark of ours.
func strangersAmong(netdevs []kernel.Netdev) (strangers []kernel.Netdev) {
	ours := make(map[string]bool)
	for _, n := range netdevs {
		if n.Kind == "bridge" && strings.HasPrefix(n.Alias, vswitch.AliasPrefix+"bridge ") {
			ours[n.Name] = true
		}
	}
	for _, n := range netdevs {
		if ours[n.Master] && n.Group&vswitch.GroupMask != vswitch.GroupMark {
			strangers = append(strangers, n)
		}
	}
	return strangers
}

// admitStrangers gives taps to the ports that wait for them, and tells of those for which none
// does. Of a VM that starts the hook has mostly done so by now; no hook tells of a NIC that is
// plugged in while the VM runs.
func (r *reconciler) admitStrangers(ctx context.Context) {
	r.mu.Lock()
	names := slices.Sorted(maps.Keys(r.strangers))
	clear(r.strangers)
	r.mu.Unlock()
	for _, name := range names {
		if ctx.Err() != nil {
			return
		}
		n, err := r.kernel.Netdev(ctx, name)
		if err != nil || n.Group&vswitch.GroupMask == vswitch.GroupMark || n.Master == "" {
			continue // it is gone, or whoever put it there has made it a port
		}
		if err := r.admitStranger(ctx, n); err != nil {
			r.log.Warn("a netdev in a switch is no port, and its frames are dropped", "netdev", name, "bridge", n.Master, "kind", string(vswitch.KindOf(err)), "err", err)
		}
	}
}

// LeaveTaps has taps left to somebody who knows how domains are defined, and so what a definition takes
// away from a port. binds reports whether it sees to those of a domain, named by its UUID: they stay
// shut until it calls BindPort. It must not wait for the engine. LeaveTaps is called before Keep, once.
func (e *Engine) LeaveTaps(binds func(domain string) bool) { e.leaveTapsTo = binds }

// isLeft reports whether somebody else binds the taps of a port's VM.
func (e *Engine) isLeft(p vswitch.Port) bool {
	return e.leaveTapsTo != nil && e.leaveTapsTo(p.Owner.ID)
}

// admitStranger binds a tap to the port that waits for it.
func (r *reconciler) admitStranger(ctx context.Context, n kernel.Netdev) error {
	p, err := r.waiting(n)
	if err != nil || r.isLeft(p) {
		return err
	}
	p, err = r.BindPort(ctx, BindPortRequest{Owner: p.Owner, Netdev: n.Name})
	if err == nil {
		r.log.Info("bound", "switch", p.Switch, "port", p.ID, "owner", p.Owner.String(), "netdev", n.Name)
	}
	return err
}

// waiting is the one port of a VM that may have a tap: on the switch that the tap is in, with
// the MAC address that the tap's was made of.
func (e *Engine) waiting(tap kernel.Netdev) (vswitch.Port, error) {
	var fit []vswitch.Port
	err := e.store.View(func(tx *store.Tx) error {
		records, err := tx.Switches()
		for _, r := range records {
			if vswitch.BridgeName(r.Name) != tap.Master {
				continue
			}
			ports, err := tx.PortsOf(r.Name)
			if err != nil {
				return err
			}
			for _, p := range ports {
				if p.Owner.Kind == vswitch.OwnerVM && !p.Plugged() && p.MAC.TapMAC() == tap.MAC {
					fit = append(fit, p)
				}
			}
		}
		return err
	})
	switch {
	case err != nil:
		return vswitch.Port{}, err
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) > 1:
		return vswitch.Port{}, &vswitch.Error{
			Kind: vswitch.Conflict, Err: fmt.Errorf("%d ports wait for a tap with MAC address %s, %s of %s among them", len(fit), tap.MAC, fit[0].ID, fit[0].Owner),
			Hint: "give each NIC of the host's VMs an address of its own",
		}
	}
	return vswitch.Port{}, &vswitch.Error{Kind: vswitch.NotFound, Err: errors.New("no port waits for it"), Hint: strangerHint(tap)}
}

func strangerHint(n kernel.Netdev) string {
	return fmt.Sprintf("if it is a VM's, define the VM's NIC with the libvirt network of the switch (`patchbay libvirt network`); else take it out: `ip link set %s nomaster`", n.Name)
}
