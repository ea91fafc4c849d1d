package plan

import (
	"net/netip"
	"slices"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Guest is somebody behind a switch as the network outside knows him.
type Guest struct {
	MAC vswitch.MAC
	// VLANs are those that his frames leave the host in; 0 is without a tag. His
	// addresses are in the first one.
	VLANs     []int
	Addresses []netip.Addr
}

// Carriage is how a team's members share the traffic at one moment.
type Carriage struct {
	Mode    vswitch.TeamMode
	Members []string // in the order in which they joined
	Up      []string // those of them that have a link, in that order
	Active  string   // of an active/standby team
}

// Equal reports whether nothing has moved between the two.
func (c Carriage) Equal(other Carriage) bool {
	return c.Mode == other.Mode && c.Active == other.Active &&
		slices.Equal(c.Members, other.Members) && slices.Equal(c.Up, other.Up)
}

// Home is the member by which the frames of an address leave in a VLAN (0: without a
// tag); "" where no member is up, and where the physical switch has the members in a
// group, which is one port to it.
func (c Carriage) Home(mac vswitch.MAC, vlan int) string {
	switch {
	case c.Mode == vswitch.TeamActiveStandby:
		return c.Active
	case c.Mode == vswitch.TeamActiveActive && len(c.Up) > 0:
		return c.Up[srcMACHash(mac, vlan)%uint32(len(c.Up))]
	}
	return ""
}

// srcMACHash is the kernel's bond_vlan_srcmac_hash.
func srcMACHash(mac vswitch.MAC, vlan int) uint32 {
	half := func(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }
	return uint32(vlan) ^ half(mac[:3]) ^ half(mac[3:])
}

// Failover is what has to be done when the members of a team share its traffic in
// another way than before.
type Failover struct {
	Now Carriage
	// Announce are the guests whose home has changed, by member, each with the VLANs
	// that have. The network outside sends to the old one until it hears of them.
	Announce []AnnounceMACs
}

// FailOver decides what follows from a change of a team, but for the member that hears
// what is for all, which the kernel knows best: see Designate.
func FailOver(was, now Carriage, guests []Guest) Failover {
	f := Failover{Now: now}
	f.Announce = Announcements(now, guests, func(g Guest, vlan int) bool {
		return was.Home(g.MAC, vlan) != now.Home(g.MAC, vlan)
	})
	return f
}

// Announcements sorts guests by the members that they are to be announced on, in the
// VLANs that are asked for.
func Announcements(now Carriage, guests []Guest, asked func(g Guest, vlan int) bool) []AnnounceMACs {
	all := make([]AnnounceMACs, len(now.Members))
	for _, g := range guests {
		for i, vlan := range g.VLANs {
			home := slices.Index(now.Members, now.Home(g.MAC, vlan))
			if home < 0 || !asked(g, vlan) {
				continue
			}
			here := &all[home].Guests
			last := len(*here) - 1
			if last < 0 || (*here)[last].MAC != g.MAC {
				*here = append(*here, Guest{MAC: g.MAC})
				last++
			}
			(*here)[last].VLANs = append((*here)[last].VLANs, vlan)
			if i == 0 {
				(*here)[last].Addresses = g.Addresses
			}
		}
	}
	for i, member := range now.Members {
		all[i].Netdev = member
	}
	return slices.DeleteFunc(all, func(a AnnounceMACs) bool { return len(a.Guests) == 0 })
}
