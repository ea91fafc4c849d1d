package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file reads and writes the tables of active/active teams.

// spread reads a team's table; of one that is not whole, or otherwise than scope, what
// can be told.
func (o *observer) spread(scope plan.Spread, seen *plan.State) error {
	if err := validateSpread(scope); err != nil {
		return err
	}
	table := spreadTable(scope)
	found := plan.Spread{Team: scope.Team, Members: scope.Members, Source: scope.Source}
	there := false
	err := o.kernel.ruleset(func(c *rtnl) error {
		state, err := readRuleset(c, []ruleTable{table}, []string{setMute, setDesignated}, true)
		if err != nil {
			return err
		}
		there = state.exists[0]
		found.Altered = !state.whole()
		found.Muted, found.Designated = nil, ""
		for key := range state.elements[setMute] {
			found.Muted = append(found.Muted, text([]byte(key)))
		}
		slices.Sort(found.Muted)
		if index := state.elements[setDesignated][nameKey(scope.Team)]; index != "" {
			found.Designated, err = o.nameOf(int(binary.NativeEndian.Uint32([]byte(index))), scope.Designated)
			if isAbsent(err) {
				err = nil // the member is gone
			}
		}
		return err
	})
	if err == nil && there {
		if seen.Spreads == nil {
			seen.Spreads = make(map[string]plan.Spread)
		}
		seen.Spreads[scope.Team] = found
	}
	return err
}

// spreadStep carries out a step about a team's table.
func (a *applier) spreadStep(i int, s plan.Step) error {
	switch s := s.(type) {
	case plan.MakeSpread:
		return a.outside(func() error { return a.makeSpread(s.Spread) })
	case plan.SetDesignated:
		return a.netfilter(func(c *rtnl) error { return a.setDesignated(c, s.Spread) })
	case plan.DeleteSpread:
		return a.netfilter(func(c *rtnl) error { return deleteSpread(c, s.Team) })
	case plan.QueryGroups:
		return a.outside(func() error { queryGroups(s); return nil })
	}
	return a.shareStep(i, s)
}

// makeSpread makes a team's table anew, unless it is whole, and leaves it the own
// addresses that it has.
func (a *applier) makeSpread(s plan.Spread) error {
	if err := validateSpread(s); err != nil {
		return err
	}
	for _, name := range append(slices.Clone(s.Members), s.Team) { // Linux 6.16 would wait for them
		if _, err := a.host.link(name); isAbsent(err) {
			return noNetdev(name)
		} else if err != nil {
			return err
		}
	}
	table := spreadTable(s)
	return a.kernel.ruleset(func(c *rtnl) error {
		state, err := readRuleset(c, []ruleTable{table}, []string{setOwn, setOwnVLAN, setOwnAny, setMute, setDesignated}, true)
		if err != nil {
			return err
		}
		want, err := a.designation(s)
		if err != nil {
			return err
		}
		for _, set := range []string{setOwn, setOwnVLAN, setOwnAny} {
			want[set] = state.elements[set]
		}
		return explainSpread(state.write(c, want, true))
	})
}

// designation are the elements that say who hears what is for all. A designated member
// that is gone is nobody.
func (a *applier) designation(s plan.Spread) (elements, error) {
	e := make(elements)
	for _, m := range s.Muted {
		e.put(setMute, nameKey(m), "")
	}
	if s.Designated == "" {
		return e, nil
	}
	l, err := a.host.link(s.Designated)
	if isAbsent(err) {
		return e, nil
	}
	if err == nil {
		e.put(setDesignated, nameKey(s.Team), string(hostOrder(uint32(l.index))))
	}
	return e, err
}

// setDesignated empties the two sets and fills them again, without a look at what they
// hold: nothing that others change at the same time stands in its way.
func (a *applier) setDesignated(c *rtnl, s plan.Spread) error {
	if err := validateSpread(s); err != nil {
		return err
	}
	want, err := a.designation(s)
	if err != nil {
		return err
	}
	t := spreadTable(s)
	var tx transaction
	for _, set := range t.sets {
		if set.name == setMute || set.name == setDesignated {
			tx.add(unix.NFT_MSG_DELSETELEM, t.family, 0,
				nameAttr(unix.NFTA_SET_ELEM_LIST_TABLE, t.name), nameAttr(unix.NFTA_SET_ELEM_LIST_SET, set.name))
			t.addElements(&tx, set, want.minus(nil, set.name))
		}
	}
	return spreadGone(s.Team, tx.send(c))
}

func deleteSpread(c *rtnl, team string) error {
	var tx transaction
	spreadTable(plan.Spread{Team: team}).remove(&tx)
	if err := tx.send(c); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete nftables table: %w", err)
	}
	return nil
}

// spreadGone makes a table that is not there the switch's to mend.
func spreadGone(team string, err error) error {
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	return &vswitch.Error{
		Kind: vswitch.Drifted, Object: "nftables",
		Err:  fmt.Errorf("table %s is gone: %w", plan.SpreadTable(team), err),
		Hint: "run `patchbay team add` with the team's own definition, which repairs it",
	}
}

// explainSpread knows a kernel that cannot do it.
func explainSpread(err error) error {
	if !errors.Is(err, errRulesetMoved) && !isUnsupported(err) {
		return err
	}
	if missing := requireSpread(); missing != nil {
		return missing
	}
	return err
}

func validateSpread(s plan.Spread) error {
	for _, name := range slices.Concat([]string{s.Team}, s.Members, s.Muted) {
		if err := vswitch.ValidateNetdevName(name); err != nil {
			return fmt.Errorf("team: %w", err)
		}
	}
	return nil
}
