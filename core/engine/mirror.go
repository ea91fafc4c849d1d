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

// mirrorsOf is mirrorsAmong of a switch with the guests that the store has.
func mirrorsOf(tx *store.Tx, r store.SwitchRecord) (plan.Mirrors, error) {
	ports, err := policed(tx, r)
	return mirrorsAmong(ports), err
}

// policed are the ports of a switch that may have a policy.
func policed(tx *store.Tx, r store.SwitchRecord) (ports []vswitch.Port, err error) {
	guests, err := tx.HasPolicies(r.Name)
	if err == nil && guests {
		ports, err = tx.PortsOf(r.Name)
	}
	if r.HostPort() {
		ports = append(ports, hostPort(r))
	}
	return ports, err
}

// remirror has frames copied on a switch as its ports are now; of those of past that are no
// sources any more none, whatever is left of their tables. The caller may hold the locks of
// the switch and of ports.
func (e *Engine) remirror(ctx context.Context, switchName string, past []vswitch.Port) error {
	unlock, err := e.store.LockMirrors(switchName)
	if err != nil {
		return err
	}
	defer unlock()
	var ports []vswitch.Port
	err = e.store.View(func(tx *store.Tx) error {
		r, err := tx.Switch(switchName)
		if err == nil {
			ports, err = policed(tx, r)
		}
		return ignoreNotFound(err)
	})
	if err != nil {
		return err
	}
	return e.mirror(ctx, switchName, ports, past)
}

// remirrorAs is remirror of a switch that is about to be as r says, and was as one of from
// before.
func (e *Engine) remirrorAs(ctx context.Context, r store.SwitchRecord, from []store.SwitchRecord) error {
	unlock, err := e.store.LockMirrors(r.Name)
	if err != nil {
		return err
	}
	defer unlock()
	var ports, past []vswitch.Port
	err = e.store.View(func(tx *store.Tx) error {
		ports, err = policed(tx, r)
		return err
	})
	if err != nil {
		return err
	}
	for _, was := range from {
		if was.HostPort() {
			past = append(past, hostPort(was))
		}
	}
	return e.mirror(ctx, r.Name, ports, past)
}

// mirror has frames copied as ports are. It finds sources by their tables, which a stranger
// may have flushed: those that are none any more, or have lost their last destination, it
// ends all the same.
func (e *Engine) mirror(ctx context.Context, switchName string, ports, past []vswitch.Port) error {
	bridge, mirrors := vswitch.BridgeName(switchName), mirrorsAmong(ports)
	err := e.reach(ctx, plan.State{Mirrors: map[string]plan.Mirrors{bridge: mirrors}}, plan.State{})
	if slices.ContainsFunc(past, func(p vswitch.Port) bool { return p.Policy.Mirror == vswitch.MirrorDestination }) {
		past = slices.Concat(past, ports)
	}
	var ends []plan.Step
	for _, p := range past {
		if _, stays := mirrors[p.Netdev]; p.Switch == switchName && p.Policy.Mirror == vswitch.MirrorSource && p.Plugged() && !stays {
			ends = append(ends, plan.DeleteMirror{Bridge: bridge, Netdev: p.Netdev})
		}
	}
	if len(ends) == 0 {
		return err
	}
	return errors.Join(err, e.kernel.Apply(ctx, ends))
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
		errs = append(errs, e.remirror(ctx, name, ports))
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
	return missing("port mirroring", kernel.MirrorSymbols, "leave `mirror` out")
}

// judgeMirrors warns of sources whose frames nobody gets.
func (s *Status) judgeMirrors(tx *store.Tx, r store.SwitchRecord) error {
	ports, err := policed(tx, r)
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
			Message: fmt.Sprintf("switch %s: no port is a mirror destination, and %d are sources, %s among them", r.Name, len(sources), sources[0]),
			Hint:    "run `patchbay port set PORT --mirror destination` for who is to get the copies",
		})
	}
	return err
}
