package xfrm

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/vishvananda/netlink/nl"
)

// receive is what the kernel does when a number comes, by the definition of the bitmaps in
// net/xfrm/xfrm_replay.c: the short one moves with the last number, the long one goes round.
func (r *replay) receive(n uint64) {
	w := uint64(r.width())
	top := r.came()
	if n > top {
		fresh := min(n-top, w)
		if r.kind == nl.XFRMA_REPLAY_VAL {
			old := binary.NativeEndian.Uint32(r.bitmap())
			binary.NativeEndian.PutUint32(r.bitmap(), uint32(uint64(old)<<fresh))
			binary.NativeEndian.PutUint32(r.data[offShortCame:], uint32(n))
		} else {
			binary.NativeEndian.PutUint32(r.data[offLongCame:], uint32(n))
			binary.NativeEndian.PutUint32(r.data[offLongCameHigh:], uint32(n>>32))
			for i := range fresh {
				word, mask := r.bit(int(i))
				binary.NativeEndian.PutUint32(word, binary.NativeEndian.Uint32(word)&^mask)
			}
		}
	}
	if r.came()-n < w {
		word, mask := r.bit(int(r.came() - n))
		binary.NativeEndian.PutUint32(word, binary.NativeEndian.Uint32(word)|mask)
	}
}

func (r replay) seen(n uint64) bool {
	if n > r.came() || r.came()-n >= uint64(r.width()) {
		return false
	}
	word, mask := r.bit(int(r.came() - n))
	return binary.NativeEndian.Uint32(word)&mask != 0
}

// What the old SA and the new one received in any order is what the merged one knows.
func TestReplayWindowsMerge(t *testing.T) {
	for name, fresh := range map[string]func() replay{
		"short": func() replay { return replay{kind: nl.XFRMA_REPLAY_VAL, data: numbers(5, 0, 0)} },
		"long": func() replay {
			return replay{kind: nl.XFRMA_REPLAY_ESN_VAL, data: numbers(4, 5, 0, 0, 0, 128, 0, 0, 0, 0)}
		},
		"wide": func() replay { return replay{nl.XFRMA_REPLAY_ESN_VAL, numbers(4, 5, 0, 0, 0, 100, 0, 0, 0, 0), true} },
	} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			for range 300 {
				base := fresh()
				next := uint64(200)
				come := func(rs ...*replay) uint64 {
					next += uint64(random.IntN(40)) - 10
					for _, r := range rs {
						r.receive(next)
					}
					return next
				}
				for range 20 {
					come(&base)
				}
				old := replay{base.kind, bytes.Clone(base.data), base.wide}
				now := replay{base.kind, bytes.Clone(base.data), base.wide}
				var all []uint64
				for range 5 {
					all = append(all, come(&old))
				}
				for range 5 {
					all = append(all, come(&now))
				}
				merged := now.after(old, Inbound)
				if merged.came() != max(now.came(), old.came()) || merged.sent() != 5 {
					t.Fatalf("ends at %d, sent %d", merged.came(), merged.sent())
				}
				for n := merged.came() - uint64(merged.width()) + 1; n <= merged.came(); n++ {
					if want := old.seen(n) || now.seen(n); merged.seen(n) != want {
						t.Fatalf("number %d of %v came: %t, want %t", n, all, merged.seen(n), want)
					}
				}
			}
		})
	}
}

// An SA that sent further than what its successor began with makes that one go on behind it.
func TestSentNumbersNeverRepeat(t *testing.T) {
	at := func(n uint32) replay { return replay{kind: nl.XFRMA_REPLAY_VAL, data: numbers(n, 0, 0)} }
	for name, c := range map[string]struct{ now, last, want uint32 }{
		"nothing in between": {100 + margin, 100, 100 + margin},
		"less than left out": {150 + margin, 5000, 150 + margin},
		"more than left out": {100 + margin, 200 + margin, 200 + 2*margin},
		"just as much":       {100 + margin, 100 + margin, 100 + 2*margin},
	} {
		if got := at(c.now).after(at(c.last), Outbound).sent(); got != uint64(c.want) {
			t.Errorf("%s: goes on at %d, want %d", name, got, c.want)
		}
	}
}
