package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TestReleaseUnused: of a VM that has stopped what was seen goes, of one that nobody knows what
// nobody can use, and all else stays.
func TestReleaseUnused(t *testing.T) {
	const mark = "patchbay-tap: vm=" + webUUID
	tap := func(edit func(*kernel.Netdev)) kernel.Netdev {
		n := vnet("vnet0", 40)
		edit(&n)
		return n
	}
	for _, c := range []struct {
		name    string
		tap     kernel.Netdev // none: the port waits for it
		stopped bool
		then    func(*lab) // after it was seen
		gone    bool
		left    bool // the tap
	}{
		{name: "known to nobody, in use", tap: tap(func(*kernel.Netdev) {}), left: true},
		{name: "known to nobody, our tap in use", tap: tap(func(n *kernel.Netdev) { n.Alias = mark }), left: true},
		{name: "known to nobody, a pair whose end is down", tap: tap(func(n *kernel.Netdev) { n.Kind, n.Carrier = "veth", false }), left: true},
		{name: "known to nobody, not in use", tap: tap(func(n *kernel.Netdev) { n.Carrier = false }), gone: true, left: true},
		{name: "known to nobody, our tap not in use", tap: tap(func(n *kernel.Netdev) { n.Alias, n.Carrier = mark, false }), gone: true},
		{name: "known to nobody, no tap", gone: true},
		{name: "stopped, with a tap", tap: tap(func(*kernel.Netdev) {}), stopped: true, gone: true, left: true},
		{name: "stopped, with our tap", tap: tap(func(n *kernel.Netdev) { n.Alias = mark }), stopped: true, gone: true},
		{name: "bound since", stopped: true, then: func(l *lab) {
			l.kernel.AddNetdev(vnet("vnet0", 40))
			l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0"})
		}, left: true},
		{name: "our tap made anew since", tap: tap(func(n *kernel.Netdev) { n.Alias = mark }), stopped: true, then: func(l *lab) {
			l.kernel.RemoveNetdev("vnet0")
			l.kernel.AddNetdev(tap(func(n *kernel.Netdev) { n.Alias, n.Index, n.Master = mark, 41, "" }))
		}, gone: true, left: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			ctx := context.Background()
			l.mustAdd(internal())
			seen := l.mustReserve(reserveWeb("p1"))
			other := reserveWeb("p2")
			other.MAC = dbMAC
			l.mustReserve(other)
			if c.tap.Name != "" {
				l.kernel.AddNetdev(c.tap)
				seen = l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0"})
			}
			must(t, l.ExpectDomain(ctx, engine.ExpectDomainRequest{Domain: seen.Owner.Domain()}))
			if c.then != nil {
				c.then(l)
			}
			gone, err := l.ReleaseUnused(ctx, seen, c.stopped)
			must(t, err)
			_, there, err := l.Attached(ctx, vm("p1"))
			if must(t, err); gone != c.gone || there == c.gone {
				t.Errorf("gone: %v; there: %v", gone, there)
			}
			if gone, err := l.ReleaseUnused(ctx, seen, c.stopped); gone || err != nil {
				t.Errorf("once more: %v, %v", gone, err)
			}
			n, err := l.kernel.Netdev(ctx, "vnet0")
			if left := !errors.Is(err, vswitch.NotFound); left != c.left {
				t.Errorf("its tap: %+v", n)
			}
			if c.gone && n.Master != "" {
				t.Errorf("its tap is in bridge %s", n.Master)
			}
			beside := dbVnet("vnet2", 42)
			l.kernel.AddNetdev(beside)
			if p := l.mustBind(engine.BindPortRequest{Owner: vm("p2"), Netdev: beside.Name}); p.VM.Stage != vswitch.VMIncoming {
				t.Errorf("the VM is not expected any more: %+v", p)
			}
		})
	}
}
