package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"

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

// departure is what the host had on the netdevs of a journey before it, and what was noted
// of it.
type departure struct {
	name    string
	note    plan.HostNote
	netdevs []string
	there   map[string]plan.Addressing // those that exist
}

// placeHost adds to the states what the host has and where it shall be.
func (e *Engine) placeHost(ctx context.Context, t *transaction, desired, had *plan.State) ([]journey, error) {
	var all []journey
	var plans []plan.Journey
	if t.undo != nil {
		return e.placeHostBack(t, desired, had)
	}
	crews, err := e.crews(t)
	if err != nil {
		return nil, err
	}
	passages, err := e.passages(t, crews)
	if err != nil {
		return nil, err
	}
	for _, p := range passages {
		there, err := e.addressings(ctx, p.Netdevs())
		if err != nil {
			return nil, err
		}
		for _, n := range p.Netdevs() {
			if _, exists := there[n]; !exists && crews.is[n] != nil {
				there[n] = plan.Addressing{} // it is made before the host comes
			}
			if has, silent := crews.standbys[n]; silent && there[n].Settings != nil {
				maps.Copy(there[n].Settings, has) // the silence does not go along with the host
			}
		}
		if j, moves := p.Plan(there); moves {
			all = append(all, journey{j, p.Switch, p.Heir})
			plans = append(plans, j)
			t.departed = append(t.departed, departure{p.Switch, p.Note, append(p.Netdevs(), p.HeirPort), there})
		}
	}
	plan.JoinJourneys(plans, desired, had)
	return all, nil
}

// placeHostBack is placeHost after a failure: all is to be as it was.
func (e *Engine) placeHostBack(t *transaction, desired, had *plan.State) (all []journey, err error) {
	var plans []plan.Journey
	for _, d := range t.undo {
		note, err := e.hosted(d.name)
		if err != nil {
			return nil, err
		}
		j := plan.Undo(d.netdevs, d.there, note)
		j.After = d.note
		all = append(all, journey{j, d.name, ""})
		plans = append(plans, j)
	}
	plan.JoinJourneys(plans, desired, had)
	return all, nil
}

// passages are those of a transaction that the host has to do with, with their notes.
func (e *Engine) passages(t *transaction, all crews) (passages []plan.Passage, err error) {
	for _, c := range t.changes {
		p := plan.Passage{Switch: nameOf(c)}
		if p.Note, err = e.hosted(p.Switch); err != nil {
			return nil, err
		}
		if p = t.passage(c, p, all); !p.Concerned() {
			continue
		}
		for i, h := range p.Was {
			if p.Is.Uplink != "" || !all.goes(h.Uplink) {
				continue
			}
			origin, err := e.origin(h.Uplink, p.Note)
			if err != nil {
				return nil, err
			}
			p.Was[i] = all.comesHome(h, origin)
		}
		passages = append(passages, p)
	}
	for _, c := range t.teams {
		p := plan.Passage{Switch: teamNote(c.name())}
		if p.Note, err = e.hosted(p.Switch); err != nil {
			return nil, err
		}
		if p, concerned := t.teamPassage(c, p, all); concerned {
			passages = append(passages, p)
		}
	}
	return passages, nil
}

// passage is what a change means for the host.
func (t *transaction) passage(c change, p plan.Passage, all crews) plan.Passage {
	for _, r := range t.from {
		if r.Name == p.Switch && r.Uplink != "" {
			p.Was = append(p.Was, home(r, all.was))
		}
	}
	if c.new != nil && c.new.Uplink != "" {
		p.Is = home(*c.new, all.is)
		return p
	}
	if len(p.Was) > 0 {
		p.Heir, p.HeirPort = t.heir(p.Was[0].Uplink, all)
	}
	return p
}

// home is a record as the planner of the host's way sees it.
func home(r store.SwitchRecord, members map[string][]string) plan.Home {
	h := plan.Home{Uplink: r.Uplink, Members: members[r.Uplink], Carries: r.Host != store.HostElsewhere, Gateway: r.Gateway}
	if r.HostPort() {
		h.Port = vswitch.HostPortName(r.Name)
	}
	return h
}

// heir is the switch that has a NIC of an uplink after the transaction and a port for what
// the host has on it, or the team that has.
func (t *transaction) heir(uplink string, all crews) (name, port string) {
	for _, r := range t.news() {
		if r.HostPort() && all.share(uplink, r.Uplink) {
			return r.Name, vswitch.HostPortName(r.Name)
		}
	}
	for _, r := range t.newTeams() {
		if r.Name != uplink && all.share(uplink, r.Name) {
			return teamNote(r.Name), r.Name
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
			Kind: vswitch.KernelFailed, Err: fmt.Errorf("what the host has on the NIC did not arrive whole: %s is left to do", missed[0]),
			Hint: "try again; if it stays so, the kernel does not take this back as it gives it",
		}
	}
	return e.settleNotes(w.journeys)
}

// settleNotes notes what is left to know. A switch that takes over knows what the other
// one did, whatever it found out itself on the way.
func (e *Engine) settleNotes(journeys []journey) error {
	notes := make(map[string]plan.HostNote)
	for _, j := range journeys {
		notes[j.name] = j.After
	}
	for _, j := range journeys {
		if j.Heir.Empty() {
			continue
		}
		own, travels := notes[j.heir]
		if !travels {
			var err error
			if own, err = e.hosted(j.heir); err != nil {
				return err
			}
		}
		notes[j.heir] = j.Heir.With(own)
	}
	for name, note := range notes {
		if err := e.keep(name, note); err != nil {
			return err
		}
	}
	return nil
}
