package store

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// The records that every ADD reads or writes are packed, not JSON: the first use
// of encoding/json on a type costs a new process a tenth of a millisecond. Fields
// follow each other in a fixed order. New ones go to the end of the record, those of
// a list's elements in a list of their own there: a record written before they were
// there reads as if they were zero, and one written by a later version reads as far
// as it is known. TestPackedRecords fails if a field of the structs is forgotten.

// packer appends fields.
type packer []byte

func (p *packer) number(n uint64) { *p = binary.AppendUvarint(*p, n) }
func (p *packer) integer(n int)   { *p = binary.AppendVarint(*p, int64(n)) }
func (p *packer) flag(b bool)     { *p = append(*p, flag(b)) }

func (p *packer) text(s string) {
	p.number(uint64(len(s)))
	*p = append(*p, s...)
}

func (p *packer) mac(m vswitch.MAC) { *p = append(*p, m[:]...) }

func (p *packer) addr(a netip.Addr) {
	b, _ := a.MarshalBinary() // of an address it cannot fail
	p.text(string(b))
}

func (p *packer) prefix(x netip.Prefix) {
	p.addr(x.Addr())
	p.integer(x.Bits())
}

func (p *packer) time(t time.Time) {
	b, err := t.MarshalBinary()
	if err != nil { // an offset of odd seconds, which no time of ours has
		b, _ = t.UTC().MarshalBinary()
	}
	p.text(string(b))
}

func (p *packer) optional(n *int) {
	p.flag(n != nil)
	if n != nil {
		p.integer(*n)
	}
}

// unpacker takes fields off. Past the end it returns zero values; what cannot be
// read sets bad.
type unpacker struct {
	rest []byte
	bad  bool
}

func (u *unpacker) err() error {
	if u.bad {
		return errEncoding
	}
	return nil
}

func (u *unpacker) number() uint64 {
	n, size := binary.Uvarint(u.rest)
	u.advance(size)
	return n
}

func (u *unpacker) integer() int {
	n, size := binary.Varint(u.rest)
	u.advance(size)
	return int(n)
}

// advance skips a number; a size of 0 at the end is a field that is not there.
func (u *unpacker) advance(size int) {
	if size < 0 || size == 0 && len(u.rest) > 0 {
		u.bad, u.rest = true, nil
		return
	}
	u.rest = u.rest[size:]
}

func (u *unpacker) flag() bool { return u.number() != 0 }

func (u *unpacker) text() string { return string(u.bytes(u.number())) }

func (u *unpacker) bytes(n uint64) []byte {
	if n > uint64(len(u.rest)) {
		u.bad = u.bad || len(u.rest) > 0
		u.rest = nil
		return nil
	}
	b := u.rest[:n]
	u.rest = u.rest[n:]
	return b
}

func (u *unpacker) mac() (m vswitch.MAC) {
	copy(m[:], u.bytes(uint64(len(m))))
	return m
}

func (u *unpacker) addr() (a netip.Addr) {
	u.bad = a.UnmarshalBinary(u.bytes(u.number())) != nil || u.bad
	return a
}

func (u *unpacker) prefix() netip.Prefix {
	a, bits := u.addr(), u.integer()
	if !a.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, bits)
}

func (u *unpacker) time() (t time.Time) {
	if b := u.bytes(u.number()); len(b) > 0 {
		u.bad = t.UnmarshalBinary(b) != nil || u.bad
	}
	return t
}

func (u *unpacker) optional() *int {
	if !u.flag() {
		return nil
	}
	n := u.integer()
	return &n
}

// count is the length of a list, no longer than its elements can be.
func (u *unpacker) count() int {
	n := u.number()
	if n > uint64(len(u.rest)) {
		u.bad, u.rest = true, nil
		return 0
	}
	return int(n)
}
