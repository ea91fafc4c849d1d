package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// model is the allocator as one would write it with no regard to speed: who holds
// which address, and in which order the free ones were released.
type model struct {
	holder   map[byte]string
	released []byte        // free and used before, oldest first
	byHold   map[byte]bool // of no pool, when it was taken last
}

func (m *model) free(n byte) bool { return m.holder[n] == "" }

func (m *model) take(n byte, port string) {
	m.holder[n] = port
	m.released = slices.DeleteFunc(m.released, func(r byte) bool { return r == n })
}

func (m *model) release(n byte) {
	if !m.free(n) {
		delete(m.holder, n)
		m.released = append(m.released, n)
	}
}

// FuzzAllocator plays the bytes as verbs on one space with three pools, of which
// two overlap, and compares with the model after each.
func FuzzAllocator(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0})                         // exhaust the first pool
	f.Add([]byte{0, 0, 3, 0, 0, 0, 0})                   // release and reuse
	f.Add([]byte{0, 1, 0, 1, 0, 1, 0, 1, 3, 19, 0, 1})   // two pools that overlap
	f.Add([]byte{0x12, 0x22, 0, 0, 0, 0, 0x13, 0x23, 0}) // hold and release
	f.Add([]byte{0, 4, 3, 4, 0, 3, 4, 4, 0, 5, 2, 1})    // the clock moves
	f.Add([]byte{5, 5, 5, 3, 5, 3, 0x13, 4, 5, 5, 5, 5}) // the pool of two spans
	f.Add([]byte("BC0002t\xd3!"))                        // held and released before there is a pool
	f.Fuzz(func(t *testing.T, verbs []byte) {
		if len(verbs) > 200 {
			return
		}
		fix := newFixture(t)
		fix.update(t, func(tx *Tx) error {
			m := &model{holder: map[byte]string{}, byHold: map[byte]bool{}}
			for i, verb := range verbs {
				if err := m.play(tx, verb, fmt.Sprint("p", i)); err != nil {
					return fmt.Errorf("verb %d of %v: %w", i, verbs, err)
				}
				if err := m.check(tx); err != nil {
					return fmt.Errorf("after verb %d of %v: %w", i, verbs, err)
				}
			}
			return nil
		})
	})
}

// fuzzPools cover addresses 0-3, 2-6, and 8-9 followed by 1.
func fuzzPools() [3]pool {
	at := func(n byte) address { return address{15: n} }
	return [3]pool{
		newPool(span{at(0), at(3)}),
		newPool(span{at(2), at(6)}),
		newPool(span{at(8), at(9)}, span{at(1), at(1)}),
	}
}

func (m *model) play(tx *Tx, verb byte, port string) error {
	n := verb >> 4 % 10
	switch verb & 0xf {
	case 0, 1, 5:
		return m.lease(tx, fuzzPools()[min(verb&0xf, 2)], port)
	case 2:
		holder, err := tx.space("fuzz").hold(address{15: n}, port, noPool)
		if err != nil || holder != m.holder[n] {
			return fmt.Errorf("hold %d: held by %q, want %q (%w)", n, holder, m.holder[n], err)
		}
		if holder == "" {
			m.take(n, port)
			m.byHold[n] = true
		}
	case 3:
		m.release(n)
		return tx.space("fuzz").release(address{15: n})
	case 4:
		tx.now = tx.now.Add(time.Duration(n) * 10 * time.Second)
	case 6:
		if port := m.holder[n]; port != "" {
			m.release(n)
			return tx.DeletePort(port)
		}
	}
	return nil
}

func (m *model) lease(tx *Tx, p pool, port string) error {
	a, ok, err := tx.space("fuzz").lease(p, port)
	if err != nil {
		return err
	}
	n := a[15]
	var all, free []byte
	for _, s := range p.spans {
		for i := s.first[15]; i <= s.last[15]; i++ {
			if all = append(all, i); m.free(i) {
				free = append(free, i)
			}
		}
	}
	switch {
	case !ok && len(free) > 0:
		return fmt.Errorf("called empty with %v free", free)
	case !ok:
		return nil
	case !slices.Contains(all, n):
		return fmt.Errorf("leased %d, which is not of the pool %v", n, all)
	case !m.free(n):
		return fmt.Errorf("leased %d, which %s holds", n, m.holder[n])
	}
	// Of one that no pool has met nothing is remembered when it has rested: see space.trim.
	if slices.Contains(m.released, n) && !m.byHold[n] {
		for _, i := range free {
			if !slices.Contains(m.released, i) {
				return fmt.Errorf("leased %d again, and %d was never used", n, i)
			}
		}
	}
	m.take(n, port)
	m.byHold[n] = false
	return nil
}

func (m *model) check(tx *Tx) error {
	got := map[byte]string{}
	err := tx.space("fuzz").each(func(a address, rec record) error {
		if rec.held() {
			got[a[15]] = rec.Port
		}
		return nil
	})
	if err != nil {
		return err
	}
	for n := range byte(10) {
		if got[n] != m.holder[n] {
			return fmt.Errorf("%d is held by %q, want %q", n, got[n], m.holder[n])
		}
	}
	return m.checkQueues(tx)
}

// checkQueues demands that every queue is as long as it is counted.
func (m *model) checkQueues(tx *Tx) error {
	s := tx.space("fuzz")
	ids := []uint64{noPool}
	for _, p := range fuzzPools() {
		ids = append(ids, p.id)
	}
	for _, id := range ids {
		st, err := s.state(id)
		keys, err2 := s.rest.keys(s.poolKey(id))
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if st.Resting != len(keys) {
			return fmt.Errorf("queue %x has %d entries, counted %d", id, len(keys), st.Resting)
		}
	}
	return nil
}
