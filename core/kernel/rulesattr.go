package kernel

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// attribute is one netlink attribute: a value, or a list of attributes.
type attribute struct {
	kind  uint16
	value []byte
	list  []attribute // instead of a value, if not nil
}

func bytesAttr(kind uint16, v []byte) attribute { return attribute{kind: kind, value: v} }

// numberAttr is a number in network byte order, as nftables has them.
func numberAttr(kind uint16, v uint32) attribute {
	return bytesAttr(kind, binary.BigEndian.AppendUint32(nil, v))
}

func nameAttr(kind uint16, name string) attribute { return bytesAttr(kind, append([]byte(name), 0)) }

func listAttr(kind uint16, list ...attribute) attribute {
	if list == nil {
		list = []attribute{}
	}
	return attribute{kind: kind, list: list}
}

// dataAttr is a value as expressions and elements carry them.
func dataAttr(kind uint16, v []byte) attribute {
	return listAttr(kind, bytesAttr(unix.NFTA_DATA_VALUE, v))
}

// Len is the room that the attribute takes in a message.
func (a attribute) Len() int {
	n := unix.SizeofRtAttr + len(a.value)
	for _, inner := range a.list {
		n += inner.Len()
	}
	return alignAttr(n)
}

// Serialize spells the attribute for the kernel.
func (a attribute) Serialize() []byte { return a.appendTo(make([]byte, 0, a.Len())) }

func (a attribute) appendTo(b []byte) []byte {
	start, kind := len(b), a.kind
	if a.list != nil {
		kind |= unix.NLA_F_NESTED
	}
	b = binary.NativeEndian.AppendUint16(b, 0)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, a.value...)
	for _, inner := range a.list {
		b = inner.appendTo(b)
	}
	size := len(b) - start
	binary.NativeEndian.PutUint16(b[start:], uint16(size))
	return append(b, make([]byte, alignAttr(size)-size)...)
}

func alignAttr(n int) int { return (n + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1) }

// sameAttributes compares attributes with the kernel's spelling of them, in any
// order. What the kernel says besides has to be zero, which is what leaving it
// out means.
func sameAttributes(want []attribute, have []byte) bool {
	found := 0
	for kind, v := range attributes(have) {
		a, asked := find(want, kind)
		switch {
		case !asked && !isZero(v), asked && !a.same(v):
			return false
		case asked:
			found++
		}
	}
	return found == len(want)
}

func find(list []attribute, kind uint16) (attribute, bool) {
	for _, a := range list {
		if a.kind == kind {
			return a, true
		}
	}
	return attribute{}, false
}

func (a attribute) same(have []byte) bool {
	if a.list != nil {
		return sameAttributes(a.list, have)
	}
	return bytes.Equal(a.value, have)
}

func isZero(v []byte) bool {
	for _, b := range v {
		if b != 0 {
			return false
		}
	}
	return true
}
