package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Mirroring is the switch's: each source needs to know all destinations. A port that comes,
// goes or changes has the tables of all sources made anew, when the port itself is done.
// What a killed process leaves undone is drift of the switch.

// mirrorSymbols are what mirroring takes.
const mirrorSymbols = "CONFIG_NF_TABLES_NETDEV, CONFIG_NFT_DUP_NETDEV and CONFIG_NETFILTER_EGRESS in Linux 5.16 or later"

// mirrorsAmong are the tables that the ports of a switch should have.
func mirrorsAmong(ports []vswitch.Port) plan.Mirrors {
	var destinations []string
	for _, p := range ports {
		if p.Policy.Mirror == vswitch.MirrorDestination && p.Plugged() {
			destinations = append(destinations, p.Netdev)
		}
	}
	slices.Sort(destinations)
	mirrors := make(plan.Mirrors)
	for _, p := range ports {
		if p.Policy.Mirror == vswitch.MirrorSource && p.Plugged() && len(destinations) > 0 {
			mirrors[p.Netdev] = plan.Mirror{Destinations: destinations}
		}
	}
	return mirrors
}

// mirrorsOf is mirrorsAmong of a switch as the store has it.
func mirrorsOf(tx *store.Tx, switchName string) (plan.Mirrors, error) {
	if any, err := tx.HasPolicies(switchName); err != nil || !any {
		return nil, err
	}
	ports, err := tx.PortsOf(switchName)
	return mirrorsAmong(ports), err
}

// remirror has frames copied on a switch as its ports are now. The caller may hold the locks
// of the switch and of ports.
func (e *Engine) remirror(ctx context.Context, switchName string) error {
	unlock, err := e.store.LockMirrors(switchName)
	if err != nil {
		return err
	}
	defer unlock()
	var mirrors plan.Mirrors
	err = e.store.View(func(tx *store.Tx) error {
		mirrors, err = mirrorsOf(tx, switchName)
		return err
	})
	if err != nil {
		return err
	}
	return e.reach(ctx, plan.State{Mirrors: map[string]plan.Mirrors{vswitch.BridgeName(switchName): mirrors}}, plan.State{})
}

// remirrorFor is remirror if the ports, which have come, gone or changed, have to do with it.
func (e *Engine) remirrorFor(ctx context.Context, ports ...vswitch.Port) error {
	var switches []string
	for _, p := range ports {
		if p.Policy.Mirror != vswitch.MirrorNone {
			switches = append(switches, p.Switch)
		}
	}
	slices.Sort(switches)
	var errs []error
	for _, name := range slices.Compact(switches) {
		errs = append(errs, e.remirror(ctx, name))
	}
	return errors.Join(errs...)
}

// admitMirror refuses what the kernel cannot do.
func admitMirror(tx *store.Tx, p vswitch.Port) error {
	if p.Policy.Mirror == vswitch.MirrorNone {
		return nil
	}
	var caps kernel.Capabilities
	if _, err := tx.Fact(capabilitiesFact, &caps); err != nil || caps.Mirroring {
		return err
	}
	return missing("port mirroring", mirrorSymbols, "leave `mirror` out")
}

// judgeMirrors warns of sources whose frames nobody gets.
func (s *Status) judgeMirrors(tx *store.Tx, switchName string) error {
	if any, err := tx.HasPolicies(switchName); err != nil || !any {
		return err
	}
	ports, err := tx.PortsOf(switchName)
	var sources []string
	for _, p := range ports {
		switch p.Policy.Mirror {
		case vswitch.MirrorSource:
			sources = append(sources, p.ID)
		case vswitch.MirrorDestination:
			return nil
		}
	}
	if len(sources) > 0 {
		s.Problems = append(s.Problems, Problem{
			Kind:    vswitch.MirrorTarget,
			Message: fmt.Sprintf("switch %s: no port is a mirror destination, and %d are sources, %s among them", switchName, len(sources), sources[0]),
			Hint:    "run `patchbay port set PORT --mirror destination` for who is to get the copies",
		})
	}
	return err
}
