package kernel

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
)

// SetAddressing gives the host all that it has on a netdev, in place of what it had.
func (f *Fake) SetAddressing(netdev string, a plan.Addressing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	if link := f.host.links[netdev]; link != nil {
		link.items, link.settings = nil, maps.Clone(a.Settings)
		delete(f.host.rules, netdev)
		for _, i := range a.Items {
			if i.Kind == plan.ItemRule {
				f.host.rule(netdev, i)
			} else {
				link.items = append(link.items, i)
			}
		}
		link.sortItems()
	}
}

// Addressing is Kernel's.
func (f *Fake) Addressing(ctx context.Context, netdev string) (plan.Addressing, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.answers(ctx); err != nil {
		return plan.Addressing{}, err
	}
	link, err := f.host.link(netdev)
	if err != nil {
		return plan.Addressing{}, err
	}
	return link.addressing(), nil
}

func (l *fakeLink) addressing() plan.Addressing {
	a := plan.Addressing{Settings: map[string]string{"ipv4/rp_filter": "0", "ipv4/arp_ignore": "0", "ipv6/addr_gen_mode": "0", "ipv6/disable_ipv6": "0"}}
	maps.Copy(a.Settings, l.settings)
	for _, i := range l.all() {
		i.Dev = l.Name
		i.Shared = i.Kind == plan.ItemRoute && l.ns.has(i, l)
		a.Items = append(a.Items, i)
	}
	for _, own := range l.addresses {
		a.Items = append(a.Items, AddressItem(own.Prefix))
	}
	return a.With(plan.Addressing{})
}

const settingNoIPv6 = "ipv6/disable_ipv6"

// all is what the host has on a netdev, with the rules that name it.
func (l *fakeLink) all() []plan.Item { return slices.Concat(l.items, l.ns.rules[l.Name]) }

// rule adds a rule that names a netdev, there or not.
func (ns *fakeNetns) rule(netdev string, i plan.Item) {
	if slices.ContainsFunc(ns.rules[netdev], func(have plan.Item) bool { return have.ID() == i.ID() }) {
		return
	}
	ns.rules[netdev] = append(ns.rules[netdev], i)
	slices.SortFunc(ns.rules[netdev], func(a, b plan.Item) int { return cmp.Compare(a.Key, b.Key) })
}

// AddressItem is an address without anything special, as an item for a Fake.
func AddressItem(p netip.Prefix) plan.Item {
	return plan.Item{Kind: plan.ItemAddress, Key: p.String(), Words: p.String() + " dev %", Prefix: p}
}

// has reports whether a netdev other than l has the item.
func (ns *fakeNetns) has(i plan.Item, l *fakeLink) bool {
	for _, other := range ns.links {
		if other != l && slices.ContainsFunc(other.items, func(have plan.Item) bool { return have.ID() == i.ID() }) {
			return true
		}
	}
	return false
}

func (f *Fake) carryOutForHost(step plan.Step) error {
	switch s := step.(type) {
	case plan.SetSettings:
		link, err := f.host.link(s.Netdev)
		if err != nil {
			return nil //nolint:nilerr // no file to write to
		}
		if link.settings == nil {
			link.settings = make(map[string]string)
		}
		maps.Copy(link.settings, s.Settings)
		if s.Settings[settingNoIPv6] == "1" {
			link.flushIPv6()
			link.items = slices.DeleteFunc(link.items, func(i plan.Item) bool { return i.Kind != plan.ItemRule && i.Prefix.Addr().Is6() })
		}
		return nil
	case plan.CarryItem:
		link, err := f.host.link(s.Netdev)
		if err != nil {
			return err
		}
		return link.carry(s.Item)
	case plan.DropItem:
		if s.Item.Kind == plan.ItemRule {
			f.host.rules[s.Netdev] = slices.DeleteFunc(f.host.rules[s.Netdev], func(i plan.Item) bool { return i.ID() == s.Item.ID() })
		} else if link := f.host.links[s.Netdev]; link != nil {
			link.drop(s.Item.ID())
		}
		return nil
	case plan.Announce:
		return nil
	}
	return fmt.Errorf("step %T is unknown: %w", step, syscall.ENOTSUP)
}

// carry adds an item. A route or a nexthop leaves the netdev that had it, unless both
// are wanted.
func (l *fakeLink) carry(i plan.Item) error {
	switch i.Kind {
	case plan.ItemResidue:
		return nil // is made by the kernel alone
	case plan.ItemAddress:
		if i.Prefix.Addr().Is6() && l.settings[settingNoIPv6] == "1" {
			return fmt.Errorf("address %s on %s, which has no IPv6: %w", i.Prefix, l.Name, syscall.EACCES)
		}

	case plan.ItemRule:
		l.ns.rule(l.Name, i)
		return nil
	case plan.ItemRoute, plan.ItemNexthop:
		if err := l.mayRoute(i); err != nil {
			return err
		}
		for _, other := range l.ns.links {
			if other != l && !i.Shared {
				other.forget(i.ID())
			}
		}
	}
	if !slices.ContainsFunc(l.items, func(have plan.Item) bool { return have.ID() == i.ID() }) {
		i.Secondary = i.Kind == plan.ItemAddress && l.first(i.Prefix).IsValid()
		l.items = append(l.items, i)
		l.sortItems()
	}
	return nil
}

func (l *fakeLink) sortItems() {
	slices.SortStableFunc(l.items, func(a, b plan.Item) int { return cmp.Compare(addressRank(a), addressRank(b)) })
}

// addressRank keeps the order of addresses, which tells the primary of a subnet.
func addressRank(i plan.Item) string {
	if i.Kind == plan.ItemAddress {
		return ""
	}
	return string(i.Kind) + i.Key
}

// first is the first IPv4 address of a subnet that the netdev has.
func (l *fakeLink) first(p netip.Prefix) netip.Prefix {
	for _, have := range l.items {
		if have.Kind == plan.ItemAddress && p.Addr().Is4() && have.Prefix.Masked() == p.Masked() {
			return have.Prefix
		}
	}
	return netip.Prefix{}
}

// mayRoute refuses what Linux refuses of a route.
func (l *fakeLink) mayRoute(i plan.Item) error {
	if !l.Up {
		return fmt.Errorf("route %s by %s, which is down: %w", i.Key, l.Name, syscall.ENETDOWN)
	}
	if i.Source.IsValid() && !l.ns.local(i.Source) {
		return fmt.Errorf("route %s from %s, which is no address of this host: %w", i.Key, i.Source, syscall.EINVAL)
	}
	if !i.Gateway.IsValid() || i.Onlink || i.Gateway.IsLinkLocalUnicast() {
		return nil
	}
	for _, have := range l.items {
		if have.Kind == plan.ItemAddress && have.Prefix.Contains(i.Gateway) {
			return nil
		}
	}
	return fmt.Errorf("route %s via %s: %w", i.Key, i.Gateway, syscall.ENETUNREACH)
}

// local reports whether a netdev has the address.
func (ns *fakeNetns) local(a netip.Addr) bool {
	for _, l := range ns.links {
		for _, have := range l.items {
			if have.Kind == plan.ItemAddress && have.Prefix.Addr() == a {
				return true
			}
		}
	}
	return false
}

func (l *fakeLink) forget(id plan.ItemID) {
	l.items = slices.DeleteFunc(l.items, func(i plan.Item) bool { return i.ID() == id })
}

// drop removes an item, and with the first IPv4 address of a subnet the other ones,
// with an address that the host has nowhere else the routes from it, and with the last
// IPv4 address of the netdev its routes.
func (l *fakeLink) drop(id plan.ItemID) {
	at := slices.IndexFunc(l.items, func(i plan.Item) bool { return i.ID() == id })
	if at < 0 {
		return
	}
	gone := l.items[at]
	primary := l.first(gone.Prefix) == gone.Prefix
	l.forget(id)
	if gone.Kind != plan.ItemAddress {
		return
	}
	if gone.Prefix.Addr().Is4() && primary {
		l.items = slices.DeleteFunc(l.items, func(i plan.Item) bool {
			return i.Kind == plan.ItemAddress && i.Prefix.Masked() == gone.Prefix.Masked()
		})
	}
	for _, other := range l.ns.links {
		other.items = slices.DeleteFunc(other.items, func(i plan.Item) bool {
			return i.Kind == plan.ItemRoute && i.Source.IsValid() && !l.ns.local(i.Source)
		})
	}
	none := !slices.ContainsFunc(l.items, func(i plan.Item) bool { return i.Kind == plan.ItemAddress && i.Prefix.Addr().Is4() })
	if gone.Prefix.Addr().Is4() && none {
		l.items = slices.DeleteFunc(l.items, func(i plan.Item) bool { return i.Kind == plan.ItemRoute && i.Prefix.Addr().Is4() })
	}
}

// downItems is what the host loses with a netdev that goes down.
func (l *fakeLink) downItems() {
	l.items = slices.DeleteFunc(l.items, func(i plan.Item) bool {
		v6 := i.Kind == plan.ItemAddress && i.Prefix.Addr().Is6()
		return v6 || slices.Contains([]plan.ItemKind{plan.ItemRoute, plan.ItemNexthop, plan.ItemNeighbour}, i.Kind)
	})
}
