package kernel

import (
	"context"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// SetCounters lets a netdev of the host have counted so much. It forgets what guards have
// dropped when they change, and all when it goes, as Linux does.
func (f *Fake) SetCounters(netdev string, c PortCounters) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if link := f.host.links[netdev]; link != nil {
		link.counters = c
	}
}

// PortCounters is Kernel's: what SetCounters said.
func (f *Fake) PortCounters(ctx context.Context) (map[string]PortCounters, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.answers(ctx); err != nil {
		return nil, err
	}
	all := make(map[string]PortCounters)
	for name, link := range f.host.links {
		all[name] = link.counters
	}
	return all, nil
}

// SetShareCounters lets the classes of a netdev have counted so much. A class that goes takes
// with it what it has counted, as on Linux.
func (f *Fake) SetShareCounters(netdev string, c ShareCounters) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if link := f.host.links[netdev]; link != nil {
		link.shared = c
	}
}

// ShareCounters is Kernel's: what SetShareCounters said, of the classes that are there.
func (f *Fake) ShareCounters(ctx context.Context, netdevs ...string) (map[string]ShareCounters, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.answers(ctx); err != nil {
		return nil, err
	}
	all := make(map[string]ShareCounters)
	for _, netdev := range netdevs {
		link := f.host.links[netdev]
		if link == nil || link.shares == nil {
			continue
		}
		all[netdev] = ShareCounters{{}: link.shared[vswitch.MAC{}]}
		for mac := range link.shares.Classes {
			all[netdev][mac] = link.shared[mac]
		}
	}
	return all, nil
}

// SetMirrorCounters lets so much have been copied of a netdev's frames.
func (f *Fake) SetMirrorCounters(netdev string, c MirrorCounters) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if link := f.host.links[netdev]; link != nil {
		link.copied = c
	}
}

// MirrorCounters is Kernel's: what SetMirrorCounters said.
func (f *Fake) MirrorCounters(ctx context.Context, netdevs ...string) (map[string]MirrorCounters, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.answers(ctx); err != nil {
		return nil, err
	}
	all := make(map[string]MirrorCounters)
	for _, netdev := range netdevs {
		if link := f.host.links[netdev]; link != nil {
			all[netdev] = link.copied
		}
	}
	return all, nil
}

// through is what is left of the counts when guards change: those of guards that stay.
func (d GuardDrops) through(before, after plan.Guards) GuardDrops {
	if !before.DHCP || !after.DHCP {
		d.DHCP = 0
	}
	if !before.Router || !after.Router {
		d.Router = 0
	}
	if before.Bound == "" || after.Bound == "" {
		d.Address = 0
	}
	if before.Storm != after.Storm || after.Storm == 0 {
		d.Storm = 0
	}
	return d
}
