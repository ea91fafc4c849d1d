package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// space is a set of addresses of which each has one holder at most: the MAC
// addresses of the host, or the IP addresses on one switch. Any number of pools
// may draw from it, overlapping or not.
//
// A pool hands out what it never handed out, in order, then what was released
// longest ago, if need be before its quarantine is over. Both ends are found by
// one look-up each, whatever the size of the pool and the number of leases: a
// cursor stands behind the last address handed out, and what is released queues up
// by release. The cursor skips addresses that have a record, be they held or
// resting, and makes them its pool's own, so that they come back to its queue;
// each is met once. Only a pool whose queue is empty as well searches all its
// range, for what another pool or nobody has taken care of.
type space struct {
	scope               string
	leases, rest, pools table
	holdings            table // the port table, where a port's addresses are noted
	now                 time.Time
	quarantine          time.Duration
	states              map[uint64]*poolState // those in use, written by flush
}

// record is what is known of an address that is held or rests.
type record struct {
	Lease
	Pool uint64 // whose queue it joins when released
	// Place in the queue and time of release, in Unix nanoseconds; 0: held.
	Place uint64
	Since int64
}

func (r record) held() bool { return r.Place == 0 }

// poolState is what is known of a pool.
type poolState struct {
	Span    int    // the span that the cursor is in
	Next    []byte // the cursor; nil: the span's first
	Resting int    // length of the queue
	// Forgot: addresses behind the cursor were dropped from the queue.
	Forgot bool
}

// maxResting bounds a pool's queue, or else every address of a large pool would
// end up with a record. Longer ago than the last 4096 releases, one order is as
// good as another.
const maxResting = 4096

func (tx *Tx) space(scope string) *space {
	return &space{
		scope: scope, now: tx.now, quarantine: tx.store.quarantine,
		leases: tx.run.table(leaseTable), rest: tx.run.table(restTable), pools: tx.run.table(poolTable),
		holdings: tx.run.table(portTable), states: map[uint64]*poolState{},
	}
}

// spaceOf takes a key of the lease table apart.
func (tx *Tx) spaceOf(leaseKey string) (*space, address, error) {
	cut := len(leaseKey) - len(address{}) - 1
	if cut < 1 {
		return nil, address{}, tx.run.fault(fmt.Errorf("a port holds an address with the key %q", leaseKey))
	}
	return tx.space(leaseKey[:cut]), address([]byte(leaseKey[cut+1:])), nil
}

func (s *space) prefix() string            { return s.scope + "\x00" }
func (s *space) leaseKey(a address) string { return s.prefix() + string(a[:]) }

func (s *space) poolKey(id uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte(s.prefix()), id))
}

func (s *space) restKey(pool, place uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte(s.poolKey(pool)), place))
}

// lease gives port an address of the pool; ok is false if all are held.
func (s *space) lease(p pool, port string) (a address, ok bool, err error) {
	st, err := s.state(p.id)
	if err != nil {
		return a, false, err
	}
	a, ok, err = s.unused(p, st)
	if err == nil && !ok && st.Forgot {
		st.Forgot, st.Span, st.Next = false, 0, nil
		a, ok, err = s.unused(p, st)
	}
	if err == nil && !ok {
		a, ok, err = s.oldest(p.id)
	}
	if err == nil && !ok {
		st.Span, st.Next = 0, nil
		if a, ok, err = s.unused(p, st); err == nil && !ok {
			a, ok, err = s.oldest(p.id)
		}
	}
	if err != nil || !ok {
		return a, false, err
	}
	return a, true, s.take(a, record{Lease: Lease{Port: port}, Pool: p.id})
}

// unused moves the cursor past the next address without a record and makes the
// pool's own what it passes.
func (s *space) unused(p pool, st *poolState) (a address, found bool, err error) {
	for ; st.Span < len(p.spans); st.Span, st.Next = st.Span+1, nil {
		in := p.spans[st.Span]
		a = in.first
		if len(st.Next) == len(a) {
			a = address(st.Next)
		}
		var passed []address
		found = true
		err = s.leases.walk(s.prefix(), s.leaseKey(a), func(r row) error {
			if string(r.key) != s.leaseKey(a) {
				return errStop
			}
			var rec record
			if err := s.leases.decode(r.body, &rec); err != nil {
				return err
			}
			if rec.Pool != p.id {
				passed = append(passed, a)
			}
			if found = a != in.last; !found {
				return errStop
			}
			a = a.next()
			return nil
		})
		if err == nil {
			err = s.adopt(passed, p.id)
		}
		if err != nil {
			return a, false, err
		}
		if found {
			s.advance(st, in, a)
			return a, true, nil
		}
	}
	return a, false, nil
}

// advance puts the cursor behind a.
func (s *space) advance(st *poolState, in span, a address) {
	if a == in.last {
		st.Span, st.Next = st.Span+1, nil
		return
	}
	next := a.next()
	st.Next = next[:]
}

// adopt makes addresses that are held or rest those of another pool. A resting
// one keeps its place, which is counted over all pools.
func (s *space) adopt(all []address, pool uint64) error {
	for _, a := range all {
		rec, _, err := s.record(a)
		if err != nil {
			return err
		}
		if !rec.held() {
			if err := s.dequeue(rec); err != nil {
				return err
			}
		}
		rec.Pool = pool
		if !rec.held() {
			if err := s.enqueue(a, rec); err != nil {
				return err
			}
		}
		if err := s.leases.store(s.leaseKey(a), &rec); err != nil {
			return err
		}
	}
	return nil
}

// take makes rec the record of an address that nobody holds.
func (s *space) take(a address, rec record) error {
	old, found, err := s.record(a)
	if err != nil {
		return err
	}
	if found {
		if err := s.dequeue(old); err != nil {
			return err
		}
		if rec.Pool == noPool {
			rec.Pool = old.Pool
		}
	}
	if err := s.leases.store(s.leaseKey(a), &rec); err != nil {
		return err
	}
	if err := s.holdings.put(holdingPrefix(rec.Port)+s.leaseKey(a), nil); err != nil {
		return err
	}
	return s.flush()
}

// hold gives port this very address. If another port has it, that one's name is
// returned. Asked for again by its holder, the address is marked static.
func (s *space) hold(a address, port string, pool uint64) (holder string, err error) {
	old, found, err := s.record(a)
	if err != nil {
		return "", err
	}
	rec := record{Lease: Lease{Port: port, Static: true}, Pool: pool}
	switch {
	case !found || !old.held():
		return "", s.take(a, rec)
	case old.Port != port:
		return old.Port, nil
	case !old.Static:
		old.Static = true
		return "", s.leases.store(s.leaseKey(a), &old)
	}
	return "", nil
}

// reassign gives an address that is held to another holder.
func (s *space) reassign(a address, to string) error {
	rec, found, err := s.record(a)
	if err != nil || !found || !rec.held() || rec.Port == to {
		return err
	}
	if err := s.holdings.remove(holdingPrefix(rec.Port) + s.leaseKey(a)); err != nil {
		return err
	}
	rec.Port = to
	if err := s.leases.store(s.leaseKey(a), &rec); err != nil {
		return err
	}
	return s.holdings.put(holdingPrefix(to)+s.leaseKey(a), nil)
}

// release lets an address rest. It need not be held.
func (s *space) release(a address) error {
	rec, found, err := s.record(a)
	if err != nil || !found || !rec.held() {
		return err
	}
	if err := s.holdings.remove(holdingPrefix(rec.Port) + s.leaseKey(a)); err != nil {
		return err
	}
	place, err := s.rest.sequence()
	if err != nil {
		return err
	}
	rec = record{Pool: rec.Pool, Place: place, Since: s.now.UnixNano()}
	if err := s.enqueue(a, rec); err != nil {
		return err
	}
	if err := s.leases.store(s.leaseKey(a), &rec); err != nil {
		return err
	}
	if err := s.trim(rec.Pool); err != nil {
		return err
	}
	return s.flush()
}

// resting reports whether a released address is in quarantine. After the clock was
// set back it may rest too long, but never keeps a pool from being used.
func (s *space) resting(rec record) bool {
	return s.now.Sub(time.Unix(0, rec.Since)) < s.quarantine
}

// trim forgets the oldest of a queue that is too long, two per release, so that
// it shrinks. What no pool has met need not be remembered beyond its quarantine.
func (s *space) trim(pool uint64) error {
	st, err := s.state(pool)
	if err != nil {
		return err
	}
	longest := maxResting
	if pool == noPool {
		longest = 0
	}
	for range 2 {
		if st.Resting <= longest {
			return nil
		}
		a, found, err := s.oldest(pool)
		if err != nil || !found {
			return err
		}
		rec, _, err := s.record(a)
		if err != nil || s.resting(rec) {
			return err
		}
		if err := s.dequeue(rec); err != nil {
			return err
		}
		if err := s.leases.remove(s.leaseKey(a)); err != nil {
			return err
		}
		st.Forgot = pool != noPool
	}
	return nil
}

// oldest returns the address of the pool's queue that was released first.
func (s *space) oldest(pool uint64) (a address, found bool, err error) {
	prefix := s.poolKey(pool)
	err = s.rest.walk(prefix, prefix, func(r row) error {
		if len(r.body) != len(a) {
			return s.rest.file.fault(errors.New("a resting address has the wrong length"))
		}
		a, found = address(r.body), true
		return errStop
	})
	return a, found, err
}

func (s *space) enqueue(a address, rec record) error {
	st, err := s.state(rec.Pool)
	if err != nil {
		return err
	}
	st.Resting++
	return s.rest.put(s.restKey(rec.Pool, rec.Place), a[:])
}

func (s *space) dequeue(rec record) error {
	st, err := s.state(rec.Pool)
	if err != nil {
		return err
	}
	st.Resting--
	return s.rest.remove(s.restKey(rec.Pool, rec.Place))
}

func (s *space) record(a address) (rec record, found bool, err error) {
	found, err = s.leases.load(s.leaseKey(a), &rec)
	return rec, found, err
}

func (s *space) state(pool uint64) (*poolState, error) {
	if st := s.states[pool]; st != nil {
		return st, nil
	}
	st := new(poolState)
	_, err := s.pools.load(s.poolKey(pool), st)
	s.states[pool] = st
	return st, err
}

func (s *space) flush() error {
	for id, st := range s.states {
		if err := s.pools.store(s.poolKey(id), st); err != nil {
			return err
		}
	}
	return nil
}

// each visits the space's records in order of address.
func (s *space) each(visit func(address, record) error) error {
	return s.leases.walk(s.prefix(), s.prefix(), func(r row) error {
		var rec record
		if err := s.leases.decode(r.body, &rec); err != nil {
			return err
		}
		if len(r.key) != len(s.prefix())+len(address{}) {
			return s.leases.file.fault(errors.New("a lease has a key of the wrong length"))
		}
		return visit(address(r.key[len(s.prefix()):]), rec)
	})
}

// forget drops all that rests and every cursor, and keeps what is held.
func (s *space) forget() error {
	var rested []string
	err := s.each(func(a address, rec record) error {
		if !rec.held() {
			rested = append(rested, string(a[:]))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, a := range rested {
		if err := s.leases.remove(s.prefix() + a); err != nil {
			return err
		}
	}
	for _, t := range []table{s.rest, s.pools} {
		keys, err := t.keys(s.prefix())
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := t.remove(s.prefix() + key); err != nil {
				return err
			}
		}
	}
	return nil
}
