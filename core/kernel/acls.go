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

// This file changes what is in the table of ACLs.

// observeACLs returns those of scope that are there as they should be. While the table is
// not whole there is none: whoever wants one makes the table anew.
func observeACLs(c *rtnl, scope plan.Rules) (map[string]plan.ACL, bool, error) {
	if len(scope.ACLs) == 0 && !scope.ACLBase {
		return nil, false, nil
	}
	var seen map[string]plan.ACL
	var whole bool
	err := untilStill(func() error {
		state, err := readACLs(c)
		if whole = err == nil && state.whole(); !whole {
			return err
		}
		seen = make(map[string]plan.ACL)
		for dev, text := range scope.ACLs {
			have := state.of(dev)
			if have.empty() {
				continue
			}
			if seen[dev] = plan.OtherACL; text == plan.OtherACL {
				continue
			}
			want, err := portACLOf(dev, text)
			if err != nil {
				return err
			}
			if have.sameAs(want) {
				seen[dev] = text
			}
		}
		return nil
	})
	return seen, whole && scope.ACLBase, err
}

// applyACLs brings ports to their lists in one transaction. With ACLBase it makes the table
// if that is not there or not whole. Without it does not look, as long as all is as the
// caller believes: an Attach adds one port, however many there are.
func applyACLs(c *rtnl, step plan.SetRules) error {
	change, err := aclChangeOf(step)
	if err != nil {
		return err
	}
	if !step.Add.ACLBase && !change.unknown {
		if err := change.blind(c); !movedAway(err) {
			return err
		}
	}
	return untilStill(func() error {
		state, err := readACLs(c)
		if err != nil {
			return err
		}
		switch {
		case step.Add.ACLBase:
		case len(change.add) > 0 && !state.whole(): // somebody may have taken parts of it
			return aclsGone(unix.ENOENT)
		case !state.exists:
			return nil
		}
		return change.from(c, state, step.Add.ACLBase)
	})
}

// movedAway reports that a change was about other chains than there are.
func movedAway(err error) bool {
	return slices.ContainsFunc([]error{unix.ENOENT, unix.EEXIST, unix.EBUSY}, func(errno error) bool { return errors.Is(err, errno) })
}

// aclChange is what ports have of which something goes, and what they are to have.
type aclChange struct {
	remove, add map[string]portACL
	unknown     bool // what is to go is not what was looked for
}

func aclChangeOf(step plan.SetRules) (c aclChange, err error) {
	c.remove, c.add = make(map[string]portACL), make(map[string]portACL)
	for dev, text := range step.Remove.ACLs {
		if text == plan.OtherACL {
			c.unknown, text = true, ""
		}
		if c.remove[dev], err = portACLOf(dev, text); err != nil {
			return c, err
		}
	}
	for dev, text := range step.Add.ACLs {
		if c.add[dev], err = portACLOf(dev, text); err != nil {
			return c, err
		}
	}
	return c, nil
}

// devs are the ports that the change is about.
func (c aclChange) devs() []string {
	all := maps.Clone(c.remove)
	maps.Copy(all, c.add)
	return slices.Sorted(maps.Keys(all))
}

// blind changes chains without having looked at them.
func (c aclChange) blind(conn *rtnl) error {
	var tx transaction
	for _, dev := range c.devs() {
		aclTable().changePort(&tx, dev, c.remove[dev].names(), c.add[dev])
	}
	if err := tx.send(conn); err != nil {
		return fmt.Errorf("change nftables rules: %w", err)
	}
	return nil
}

// from changes what is there. A table that is not whole is made anew, and with it goes
// what ports have that the change does not name: it names all of them then.
func (c aclChange) from(conn *rtnl, state aclState, base bool) error {
	var tx transaction
	t, anew := aclTable(), base && !state.whole()
	if anew {
		tx.generation = state.generation // nobody's table but this is to go
		t.build(&tx, nil)
	}
	for _, dev := range c.devs() {
		have := state.of(dev)
		if anew {
			have = portSeen{}
		}
		if want := c.add[dev]; !have.sameAs(want) {
			t.changePort(&tx, dev, have.names(), want)
		}
	}
	err := tx.send(conn)
	switch {
	case err == nil:
		return nil
	case anew && isUnsupported(err):
		if missing := requireACLs(); missing != nil {
			return missing
		}
	}
	if movedAway(err) || errors.Is(err, unix.ERESTART) {
		return fmt.Errorf("%w: %w", errRulesetMoved, err)
	}
	return fmt.Errorf("change nftables rules: %w", err)
}

// aclNames are what a port has in the table by name.
type aclNames struct {
	sets, chains []string
	jumps        map[string]string
}

func (p portACL) names() (n aclNames) {
	for _, s := range p.sets {
		n.sets = append(n.sets, s.name)
	}
	for _, c := range p.chains {
		n.chains = append(n.chains, c.name)
	}
	n.jumps = p.jumps
	return n
}

// changePort takes a port from what it has to what it is to have. Its sessions stay where
// their sets do.
func (t ruleTable) changePort(tx *transaction, dev string, have aclNames, want portACL) {
	wanted := want.names()
	for _, m := range slices.Sorted(maps.Keys(have.jumps)) {
		if have.jumps[m] != wanted.jumps[m] {
			t.removeElements(tx, t.set(m), []element{{key: nameKey(dev)}})
		}
	}
	for _, name := range have.chains {
		tx.add(unix.NFT_MSG_DELRULE, t.family, 0, nameAttr(unix.NFTA_RULE_TABLE, t.name), nameAttr(unix.NFTA_RULE_CHAIN, name))
	}
	for _, name := range namesOnlyIn(have.chains, wanted.chains) {
		tx.add(unix.NFT_MSG_DELCHAIN, t.family, 0, nameAttr(unix.NFTA_CHAIN_TABLE, t.name), nameAttr(unix.NFTA_CHAIN_NAME, name))
	}
	for _, name := range namesOnlyIn(have.sets, wanted.sets) {
		tx.add(unix.NFT_MSG_DELSET, t.family, 0, nameAttr(unix.NFTA_SET_TABLE, t.name), nameAttr(unix.NFTA_SET_NAME, name))
	}
	for _, s := range want.sets {
		if !slices.Contains(have.sets, s.name) {
			// A message's own number tells sets of one transaction apart.
			id := uint32(len(tx.messages) + 1)
			tx.add(unix.NFT_MSG_NEWSET, t.family, unix.NLM_F_CREATE|unix.NLM_F_EXCL, s.attributes(t.name, id)...)
		}
	}
	for _, name := range namesOnlyIn(wanted.chains, have.chains) {
		tx.add(unix.NFT_MSG_NEWCHAIN, t.family, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
			nameAttr(unix.NFTA_CHAIN_TABLE, t.name), nameAttr(unix.NFTA_CHAIN_NAME, name))
	}
	for _, c := range want.chains {
		for _, r := range c.rules {
			t.addRule(tx, ruleChain{name: c.name}, r.exprs, r.comment()...)
		}
	}
	for _, m := range slices.Sorted(maps.Keys(wanted.jumps)) {
		if have.jumps[m] != wanted.jumps[m] {
			t.addElements(tx, t.set(m), []element{{key: nameKey(dev), value: wanted.jumps[m]}})
		}
	}
}

// comment is what `nft list` shows behind a rule (libnftnl, NFTNL_UDATA_RULE_COMMENT).
func (r portRule) comment() []attribute {
	if r.of == "" {
		return nil
	}
	const kind = 0
	text := append([]byte(r.of), 0)
	return []attribute{bytesAttr(unix.NFTA_RULE_USERDATA, append([]byte{kind, byte(len(text))}, text...))}
}

func (t ruleTable) set(name string) ruleSet {
	for _, s := range t.sets {
		if s.name == name {
			return s
		}
	}
	return ruleSet{}
}

// namesOnlyIn is what a has and b has not.
func namesOnlyIn(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(name string) bool { return slices.Contains(b, name) })
}

// aclsGone tells that the table is not there.
func aclsGone(err error) error {
	return &vswitch.Error{
		Kind: vswitch.Drifted, Object: "nftables", Err: fmt.Errorf("the table %s is gone: %w", aclTableName, err),
		Hint: "run `patchbay switch add` with the switch's own definition, which repairs it",
	}
}

// removeACLs deletes the table, if there is one.
func removeACLs(c *rtnl) error {
	var tx transaction
	aclTable().remove(&tx)
	if err := tx.send(c); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete nftables table: %w", err)
	}
	return nil
}
