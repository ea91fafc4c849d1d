package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// maxRuleTries is how often reading and writing begins again because somebody
// else changed the ruleset in between.
const maxRuleTries = 5

// observeRules returns what exists of scope, in the namespace of the
// socket. Base is only true while the tables are exactly as they have to be.
func observeRules(c *rtnl, scope plan.Rules) (plan.Rules, error) {
	if err := validateRules(scope); err != nil {
		return plan.Rules{}, err
	}
	own, err := observeOwn(c, scope.Own)
	if err != nil {
		return plan.Rules{}, err
	}
	seen := plan.Rules{Own: own}
	if seen.Guards, seen.GuardBase, err = observeGuards(c, scope); err != nil {
		return seen, err
	}
	if seen.ACLs, seen.ACLBase, err = observeACLs(c, scope); err != nil {
		return seen, err
	}
	others := seen
	scope = withoutOthers(scope)
	if scope.Empty() {
		return seen, nil
	}
	err = untilStill(func() error {
		state, err := readRuleset(c, tablesFor(scope), setsOf(scope), scope.Base)
		if err != nil {
			return err
		}
		seen = decodeRules(scope, state.elements)
		seen.Own, seen.Guards, seen.GuardBase = others.Own, others.Guards, others.GuardBase
		seen.ACLs, seen.ACLBase = others.ACLs, others.ACLBase
		seen.Base = scope.Base && state.whole()
		seen.NoNAT = seen.Base && scope.NoNAT
		return nil
	})
	return seen, err
}

// applyRules changes the ruleset in one transaction, in the namespace of the
// socket. Adding what is there and removing what is not succeeds.
func applyRules(c *rtnl, step plan.SetRules) error {
	if err := errors.Join(validateRules(step.Add), validateRules(step.Remove)); err != nil {
		return err
	}
	add, remove := step.Add.Own, step.Remove.Own
	if err := applyOwn(c, add, remove); err != nil {
		return err
	}
	if len(step.Add.Guards)+len(step.Remove.Guards) > 0 || step.Add.GuardBase {
		if err := applyGuards(c, step); err != nil {
			return err
		}
	}
	if len(step.Add.ACLs)+len(step.Remove.ACLs) > 0 || step.Add.ACLBase {
		if err := applyACLs(c, step); err != nil {
			return err
		}
	}
	if step.Remove.ACLBase {
		if err := removeACLs(c); err != nil {
			return err
		}
	}
	if step.Remove.GuardBase {
		if err := removeGuards(c); err != nil {
			return err
		}
	}
	step.Add, step.Remove = withoutOthers(step.Add), withoutOthers(step.Remove)
	if step.Add.Empty() && step.Remove.Empty() {
		return nil
	}
	return untilStill(func() error {
		base := step.Add.Base && !step.Remove.Base
		state, err := readRuleset(c, tablesFor(step.Add), append(setsOf(step.Add), setsOf(step.Remove)...), base)
		if err != nil {
			return err
		}
		if step.Remove.Base {
			return state.remove(c)
		}
		return state.write(c, state.elements.after(step), base)
	})
}

// withoutOthers leaves what tables of their own hold out.
func withoutOthers(r plan.Rules) plan.Rules {
	r.Own, r.Guards, r.GuardBase = nil, nil, false
	r.ACLs, r.ACLBase = nil, false
	return r
}

// ruleset runs fn with a socket to nftables until it has seen and changed one generation of
// the ruleset.
func (l *Linux) ruleset(fn func(*rtnl) error) error {
	return l.netfilter(func(c *rtnl) error { return untilStill(func() error { return fn(c) }) })
}

// untilStill runs fn again as long as the ruleset moves meanwhile.
func untilStill(fn func() error) (err error) {
	for range maxRuleTries {
		if err = fn(); !errors.Is(err, errRulesetMoved) {
			return err
		}
	}
	return err
}

// write sends one transaction that leaves the sets holding want. With base, what
// is not intact is made anew.
func (s rulesetState) write(c *rtnl, want elements, base bool) error {
	var tx transaction
	built := false
	for i, t := range s.tables {
		switch {
		case base && !s.intact[i]:
			built = true
			t.build(&tx, want)
		case s.exists[i]:
			t.change(&tx, s.elements, want)
		case slices.ContainsFunc(t.sets, func(set ruleSet) bool { return len(want[set.name]) > 0 }):
			return fmt.Errorf("nftables table %s is gone: %w", t.name, fs.ErrNotExist)
		}
	}
	err := tx.send(c)
	if err == nil {
		return nil
	}
	if built && isUnsupported(err) {
		if missing := requireRules(s.tables); missing != nil {
			return missing
		}
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: %w", errRulesetMoved, err)
	}
	return fmt.Errorf("change nftables rules: %w", err)
}

// remove deletes the tables with all that is in them.
func (s rulesetState) remove(c *rtnl) error {
	var tx transaction
	for i, t := range s.tables {
		if s.exists[i] {
			t.remove(&tx)
		}
	}
	if err := tx.send(c); errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: %w", errRulesetMoved, err)
	} else if err != nil {
		return fmt.Errorf("delete nftables tables: %w", err)
	}
	return nil
}

// isUnsupported reports the ways in which nftables says that it lacks a family,
// a chain type or an expression.
func isUnsupported(err error) bool {
	return slices.ContainsFunc([]error{unix.ENOENT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT}, func(errno error) bool {
		return errors.Is(err, errno)
	})
}

// noNftables names what a kernel without nftables lacks.
func noNftables(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return missingRules("CONFIG_NF_TABLES", err)
	}
	return fmt.Errorf("nftables: %w", err)
}

// missingRules is the error of a kernel without what a symbol stands for.
func missingRules(symbol string, cause error) error {
	return &vswitch.Error{
		Kind: vswitch.CapabilityMissing, Object: "nftables",
		Err:  fmt.Errorf("this kernel lacks %s: %w", symbol, cause),
		Hint: "load the module or boot a kernel that has it",
	}
}
