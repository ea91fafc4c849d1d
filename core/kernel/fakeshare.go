package kernel

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (f *Fake) carryOutAtShares(step plan.Step) error {
	var netdev string
	switch s := step.(type) {
	case plan.MakeShares:
		netdev = s.Netdev
	case plan.SetShares:
		netdev = s.Netdev
	case plan.DeleteShares:
		if l := f.host.links[s.Netdev]; l != nil {
			l.shares, l.shared = nil, nil
		}
		return nil
	default:
		return f.carryOutAtMirror(step)
	}
	l, err := f.host.link(netdev)
	if err != nil {
		return err
	}
	if !f.caps.Shares {
		return refused(vswitch.CapabilityMissing, syscall.EOPNOTSUPP, "this kernel lacks one of %s", ShareSymbols)
	}
	switch s := step.(type) {
	case plan.MakeShares:
		t := s.Tree
		t.Classes = maps.Clone(t.Classes)
		l.shares, l.shared, l.root = &t, nil, ""
	case plan.SetShares:
		if l.shares == nil {
			return refused(vswitch.NotFound, syscall.ENOENT, "classes of %s", netdev)
		}
		t := plan.Tree{Rate: s.Rate, Default: s.Default, Classes: maps.Clone(l.shares.Classes)}
		maps.DeleteFunc(t.Classes, func(mac vswitch.MAC, c plan.Class) bool { return s.Gone[mac] == c })
		maps.DeleteFunc(l.shared, func(mac vswitch.MAC, _ ClassCounters) bool { _, gone := s.Gone[mac]; return gone })
		maps.Copy(t.Classes, s.Changed)
		maps.Copy(t.Classes, s.New)
		l.shares = &t
	}
	return nil
}

func (f *Fake) observeShares(scope plan.State, seen *plan.State) {
	for netdev, want := range scope.Shares {
		l := f.host.links[netdev]
		if l == nil {
			continue
		}
		s := plan.Sharing{}
		if len(want.Ports) > 0 {
			s.Link = uint64(l.Speed) * 1e6
		}
		s.Queue = l.root
		if l.shares != nil {
			t := *l.shares
			t.Classes = maps.Clone(t.Classes)
			s.Tree = &t
		}
		put(&seen.Shares, netdev, s)
	}
}

// SetSpeed has a NIC run at so many Mbit/s, or at nobody knows how many, as ethtool does where
// the link stays.
func (f *Fake) SetSpeed(netdev string, speed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	if l := f.host.links[netdev]; l != nil {
		l.Speed = speed
	}
}

// GiveQueue gives a netdev a root queue in the place of the one that it has, as `tc qdisc
// replace` does; "" is the kernel's own.
func (f *Fake) GiveQueue(netdev, queue string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	if l := f.host.links[netdev]; l != nil {
		l.root, l.shares, l.shared = queue, nil, nil
	}
}

// DropShares takes a netdev's classes away, as `tc qdisc del` does.
func (f *Fake) DropShares(netdev string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	if l := f.host.links[netdev]; l != nil {
		l.shares, l.shared = nil, nil
	}
}

func (l *fakeLink) drawShares(b *strings.Builder) {
	if l.shares == nil {
		return
	}
	line(b, true, "  htb %dbit, others %dbit quantum %d", l.shares.Rate*8, l.shares.Default.Rate*8, l.shares.Default.Quantum)
	for _, mac := range slices.SortedFunc(maps.Keys(l.shares.Classes), func(a, b vswitch.MAC) int { return bytes.Compare(a[:], b[:]) }) {
		c := l.shares.Classes[mac]
		line(b, true, "  htb from %s %dbit ceil %dbit quantum %d", mac, c.Rate*8, c.Ceil*8, c.Quantum)
	}
}
