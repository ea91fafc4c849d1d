package kernel

import (
	"errors"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// The ruleset is read over a socket of our own: every attach looks whether the
// tables are whole, and the library needs 24 round trips for that where five do.
// It is written through the library.

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

// readRuleset returns the elements of the sets named; with base also which tables
// are intact, and all elements of those that are not.
func readRuleset(c *rtnl, sets []string, base bool) (rulesetState, error) {
	tables := ruleTables()
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
			if slices.Contains(sets, set.Name) || base && !s.intact[i] && !set.Constant {
				if err := s.readElements(c, set); err != nil {
					return s, err
				}
			}
		}
	}
	now := request{NetlinkRequest: nftRequest(unix.NFT_MSG_GETGEN, nftables.TableFamilyUnspecified, 0)}
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
		NetlinkRequest: nftRequest(unix.NFT_MSG_GETGEN, nftables.TableFamilyUnspecified, 0),
		answer:         func(b []byte) { generation = generationOf(b) },
	}}
	for i, t := range s.tables {
		chains := 0
		requests = append(requests, request{
			NetlinkRequest: nftRequest(unix.NFT_MSG_GETTABLE, t.Family, 0, nftName(unix.NFTA_TABLE_NAME, t.Name)),
			absent:         true,
			answer: func(b []byte) {
				s.exists[i] = true
				s.intact[i] = usesOf(b) == len(t.chains)+len(t.sets)
			},
		})
		for _, want := range t.chains {
			requests = append(requests, request{
				NetlinkRequest: nftRequest(unix.NFT_MSG_GETCHAIN, t.Family, 0,
					nftName(unix.NFTA_CHAIN_TABLE, t.Name), nftName(unix.NFTA_CHAIN_NAME, want.Name)),
				absent: true,
				answer: func(b []byte) {
					if sameChain(want.Chain, b) {
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
func (s *rulesetState) readElements(c *rtnl, set *nftables.Set) error {
	r := nftRequest(unix.NFT_MSG_GETSETELEM, set.Table.Family, unix.NLM_F_DUMP,
		nftName(unix.NFTA_SET_ELEM_LIST_TABLE, set.Table.Name), nftName(unix.NFTA_SET_ELEM_LIST_SET, set.Name))
	return dumpRules(c, request{NetlinkRequest: r, absent: true, answer: func(b []byte) {
		for kind, list := range nftAttributes(b) {
			if kind != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				continue
			}
			for _, element := range attributes(list) {
				key, value := parseElement(element)
				s.elements.keep(set, key, value)
			}
		}
	}})
}

func parseElement(element []byte) (key, value []byte) {
	for kind, data := range attributes(element) {
		for inner, v := range attributes(data) {
			switch {
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
