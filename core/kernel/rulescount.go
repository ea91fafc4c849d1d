package kernel

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// This file is about elements of sets that do something when a rule finds them: they
// count, or are found only beyond a rate.

// Attributes and flags of linux/netfilter/nf_tables.h that the unix package lacks.
const (
	setExpression         = 17    // NFTA_SET_EXPR
	setExpressions        = 18    // NFTA_SET_EXPRESSIONS
	setElementExpressions = 11    // NFTA_SET_ELEM_EXPRESSIONS
	setWithExpressions    = 0x100 // NFT_SET_EXPR
)

const rateLen = 8

// element spells an element of the set.
func (s ruleSet) element(e element) attribute {
	if s.value == verdicts && e.value != "" {
		code := unix.NFT_JUMP
		return listAttr(unix.NFTA_LIST_ELEM, dataAttr(unix.NFTA_SET_ELEM_KEY, []byte(e.key)),
			listAttr(unix.NFTA_SET_ELEM_DATA, verdictAttr(uint32(code), e.value)))
	}
	if s.each != limits {
		return e.attribute()
	}
	rate := binary.BigEndian.Uint64([]byte(e.value))
	return listAttr(unix.NFTA_LIST_ELEM, dataAttr(unix.NFTA_SET_ELEM_KEY, []byte(e.key)),
		listAttr(setElementExpressions, limitOver(rate).attribute(), counter().attribute()))
}

// valueSize is the length of what elements.put takes for a value.
func (s ruleSet) valueSize() int {
	if s.each == limits {
		return rateLen
	}
	return s.value.size()
}

func rateValue(rate int) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(rate)))
}

// limit rate over RATE/second burst RATE packets
func limitOver(rate uint64) expression {
	return expression{exprLimit, []attribute{
		bytesAttr(unix.NFTA_LIMIT_RATE, binary.BigEndian.AppendUint64(nil, rate)),
		bytesAttr(unix.NFTA_LIMIT_UNIT, binary.BigEndian.AppendUint64(nil, 1)),
		numberAttr(unix.NFTA_LIMIT_BURST, uint32(rate)),
		numberAttr(unix.NFTA_LIMIT_TYPE, unix.NFT_LIMIT_PKTS),
		numberAttr(unix.NFTA_LIMIT_FLAGS, unix.NFT_LIMIT_F_INV),
	}}
}

// limitOf reads the rate of the limit among an element's expressions, nil if there is none.
func limitOf(expressions []byte) []byte {
	for name, data := range expressionParts(expressions) {
		for kind, v := range attributes(data) {
			if name == exprLimit && kind == unix.NFTA_LIMIT_RATE {
				return v
			}
		}
	}
	return nil
}
