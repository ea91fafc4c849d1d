package xfrm

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/vishvananda/netlink/nl"
)

// replay is the sequence numbers of an SA: the last that was sent, the last that came, and
// which of those before it came. It is one of two attributes, of which an SA has one.
type replay struct {
	kind uint16
	data []byte
	wide bool // numbers of 64 bits (ESN)
}

// Where things are in struct xfrm_replay_state and in struct xfrm_replay_state_esn.
const (
	shortLen        = 12 // sent, came, bitmap
	offShort        = 0
	offShortCame    = 4
	offShortBits    = 8
	longLen         = 24 // words of the bitmap, sent, came, sent high, came high, window
	offLongSent     = 4
	offLongCame     = 8
	offLongHigh     = 12
	offLongCameHigh = 16
	offWindow       = 20
)

// margin is by how much the numbers of an SA that is moved go on: what is sent between the
// look at it and its removal is less in all but rare cases, which Move mends. A number that
// is used twice costs a packet, and with most ciphers the secret.
const margin = 1 << 14

func (s SA) replay() replay {
	if d := s.attr(nl.XFRMA_REPLAY_ESN_VAL, longLen); d != nil {
		return replay{nl.XFRMA_REPLAY_ESN_VAL, d, s.info[offFlags]&flagESN != 0}
	}
	return replay{kind: nl.XFRMA_REPLAY_VAL, data: s.attr(nl.XFRMA_REPLAY_VAL, shortLen)}
}

// sent is the last number sent.
func (r replay) sent() uint64 {
	switch {
	case r.data == nil:
		return 0
	case r.kind == nl.XFRMA_REPLAY_VAL:
		return uint64(binary.NativeEndian.Uint32(r.data[offShort:]))
	}
	low := uint64(binary.NativeEndian.Uint32(r.data[offLongSent:]))
	if !r.wide {
		return low
	}
	return low | uint64(binary.NativeEndian.Uint32(r.data[offLongHigh:]))<<32
}

// spent reports that there are not many numbers left.
func (r replay) spent() bool {
	most := uint64(math.MaxUint32)
	if r.wide {
		most = math.MaxUint64
	}
	return r.sent() > most-64*margin
}

// sentTo is the same with another number as the last one sent.
func (r replay) sentTo(n uint64) replay {
	if r.data == nil {
		r.data = make([]byte, shortLen)
	}
	r.data = bytes.Clone(r.data)
	if r.kind == nl.XFRMA_REPLAY_VAL {
		binary.NativeEndian.PutUint32(r.data[offShort:], uint32(n))
		return r
	}
	binary.NativeEndian.PutUint32(r.data[offLongSent:], uint32(n))
	if r.wide {
		binary.NativeEndian.PutUint32(r.data[offLongHigh:], uint32(n>>32))
	}
	return r
}

// came is the last number that came.
func (r replay) came() uint64 {
	switch {
	case r.data == nil:
		return 0
	case r.kind == nl.XFRMA_REPLAY_VAL:
		return uint64(binary.NativeEndian.Uint32(r.data[offShortCame:]))
	}
	low := uint64(binary.NativeEndian.Uint32(r.data[offLongCame:]))
	return low | uint64(binary.NativeEndian.Uint32(r.data[offLongCameHigh:]))<<32
}

// bitmap is the words that say which numbers came.
func (r replay) bitmap() []byte {
	switch {
	case r.data == nil:
		return nil
	case r.kind == nl.XFRMA_REPLAY_VAL:
		return r.data[offShortBits:shortLen]
	}
	return r.data[longLen:]
}

// width is of how many numbers it is known whether they came.
func (r replay) width() int {
	bits := len(r.bitmap()) / 4 * 32
	if r.data == nil || r.kind == nl.XFRMA_REPLAY_VAL {
		return bits
	}
	return min(bits, int(binary.NativeEndian.Uint32(r.data[offWindow:])))
}

// bit is where the number is that is so many before the last one: the short bitmap begins
// with the last, the long one goes round.
func (r replay) bit(before int) (word []byte, mask uint32) {
	at := before
	if r.kind == nl.XFRMA_REPLAY_ESN_VAL {
		w := r.width()
		at = (int(uint32(r.came())-1)%w - before + w) % w
	}
	return r.bitmap()[at/32*4:], 1 << (at % 32)
}

// after is the numbers of an SA that took the place of one whose very last numbers are
// these: what either of them used is used.
func (r replay) after(last replay, d Direction) replay {
	if last.data == nil || last.kind != r.kind || len(last.data) != len(r.data) {
		return r
	}
	if d == Outbound {
		if last.sent() >= r.sent() {
			return r.sentTo(last.sent() + margin)
		}
		return r
	}
	newer, older := r, last
	if older.came() > newer.came() {
		newer, older = older, newer
	}
	newer.data = bytes.Clone(newer.data)
	apart := newer.came() - older.came()
	for i := range min(newer.width(), older.width()) {
		if apart+uint64(i) >= uint64(newer.width()) {
			break
		}
		if word, mask := older.bit(i); binary.NativeEndian.Uint32(word)&mask != 0 {
			word, mask := newer.bit(int(apart) + i)
			binary.NativeEndian.PutUint32(word, binary.NativeEndian.Uint32(word)|mask)
		}
	}
	return newer.sentTo(r.sent())
}
