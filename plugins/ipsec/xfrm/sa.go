package xfrm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// SA is a security association as the kernel told of it.
type SA struct {
	info  []byte // struct xfrm_usersa_info
	attrs []attr // in the kernel's order
}

// attr is an attribute of a message.
type attr struct {
	kind uint16
	data []byte
}

// Key is what the kernel finds an SA by.
type Key struct {
	Dst   netip.Addr
	SPI   uint32
	Proto uint8
	Mark  Mark
}

// Mark is which packets may use an SA: those whose mark under Mask is Value.
type Mark struct{ Value, Mask uint32 }

// String is how logs and reports name the SA.
func (k Key) String() string {
	text := fmt.Sprintf("SA %#x to %s", k.SPI, k.Dst)
	if k.Mark.Mask != 0 {
		text += fmt.Sprintf(" mark %#x/%#x", k.Mark.Value, k.Mark.Mask)
	}
	return text
}

// Where things are in struct xfrm_usersa_info (include/uapi/linux/xfrm.h).
const (
	infoLen      = 224
	offDst       = 56
	offSPI       = 72
	offProto     = 76
	offSrc       = 80
	offLimits    = 96  // struct xfrm_lifetime_cfg: eight numbers
	offUsed      = 160 // struct xfrm_lifetime_cur: bytes, packets, made, first used
	offFamily    = 212
	offMode      = 214
	offFlags     = 216
	usedLen      = 32
	addressLen   = 16
	flagESN      = 128 // XFRM_STATE_ESN
	modeTunnel   = 1
	modeTransfer = 0
)

// Parse reads the payload of a message that tells of an SA: struct xfrm_usersa_info and
// attributes. The SA shares nothing with it.
func Parse(payload []byte) (SA, error) {
	if len(payload) < infoLen {
		return SA{}, fmt.Errorf("an SA of %d bytes; it has %d at least", len(payload), infoLen)
	}
	attrs, err := parseAttrs(payload[infoLen:])
	if err != nil {
		return SA{}, err
	}
	return newSA(payload[:infoLen], attrs)
}

func newSA(info []byte, attrs []attr) (SA, error) {
	sa := SA{info: bytes.Clone(info), attrs: attrs}
	if f := sa.family(); f != unix.AF_INET && f != unix.AF_INET6 {
		return SA{}, fmt.Errorf("an SA of address family %d", f)
	}
	return sa, nil
}

// parseAttrs reads attributes; what it returns shares nothing with data.
func parseAttrs(data []byte) ([]attr, error) {
	var attrs []attr
	for len(data) >= unix.SizeofNlAttr {
		n := int(binary.NativeEndian.Uint16(data))
		if n < unix.SizeofNlAttr || n > len(data) {
			return nil, fmt.Errorf("an attribute of %d bytes where there are %d", n, len(data))
		}
		kind := binary.NativeEndian.Uint16(data[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		attrs = append(attrs, attr{kind, bytes.Clone(data[unix.SizeofNlAttr:n])})
		data = data[min(len(data), aligned(n)):]
	}
	return attrs, nil
}

func aligned(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// attr is the data of an attribute, nil without one of at least that many bytes.
func (s SA) attr(kind uint16, least int) []byte {
	for _, a := range s.attrs {
		if a.kind == kind && len(a.data) >= least {
			return a.data
		}
	}
	return nil
}

// with is the SA with an attribute that takes the place of any of its kind; nil for none.
func (s SA) with(kind uint16, data []byte) SA {
	s.attrs = slices.DeleteFunc(slices.Clone(s.attrs), func(a attr) bool { return a.kind == kind })
	if data != nil {
		s.attrs = append(s.attrs, attr{kind, data})
	}
	return s
}

func (s SA) family() int { return int(binary.NativeEndian.Uint16(s.info[offFamily:])) }

func (s SA) address(at int) netip.Addr { return address(s.info[at:at+addressLen], s.family()) }

func address(b []byte, family int) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(b))
	}
	return netip.AddrFrom16([16]byte(b))
}

// Key is what the SA is found by.
func (s SA) Key() Key {
	k := Key{Dst: s.Dst(), SPI: binary.BigEndian.Uint32(s.info[offSPI:]), Proto: s.info[offProto]}
	if m := s.attr(nl.XFRMA_MARK, 8); m != nil {
		k.Mark = Mark{binary.NativeEndian.Uint32(m), binary.NativeEndian.Uint32(m[4:])}
	}
	return k
}

// Src is the sender's address.
func (s SA) Src() netip.Addr { return s.address(offSrc) }

// Dst is the receiver's.
func (s SA) Dst() netip.Addr { return s.address(offDst) }

// OutputMark is the mark that packets leave with, 0 for their own.
func (s SA) OutputMark() uint32 {
	v := s.attr(nl.XFRMA_SET_MARK, 4)
	if v == nil {
		return 0
	}
	mask := ^uint32(0)
	if m := s.attr(nl.XFRMA_SET_MARK_MASK, 4); m != nil {
		mask = binary.NativeEndian.Uint32(m)
	}
	return binary.NativeEndian.Uint32(v) & mask
}

// used is struct xfrm_lifetime_cur.
func (s SA) used() []byte { return s.info[offUsed : offUsed+usedLen] }

// Used is how much the SA did.
func (s SA) Used() (bytes, packets uint64) {
	return binary.NativeEndian.Uint64(s.used()), binary.NativeEndian.Uint64(s.used()[8:])
}

// Made is when the SA was added.
func (s SA) Made() time.Time {
	return time.Unix(int64(binary.NativeEndian.Uint64(s.used()[16:])), 0)
}

// Offload is the device that works for the SA, and whether it does so for whole packets
// (which only who made the SA can ask for) or encrypts alone. Without a device ifindex is 0.
func (s SA) Offload() (ifindex int, packets bool) {
	o := s.attr(nl.XFRMA_OFFLOAD_DEV, offloadLen)
	if o == nil {
		return 0, false
	}
	return int(int32(binary.NativeEndian.Uint32(o))), o[4]&offloadPackets != 0
}

// Of struct xfrm_user_offload: an ifindex, flags, and three bytes of nothing.
const (
	offloadLen     = 5
	offloadSize    = 8
	offloadInbound = 2
	offloadPackets = 4
)

// Direction is who the SA's packets come from.
type Direction uint8

// The directions. The kernel tells one only where it was told itself: since 6.10, and of SAs
// that a device works for.
const (
	Unknown  Direction = iota
	Inbound            // XFRM_SA_DIR_IN
	Outbound           // XFRM_SA_DIR_OUT
)

// Direction is what the kernel says.
func (s SA) Direction() Direction {
	if d := s.attr(nl.XFRMA_SA_DIR, 1); d != nil && d[0] <= byte(Outbound) {
		return Direction(d[0])
	}
	o := s.attr(nl.XFRMA_OFFLOAD_DEV, offloadLen)
	switch {
	case o == nil:
		return Unknown
	case o[4]&offloadInbound != 0:
		return Inbound
	}
	return Outbound
}
