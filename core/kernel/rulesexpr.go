package kernel

import (
	"golang.org/x/sys/unix"
)

// expression is an instruction of nftables' machine, by the name and with the
// attributes that the kernel knows it by.
type expression struct {
	name  string
	attrs []attribute
}

// attribute is the expression as part of a rule.
func (e expression) attribute() attribute { return listAttr(unix.NFTA_LIST_ELEM, e.parts()...) }

func (e expression) parts() []attribute {
	list := []attribute{nameAttr(unix.NFTA_EXPR_NAME, e.name)}
	if len(e.attrs) > 0 {
		list = append(list, listAttr(unix.NFTA_EXPR_DATA, e.attrs...))
	}
	return list
}

// The names of expressions.
const (
	exprMeta      = "meta"
	exprPayload   = "payload"
	exprCmp       = "cmp"
	exprBitwise   = "bitwise"
	exprLookup    = "lookup"
	exprCounter   = "counter"
	exprImmediate = "immediate"
	exprMasq      = "masq"
	exprNotrack   = "notrack"
	exprForward   = "fwd"
	exprLimit     = "limit"
	exprExtHeader = "exthdr"
	exprDynset    = "dynset"
)

// Verdicts (linux/netfilter.h).
const verdictDrop, verdictAccept = 0, 1

// meta loads what is known about a packet besides its bytes.
func meta(key uint32) expression { return metaTo(unix.NFT_REG_1, key) }

func metaTo(register, key uint32) expression {
	return expression{exprMeta, []attribute{
		numberAttr(unix.NFTA_META_KEY, key),
		numberAttr(unix.NFTA_META_DREG, register),
	}}
}

func equal(v []byte) expression    { return compare(unix.NFT_CMP_EQ, v) }
func notEqual(v []byte) expression { return compare(unix.NFT_CMP_NEQ, v) }

func compare(op uint32, v []byte) expression { return compareIn(unix.NFT_REG_1, op, v) }

func compareIn(register, op uint32, v []byte) expression {
	return expression{exprCmp, []attribute{
		numberAttr(unix.NFTA_CMP_SREG, register),
		numberAttr(unix.NFTA_CMP_OP, op),
		dataAttr(unix.NFTA_CMP_DATA, v),
	}}
}

// header is a part of a packet.
type header struct {
	base           uint32 // which header
	offset, length int    // in it
}

func (h header) attributes(register attribute) []attribute {
	return []attribute{
		register,
		numberAttr(unix.NFTA_PAYLOAD_BASE, h.base),
		numberAttr(unix.NFTA_PAYLOAD_OFFSET, uint32(h.offset)),
		numberAttr(unix.NFTA_PAYLOAD_LEN, uint32(h.length)),
	}
}

func ether(offset, length int) header {
	return header{unix.NFT_PAYLOAD_LL_HEADER, offset, length}
}

func network(offset, length int) header {
	return header{unix.NFT_PAYLOAD_NETWORK_HEADER, offset, length}
}

func transport(offset, length int) header {
	return header{unix.NFT_PAYLOAD_TRANSPORT_HEADER, offset, length}
}

func load(h header) expression { return loadTo(unix.NFT_REG_1, h) }

func loadTo(register uint32, h header) expression {
	return expression{exprPayload, h.attributes(numberAttr(unix.NFTA_PAYLOAD_DREG, register))}
}

// store writes into the packet and lets checksums be.
func store(h header) expression { return storeFrom(unix.NFT_REG_1, h) }

func storeFrom(register uint32, h header) expression {
	return expression{exprPayload, h.attributes(numberAttr(unix.NFTA_PAYLOAD_SREG, register))}
}

func masked(mask []byte) expression { return maskedAnd(mask, make([]byte, len(mask))) }

// maskedAnd keeps the bits of mask and flips those of xor.
func maskedAnd(mask, xor []byte) expression { return maskedIn(unix.NFT_REG_1, mask, xor) }

func maskedIn(register uint32, mask, xor []byte) expression {
	return expression{exprBitwise, []attribute{
		numberAttr(unix.NFTA_BITWISE_SREG, register),
		numberAttr(unix.NFTA_BITWISE_DREG, register),
		numberAttr(unix.NFTA_BITWISE_LEN, uint32(len(mask))),
		dataAttr(unix.NFTA_BITWISE_MASK, mask),
		dataAttr(unix.NFTA_BITWISE_XOR, xor),
	}}
}

// setMeta writes what is known about a packet.
func setMeta(key uint32) expression {
	return expression{exprMeta, []attribute{
		numberAttr(unix.NFTA_META_KEY, key),
		numberAttr(unix.NFTA_META_SREG, unix.NFT_REG_1),
	}}
}

func lookup(set string) expression { return lookupWith(set) }

// lookupNot matches what is not in the set.
func lookupNot(set string) expression {
	return lookupWith(set, numberAttr(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV))
}

// lookupMap loads the value of a key.
func lookupMap(set string) expression {
	return lookupWith(set, numberAttr(unix.NFTA_LOOKUP_DREG, unix.NFT_REG_1))
}

func lookupWith(set string, more ...attribute) expression {
	return expression{exprLookup, append([]attribute{
		nameAttr(unix.NFTA_LOOKUP_SET, set),
		numberAttr(unix.NFTA_LOOKUP_SREG, unix.NFT_REG_1),
	}, more...)}
}

// immediate loads a constant.
func immediate(v []byte) expression { return immediateTo(unix.NFT_REG_1, v) }

func immediateTo(register uint32, v []byte) expression {
	return expression{exprImmediate, []attribute{
		numberAttr(unix.NFTA_IMMEDIATE_DREG, register),
		dataAttr(unix.NFTA_IMMEDIATE_DATA, v),
	}}
}

// keep writes the value in register 2 under the key in register 1 into a map that packets
// change: op is that of linux/netfilter/nf_tables.h. What is there stays unless it has
// been deleted.
func keep(op uint32, set string) expression {
	return expression{exprDynset, []attribute{
		nameAttr(unix.NFTA_DYNSET_SET_NAME, set),
		numberAttr(unix.NFTA_DYNSET_OP, op),
		numberAttr(unix.NFTA_DYNSET_SREG_KEY, unix.NFT_REG_1),
		numberAttr(unix.NFTA_DYNSET_SREG_DATA, unix.NFT_REG_2),
	}}
}

func verdictOf(code uint32) expression {
	return expression{exprImmediate, []attribute{
		numberAttr(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT),
		listAttr(unix.NFTA_IMMEDIATE_DATA, listAttr(unix.NFTA_DATA_VERDICT, numberAttr(unix.NFTA_VERDICT_CODE, code))),
	}}
}

// jump goes on in another chain of the table, and comes back unless that decides.
func jump(chain string) []expression {
	code := unix.NFT_JUMP
	return []expression{toChain(uint32(code), chain)}
}

func toChain(code uint32, chain string) expression {
	return expression{exprImmediate, []attribute{
		numberAttr(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT),
		listAttr(unix.NFTA_IMMEDIATE_DATA, verdictAttr(code, chain)),
	}}
}

func verdictAttr(code uint32, chain string) attribute {
	return listAttr(unix.NFTA_DATA_VERDICT, numberAttr(unix.NFTA_VERDICT_CODE, code), nameAttr(unix.NFTA_VERDICT_CHAIN, chain))
}
