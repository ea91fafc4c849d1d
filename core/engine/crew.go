package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file is the host's way through teams. What it has on a member goes to the port of
// the switch on the team, or to the team itself while there is none.

// crews are the members of teams, the preferred one first: as they are after a
// transaction, and all that they may have had before.
type crews struct {
	is, was map[string][]string
	// standbys are NICs that Patchbay keeps silent, with the settings that they had.
	standbys map[string]map[string]string
}

func (e *Engine) crews(t *transaction) (c crews, err error) {
	c = crews{is: make(map[string][]string), was: make(map[string][]string), standbys: make(map[string]map[string]string)}
	var teams []store.TeamRecord
	err = e.store.View(func(tx *store.Tx) error {
		teams, err = t.outcomeTeams(tx)
		return err
	})
	for _, r := range teams {
		c.is[r.Name] = r.Preference()
	}
	for _, tc := range t.teams {
		if tc.old != nil {
			teams = append(teams, *tc.old)
		}
	}
	for _, r := range append(teams, t.fromTeams...) {
		c.standbys[r.Standby] = r.StandbyHad
		for _, m := range r.Preference() {
			if !slices.Contains(c.was[r.Name], m) {
				c.was[r.Name] = append(c.was[r.Name], m)
			}
		}
	}
	return c, err
}

// goes reports that a netdev is that of a team which is deleted.
func (c crews) goes(netdev string) bool { return c.is[netdev] == nil && c.was[netdev] != nil }

// under are an uplink and what lies below it.
func under(uplink string, members map[string][]string) []string {
	return append([]string{uplink}, members[uplink]...)
}

// share reports that a switch or team that goes and one that stays have a NIC in common.
func (c crews) share(was, is string) bool {
	if was == "" || is == "" {
		return false
	}
	theirs := under(is, c.is)
	return slices.ContainsFunc(under(was, c.was), func(n string) bool { return slices.Contains(theirs, n) })
}

// teamNote is the name under which is noted what the host left for a team: no switch can
// have it.
func teamNote(team string) string { return "team " + team }

// teamPassage is what a change of a team means for the host that lives on the team.
func (t *transaction) teamPassage(c teamChange, p plan.Passage, all crews) (_ plan.Passage, concerned bool) {
	p.Restarts = true
	home := func(r store.TeamRecord) plan.Home {
		order := preferring(r.Preference(), p.Note.Origin)
		return plan.Home{Uplink: order[0], Members: order[1:], Port: r.Name, Carries: true}
	}
	for _, r := range t.fromTeams {
		if r.Name == c.name() {
			p.Was = append(p.Was, home(r))
		}
	}
	if c.new == nil {
		p.Heir, p.HeirPort = t.heir(c.name(), all)
		return p, true
	}
	p.Is = home(*c.new)
	return p, !slices.ContainsFunc(t.news(), func(r store.SwitchRecord) bool { return r.Uplink == c.name() })
}

// comesHome is the home of a switch that goes with its team: the host goes to the member
// that it came from, or to the preferred one.
func (c crews) comesHome(h plan.Home, origin string) plan.Home {
	if !c.goes(h.Uplink) {
		return h
	}
	order := preferring(c.was[h.Uplink], origin)
	h.Team, h.Uplink, h.Members = h.Uplink, order[0], order[1:]
	return h
}

// preferring is an order with one name first, if it is there.
func preferring(order []string, name string) []string {
	order = slices.Clone(order)
	if at := slices.Index(order, name); at > 0 {
		order = slices.Insert(slices.Delete(order, at, at+1), 0, name)
	}
	return order
}

// origin is where the host lived before it came to a team or to the switch on it.
func (e *Engine) origin(team string, note plan.HostNote) (string, error) {
	if note.Origin != "" && note.Origin != team {
		return note.Origin, nil
	}
	note, err := e.hosted(teamNote(team))
	return note.Origin, err
}

// beneath are the netdevs that an uplink consists of, as they will be.
func (e *Engine) beneath(uplink string) ([]string, error) {
	r, err := e.teamToBe(uplink)
	if errors.Is(err, vswitch.NotFound) {
		return []string{uplink}, nil
	}
	return append([]string{uplink}, r.Preference()...), err
}

// uplinkMAC is the address of an uplink. That of a team is on record: where a process was
// killed while the team had no members, its netdev has another one.
func (e *Engine) uplinkMAC(ctx context.Context, uplink string) (vswitch.MAC, error) {
	r, err := e.teamToBe(uplink)
	if !errors.Is(err, vswitch.NotFound) {
		return r.MAC, err
	}
	nic, err := e.kernel.Netdev(ctx, uplink)
	return nic.MAC, err
}

// teamToBe is a team as it will be.
func (e *Engine) teamToBe(name string) (store.TeamRecord, error) {
	f, looking := e.kernel.(foreseen)
	if !looking {
		return e.teamRecord(name)
	}
	r, found, err := f.team(name)
	if err == nil && !found {
		err = vswitch.NotFound
	}
	return r, err
}

// livesOn is what the host has on an uplink and on what that consists of; carries tells
// which of them it uses.
func (e *Engine) livesOn(ctx context.Context, uplink string) (has plan.Addressing, carries []string, err error) {
	netdevs, err := e.beneath(uplink)
	if err != nil {
		return has, nil, err
	}
	for _, name := range netdevs {
		a, err := e.kernel.Addressing(ctx, name)
		if errors.Is(err, vswitch.NotFound) && name != uplink {
			continue
		}
		if err != nil {
			return has, nil, err
		}
		if a.CarriesHost() {
			has, carries = a.With(has), append(carries, name)
		}
	}
	return has, carries, nil
}

// standOn adds the switches on the transaction's teams that have something of the host,
// or get it with a new member.
func (e *Engine) standOn(ctx context.Context, t *transaction) error {
	if len(t.teams) == 0 {
		return nil
	}
	records, err := e.records()
	if err != nil {
		return err
	}
	for _, c := range t.teams {
		for _, r := range records {
			if r.Uplink != c.name() || c.new == nil || slices.Contains(t.names(), r.Name) {
				continue
			}
			if r.Host == store.HostElsewhere {
				_, carries, err := e.livesOn(ctx, r.Uplink)
				if err != nil {
					return err
				}
				if len(carries) == 0 {
					continue
				}
			}
			was, is := r, r
			t.changes = append(t.changes, change{old: &was, new: &is})
		}
	}
	return nil
}

// inheritTeam is inherit from a team that goes and has the host on itself.
func (e *Engine) inheritTeam(ctx context.Context, t *transaction, r *store.SwitchRecord, all crews) error {
	for _, c := range t.teams {
		if c.new != nil || !all.share(c.name(), r.Uplink) {
			continue
		}
		a, err := e.kernel.Addressing(ctx, c.name())
		if errors.Is(err, vswitch.NotFound) || err == nil && !a.CarriesHost() {
			continue
		}
		if err == nil {
			err = takesOver(r, "team "+c.name())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// takesOver gives a switch what the host had elsewhere.
func takesOver(r *store.SwitchRecord, from string) error {
	if !r.HostPort() {
		return fault("", "switch "+r.Name, &vswitch.Error{
			Kind: vswitch.UplinkInUse, Err: fmt.Errorf("it takes %s, and what the host has on it, from %s and has no port for the host", r.Uplink, from),
			Hint: "leave host access on; take it away with `patchbay switch set` when the switch has the uplink",
		})
	}
	r.Host = store.HostOnPort
	return nil
}
