package xfrm

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Unfit says why the SA is left where it is, in words; "" if it can be moved.
func (s SA) Unfit(now time.Time) string {
	switch {
	case s.Key().Proto != unix.IPPROTO_ESP:
		return "it is not ESP"
	case s.Key().SPI == 0 || !s.keyed():
		return "it is not negotiated yet"
	case s.info[offMode] != modeTunnel && s.info[offMode] != modeTransfer:
		return "its mode is neither tunnel nor transport"
	case s.attr(nl.XFRMA_ENCAP, 0) != nil:
		return "NATs are between the ends (ESP in UDP)"
	case s.attr(nl.XFRMA_TFCPAD, 0) != nil:
		return "its packets are padded against traffic analysis"
	case s.redacted():
		return "the kernel does not tell its key (lockdown)"
	case s.aging(now):
		return "its soft lifetime is over: it is about to be replaced"
	}
	return ""
}

// Of the attributes with algorithms: where the key's length in bits is, and the key.
const (
	offKeyLen  = 64
	offKey     = 68
	offAuthKey = 72 // and of AEAD
)

// algorithms are the attributes that hold keys, with where the key begins.
func algorithms() map[uint16]int {
	return map[uint16]int{
		nl.XFRMA_ALG_AEAD: offAuthKey, nl.XFRMA_ALG_AUTH_TRUNC: offAuthKey, nl.XFRMA_ALG_AUTH: offKey, nl.XFRMA_ALG_CRYPT: offKey,
	}
}

// keyed reports that the SA has algorithms: one that waits for its negotiation has none.
func (s SA) keyed() bool {
	return s.attr(nl.XFRMA_ALG_AEAD, offAuthKey) != nil || s.attr(nl.XFRMA_ALG_CRYPT, offKey) != nil
}

// redacted reports a key of zeros: a kernel in lockdown tells those instead of the key, and
// an SA made anew of it would encrypt for nobody and everybody.
func (s SA) redacted() bool {
	for _, a := range s.attrs {
		at, has := algorithms()[a.kind]
		if !has || len(a.data) < at {
			continue
		}
		bits := int(binary.NativeEndian.Uint32(a.data[offKeyLen:]))
		if bits > 0 && !slices.ContainsFunc(a.data[at:], func(b byte) bool { return b != 0 }) {
			return true
		}
	}
	return false
}

// aging reports that a soft limit is reached, which was told to who keeps the SA: the kernel
// would tell it once more of an SA that is made anew. So are sequence numbers near their end.
func (s SA) aging(now time.Time) bool {
	number := func(at int) uint64 { return binary.NativeEndian.Uint64(s.info[at:]) }
	bytes, packets := s.Used()
	made, used := number(offUsed+16), number(offUsed+24)
	over := func(limit, n uint64) bool { return limit != 0 && limit != math.MaxUint64 && n >= limit }
	since := func(then uint64) uint64 { return uint64(max(0, now.Unix()-int64(then))) }
	return over(number(offLimits), bytes) || over(number(offLimits+16), packets) ||
		over(number(offLimits+32), since(made)) || used != 0 && over(number(offLimits+48), since(used)) ||
		s.replay().spent()
}
