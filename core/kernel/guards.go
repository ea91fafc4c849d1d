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

// This file reads and changes what is in the table of guards.

// encodeGuards spells guards as elements of the sets.
func encodeGuards(all map[string]plan.Guards) (elements, error) {
	e := make(elements)
	for dev, g := range all {
		if err := vswitch.ValidateNetdevName(dev); err != nil {
			return nil, fmt.Errorf("guards: %w", err)
		}
		mac, addresses, err := g.BoundTo()
		if err != nil {
			return nil, fmt.Errorf("guards of %s: %w", dev, err)
		}
		name := nameKey(dev)
		e.put(setGuards, name, "")
		for set, has := range map[string]bool{setDHCP: g.DHCP, setRouterGuard: g.Router, setBound: g.Bound != ""} {
			if has {
				e.put(set, name, "")
			}
		}
		if g.Storm > 0 {
			e.put(setStorm, name, rateValue(g.Storm))
		}
		for _, a := range addresses {
			if a.Is4() {
				e.put(setARP, pairKey(dev, mac)+string(a.AsSlice()), "")
			} else {
				e.put(setND, name+string(a.AsSlice()), "")
			}
		}
	}
	return e, nil
}

// observeGuards returns those of scope that are there as they should be. While the table is
// not whole there is none: whoever wants one makes the table anew.
func observeGuards(c *rtnl, scope plan.Rules) (map[string]plan.Guards, bool, error) {
	if len(scope.Guards) == 0 && !scope.GuardBase {
		return nil, false, nil
	}
	var seen map[string]plan.Guards
	var whole bool
	err := untilStill(func() error {
		state, err := readRuleset(c, []ruleTable{guardTable()}, guardSets(), true)
		if whole = err == nil && state.whole(); !whole {
			return err
		}
		seen, err = decodeGuards(scope.Guards, state.elements)
		return err
	})
	return seen, whole && scope.GuardBase, err
}

// decodeGuards finds out which guards of scope there are. Of what differs it says no more
// than that it does.
func decodeGuards(scope map[string]plan.Guards, e elements) (map[string]plan.Guards, error) {
	byName := make(map[string]elements)
	for set, m := range e {
		for key, value := range m {
			name := key[:nameLen]
			if byName[name] == nil {
				byName[name] = make(elements)
			}
			byName[name].put(set, key, value)
		}
	}
	seen := make(map[string]plan.Guards)
	for dev, g := range scope {
		have, there := byName[nameKey(dev)]
		if !there {
			continue
		}
		want, err := encodeGuards(map[string]plan.Guards{dev: g})
		if err != nil {
			return nil, err
		}
		if seen[dev] = g; !sameElements(want, have) {
			seen[dev] = plan.Guards{}
		}
	}
	return seen, nil
}

func sameElements(a, b elements) bool {
	return maps.EqualFunc(a, b, func(x, y map[string]string) bool { return maps.Equal(x, y) })
}

// applyGuards brings ports to their guards in one transaction. With GuardBase it makes the
// table if that is not there or not whole. Without it does not look, as long as all is as
// the caller believes: an Attach adds one port, however many there are.
func applyGuards(c *rtnl, step plan.SetRules) error {
	add, err := encodeGuards(step.Add.Guards)
	if err != nil {
		return err
	}
	remove, err := encodeGuards(step.Remove.Guards)
	if err != nil {
		return err
	}
	t := guardTable()
	if !step.Add.GuardBase && expected(step) {
		if err := t.tryChange(c, remove, add); !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return untilStill(func() error {
		adds := len(add) > 0
		state, err := readRuleset(c, []ruleTable{t}, guardSets(), step.Add.GuardBase || adds)
		switch {
		case err != nil:
			return err
		case step.Add.GuardBase:
		case adds && !state.whole(): // somebody may have taken parts of it
			return guardsGone(unix.ENOENT)
		case !state.exists[0]:
			return nil
		}
		return state.write(c, state.elements.afterGuards(step, add), step.Add.GuardBase)
	})
}

// expected reports that a step names all that ports have, of those that it takes guards
// from. One that changes them does not, nor one that found other guards than it looked for.
func expected(step plan.SetRules) bool {
	for dev, g := range step.Remove.Guards {
		if _, changes := step.Add.Guards[dev]; changes || g == (plan.Guards{}) {
			return false
		}
	}
	return true
}

// tryChange changes elements without having looked at them.
func (t ruleTable) tryChange(c *rtnl, remove, add elements) error {
	var tx transaction
	t.change(&tx, remove, nil)
	t.change(&tx, nil, add)
	if err := tx.send(c); err != nil {
		return fmt.Errorf("change nftables rules: %w", err)
	}
	return nil
}

// afterGuards is what the sets hold once step is done. All that a port had goes with its
// guards, whatever that was.
func (e elements) afterGuards(step plan.SetRules, add elements) elements {
	gone := make(map[string]bool)
	for _, ports := range []map[string]plan.Guards{step.Remove.Guards, step.Add.Guards} {
		for dev := range ports {
			gone[nameKey(dev)] = true
		}
	}
	out := make(elements)
	for set, m := range e {
		for key, value := range m {
			if !gone[key[:nameLen]] {
				out.put(set, key, value)
			}
		}
	}
	for set, m := range add {
		for key, value := range m {
			out.put(set, key, value)
		}
	}
	return out
}

func guardSets() (names []string) {
	for _, s := range guardTable().sets {
		names = append(names, s.name)
	}
	return names
}

// guardsGone tells that the table is not there.
func guardsGone(err error) error {
	return &vswitch.Error{
		Kind: vswitch.Drifted, Object: "nftables", Err: fmt.Errorf("the table %s is gone, or not whole: %w", guardTableName, err),
		Hint: "run `patchbay switch add` with the switch's own definition, which repairs it",
	}
}

// removeGuards deletes the table, if there is one.
func removeGuards(c *rtnl) error {
	return untilStill(func() error {
		state, err := readRuleset(c, []ruleTable{guardTable()}, nil, false)
		if err != nil || !slices.Contains(state.exists, true) {
			return err
		}
		return state.remove(c)
	})
}
