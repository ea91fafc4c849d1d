package plan

import (
	"cmp"
	"maps"
	"slices"
)

// HostNote is what has to be known to bring the host back to where it came from.
type HostNote struct {
	// Origin is the netdev on which the host lived before any switch, "" if that is not
	// known.
	Origin string `json:"origin,omitempty"`
	// Left are the netdevs that the host has left, with the settings that they had and
	// are to have again.
	Left map[string]map[string]string `json:"left,omitempty"`
	// Port are the settings that the host port is to have, and Former those that it had
	// before the host came.
	Port   map[string]string `json:"port,omitempty"`
	Former map[string]string `json:"former,omitempty"`
	// Items are on their way, or kept for the host while it has no port on the switch.
	Items []Item `json:"items,omitempty"`
	// Past tells that the note was taken before the host booted.
	Past bool `json:"-"`
}

// Empty reports that there is nothing to be known.
func (n HostNote) Empty() bool { return len(n.Left) == 0 && len(n.Items) == 0 && n.Origin == "" }

// Lasting is what of the note outlives a reboot: what has a time to live may be another
// host's by then. Of a family of which an address is not kept no route is, that may need
// it.
func (n HostNote) Lasting() HostNote {
	var lost4, lost6 bool
	for _, i := range n.Items {
		if i.Kind == ItemAddress && i.Fleeting {
			lost4, lost6 = lost4 || i.Prefix.Addr().Is4(), lost6 || i.Prefix.Addr().Is6()
		}
	}
	n.Items = slices.DeleteFunc(slices.Clone(n.Items), func(i Item) bool {
		needs4 := i.Prefix.IsValid() && i.Prefix.Addr().Is4() || i.Gateway.Is4()
		needs6 := i.Prefix.IsValid() && i.Prefix.Addr().Is6() || i.Gateway.Is6()
		way := i.Kind == ItemRoute || i.Kind == ItemNexthop
		return i.Fleeting || i.Passing || i.Kind == ItemResidue || way && (needs4 && lost4 || needs6 && lost6)
	})
	return n
}

// since is the note as it counts now. Where the host has configured a netdev anew since
// it booted, that is what it wants, and what was kept from before is not.
func (n HostNote) since(there map[string]Addressing, netdevs []string) HostNote {
	if !n.Past || !slices.ContainsFunc(netdevs, func(name string) bool { return there[name].CarriesHost() }) {
		return n
	}
	return HostNote{Origin: n.Origin}
}

// With is n and what more knows besides.
func (n HostNote) With(more HostNote) HostNote {
	n.Left, n.Port, n.Former = merge(n.Left, more.Left), merge(n.Port, more.Port), merge(n.Former, more.Former)
	n.Items, n.Origin = appendNew(n.Items, more.Items, Item.ID), cmp.Or(n.Origin, more.Origin)
	return n
}

// leaving is the note with a netdev more that the host leaves.
func (n HostNote) leaving(netdev string, settings map[string]string) HostNote {
	n.Left = maps.Clone(n.Left)
	if n.Left == nil {
		n.Left = make(map[string]map[string]string)
	}
	n.Left[netdev] = settings
	return n
}
