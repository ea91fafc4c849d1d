package store

import (
	"slices"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// beyond are the ports of a switch that are not on its root, or may spoof: what most
// switches have none of, and so no record.
type beyond struct {
	Spoofing int
	Further  []int // by segment, from 1
}

func beyondKey(switchName string) string { return switchName + "\x00" }

// Load tells how many ports there are on each segment of a switch, in constant time.
func (tx *Tx) Load(switchName string) (vswitch.Load, error) {
	total, err := tx.PortCount(switchName)
	if err != nil {
		return vswitch.Load{}, err
	}
	var b beyond
	if _, err := tx.run.table(countTable).load(beyondKey(switchName), &b); err != nil {
		return vswitch.Load{}, err
	}
	l := vswitch.Load{Root: total - b.Spoofing, Spoofing: b.Spoofing, Further: b.Further}
	for _, n := range b.Further {
		l.Root -= n
	}
	return l, nil
}

// addLoad counts a port that comes (1) or goes (-1).
func (tx *Tx) addLoad(p vswitch.Port, delta int) error {
	if p.Segment <= 0 && !p.AtRoot() || p.Segment > vswitch.MaxSegments {
		return nil
	}
	var b beyond
	if _, err := tx.run.table(countTable).load(beyondKey(p.Switch), &b); err != nil {
		return err
	}
	b.add(p, delta)
	if b.Spoofing == 0 && len(b.Further) == 0 {
		return tx.run.table(countTable).remove(beyondKey(p.Switch))
	}
	return tx.run.table(countTable).store(beyondKey(p.Switch), &b)
}

func (b *beyond) add(p vswitch.Port, delta int) {
	if p.Segment <= 0 {
		b.Spoofing = max(0, b.Spoofing+delta)
		return
	}
	if missing := p.Segment - len(b.Further); missing > 0 {
		b.Further = append(b.Further, make([]int, missing)...)
	}
	at := &b.Further[p.Segment-1]
	*at = max(0, *at+delta)
	for len(b.Further) > 0 && b.Further[len(b.Further)-1] == 0 {
		b.Further = slices.Delete(b.Further, len(b.Further)-1, len(b.Further))
	}
}

func (b *beyond) encode() []byte {
	p := make(packer, 0, 32)
	p.integer(b.Spoofing)
	p.number(uint64(len(b.Further)))
	for _, n := range b.Further {
		p.integer(n)
	}
	return p
}

func (b *beyond) decode(body []byte) error {
	u := unpacker{rest: body}
	b.Spoofing = u.integer()
	b.Further = nil
	for range u.count() {
		b.Further = append(b.Further, u.integer())
	}
	return u.err()
}
