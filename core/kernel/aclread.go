package kernel

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file reads the table of ACLs.

// aclState is what was read of the table.
type aclState struct {
	exists     bool
	asleep     bool
	generation uint32
	chains     map[string][]byte   // as the kernel describes them
	rules      map[string][][]byte // by chain, in their order
	sets       []string
	jumps      map[string]map[string]string // by map: port's key -> chain
}

// readACLs reads the whole table, all of one generation.
func readACLs(c *rtnl) (aclState, error) {
	t := aclTable()
	s := aclState{chains: make(map[string][]byte), rules: make(map[string][][]byte), jumps: make(map[string]map[string]string)}
	var after uint32
	generation := func(into *uint32) request {
		return request{
			NetlinkRequest: nftRequest(unix.NFT_MSG_GETGEN, unix.NFPROTO_UNSPEC, 0),
			answer:         func(b []byte) { *into = generationOf(b) },
		}
	}
	err := c.do([]request{generation(&s.generation), {
		NetlinkRequest: nftRequest(unix.NFT_MSG_GETTABLE, t.family, 0, nameAttr(unix.NFTA_TABLE_NAME, t.name)),
		absent:         true, answer: func(b []byte) { s.exists, s.asleep = true, asleep(b) },
	}})
	if err != nil {
		return s, noNftables(err)
	}
	if !s.exists {
		return s, nil
	}
	for _, read := range []func(*rtnl, ruleTable) error{s.readChains, s.readRules, s.readSets, s.readJumps} {
		if err := read(c, t); err != nil {
			return s, err
		}
	}
	if err := c.do([]request{generation(&after)}); err != nil {
		return s, noNftables(err)
	}
	if after != s.generation {
		return s, errRulesetMoved
	}
	return s, nil
}

func (s *aclState) readChains(c *rtnl, t ruleTable) error {
	r := nftRequest(unix.NFT_MSG_GETCHAIN, t.family, unix.NLM_F_DUMP)
	return dumpRules(c, request{NetlinkRequest: r, answer: func(b []byte) {
		if answered(b, unix.NFTA_CHAIN_TABLE) == t.name {
			s.chains[answered(b, unix.NFTA_CHAIN_NAME)] = slices.Clone(b)
		}
	}})
}

func (s *aclState) readRules(c *rtnl, t ruleTable) error {
	r := nftRequest(unix.NFT_MSG_GETRULE, t.family, unix.NLM_F_DUMP, nameAttr(unix.NFTA_RULE_TABLE, t.name))
	return dumpRules(c, request{NetlinkRequest: r, answer: func(b []byte) {
		chain := answered(b, unix.NFTA_RULE_CHAIN)
		s.rules[chain] = append(s.rules[chain], slices.Clone(b))
	}})
}

func (s *aclState) readSets(c *rtnl, t ruleTable) error {
	r := nftRequest(unix.NFT_MSG_GETSET, t.family, unix.NLM_F_DUMP, nameAttr(unix.NFTA_SET_TABLE, t.name))
	return dumpRules(c, request{NetlinkRequest: r, answer: func(b []byte) {
		s.sets = append(s.sets, answered(b, unix.NFTA_SET_NAME))
	}})
}

func (s *aclState) readJumps(c *rtnl, t ruleTable) error {
	for _, m := range []string{setACLOut, setACLIn} {
		if !slices.Contains(s.sets, m) {
			continue
		}
		read := rulesetState{elements: make(elements)}
		if err := read.readElements(c, t, t.set(m)); err != nil {
			return err
		}
		s.jumps[m] = read.elements[m]
	}
	return nil
}

// answered is a text among the attributes of an answer.
func answered(answer []byte, kind uint16) string {
	for k, v := range nftAttributes(answer) {
		if k == kind {
			return text(v)
		}
	}
	return ""
}

// whole reports that what never changes of the table is as it has to be.
func (s aclState) whole() bool {
	t := aclTable()
	for _, set := range t.sets {
		if !slices.Contains(s.sets, set.name) {
			return false
		}
	}
	for _, c := range t.chains {
		answer, there := s.chains[c.name]
		if !there || !sameChain(c, answer) || !s.sameRules(c.name, c.rules()) {
			return false
		}
	}
	return s.exists && !s.asleep
}

func (s aclState) sameRules(chain string, want [][]expression) bool {
	return slices.EqualFunc(want, s.rules[chain], func(want []expression, have []byte) bool {
		for kind, v := range nftAttributes(have) {
			if kind == unix.NFTA_RULE_EXPRESSIONS {
				return sameRule(want, v)
			}
		}
		return len(want) == 0
	})
}

// portSeen is what was read of a port.
type portSeen struct {
	aclNames
	state aclState
}

// of is what a port has.
func (s aclState) of(dev string) portSeen {
	seen := portSeen{state: s, aclNames: aclNames{jumps: make(map[string]string)}}
	for _, name := range slices.Sorted(maps.Keys(s.chains)) {
		if of, ok := portOf(name); ok && of == dev {
			seen.chains = append(seen.chains, name)
		}
	}
	for _, name := range s.sets {
		if of, ok := portOf(name); ok && of == dev {
			seen.sets = append(seen.sets, name)
		}
	}
	for m, all := range s.jumps {
		if chain, ok := all[nameKey(dev)]; ok {
			seen.jumps[m] = chain
		}
	}
	return seen
}

func (p portSeen) names() aclNames { return p.aclNames }

func (p portSeen) empty() bool { return len(p.chains)+len(p.sets)+len(p.jumps) == 0 }

// sameAs compares what was read with what has to be.
func (p portSeen) sameAs(want portACL) bool {
	wanted := want.names()
	if !sameNames(p.sets, wanted.sets) || !sameNames(p.chains, wanted.chains) || !maps.Equal(p.jumps, wanted.jumps) {
		return false
	}
	for _, c := range want.chains {
		var rules [][]expression
		for _, r := range c.rules {
			rules = append(rules, r.exprs)
		}
		if !p.state.sameRules(c.name, rules) {
			return false
		}
	}
	return true
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// ACLHits is what one rule has matched in one direction since the port's list was last
// changed. Answers to what a stateful rule has allowed are not among them.
type ACLHits struct {
	Direction vswitch.ACLDirection `json:"direction"`
	Packets   uint64               `json:"packets"`
	Bytes     uint64               `json:"bytes"`
}

// ACLHits reads the counters of a port's rules, by the text of the rule.
func (l *Linux) ACLHits(ctx context.Context, dev string, acl plan.ACL) (map[string][]ACLHits, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	want, err := portACLOf(dev, acl)
	if err != nil {
		return nil, err
	}
	hits := make(map[string][]ACLHits)
	err = l.ruleset(func(c *rtnl) error {
		clear(hits)
		state, err := readACLs(c)
		if err != nil || !state.of(dev).sameAs(want) {
			return err // nothing is known of other rules
		}
		for _, chain := range want.chains {
			for i, r := range chain.rules {
				if r.of != "" {
					h := countedBy(state.rules[chain.name][i])
					h.Direction = r.direction
					hits[r.of] = addHits(hits[r.of], h)
				}
			}
		}
		return nil
	})
	return hits, err
}

// addHits adds what one of a rule's counters in a direction says to the others'.
func addHits(all []ACLHits, h ACLHits) []ACLHits {
	for i := range all {
		if all[i].Direction == h.Direction {
			all[i].Packets += h.Packets
			all[i].Bytes += h.Bytes
			return all
		}
	}
	return append(all, h)
}

// countedBy reads the counter in a rule.
func countedBy(answer []byte) (h ACLHits) {
	_, expressions := parseRule(answer)
	for name, data := range expressionParts(expressions) {
		if name != exprCounter {
			continue
		}
		for kind, v := range attributes(data) {
			switch {
			case len(v) < 8:
			case kind == unix.NFTA_COUNTER_PACKETS:
				h.Packets = binary.BigEndian.Uint64(v)
			case kind == unix.NFTA_COUNTER_BYTES:
				h.Bytes = binary.BigEndian.Uint64(v)
			}
		}
	}
	return h
}
