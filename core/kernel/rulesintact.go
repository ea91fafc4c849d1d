package kernel

import (
	"reflect"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// sameChain compares a base chain with the kernel's answer.
func sameChain(want *nftables.Chain, answer []byte) bool {
	matches := 0
	for kind, v := range nftAttributes(answer) {
		switch {
		case kind == unix.NFTA_CHAIN_TYPE && text(v) == string(want.Type),
			kind == unix.NFTA_CHAIN_POLICY && bigEndian(v) == uint32(*want.Policy):
			matches++
		case kind == unix.NFTA_CHAIN_HOOK:
			for kind, v := range attributes(v) {
				if kind == unix.NFTA_HOOK_HOOKNUM && bigEndian(v) == uint32(*want.Hooknum) ||
					kind == unix.NFTA_HOOK_PRIORITY && int32(bigEndian(v)) == int32(*want.Priority) {
					matches++
				}
			}
		}
	}
	return matches == 4
}

// rulesIntact compares all rules of a table, in their order, chain by chain.
func rulesIntact(c *rtnl, t ruleTable) (bool, error) {
	seen := make(map[string]int) // rules so far, by chain
	same := true
	r := nftRequest(unix.NFT_MSG_GETRULE, t.Family, unix.NLM_F_DUMP, nftName(unix.NFTA_RULE_TABLE, t.Name))
	err := dumpRules(c, request{NetlinkRequest: r, answer: func(b []byte) {
		var chain string
		var exprs []byte
		for kind, v := range nftAttributes(b) {
			switch kind {
			case unix.NFTA_RULE_CHAIN:
				chain = text(v)
			case unix.NFTA_RULE_EXPRESSIONS:
				exprs = v
			}
		}
		want, ok := t.rule(chain, seen[chain])
		seen[chain]++
		same = same && ok && sameRule(byte(t.Family), want, exprs)
	}})
	for _, c := range t.chains {
		same = same && seen[c.Name] == len(c.rules)
	}
	return same, err
}

// rule is the n-th rule of a chain.
func (t ruleTable) rule(chain string, n int) ([]expr.Any, bool) {
	for _, c := range t.chains {
		if c.Name == chain && n < len(c.rules) {
			return c.rules[n], true
		}
	}
	return nil, false
}

// sameRule compares a rule with the kernel's spelling of one.
func sameRule(family byte, want []expr.Any, list []byte) bool {
	n := 0
	for _, e := range attributes(list) {
		if n >= len(want) || !sameExpr(family, want[n], e) {
			return false
		}
		n++
	}
	return n == len(want)
}

// sameExpr compares one expression. What a counter has counted is no part of it.
func sameExpr(family byte, want expr.Any, answer []byte) bool {
	var name string
	var data []byte
	for kind, v := range attributes(answer) {
		switch kind {
		case unix.NFTA_EXPR_NAME:
			name = text(v)
		case unix.NFTA_EXPR_DATA:
			data = v
		}
	}
	if name != exprName(want) {
		return false
	}
	have := reflect.New(reflect.TypeOf(want).Elem()).Interface().(expr.Any)
	if err := expr.Unmarshal(family, data, have); err != nil {
		return false
	}
	if _, counts := have.(*expr.Counter); counts {
		return true
	}
	return reflect.DeepEqual(want, have)
}

// exprName is what the kernel calls an expression.
func exprName(e expr.Any) string {
	switch e.(type) {
	case *expr.Meta:
		return "meta"
	case *expr.Payload:
		return "payload"
	case *expr.Cmp:
		return "cmp"
	case *expr.Bitwise:
		return "bitwise"
	case *expr.Lookup:
		return "lookup"
	case *expr.Counter:
		return "counter"
	case *expr.Verdict:
		return "immediate"
	case *expr.Masq:
		return "masq"
	case *expr.Notrack:
		return "notrack"
	}
	return ""
}
