package offload

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// netdev is a NIC, or a VF, where it is at this moment.
type netdev struct {
	index  int
	name   string
	id     string // of the NIC that it is
	pf     string // id of the NIC whose VF it is; "" for none
	driver string
	link   bool
	macs   [2]vswitch.MAC // that it has, and that it was made with
}

// buses is where the kernel shows what hardware there is, of all namespaces.
const buses = "/sys/bus"

// netdevs are those of a namespace that hardware is behind.
func (v *view) netdevs() ([]netdev, error) {
	links, err := v.links.LinkList()
	for errors.Is(err, netlink.ErrDumpInterrupted) {
		links, err = v.links.LinkList()
	}
	if err != nil {
		return nil, fmt.Errorf("list netdevs: %w", err)
	}
	return hardware(links, buses), nil
}

func hardware(links []netlink.Link, buses string) []netdev {
	var all []netdev
	for _, l := range links {
		a := l.Attrs()
		if a.ParentDev == "" || l.Type() != "device" {
			continue
		}
		n := netdev{index: a.Index, name: a.Name, id: a.ParentDev, link: a.RawFlags&unix.IFF_LOWER_UP != 0}
		for i, mac := range []net.HardwareAddr{a.HardwareAddr, a.PermHWAddr} {
			copy(n.macs[i][:], mac)
		}
		at := filepath.Join(buses, a.ParentDevBus, "devices", a.ParentDev)
		n.driver = target(filepath.Join(at, "driver"))
		n.pf = target(filepath.Join(at, "physfn"))
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b netdev) int { return a.index - b.index })
	tellApart(all)
	return all
}

// target is the name of what a link of sysfs leads to, "" without one.
func target(link string) string {
	to, err := os.Readlink(link)
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// tellApart gives the ports of one card ids of their own: by name, for want of anything
// better.
func tellApart(all []netdev) {
	ports := map[string]int{}
	for _, n := range all {
		ports[n.id]++
	}
	for i, n := range all {
		if ports[n.id] > 1 {
			all[i].id += "/" + n.name
		}
	}
}

// find is the netdev of a NIC, or the VF of it that a port has: an owner may have VFs of
// several ports, and ports without one.
func find(all []netdev, nic string, mac vswitch.MAC) (netdev, bool) {
	for _, fits := range []func(netdev) bool{
		func(n netdev) bool { return n.id == nic },
		func(n netdev) bool { return n.pf == nic && nic != "" && slices.Contains(n.macs[:], mac) },
	} {
		if i := slices.IndexFunc(all, fits); i >= 0 {
			return all[i], true
		}
	}
	return netdev{}, false
}
