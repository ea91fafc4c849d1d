package engine

import (
	"context"
	"errors"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file keeps the entries that the guests of further segments have at the root of
// their switch, on the trunk of their segment.

// entryState is the port's entry at the root, on the trunk of its segment.
func entryState(p vswitch.Port, r store.SwitchRecord) plan.State {
	s := around(p, r)
	for name, t := range s.Ports {
		t.FDB = []vswitch.MAC{p.MAC}
		s.Ports[name] = t
	}
	return s
}

// withoutEntries is what was seen besides a port, without guests' entries.
func withoutEntries(seen plan.State, port string) plan.State {
	rest := plan.State{Ports: make(map[string]plan.Port)}
	for name, p := range seen.Ports {
		if name != port {
			p.FDB = nil
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
		missing, err := e.unjoined(ctx, r, ports)
		if err != nil {
			return err
		}
		for _, p := range missing {
			if err := e.joinGuest(ctx, p.ID, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// unjoined are the ports whose entry at the root is not there.
func (e *Engine) unjoined(ctx context.Context, r store.SwitchRecord, ports []vswitch.Port) (missing []vswitch.Port, err error) {
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
		t.FDB = append(t.FDB, p.MAC)
		scope.Ports[names[p.Segment]] = t
	}
	if len(scope.Ports) == 0 {
		return nil, nil
	}
	seen, err := e.kernel.Observe(ctx, scope)
	if err != nil {
		return nil, err
	}
	joined := make(map[vswitch.MAC]bool)
	for _, t := range seen.Ports {
		for _, mac := range t.FDB {
			joined[mac] = true
		}
	}
	for _, p := range ports {
		if p.Segment > 0 && !joined[p.MAC] {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

func (e *Engine) joinGuest(ctx context.Context, id string, r store.SwitchRecord) error {
	return e.withGuest(id, r, func(p vswitch.Port) error {
		return e.kernel.Apply(ctx, plan.Diff(entryState(p, r), around(p, r)))
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
func (e *Engine) lostEntries(ctx context.Context, r store.SwitchRecord) (steps []plan.Step, err error) {
	ports, err := e.portsOn(r.Name)
	if err != nil {
		return nil, err
	}
	missing, err := e.unjoined(ctx, r, ports)
	for _, p := range missing {
		err = errors.Join(err, e.withGuest(p.ID, r, func(p vswitch.Port) error {
			want := entryState(p, r)
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
