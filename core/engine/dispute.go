package engine

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file is about a process that was killed while a NIC went from one switch or team to
// another. Both claim it then, the one by what it was and the other by what it is to be, and
// what the host has on it may be with either. Repaired alone, each would take the NIC, or
// send the host home to one that is in another switch: they are brought to their end
// together, before anything else is done to one of them.

// dispute are switches and teams that claim the same NICs, and those tied to them.
type dispute struct {
	switches []store.SwitchRecord
	teams    []teamChange
}

func (c dispute) claimants() (all []claimant) {
	for _, r := range c.switches {
		all = append(all, claimant{name: r.Name})
	}
	for _, t := range c.teams {
		all = append(all, claimant{team: true, name: t.name()})
	}
	return all
}

func (c dispute) names() (names []string) {
	for _, r := range c.switches {
		names = append(names, r.Name)
	}
	return names
}

// lockSettled is lockSwitches, and tells which switches were in a dispute. To end that is
// not interrupted with the verb: it was somebody else's.
func (e *Engine) lockSettled(names ...string) (settled []string, unlock func(), err error) {
	c, let, err := e.lockDispute(names...)
	if err != nil {
		return nil, nil, err
	}
	defer func() { // also where the goroutine ends in there
		if unlock == nil {
			let()
		}
	}()
	ended, err := e.end(context.Background(), c)
	if err != nil {
		return nil, nil, err
	}
	if ended {
		settled = c.names()
	}
	return settled, let, nil
}

// lockDispute takes the locks of switches, and of those that they are in a dispute with:
// who holds the lock of all switches knows which these are.
func (e *Engine) lockDispute(names ...string) (c dispute, unlock func(), err error) {
	unlock, err = e.lockWith(names, func() (more []string, err error) {
		c, err = e.disputeOf(names...)
		return c.names(), err
	})
	return c, unlock, err
}

// disputeOf is what the switches are in a dispute with, themselves included; nothing if
// they are in none.
func (e *Engine) disputeOf(names ...string) (dispute, error) {
	var who []claimant
	for _, name := range names {
		who = append(who, claimant{name: name})
	}
	return e.disputeAmong(who...)
}

// disputeAmong is disputeOf for teams too.
func (e *Engine) disputeAmong(who ...claimant) (c dispute, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		all, err := readClaims(tx)
		if err != nil {
			return err
		}
		tied := make(map[claimant]bool)
		for _, one := range who {
			maps.Copy(tied, all.disputed(one))
		}
		for _, r := range all.switches {
			if tied[claimant{name: r.Name}] {
				c.switches = append(c.switches, r)
			}
		}
		for _, t := range all.teams {
			if tied[claimant{team: true, name: t.name()}] {
				c.teams = append(c.teams, t)
			}
		}
		return nil
	})
	return c, err
}

// claimant is a switch or a team.
type claimant struct {
	team bool
	name string
}

func (c claimant) String() string {
	if c.team {
		return "team " + c.name
	}
	return "switch " + c.name
}

// claims are who claims which NICs.
type claims struct {
	switches []store.SwitchRecord
	teams    []teamChange // as they are to be
	going    map[claimant]bool
	of       map[claimant][]string
	by       map[string][]claimant
}

func readClaims(tx *store.Tx) (c claims, err error) {
	c.going, c.of, c.by = make(map[claimant]bool), make(map[claimant][]string), make(map[string][]claimant)
	teams, err := tx.Teams()
	if err != nil {
		return c, err
	}
	for _, r := range teams {
		was, _, err := tx.RealisedTeam(r.Name)
		if err != nil {
			return c, err
		}
		who := claimant{team: true, name: r.Name}
		c.going[who], c.teams = r.Going, append(c.teams, toTheEnd(r))
		c.claim(who, append(slices.Clone(r.Members), was.Members...))
	}
	c.switches, err = tx.Switches()
	if err != nil {
		return c, err
	}
	for _, r := range c.switches {
		was, _, err := tx.Realised(r.Name)
		if err != nil {
			return c, err
		}
		who := claimant{name: r.Name}
		c.going[who] = r.Going
		c.claim(who, []string{r.Uplink, was.Uplink})
	}
	return c, nil
}

// claim notes whose NICs are. A switch on a team claims that.
func (c claims) claim(who claimant, netdevs []string) {
	for _, n := range netdevs {
		if n != "" && !slices.Contains(c.of[who], n) {
			c.of[who], c.by[n] = append(c.of[who], n), append(c.by[n], who)
		}
	}
}

// disputed is everything that a switch or team is tied to, if two of that claim the same. A
// switch that goes with its team is counted with it too: that ends what the switch was on.
func (c claims) disputed(who claimant) map[claimant]bool {
	tied, disputed := map[claimant]bool{who: true}, false
	for rest := []claimant{who}; len(rest) > 0; rest = rest[1:] {
		var next []claimant
		for _, n := range c.of[rest[0]] {
			disputed = disputed || len(c.by[n]) > 1
			next = append(next, c.by[n]...)
			if team := (claimant{team: true, name: n}); c.of[team] != nil {
				next = append(next, team)
				disputed = disputed || c.going[team] && c.going[rest[0]]
			}
		}
		if rest[0].team {
			next = append(next, c.by[rest[0].name]...)
		}
		for _, n := range next {
			if !tied[n] {
				tied[n] = true
				rest = append(rest, n)
			}
		}
	}
	if !disputed {
		return nil
	}
	return tied
}

// end brings what a killed process was doing to its end: a switch that it was deleting
// goes, with the guests whom it was told to detach. A switch whose NIC is not there is left
// as it is: nobody can take that from it. ended is false then, and where there was nothing
// to end.
func (e *Engine) end(ctx context.Context, c dispute) (ended bool, err error) {
	if len(c.switches)+len(c.teams) == 0 {
		return false, nil
	}
	caps, err := e.capabilities(ctx)
	if err != nil {
		return false, err
	}
	t := &transaction{caps: caps}
	if err := e.join(t, c); err != nil {
		return false, err
	}
	e = e.foreseeing(t.teams...)
	all := len(t.changes)
	if err := e.able(ctx, t, func(err error) bool { return errors.Is(err, vswitch.UplinkNotFound) }); err != nil {
		return false, err
	}
	if len(t.changes)+len(t.teams) == 0 {
		return false, nil
	}
	if len(t.guests) > 0 { // nobody is detached where that cannot be noted afterwards
		if err := e.store.UpdateConfig(func(tx *store.Tx) error { return tx.PutSwitch(t.olds()[0]) }); err != nil {
			return false, err
		}
	}
	err = e.repair(ctx, t)
	return err == nil && len(t.changes) == all, err
}

// join adds to a transaction what its switches are in a dispute with.
func (e *Engine) join(t *transaction, c dispute) error {
	names := t.names()
	for _, r := range c.switches {
		switch {
		case slices.Contains(names, r.Name):
		case r.Going:
			guests, err := e.portsOn(r.Name)
			if err != nil {
				return err
			}
			t.changes, t.guests = append(t.changes, change{old: &r}), append(t.guests, guests...)
		default:
			is := r
			t.changes = append(t.changes, change{old: &r, new: &is})
		}
	}
	t.teams = c.withTeams(t.teams)
	return nil
}

// withTeams are changes of teams, and those of the dispute's.
func (c dispute) withTeams(changes []teamChange) []teamChange {
	for _, team := range c.teams {
		if !slices.ContainsFunc(changes, func(c teamChange) bool { return c.name() == team.name() }) {
			changes = append(changes, team)
		}
	}
	return changes
}
