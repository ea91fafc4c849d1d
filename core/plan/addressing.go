package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Addressing is what the host has on one netdev: its addresses, the routes, rules and
// neighbours that name it, and its settings.
type Addressing struct {
	// Items are in the order in which they are to be added; they go the other way round.
	Items []Item `json:"items,omitempty"`
	// Settings are values under net.ipv4.conf.NETDEV and net.ipv6.conf.NETDEV, by names
	// like "ipv4/rp_filter".
	Settings map[string]string `json:"settings,omitempty"`
}

// ItemKind is what an Item is.
type ItemKind string

// The kinds, in the order in which items are added: an address has to be there before
// a route that names it as its source, and a nexthop before its routes.
const (
	// ItemResidue is a route that the kernel makes by itself for an address and may
	// leave behind when the address goes: it is removed, last of all, and never added.
	ItemResidue   ItemKind = "residue"
	ItemNeighbour ItemKind = "neigh"
	ItemAddress   ItemKind = "addr"
	ItemNexthop   ItemKind = "nexthop"
	ItemRoute     ItemKind = "route"
	ItemRule      ItemKind = "rule"
)

// Item is one thing that the host has on a netdev. It is the same item on another
// netdev if Kind and Key are the same.
type Item struct {
	Kind ItemKind `json:"kind"`
	Key  string   `json:"key"`
	// Words is the item in the words of `ip`, with % for the netdev.
	Words string `json:"words"`
	// Dev is the netdev that the item was found on.
	Dev string `json:"dev"`
	// Prefix is an address with its subnet, or what a route leads to.
	Prefix netip.Prefix `json:"prefix,omitzero"`
	// Secondary tells that an IPv4 address goes when the first of its subnet goes.
	Secondary bool `json:"secondary,omitempty"`
	// Gateway and Source are those of a route, where it has one.
	Gateway netip.Addr `json:"gateway,omitzero"`
	Source  netip.Addr `json:"source,omitzero"`
	// Advertised tells that a router told the host of a route, and Temporary that the
	// kernel made an IPv6 address up for privacy: both move as if somebody had set them.
	Advertised bool `json:"advertised,omitempty"`
	Temporary  bool `json:"temporary,omitempty"`
	// Fleeting tells that an item does not outlive a reboot: it has a time to live, or
	// names another netdev by its number.
	Fleeting bool `json:"fleeting,omitempty"`
	// Onlink tells that a route's gateway need be in no subnet.
	Onlink bool `json:"onlink,omitempty"`
	// Shared tells that another netdev has a route to the same, of the same metric: one
	// of them cannot be replaced without the risk that it is the other.
	Shared bool `json:"shared,omitempty"`
	// Passing items are carried along as far as possible and missed by nobody: the
	// neighbours that the kernel found out itself.
	Passing bool `json:"passing,omitempty"`
	// Message is the kernel's own description, without the netdev's number and name.
	Message []byte `json:"message,omitempty"`
}

// ItemID is an item's identity.
type ItemID struct {
	Kind ItemKind
	Key  string
}

// ID returns the item's identity.
func (i Item) ID() ItemID { return ItemID{i.Kind, i.Key} }

// On is the item in the words of `ip`, on a netdev.
func (i Item) On(netdev string) string { return strings.ReplaceAll(i.Words, "%", netdev) }

// Empty reports whether there is nothing at all.
func (a Addressing) Empty() bool { return len(a.Items) == 0 && len(a.Settings) == 0 }

// CarriesHost reports whether the host uses the netdev: it has more there than what
// any netdev has that is up, a link-local IPv6 address.
func (a Addressing) CarriesHost() bool {
	return slices.ContainsFunc(a.Items, func(i Item) bool {
		own := i.Kind == ItemAddress && i.Prefix.Addr().Is6() && i.Prefix.Addr().IsLinkLocalUnicast()
		return !own && !i.Passing && i.Kind != ItemResidue
	})
}

// DefaultRoute is the first route to everywhere, or nil.
func (a Addressing) DefaultRoute() *Item {
	for _, i := range a.Items {
		if i.Kind == ItemRoute && i.Prefix.IsValid() && i.Prefix.Bits() == 0 {
			return &i
		}
	}
	return nil
}

// Lasting is a without what nobody misses: what has to be there after a move.
func (a Addressing) Lasting() Addressing {
	keep := slices.DeleteFunc(slices.Clone(a.Items), func(i Item) bool { return i.Passing || i.Kind == ItemResidue })
	return Addressing{Items: keep, Settings: a.Settings}
}

// With is a and what more has beside it.
func (a Addressing) With(more Addressing) Addressing {
	out := Addressing{Items: appendNew(a.Items, more.Items, Item.ID), Settings: merge(a.Settings, more.Settings)}
	slices.SortStableFunc(out.Items, func(x, y Item) int { return x.Kind.rank() - y.Kind.rank() })
	return out
}

// Within is what a has of scope's items and settings.
func (a Addressing) Within(scope Addressing) Addressing {
	var out Addressing
	for _, i := range a.Items {
		if scope.has(i) {
			out.Items = append(out.Items, i)
		}
	}
	out.Settings = common(a.Settings, scope.Settings)
	return out
}

func (a Addressing) has(i Item) bool {
	return slices.ContainsFunc(a.Items, func(have Item) bool { return have.ID() == i.ID() })
}

func (k ItemKind) rank() int {
	return slices.Index([]ItemKind{ItemResidue, ItemNeighbour, ItemAddress, ItemNexthop, ItemRoute, ItemRule}, k)
}

// The steps that move the host from one netdev to another.
type (
	// SetSettings writes values under net.ipv4.conf and net.ipv6.conf of a netdev. One
	// that this kernel or netdev has not is left out.
	SetSettings struct {
		Netdev   string
		Settings map[string]string
	}
	// CarryItem adds an item to a netdev. A route or a nexthop is taken over from the
	// netdev that has it in one stroke.
	CarryItem struct {
		Netdev string
		Item   Item
	}
	// DropItem removes an item from a netdev.
	DropItem struct {
		Netdev string
		Item   Item
	}
	// Announce tells the network where the host's addresses are, by gratuitous ARP and
	// unsolicited neighbour advertisements. That one is not heard is no failure.
	Announce struct {
		Netdev    string
		Addresses []netip.Addr
	}
)

func (SetSettings) step() {}
func (CarryItem) step()   {}
func (DropItem) step()    {}
func (Announce) step()    {}

func (s SetSettings) String() string {
	var words []string
	for _, name := range sorted(s.Settings) {
		family, value, _ := strings.Cut(name, "/")
		words = append(words, fmt.Sprintf("net.%s.conf.%s.%s=%s", family, s.Netdev, value, s.Settings[name]))
	}
	return "sysctl -w " + strings.Join(words, " ")
}

func (s CarryItem) String() string {
	verb := "replace"
	switch {
	case s.Item.Kind == ItemRule:
		verb = "add"
	case s.Item.Shared:
		verb = "append"
	}
	return fmt.Sprintf("ip %s %s %s", s.Item.Kind, verb, s.Item.On(s.Netdev))
}

func (s DropItem) String() string {
	kind := s.Item.Kind
	if kind == ItemResidue {
		kind = ItemRoute
	}
	return fmt.Sprintf("ip %s del %s", kind, s.Item.On(s.Netdev))
}

func (s Announce) String() string {
	var words []string
	for _, a := range s.Addresses {
		if a.Is4() {
			words = append(words, fmt.Sprintf("arping -U -c 1 -I %s %s", s.Netdev, a))
		} else {
			words = append(words, fmt.Sprintf("ndsend %s %s", a, s.Netdev))
		}
	}
	return strings.Join(words, " && ")
}

func mergeHosts(a, b map[string]Addressing) map[string]Addressing {
	out := maps.Clone(b)
	for netdev, x := range a {
		if out == nil {
			out = make(map[string]Addressing)
		}
		out[netdev] = x.With(out[netdev])
	}
	return out
}
