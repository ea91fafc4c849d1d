package ethtool

import (
	"context"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Fake is NICs that exist in memory. It refuses what drivers refuse, and can be told to fail
// or die at the n-th change.
type Fake struct {
	mu       sync.Mutex
	nics     map[string]*FakeNIC
	changes  int
	before   func(n int) error
	after    func(n int)
	watchers map[chan struct{}]bool
}

// FakeNIC is a NIC of a Fake.
type FakeNIC struct {
	Adapter
	Driver string
	Queues int
	NTuple Switch
	Rules  Rules
	// Ruleless drivers have no rules at all.
	Ruleless bool
	Table    []uint32
	// Counted is what each queue received.
	Counted map[int]uint64
	// Refuse is with what new rules are refused; NoVLAN that they cannot match one.
	Refuse error
	NoVLAN bool
	// Forgetful drivers accept rules and tell others than those that they accepted.
	Forgetful bool

	own bool // the table is the driver's own
}

// NewFake makes a Fake with NICs. Their indirection tables are the driver's own.
func NewFake(nics ...FakeNIC) *Fake {
	f := &Fake{nics: map[string]*FakeNIC{}, watchers: map[chan struct{}]bool{}}
	for i := range nics {
		n := nics[i]
		n.own = true
		n.spread()
		f.nics[n.Netdev] = &n
	}
	return f
}

// spread fills the table as drivers do (ethtool_rxfh_indir_default).
func (n *FakeNIC) spread() {
	for i := range n.Table {
		n.Table[i] = uint32(i % n.Queues)
	}
}

// Interrupt has functions called before the n-th change, which fails if it returns an
// error, and after it; either may be nil. Counting begins at 1 again.
func (f *Fake) Interrupt(before func(n int) error, after func(n int)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes, f.before, f.after = 0, before, after
}

// Alter is what somebody else does to a NIC; with nil the NIC goes. Watchers are told of it.
func (f *Fake) Alter(netdev string, do func(*FakeNIC)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if do == nil {
		delete(f.nics, netdev)
	} else {
		n := f.nics[netdev]
		was := n.Queues
		if do(n); n.own && n.Queues != was {
			n.spread()
		}
	}
	for w := range f.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// NIC is a NIC as it is now.
func (f *Fake) NIC(netdev string) FakeNIC {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := *f.nics[netdev]
	n.Table, n.Rules.All, n.Counted = slices.Clone(n.Table), slices.Clone(n.Rules.All), maps.Clone(n.Counted)
	return n
}

// read finds a NIC.
func (f *Fake) read(netdev string, do func(*FakeNIC) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, there := f.nics[netdev]
	if !there {
		return unix.ENODEV
	}
	return do(n)
}

// change is read of what alters something.
func (f *Fake) change(netdev string, do func(*FakeNIC) error) error {
	return f.read(netdev, func(n *FakeNIC) error {
		f.changes++
		if f.before != nil {
			if err := f.before(f.changes); err != nil {
				return err
			}
		}
		if err := do(n); err != nil {
			return err
		}
		if f.after != nil {
			f.after(f.changes)
		}
		return nil
	})
}

// Adapters is Conn's.
func (f *Fake) Adapters() ([]Adapter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Adapter
	for _, netdev := range slices.Sorted(maps.Keys(f.nics)) {
		all = append(all, f.nics[netdev].Adapter)
	}
	return all, nil
}

// Driver is Conn's.
func (f *Fake) Driver(netdev string) (name string, err error) {
	err = f.read(netdev, func(n *FakeNIC) error { name = n.Driver; return nil })
	return name, err
}

// Queues is Conn's.
func (f *Fake) Queues(netdev string) (queues int, err error) {
	err = f.read(netdev, func(n *FakeNIC) error { queues = n.Queues; return nil })
	return queues, err
}

// NTuple is Conn's.
func (f *Fake) NTuple(netdev string) (s Switch, err error) {
	err = f.read(netdev, func(n *FakeNIC) error { s = n.NTuple; return nil })
	return s, err
}

// SetNTuple is Conn's.
func (f *Fake) SetNTuple(netdev string, on bool) error {
	return f.change(netdev, func(n *FakeNIC) error {
		if n.NTuple.Fixed {
			return nil
		}
		if n.NTuple.On = on; !on {
			n.Rules.All = nil
		}
		return nil
	})
}

// Rules is Conn's.
func (f *Fake) Rules(netdev string) (r Rules, err error) {
	err = f.read(netdev, func(n *FakeNIC) error {
		if n.Ruleless {
			return unix.EOPNOTSUPP
		}
		r = n.Rules
		r.All = slices.Clone(r.All)
		return nil
	})
	return r, err
}

// Insert is Conn's.
func (f *Fake) Insert(netdev string, r Rule, have Rules) (uint32, error) {
	err := f.change(netdev, func(n *FakeNIC) error {
		switch {
		case !n.NTuple.On:
			return unix.EOPNOTSUPP
		case n.Refuse != nil:
			return n.Refuse
		case r.Queue < 0 || r.Queue >= n.Queues, n.NoVLAN && r.VLAN != 0, r.MAC == vswitch.MAC{}:
			return unix.EINVAL
		}
		free, err := Rules{Slots: n.Rules.Slots, All: n.Rules.All}.free()
		if err != nil {
			return err
		}
		if r.Location = free; !n.Rules.Placed {
			if r.Location, err = have.free(); err != nil {
				return err
			}
		}
		r.Plain = !n.Forgetful
		n.Rules.All = append(n.Rules.All, r)
		return nil
	})
	return r.Location, err
}

// Delete is Conn's.
func (f *Fake) Delete(netdev string, location uint32) error {
	return f.change(netdev, func(n *FakeNIC) error {
		i := slices.IndexFunc(n.Rules.All, func(r Rule) bool { return r.Location == location })
		if i < 0 {
			return unix.ENOENT
		}
		n.Rules.All = slices.Delete(n.Rules.All, i, i+1)
		return nil
	})
}

// Indirection is Conn's.
func (f *Fake) Indirection(netdev string) (table []uint32, err error) {
	err = f.read(netdev, func(n *FakeNIC) error { table = slices.Clone(n.Table); return nil })
	return table, err
}

// SetIndirection is Conn's.
func (f *Fake) SetIndirection(netdev string, table []uint32) error {
	return f.change(netdev, func(n *FakeNIC) error {
		if n.Table == nil {
			return unix.EOPNOTSUPP
		}
		if n.own = table == nil; n.own {
			n.spread()
			return nil
		}
		if len(table) != len(n.Table) || int(slices.Max(table)) >= n.Queues {
			return unix.EINVAL
		}
		copy(n.Table, table)
		return nil
	})
}

// QueueCounters is Conn's.
func (f *Fake) QueueCounters(a Adapter, queue int) (counted map[string]uint64, err error) {
	err = f.read(a.Netdev, func(n *FakeNIC) error {
		counted = map[string]uint64{"rx_packets": n.Counted[queue]}
		return nil
	})
	return counted, err
}

// Watch is Conn's.
func (f *Fake) Watch(ctx context.Context, ready, tell func()) error {
	changed := make(chan struct{}, 1)
	f.mu.Lock()
	f.watchers[changed] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, changed)
	}()
	ready()
	for {
		select {
		case <-changed:
			tell()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
