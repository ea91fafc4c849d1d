package engine

import (
	"context"
	"errors"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file keeps the entries that the guests of further segments have at the root of
// their switch, on the trunk of their segment.

// entriesOf are a guest's entries on a trunk: where VLANs are filtered, in those that the
// guest is in.
func entriesOf(p vswitch.Port, r store.SwitchRecord, caps kernel.Capabilities) (all []vswitch.MAC, in []plan.Entry) {
	if !p.Plugged() || !p.Speaks() || p.GoesByVF() {
		return nil, nil
	}
	if !caps.VLANFiltering {
		return []vswitch.MAC{p.MAC}, nil
	}
	for id := range p.VLAN.Membership(r.UntaggedVLAN()).All().All() {
		in = append(in, plan.Entry{MAC: p.MAC, VLAN: id})
	}
	return nil, in
}

// entryState is the port's entry at the root, on the trunk of its segment.
func entryState(p vswitch.Port, r store.SwitchRecord, caps kernel.Capabilities) plan.State {
	s := around(p, r)
	for name, t := range s.Ports {
		t.FDB, t.FDBIn = entriesOf(p, r, caps)
		s.Ports[name] = t
	}
	return s
}

// withoutEntries is what was seen besides a port, without guests' entries.
func withoutEntries(seen plan.State, port string) plan.State {
	rest := plan.State{Ports: make(map[string]plan.Port)}
	for name, p := range seen.Ports {
		if name != port {
			p.FDB, p.FDBIn = nil, nil
			rest.Ports[name] = p
		}
	}
	return rest
}

// joinGuests gives the trunks of the transaction's switches the guests' entries that
// they lack: a trunk that is made again has none. Each is looked at under its port's
// lock, since a guest may go at any time, and its entry with it.
func (e *Engine) joinGuests(ctx context.Context, t *transaction) error {
	for _, r := range t.news() {
		if t.segments[r.Name].want == 0 {
			continue
		}
		ports, err := e.portsOn(r.Name)
		if err != nil {
			return err
		}
		missing, err := e.unjoined(ctx, r, t.caps, ports)
		if err != nil {
			return err
		}
		for _, p := range missing {
			if err := e.joinGuest(ctx, p.ID, r, t.caps); err != nil {
				return err
			}
		}
	}
	return nil
}

// unjoined are the ports whose entries at the root are not all there.
func (e *Engine) unjoined(ctx context.Context, r store.SwitchRecord, caps kernel.Capabilities, ports []vswitch.Port) (missing []vswitch.Port, err error) {
	scope := plan.State{Ports: make(map[string]plan.Port)}
	names := make(map[int]string)
	for _, p := range ports {
		if p.Segment == 0 {
			continue
		}
		if names[p.Segment] == "" {
			t, _ := trunk(r, p.Segment)
			names[p.Segment] = t.Name
		}
		t := scope.Ports[names[p.Segment]]
		all, in := entriesOf(p, r, caps)
		t.FDB, t.FDBIn = append(t.FDB, all...), append(t.FDBIn, in...)
		scope.Ports[names[p.Segment]] = t
	}
	if len(scope.Ports) == 0 {
		return nil, nil
	}
	seen, err := e.kernel.Observe(ctx, scope)
	if err != nil {
		return nil, err
	}
	joined := make(map[vswitch.MAC]int)
	for _, t := range seen.Ports {
		for _, mac := range t.FDB {
			joined[mac]++
		}
		for _, e := range t.FDBIn {
			joined[e.MAC]++
		}
	}
	for _, p := range ports {
		all, in := entriesOf(p, r, caps)
		if p.Segment > 0 && joined[p.MAC] < len(all)+len(in) {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

func (e *Engine) joinGuest(ctx context.Context, id string, r store.SwitchRecord, caps kernel.Capabilities) error {
	return e.withGuest(id, r, func(p vswitch.Port) error {
		return e.kernel.Apply(ctx, plan.Diff(entryState(p, r, caps), around(p, r)))
	})
}

// withGuest calls fn under a port's lock unless the port has gone from the switch.
func (e *Engine) withGuest(id string, r store.SwitchRecord, fn func(vswitch.Port) error) error {
	unlock, err := e.store.LockPort(id)
	if err != nil {
		return err
	}
	defer unlock()
	var p vswitch.Port
	err = e.store.View(func(tx *store.Tx) (err error) {
		p, err = tx.Port(id)
		return err
	})
	if errors.Is(err, vswitch.NotFound) || err == nil && p.Switch != r.Name {
		return nil
	}
	if err != nil {
		return err
	}
	return fn(p)
}

// lostEntries is the plan that gives guests who are attached their entries at the root
// back. Ports that come and go meanwhile are none of it.
func (e *Engine) lostEntries(ctx context.Context, r store.SwitchRecord, caps kernel.Capabilities) (steps []plan.Step, err error) {
	ports, err := e.portsOn(r.Name)
	if err != nil {
		return nil, err
	}
	missing, err := e.unjoined(ctx, r, caps, ports)
	for _, p := range missing {
		err = errors.Join(err, e.withGuest(p.ID, r, func(p vswitch.Port) error {
			want := entryState(p, r, caps)
			scope := plan.Union(want, plan.State{Ports: map[string]plan.Port{p.Netdev: {}}})
			seen, err := e.kernel.Observe(ctx, scope)
			if _, attached := seen.Ports[p.Netdev]; attached {
				delete(seen.Ports, p.Netdev)
				steps = append(steps, plan.Diff(want, seen)...)
			}
			return err
		}))
	}
	return steps, err
}
