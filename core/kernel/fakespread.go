package kernel

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// fakeSpread is the table of an active/active team.
type fakeSpread struct {
	plan.Spread
	own     map[plan.Own]bool
	netdevs map[string]*fakeLink // that have a chain
}

func (f *Fake) carryOutAtSpread(step plan.Step) error {
	switch s := step.(type) {
	case plan.MakeSpread:
		return f.makeSpread(s.Spread)
	case plan.SetDesignated:
		have := f.spreads[s.Spread.Team]
		if have == nil {
			return noSpread(s.Spread.Team)
		}
		have.Designated, have.Muted = s.Spread.Designated, slices.Clone(s.Spread.Muted)
		return nil
	case plan.DeleteSpread:
		delete(f.spreads, s.Team)
		return nil
	case plan.QueryGroups:
		return nil
	}
	return f.carryOutAtShares(step)
}

func (f *Fake) makeSpread(s plan.Spread) error {
	if !f.caps.MemberRules {
		return refused(vswitch.CapabilityMissing, syscall.EOPNOTSUPP, "this kernel lacks CONFIG_NF_TABLES_NETDEV")
	}
	made := &fakeSpread{Spread: s, own: make(map[plan.Own]bool), netdevs: make(map[string]*fakeLink)}
	for _, name := range append(slices.Clone(s.Members), s.Team) {
		link, err := f.host.link(name)
		if err != nil {
			return err
		}
		made.netdevs[name] = link
	}
	if have := f.spreads[s.Team]; have != nil {
		made.own = have.own
	}
	if f.spreads == nil {
		f.spreads = make(map[string]*fakeSpread)
	}
	made.Muted = slices.Clone(s.Muted)
	f.spreads[s.Team] = made
	return nil
}

func noSpread(team string) error {
	return refused(vswitch.Drifted, syscall.ENOENT, "nftables table %s is gone", plan.SpreadTable(team))
}

// setOwn is one transaction: all of it or nothing.
func (f *Fake) setOwn(add, remove map[plan.Own]bool) error {
	for o := range add {
		if f.spreads[o.Team] == nil {
			return noSpread(o.Team)
		}
	}
	for o := range remove {
		if s := f.spreads[o.Team]; s != nil {
			delete(s.own, o)
		}
	}
	for o := range add {
		f.spreads[o.Team].own[o] = true
	}
	return nil
}

// loseChains takes from teams' tables what Linux takes: a chain goes with its netdev.
func (f *Fake) loseChains() {
	for _, s := range f.spreads {
		for name, link := range s.netdevs {
			s.Altered = s.Altered || f.host.links[name] != link
		}
	}
}

func (f *Fake) observeSpreads(scope plan.State, seen *plan.State) {
	for team, want := range scope.Spreads {
		have := f.spreads[team]
		if have == nil {
			continue
		}
		s := have.Spread
		s.Muted = slices.Clone(have.Muted)
		if f.host.links[s.Designated] != have.netdevs[s.Designated] {
			s.Designated = ""
		}
		if !slices.Equal(s.Members, want.Members) || s.Source != want.Source {
			s.Altered, s.Members, s.Source = true, want.Members, want.Source
		}
		put(&seen.Spreads, team, s)
	}
	for team, s := range f.spreads {
		for o := range s.own {
			if scope.Rules.Own[o] || scope.Rules.Own[plan.Own{Team: team}] {
				put(&seen.Rules.Own, o, true)
			}
		}
	}
}

// FlushSpread empties a set of an active/active team's table as `nft flush set` does, or
// with "" deletes the table.
func (f *Fake) FlushSpread(team, set string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	s := f.spreads[team]
	switch {
	case s == nil:
	case set == "":
		delete(f.spreads, team)
	case set == setMute:
		s.Muted = nil
	case set == setDesignated:
		s.Designated = ""
	default:
		maps.DeleteFunc(s.own, func(o plan.Own, _ bool) bool { in, _ := ownKey(o); return in == set })
	}
}

func (f *Fake) drawSpreads(b *strings.Builder) {
	for _, team := range slices.Sorted(maps.Keys(f.spreads)) {
		s := f.spreads[team]
		fmt.Fprintf(b, "nft table %s\n", plan.SpreadTable(team))
		line(b, true, "at %s, reports from %s", strings.Join(s.Members, " "), s.Source)
		line(b, s.Altered, "altered")
		line(b, s.Designated != "", "designated %s", s.Designated)
		line(b, len(s.Muted) > 0, "mute { %s }", strings.Join(s.Muted, ", "))
		if len(s.own) > 0 {
			words := plan.SetRules{Add: plan.Rules{Own: s.own}}.String()
			for _, w := range strings.Split(strings.Trim(strings.TrimPrefix(words, "nft "), "'"), "; ") {
				line(b, true, "%s", strings.TrimPrefix(w, "add element netdev "+plan.SpreadTable(team)+" "))
			}
		}
	}
}
