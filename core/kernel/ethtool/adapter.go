package ethtool

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Adapter is a netdev that hardware is behind, or what a hypervisor takes for it.
type Adapter struct {
	// Index is another one after the driver was bound anew.
	Index  int
	Netdev string
	// Address is where the hardware is, like 0000:3b:00.0; Port which one of several there.
	Address, Port string
	Link          bool // there is a carrier
}

// Attributes of links that package unix does not name.
const (
	iflaPhysPortName  = 38 // IFLA_PHYS_PORT_NAME
	iflaParentDevName = 56 // IFLA_PARENT_DEV_NAME
	filterSkipStats   = 8  // RTEXT_FILTER_SKIP_STATS
)

// mostTries is how often a list is read that changes while it is read.
const mostTries = 20

// Adapters lists the Ethernet NICs in the network namespace of the calling thread, by name.
// Representors of VFs are none.
func (c *Conn) Adapters() ([]Adapter, error) {
	for try := 1; ; try++ {
		r := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
		r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		r.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(filterSkipStats)))
		messages, err := r.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
		if errors.Is(err, unix.EINTR) && try < mostTries {
			continue // netdevs came or went meanwhile
		}
		if err != nil {
			return nil, err
		}
		var all []Adapter
		for _, m := range messages {
			if a, ok := parseAdapter(m); ok {
				all = append(all, a)
			}
		}
		slices.SortFunc(all, func(a, b Adapter) int { return cmp.Compare(a.Netdev, b.Netdev) })
		return all, nil
	}
}

// parseAdapter reads the payload of an RTM_NEWLINK message, if it is a NIC's.
func parseAdapter(payload []byte) (Adapter, bool) {
	if len(payload) < unix.SizeofIfInfomsg {
		return Adapter{}, false
	}
	header := nl.DeserializeIfInfomsg(payload)
	said := attributes(payload[unix.SizeofIfInfomsg:])
	// What has a kind was made by somebody: a bridge, a veth pair, a bond.
	if _, made := attributes(said[unix.IFLA_LINKINFO])[unix.IFLA_INFO_KIND]; made || header.Type != unix.ARPHRD_ETHER {
		return Adapter{}, false
	}
	a := Adapter{
		Index: int(header.Index), Netdev: text(said[unix.IFLA_IFNAME]), Link: header.Flags&unix.IFF_LOWER_UP != 0,
		Address: text(said[iflaParentDevName]), Port: text(said[iflaPhysPortName]),
	}
	representor := strings.HasPrefix(a.Port, "pf") // pf0vf1, pf0sf88
	return a, a.Netdev != "" && a.Address != "" && !representor
}
