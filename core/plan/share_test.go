package plan_test

import (
	"testing"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// FuzzSharing: whatever is promised of whatever link, the classes are promised no more than it
// carries, each its part, and a port keeps the class that it had.
func FuzzSharing(f *testing.F) {
	f.Add(false, uint32(1), uint64(1e9), []byte{50, 100, 1})
	f.Add(true, uint32(0), uint64(1e9), []byte{50, 100, 1})
	f.Add(true, uint32(1e6), uint64(400e9), []byte{255, 255, 0, 7})
	f.Fuzz(func(t *testing.T, absolute bool, others uint32, link uint64, of []byte) {
		link = 1000 + link%1_000_000_000_000
		s := plan.Sharing{Absolute: absolute, Default: uint64(others), Ports: make(map[vswitch.MAC]uint64)}
		if !absolute {
			s.Default = 1 + uint64(others)%100
		}
		for i, n := range of {
			if mac := (vswitch.MAC{2, 0, 0, 0, byte(i >> 4), byte(i)}); n > 0 && absolute {
				s.Ports[mac] = uint64(n) * 8_000_000
			} else if n > 0 {
				s.Ports[mac] = 1 + uint64(n)%100
			}
		}
		tree := s.On(link, nil)
		if tree == nil {
			if len(s.Ports) > 0 {
				t.Fatal("no classes")
			}
			return
		}
		total, ids := tree.Default.Rate, map[uint16]bool{plan.RootClass: true, plan.DefaultClass: true}
		for mac, c := range tree.Classes {
			total += c.Rate
			if ids[c.ID] || c.ID > 0xfff {
				t.Fatalf("class %#x is not its own", c.ID)
			}
			ids[c.ID] = true
			if n := s.Ports[mac]; absolute && s.Promised(link) <= link && c.Rate < n/8-1 {
				t.Errorf("%d bytes a second of %d bits that are promised", c.Rate, n)
			}
			if c.Quantum < 66_000 && c.Quantum < tree.Default.Quantum {
				t.Errorf("a turn of %d bytes is less than a packet", c.Quantum)
			}
		}
		if slack := uint64(125 * (len(of) + 1)); total > link/8+slack {
			t.Errorf("%d bytes a second of a link that carries %d", total, link/8)
		}
		delete(s.Ports, vswitch.MAC{2})
		again := s.On(link/2, tree)
		if again == nil {
			return
		}
		for mac, c := range again.Classes {
			if had, there := tree.Classes[mac]; there && had.ID != c.ID {
				t.Errorf("class %#x has become %#x", had.ID, c.ID)
			}
		}
	})
}

// A link tells so many ports apart; who comes after is part of the default flow.
func TestSharesOfTooMany(t *testing.T) {
	s := plan.Sharing{Default: 1, Ports: make(map[vswitch.MAC]uint64)}
	for i := range plan.MaxShares + 9 {
		s.Ports[vswitch.MAC{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)}] = 1
	}
	if got := len(s.On(1e9, nil).Classes); got != plan.MaxShares {
		t.Errorf("%d classes, want %d", got, plan.MaxShares)
	}
}
