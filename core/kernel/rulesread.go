package kernel

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// errRulesetMoved tells that the ruleset changed while it was read or written.
var errRulesetMoved = errors.New("the nftables ruleset changes all the time")

// rulesetState is what was read of our tables.
type rulesetState struct {
	tables   []ruleTable
	exists   []bool // by index of tables
	intact   []bool // exists, whole and unaltered; only if asked for
	elements elements
}

func (s rulesetState) whole() bool { return !slices.Contains(s.intact, false) }

// readRuleset returns the elements of the sets named; with base also which of the
// tables are intact, and all elements of those that are not.
func readRuleset(c *rtnl, tables []ruleTable, sets []string, base bool) (rulesetState, error) {
	s := rulesetState{tables: tables, exists: make([]bool, len(tables)), intact: make([]bool, len(tables)), elements: make(elements)}
	generation, err := s.readHeads(c)
	if err != nil {
		return s, err
	}
	for i, t := range tables {
		if !s.exists[i] {
			continue
		}
		if base && s.intact[i] {
			if s.intact[i], err = rulesIntact(c, t); err != nil {
				return s, err
			}
		}
		for _, set := range t.sets {
			if slices.Contains(sets, set.name) || base && !s.intact[i] && set.constant == nil {
				if err := s.readElements(c, t, set); err != nil {
					return s, err
				}
			}
		}
	}
	now := request{NetlinkRequest: nftRequest(unix.NFT_MSG_GETGEN, unix.NFPROTO_UNSPEC, 0)}
	var after uint32
	now.answer = func(b []byte) { after = generationOf(b) }
	if err := c.do([]request{now}); err != nil {
		return s, noNftables(err)
	}
	if after != generation {
		return s, errRulesetMoved
	}
	return s, nil
}

// readHeads asks, in one send, for the ruleset's generation, for our tables and
// for their chains. A table is intact so far if it has our chains and as many
// things in it as it has to have.
func (s *rulesetState) readHeads(c *rtnl) (generation uint32, err error) {
	requests := []request{{
		NetlinkRequest: nftRequest(unix.NFT_MSG_GETGEN, unix.NFPROTO_UNSPEC, 0),
		answer:         func(b []byte) { generation = generationOf(b) },
	}}
	for i, t := range s.tables {
		chains := 0
		requests = append(requests, request{
			NetlinkRequest: nftRequest(unix.NFT_MSG_GETTABLE, t.family, 0, nameAttr(unix.NFTA_TABLE_NAME, t.name)),
			absent:         true,
			answer: func(b []byte) {
				s.exists[i] = true
				s.intact[i] = usesOf(b) == len(t.chains)+len(t.sets) && !asleep(b)
			},
		})
		for _, want := range t.chains {
			requests = append(requests, request{
				NetlinkRequest: nftRequest(unix.NFT_MSG_GETCHAIN, t.family, 0,
					nameAttr(unix.NFTA_CHAIN_TABLE, t.name), nameAttr(unix.NFTA_CHAIN_NAME, want.name)),
				absent: true,
				answer: func(b []byte) {
					if sameChain(want, b) {
						chains++
					}
				},
			})
		}
		defer func() { s.intact[i] = s.intact[i] && chains == len(t.chains) }()
	}
	if err := c.do(requests); err != nil {
		return 0, noNftables(err)
	}
	return generation, nil
}

// readElements reads one set over; one that is not there is empty.
func (s *rulesetState) readElements(c *rtnl, t ruleTable, set ruleSet) error {
	return eachElement(c, t, set.name, func(element []byte) {
		key, value := parseElement(element)
		s.elements.keep(set, key, value)
	})
}

// eachElement dumps the elements of a set; one that is not there is empty.
func eachElement(c *rtnl, t ruleTable, set string, do func(element []byte)) error {
	r := nftRequest(unix.NFT_MSG_GETSETELEM, t.family, unix.NLM_F_DUMP,
		nameAttr(unix.NFTA_SET_ELEM_LIST_TABLE, t.name), nameAttr(unix.NFTA_SET_ELEM_LIST_SET, set))
	return dumpRules(c, request{NetlinkRequest: r, absent: true, answer: func(b []byte) {
		for kind, list := range nftAttributes(b) {
			if kind != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				continue
			}
			for _, element := range attributes(list) {
				do(element)
			}
		}
	}})
}

func parseElement(element []byte) (key, value []byte) {
	for kind, data := range attributes(element) {
		if kind == setElementExpressions {
			value = limitOf(data)
			continue
		}
		for inner, v := range attributes(data) {
			switch {
			case kind == unix.NFTA_SET_ELEM_DATA && inner == unix.NFTA_DATA_VERDICT:
				value = []byte(chainOf(v))
			case inner != unix.NFTA_DATA_VALUE:
			case kind == unix.NFTA_SET_ELEM_KEY:
				key = v
			case kind == unix.NFTA_SET_ELEM_DATA:
				value = v
			}
		}
	}
	return key, value
}

// chainOf is the chain that a verdict goes on in.
func chainOf(verdict []byte) string {
	for kind, v := range attributes(verdict) {
		if kind == unix.NFTA_VERDICT_CHAIN {
			return text(v)
		}
	}
	return ""
}
