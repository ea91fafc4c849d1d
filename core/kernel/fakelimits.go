package kernel

import (
	"strings"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (f *Fake) setLimits(s plan.SetLimits) error {
	want, had := s.Limits, s.Had
	via := f.host.links[want.Via]
	port, err := f.host.link(s.Port)
	if err != nil && want.Any() {
		return err
	}
	if want.Any() && !f.caps.Limits {
		return refused(vswitch.CapabilityMissing, syscall.EOPNOTSUPP, "this kernel lacks one of %s", LimitSymbols)
	}
	if via != nil && !ourShaper(via) {
		return refused(vswitch.AlreadyExists, syscall.EEXIST, "netdev %s", want.Via)
	}
	if want.From.IsZero() && !had.From.IsZero() {
		if port != nil {
			port.steer = nil
		}
		if via != nil {
			via.remove()
		}
	}
	if want.To != had.To && port != nil {
		port.queue = want.To
	}
	switch {
	case want.From == had.From || want.From.IsZero():
		return nil
	case s.Steered() && via == nil:
		return refused(vswitch.NotFound, syscall.ENODEV, "netdev %s", want.Via)
	case via == nil:
		if err := f.host.nameFree(want.Via); err != nil {
			return err
		}
		via = f.host.add(Netdev{Name: want.Via, Kind: "ifb", MTU: vswitch.DefaultMTU, Ethernet: true})
		via.group = s.Group
	}
	via.Alias, via.Up, via.queue = want.Alias, true, want.From
	port.steer = via
	return nil
}

func ourShaper(l *fakeLink) bool {
	return l.Kind == "ifb" && isOurs(link{kind: l.Kind, alias: l.Alias, group: l.group})
}

// observeLimits is observer.limits.
func (f *Fake) observeLimits(l *fakeLink, scope plan.Limits) plan.Limits {
	seen := plan.Limits{Via: scope.Via, Alias: scope.Alias}
	if !scope.Any() {
		return seen
	}
	seen.To = l.queue
	via := f.host.links[scope.Via]
	if scope.Via == "" || via == nil && l.steer == nil {
		return seen
	}
	if seen.From = plan.InParts(); via != nil && l.steer == via && via.Up && ourShaper(via) && via.Alias == scope.Alias && !via.queue.IsZero() {
		seen.From = via.queue
	}
	return seen
}

// nowhere is what becomes of filters that lead to a netdev that is gone: what they are
// for is lost with it.
func (l *fakeLink) nowhere() {
	for _, other := range l.ns.links {
		if other.steer == l {
			other.steer = other
		}
	}
}

// DropQueues takes away what a netdev of the host has of limits, as `tc qdisc del` does.
func (f *Fake) DropQueues(netdev string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	if l := f.host.links[netdev]; l != nil {
		l.queue, l.steer = plan.Shape{}, nil
		for _, m := range f.mirrors {
			if m.source == l {
				m.destinations = nil
			}
		}
	}
}

func (l *fakeLink) drawLimits(b *strings.Builder) {
	line(b, !l.queue.IsZero(), "  tbf rate %dbit burst %db limit %d", l.queue.Rate*8, l.queue.Burst, l.queue.Queue)
	if l.steer != nil {
		line(b, true, "  redirect to %s", l.steer.Name)
	}
}
