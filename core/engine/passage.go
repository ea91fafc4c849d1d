package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file hands the records and what the kernel shows to the planner of the host's
// way, and keeps the notes.

// journey is the host's way through one switch; heir is the switch that takes over, ""
// if none does.
type journey struct {
	plan.Journey
	name, heir string
}

// placeHost adds to the states what the host has and where it shall be.
func (e *Engine) placeHost(ctx context.Context, t *transaction, desired, had *plan.State) ([]journey, error) {
	var all []journey
	var plans []plan.Journey
	for _, c := range t.changes {
		p := t.passage(c)
		if !p.Concerned() {
			continue
		}
		var err error
		if p.Note, err = e.hosted(p.Switch); err != nil {
			return nil, err
		}
		there, err := e.addressings(ctx, p.Netdevs())
		if err != nil {
			return nil, err
		}
		if j, moves := p.Plan(there); moves {
			all = append(all, journey{j, p.Switch, p.Heir})
			plans = append(plans, j)
		}
	}
	plan.JoinJourneys(plans, desired, had)
	return all, nil
}

// passage is what a change means for the host.
func (t *transaction) passage(c change) plan.Passage {
	p := plan.Passage{Switch: nameOf(c)}
	for _, r := range t.from {
		if r.Name == p.Switch && r.Uplink != "" {
			p.Was = append(p.Was, home(r))
		}
	}
	if c.new != nil && c.new.Uplink != "" {
		p.Is = home(*c.new)
	} else if len(p.Was) > 0 {
		p.Heir, p.HeirPort = t.heir(p.Was[0].Uplink)
	}
	return p
}

// home is a record as the planner of the host's way sees it.
func home(r store.SwitchRecord) plan.Home {
	h := plan.Home{Uplink: r.Uplink, Carries: r.Host != store.HostElsewhere, Gateway: r.Gateway}
	if r.HostPort() {
		h.Port = vswitch.HostPortName(r.Name)
	}
	return h
}

// heir is the switch that has a NIC after the transaction and a port for what the host
// has on it.
func (t *transaction) heir(nic string) (name, port string) {
	for _, r := range t.news() {
		if r.Uplink == nic && r.HostPort() {
			return r.Name, vswitch.HostPortName(r.Name)
		}
	}
	return "", ""
}

func nameOf(c change) string {
	if c.new != nil {
		return c.new.Name
	}
	return c.old.Name
}

// addressings is what the host has on those of the netdevs that exist.
func (e *Engine) addressings(ctx context.Context, netdevs []string) (map[string]plan.Addressing, error) {
	there := make(map[string]plan.Addressing)
	for _, n := range netdevs {
		a, err := e.kernel.Addressing(ctx, n)
		if errors.Is(err, vswitch.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		there[n] = a
	}
	return there, nil
}

// depart notes all that is on its way, before the kernel is touched.
func (e *Engine) depart(w *way) error {
	for _, j := range w.journeys {
		if err := e.note(j.name, j.Before); err != nil {
			return err
		}
	}
	return nil
}

// arrived reads again what has been moved, and forgets the notes that have served.
func (e *Engine) arrived(ctx context.Context, w *way) error {
	if len(w.journeys) == 0 {
		return nil
	}
	want, scope := plan.State{Hosts: make(map[string]plan.Addressing)}, plan.State{Hosts: make(map[string]plan.Addressing)}
	for netdev, a := range w.desired.Hosts {
		want.Hosts[netdev] = plan.Addressing{Items: a.Lasting().Items}
		scope.Hosts[netdev] = plan.Addressing{Items: a.Lasting().With(w.had.Hosts[netdev]).Items}
	}
	observed, err := e.kernel.Observe(ctx, scope)
	if err != nil {
		return err
	}
	if missed := plan.Diff(want, observed); len(missed) > 0 {
		return &vswitch.Error{
			Kind: vswitch.KernelFailed, Err: fmt.Errorf("what the host has on the NIC did not arrive whole: %s is missing", missed[0]),
			Hint: "try again; if it stays so, the kernel does not take this back as it gives it",
		}
	}
	for _, j := range w.journeys {
		if !j.Heir.Empty() {
			if err := e.keep(j.heir, j.Heir); err != nil {
				return err
			}
		}
		if err := e.keep(j.name, j.After); err != nil {
			return err
		}
	}
	return nil
}
