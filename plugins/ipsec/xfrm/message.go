package xfrm

import (
	"bytes"
	"encoding/binary"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// This file spells what is asked of the kernel as messages.

// request is a message to the kernel, without its length and number.
type request struct {
	kind, flags uint16
	payload     []byte
}

// encode is the request as it travels, with its number and the sender's, with which the kernel
// marks what it tells others of it. Several may follow each other in one datagram.
func (r request) encode(number, port uint32) []byte {
	n := unix.SizeofNlMsghdr + len(r.payload)
	b := make([]byte, unix.SizeofNlMsghdr, aligned(n))
	binary.NativeEndian.PutUint32(b, uint32(n))
	binary.NativeEndian.PutUint16(b[4:], r.kind)
	binary.NativeEndian.PutUint16(b[6:], r.flags|unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(b[8:], number)
	binary.NativeEndian.PutUint32(b[12:], port)
	return append(b, r.payload...)[:aligned(n)]
}

// appendAttr adds an attribute.
func appendAttr(b []byte, kind uint16, data []byte) []byte {
	n := unix.SizeofNlAttr + len(data)
	b = binary.NativeEndian.AppendUint16(b, uint16(n))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, data...)
	return append(b, make([]byte, aligned(n)-n)...)
}

// idLen is the size of struct xfrm_usersa_id.
const idLen = 24

// id is struct xfrm_usersa_id.
func (k Key) id() []byte {
	b := make([]byte, idLen)
	family := unix.AF_INET
	if k.Dst.Is4() {
		copy(b, k.Dst.AsSlice())
	} else {
		family = unix.AF_INET6
		copy(b, k.Dst.AsSlice())
	}
	binary.BigEndian.PutUint32(b[addressLen:], k.SPI)
	binary.NativeEndian.PutUint16(b[20:], uint16(family))
	b[22] = k.Proto
	return b
}

// appendMark adds what tells the SA from others of its number.
func (k Key) appendMark(b []byte) []byte {
	if k.Mark == (Mark{}) {
		return b
	}
	m := binary.NativeEndian.AppendUint32(nil, k.Mark.Value)
	return appendAttr(b, nl.XFRMA_MARK, binary.NativeEndian.AppendUint32(m, k.Mark.Mask))
}

func (k Key) request(kind, flags uint16) request {
	return request{kind, flags, k.appendMark(k.id())}
}

// add makes an SA, and fails where there is one with that key.
func (s SA) add() request {
	b := append([]byte(nil), s.info...)
	truncated := s.attr(nl.XFRMA_ALG_AUTH_TRUNC, 0) != nil
	for _, a := range s.attrs {
		switch a.kind {
		case nl.XFRMA_LASTUSED, nl.XFRMA_PAD: // only told
			continue
		case nl.XFRMA_ALG_AUTH: // the same once more, for programs that do not know the other
			if truncated {
				continue
			}
		}
		b = appendAttr(b, a.kind, a.data)
	}
	return request{nl.XFRM_MSG_NEWSA, unix.NLM_F_ACK | unix.NLM_F_CREATE | unix.NLM_F_EXCL, b}
}

// renewed is the SA as one that is made anew of it must be: it goes on counting where the
// old one is, and an SA that sends leaves out some numbers, in case that the old one uses
// them still.
func (s SA) renewed(d Direction) SA {
	s = s.with(nl.XFRMA_LTIME_VAL, s.used())
	if r := s.replay(); d == Outbound {
		s = s.with(r.kind, r.sentTo(r.sent()+margin).data)
	}
	return s
}

// on is the SA with a device to work for it; 0 for none.
func (s SA) on(ifindex int, d Direction) SA {
	if ifindex == 0 {
		return s.with(nl.XFRMA_OFFLOAD_DEV, nil)
	}
	o := make([]byte, offloadSize)
	binary.NativeEndian.PutUint32(o, uint32(ifindex))
	if d == Inbound {
		o[4] = offloadInbound
	}
	return s.with(nl.XFRMA_OFFLOAD_DEV, o)
}

// catchUp gives an SA the counts, and the sequence numbers of the one before it where those
// are not in its own: XFRM_MSG_NEWAE.
func (s SA) catchUp(last replay, used []byte, d Direction) request {
	b := s.Key().id()
	b = append(b, s.info[offSrc:offSrc+addressLen]...)
	b = append(b, make([]byte, 8)...) // flags, and the id of the request
	b = appendAttr(b, nl.XFRMA_LTIME_VAL, used)
	if r := s.replay().after(last, d); !bytes.Equal(r.data, s.replay().data) {
		b = appendAttr(b, r.kind, r.data)
	}
	return request{nl.XFRM_MSG_NEWAE, unix.NLM_F_ACK | unix.NLM_F_REPLACE, s.Key().appendMark(b)}
}
