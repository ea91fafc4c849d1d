package xfrm

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// told is an SA as the kernel tells of one: ESP with AES-GCM in transport mode, with these
// attributes besides.
func told(t testing.TB, more ...attr) SA {
	t.Helper()
	info := make([]byte, infoLen)
	copy(info[offDst:], []byte{10, 0, 0, 2})
	copy(info[offSrc:], []byte{10, 0, 0, 1})
	binary.BigEndian.PutUint32(info[offSPI:], 0x1001)
	info[offProto] = unix.IPPROTO_ESP
	binary.NativeEndian.PutUint16(info[offFamily:], unix.AF_INET)
	for at := range 4 {
		binary.NativeEndian.PutUint64(info[offLimits+8*at:], ^uint64(0))
	}
	binary.NativeEndian.PutUint64(info[offUsed+16:], uint64(time.Now().Unix()))
	b := bytes.Clone(info)
	for _, a := range append([]attr{{nl.XFRMA_ALG_AEAD, gcm(7)}}, more...) {
		b = appendAttr(b, a.kind, a.data)
	}
	sa, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return sa
}

// gcm is struct xfrm_algo_aead with a key of that byte.
func gcm(key byte) []byte {
	b := make([]byte, offAuthKey, offAuthKey+20)
	copy(b, "rfc4106(gcm(aes))")
	binary.NativeEndian.PutUint32(b[offKeyLen:], 160)
	return append(b, bytes.Repeat([]byte{key}, 20)...)
}

func numbers(words ...uint32) (b []byte) {
	for _, w := range words {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	return b
}

// An attribute that nobody here knows is kept, in place and to the bit; what is told only
// or twice is not.
func TestAddedAsItWasTold(t *testing.T) {
	auth := append(gcm(3)[:offKey:offKey], gcm(3)[offAuthKey:]...)
	sa := told(t,
		attr{200, []byte("of a later kernel")}, attr{nl.XFRMA_IF_ID, numbers(42)}, attr{nl.XFRMA_LASTUSED, make([]byte, 8)},
		attr{nl.XFRMA_ALG_AUTH, auth}, attr{nl.XFRMA_ALG_AUTH_TRUNC, gcm(3)}, attr{nl.XFRMA_MARK, numbers(5, 0xff)},
		attr{nl.XFRMA_REPLAY_VAL, numbers(9, 8, 7)})
	again, err := Parse(sa.on(3, Inbound).add().payload)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.info, sa.info) {
		t.Error("the SA's fixed part is another")
	}
	want := map[uint16][]byte{
		nl.XFRMA_ALG_AEAD: gcm(7), 200: []byte("of a later kernel"), nl.XFRMA_IF_ID: numbers(42), nl.XFRMA_ALG_AUTH_TRUNC: gcm(3),
		nl.XFRMA_MARK: numbers(5, 0xff), nl.XFRMA_REPLAY_VAL: numbers(9, 8, 7), nl.XFRMA_OFFLOAD_DEV: {3, 0, 0, 0, offloadInbound, 0, 0, 0},
	}
	if len(again.attrs) != len(want) {
		t.Errorf("%d attributes, want %d", len(again.attrs), len(want))
	}
	for kind, data := range want {
		if got := again.attr(kind, 0); !bytes.Equal(got, data) {
			t.Errorf("attribute %d is %v, want %v", kind, got, data)
		}
	}
	if on, _ := again.Offload(); on != 3 || again.Key().Mark != (Mark{5, 0xff}) {
		t.Errorf("on %d, key %v", on, again.Key())
	}
	if on, _ := again.on(0, Inbound).Offload(); on != 0 {
		t.Errorf("taken back it is on %d", on)
	}
	for want, sa := range map[Direction]SA{Unknown: sa, Inbound: again, Outbound: sa.on(3, Outbound)} {
		if sa.Direction() != want {
			t.Errorf("direction %d, want %d", sa.Direction(), want)
		}
	}
	if d := again.with(nl.XFRMA_SA_DIR, []byte{2}).Direction(); d != Outbound {
		t.Errorf("the kernel says out, and the direction is %d", d)
	}
}

// An SA that sends goes on behind all numbers that it may have used; counts go on.
func TestRenewed(t *testing.T) {
	for name, c := range map[string]struct {
		flags  byte
		replay attr
		d      Direction
		want   []byte
	}{
		"short":             {replay: attr{nl.XFRMA_REPLAY_VAL, numbers(10, 20, 3)}, d: Outbound, want: numbers(10+margin, 20, 3)},
		"short, inbound":    {replay: attr{nl.XFRMA_REPLAY_VAL, numbers(0, 20, 3)}, d: Inbound, want: numbers(0, 20, 3)},
		"wide over the end": {flags: flagESN, replay: attr{nl.XFRMA_REPLAY_ESN_VAL, numbers(1, ^uint32(0), 0, 6, 0, 32, 0)}, d: Outbound, want: numbers(1, margin-1, 0, 7, 0, 32, 0)},
		"long, not wide":    {replay: attr{nl.XFRMA_REPLAY_ESN_VAL, numbers(2, 4, 5, 0, 0, 64, 1, 2)}, d: Outbound, want: numbers(2, 4+margin, 5, 0, 0, 64, 1, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			sa := told(t, c.replay)
			sa.info[offFlags] = c.flags
			binary.NativeEndian.PutUint64(sa.info[offUsed:], 777)
			then := sa.renewed(c.d)
			if got := then.attr(c.replay.kind, 0); !bytes.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
			if used := then.attr(nl.XFRMA_LTIME_VAL, usedLen); used == nil || binary.NativeEndian.Uint64(used) != 777 {
				t.Errorf("counts are %v", used)
			}
		})
	}
}

func TestUnfit(t *testing.T) {
	now := time.Now()
	limit := func(at int, v uint64) func(*SA) {
		return func(s *SA) { binary.NativeEndian.PutUint64(s.info[at:], v) }
	}
	for name, c := range map[string]struct {
		change func(*SA)
		want   string // part of it; "" for an SA that fits
	}{
		"plain":             {func(*SA) {}, ""},
		"AH":                {func(s *SA) { s.info[offProto] = unix.IPPROTO_AH }, "not ESP"},
		"larval":            {func(s *SA) { s.attrs = nil }, "not negotiated"},
		"no number":         {func(s *SA) { clear(s.info[offSPI : offSPI+4]) }, "not negotiated"},
		"BEET":              {func(s *SA) { s.info[offMode] = 4 }, "mode"},
		"NAT":               {func(s *SA) { *s = s.with(nl.XFRMA_ENCAP, make([]byte, 24)) }, "NAT"},
		"padding":           {func(s *SA) { *s = s.with(nl.XFRMA_TFCPAD, numbers(4)) }, "padded"},
		"a key of zeros":    {func(s *SA) { *s = s.with(nl.XFRMA_ALG_AEAD, gcm(0)) }, "lockdown"},
		"no key at all":     {func(s *SA) { *s = s.with(nl.XFRMA_ALG_AEAD, nil).with(nl.XFRMA_ALG_CRYPT, make([]byte, offKey)) }, ""},
		"packets left":      {limit(offLimits+16, 5), ""},
		"no bytes left":     {func(s *SA) { limit(offLimits, 5)(s); limit(offUsed, 5)(s) }, "soft lifetime"},
		"old":               {func(s *SA) { limit(offLimits+32, 60)(s); limit(offUsed+16, uint64(now.Unix()-61))(s) }, "soft lifetime"},
		"used for long":     {func(s *SA) { limit(offLimits+48, 60)(s); limit(offUsed+24, uint64(now.Unix()-61))(s) }, "soft lifetime"},
		"not used":          {limit(offLimits+48, 60), ""},
		"numbers at an end": {func(s *SA) { *s = s.with(nl.XFRMA_REPLAY_VAL, numbers(^uint32(0)-5, 0, 0)) }, "soft lifetime"},
		"clock put back":    {func(s *SA) { limit(offLimits+32, 60)(s); limit(offUsed+16, uint64(now.Unix()+500))(s) }, ""},
		"tunnel":            {func(s *SA) { s.info[offMode] = modeTunnel }, ""},
		"wide, far from end": {func(s *SA) {
			s.info[offFlags] = flagESN
			*s = s.with(nl.XFRMA_REPLAY_ESN_VAL, numbers(0, ^uint32(0), 0, 0, 0, 0))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			sa := told(t)
			c.change(&sa)
			if got := sa.Unfit(now); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q in it", got, c.want)
			}
		})
	}
}

// What a kernel tells about an error is read, with and without what was asked in front.
func TestRefusalsWords(t *testing.T) {
	words := appendAttr(nil, 1, []byte("No space for SA in Rx table!\x00"))
	header := make([]byte, 4+unix.SizeofNlMsghdr)
	no := -int32(unix.ENOSPC)
	binary.NativeEndian.PutUint32(header, uint32(no))
	binary.NativeEndian.PutUint32(header[4:], unix.SizeofNlMsghdr+4)
	for name, m := range map[string]message{
		"capped": {flags: 0x200 | unix.NLM_F_CAPPED, payload: append(bytes.Clone(header), words...)},
		"whole":  {flags: 0x200, payload: append(append(bytes.Clone(header), 1, 2, 3, 4), words...)},
	} {
		if err := refusal(m); err == nil || err.Error() != "No space for SA in Rx table!" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := refusal(message{payload: header}); err == nil || err.Error() != unix.ENOSPC.Error() {
		t.Errorf("without words: %v", err)
	}
	if err := refusal(message{payload: make([]byte, 4)}); err != nil {
		t.Errorf("of a success: %v", err)
	}
}

// Whatever comes, reading it does not crash, and an SA that was read is told again as it was.
func FuzzMessages(f *testing.F) {
	sa := told(f, attr{nl.XFRMA_MARK, numbers(5, 0xff)}, attr{nl.XFRMA_REPLAY_ESN_VAL, numbers(1, 2, 3, 4, 5, 32, 6)})
	whole := sa.add().payload
	for _, kind := range []uint16{nl.XFRM_MSG_NEWSA, nl.XFRM_MSG_DELSA, nl.XFRM_MSG_EXPIRE, nl.XFRM_MSG_FLUSHSA, unix.NLMSG_ERROR} {
		f.Add(kind, request{kind: kind, payload: whole}.encode(1, 2))
	}
	removed := appendAttr(sa.Key().id(), nl.XFRMA_SA, sa.info)
	f.Add(uint16(nl.XFRM_MSG_DELSA), request{kind: nl.XFRM_MSG_DELSA, payload: append(removed, whole[infoLen:]...)}.encode(1, 2))
	f.Fuzz(func(t *testing.T, kind uint16, datagram []byte) {
		for _, m := range parseMessages(datagram) {
			_ = refusal(m)
			m.kind = kind
			e, ok := parseEvent(m)
			if !ok || e.Kind == Many {
				continue
			}
			_, _ = e.SA.Offload()
			_ = e.SA.OutputMark()
			_ = e.SA.Unfit(time.Now())
			for _, d := range []Direction{Unknown, Inbound, Outbound} {
				_ = e.SA.catchUp(e.SA.renewed(d).replay(), e.SA.used(), d)
			}
			again, err := Parse(e.SA.add().payload)
			if err != nil || again.Key() != e.SA.Key() || !bytes.Equal(again.info, e.SA.info) {
				t.Fatalf("%v told again is %v: %v", e.SA.Key(), again.Key(), err)
			}
		}
	})
}
