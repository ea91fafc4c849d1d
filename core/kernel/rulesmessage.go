package kernel

import (
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// This file takes apart what the kernel says of rules, ours and others'.

// chainKey is a chain's place in the ruleset.
type chainKey struct {
	family       uint8
	table, chain string
}

// parseRule reads an NFT_MSG_NEWRULE message.
func parseRule(b []byte) (key chainKey, expressions []byte) {
	key.family = nftFamily(b)
	for kind, v := range nftAttributes(b) {
		switch kind {
		case unix.NFTA_RULE_TABLE:
			key.table = text(v)
		case unix.NFTA_RULE_CHAIN:
			key.chain = text(v)
		case unix.NFTA_RULE_EXPRESSIONS:
			expressions = v
		}
	}
	return key, expressions
}

// expressionParts iterates over a rule's expressions: the name and the data of each.
func expressionParts(expressions []byte) func(func(string, []byte) bool) {
	return func(yield func(string, []byte) bool) {
		for _, element := range attributes(expressions) {
			if !yield(exprParts(element)) {
				return
			}
		}
	}
}

// exprParts are the name and the data of one expression.
func exprParts(expr []byte) (name string, data []byte) {
	for kind, v := range attributes(expr) {
		switch kind {
		case unix.NFTA_EXPR_NAME:
			name = text(v)
		case unix.NFTA_EXPR_DATA:
			data = v
		}
	}
	return name, data
}

func nftFamily(b []byte) uint8 {
	if len(b) < nl.SizeofNfgenmsg {
		return 0
	}
	return b[0]
}
