package kernel

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file reads and changes the own addresses of active/active teams. It does not read
// whole sets to do so: an Attach adds one address, however many there are, and many
// attach at once.

// ownSets are own addresses by the set that they are in: keys by table and set.
type ownSets map[[2]string][]element

func sortOwn(all map[plan.Own]bool) ownSets {
	s := make(ownSets)
	for o := range all {
		set, key := ownKey(o)
		at := [2]string{o.Team, set}
		s[at] = append(s[at], element{key: key})
	}
	return s
}

// each calls fn for every set, in one order.
func (s ownSets) each(fn func(t ruleTable, set ruleSet, keys []element)) {
	for at, keys := range s {
		t := spreadTable(plan.Spread{Team: at[0]})
		index := slices.IndexFunc(t.sets, func(set ruleSet) bool { return set.name == at[1] })
		fn(t, t.sets[index], keys)
	}
}

// applyOwn adds and removes own addresses in one transaction. What is there may be added
// and what is not may be removed.
func applyOwn(c *rtnl, add, remove map[plan.Own]bool) error {
	if len(add)+len(remove) == 0 {
		return nil
	}
	if err := errors.Join(validateOwn(add), validateOwn(remove)); err != nil {
		return err
	}
	var err error
	for range maxRuleTries {
		var tx transaction
		sortOwn(remove).each(func(t ruleTable, set ruleSet, keys []element) { t.removeElements(&tx, set, keys) })
		sortOwn(add).each(func(t ruleTable, set ruleSet, keys []element) { t.addElements(&tx, set, keys) })
		if err = tx.send(c); !errors.Is(err, unix.ENOENT) || len(remove) == 0 {
			break
		}
		if remove, err = presentOwn(c, remove); err != nil { // the others have gone before
			return err
		}
		err = errRulesetMoved
	}
	if errors.Is(err, unix.ENOENT) {
		for o := range add {
			return spreadGone(o.Team, err)
		}
	}
	if err != nil {
		return fmt.Errorf("change nftables rules: %w", err)
	}
	return nil
}

// observeOwn returns those of scope that are there; an own address of zero stands for all
// of its team.
func observeOwn(c *rtnl, scope map[plan.Own]bool) (map[plan.Own]bool, error) {
	if len(scope) == 0 {
		return nil, nil
	}
	if err := validateOwn(scope); err != nil {
		return nil, err
	}
	one := make(map[plan.Own]bool)
	whole := make(map[string]bool)
	for o := range scope {
		if o.MAC.IsZero() {
			whole[o.Team] = true
		}
	}
	for o := range scope {
		if !whole[o.Team] {
			one[o] = true
		}
	}
	const few = 64 // asked for one by one; of more the whole set is read
	if len(one) > few {
		for o := range one {
			whole[o.Team] = true
		}
		clear(one)
	}
	seen, err := presentOwn(c, one)
	if err != nil {
		return nil, err
	}
	for team := range whole {
		all, err := allOwn(c, team)
		if err != nil {
			return nil, err
		}
		for o := range all {
			if scope[o] || scope[plan.Own{Team: team}] {
				seen[o] = true
			}
		}
	}
	if len(seen) == 0 {
		return nil, nil
	}
	return seen, nil
}

// presentOwn asks for elements one by one.
func presentOwn(c *rtnl, asked map[plan.Own]bool) (map[plan.Own]bool, error) {
	seen := make(map[plan.Own]bool)
	all := slices.Collect(maps.Keys(asked))
	for part := range slices.Chunk(all, maxPending) {
		var requests []request
		for _, o := range part {
			set, key := ownKey(o)
			t := spreadTable(plan.Spread{Team: o.Team})
			requests = append(requests, request{
				NetlinkRequest: nftRequest(unix.NFT_MSG_GETSETELEM, t.family, 0, t.elementList(ruleSet{name: set}, []element{{key: key}})...),
				absent:         true,
				answer:         func([]byte) { seen[o] = true },
			})
		}
		if err := c.do(requests); err != nil {
			return nil, fmt.Errorf("read nftables rules: %w", err)
		}
	}
	return seen, nil
}

// allOwn reads the three sets of a team.
func allOwn(c *rtnl, team string) (map[plan.Own]bool, error) {
	t := spreadTable(plan.Spread{Team: team})
	seen := make(map[plan.Own]bool)
	for range maxRuleTries {
		s := rulesetState{elements: make(elements)}
		var err error
		for _, set := range t.sets[:3] {
			err = errors.Join(err, s.readElements(c, t, set))
		}
		if errors.Is(err, errRulesetMoved) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, set := range t.sets[:3] {
			for key := range s.elements[set.name] {
				seen[ownOf(team, set.name, key)] = true
			}
		}
		return seen, nil
	}
	return nil, errRulesetMoved
}

func validateOwn(all map[plan.Own]bool) error {
	for o := range all {
		if err := vswitch.ValidateNetdevName(o.Team); err != nil {
			return fmt.Errorf("team: %w", err)
		}
	}
	return nil
}
