package kernel

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// netdevLink is what an RTM_NEWLINK message says beyond what a port needs.
type netdevLink struct {
	link
	flags    uint32
	hardware uint16 // ARPHRD_*
	maxMTU   int
	vfs      map[int]vswitch.MAC // the VFs' administrative addresses; nil where nobody asked
	numVFs   int
}

func (l netdevLink) loopback() bool { return l.flags&unix.IFF_LOOPBACK != 0 }

// wired spares the most frequent ones a look into sysfs.
func (l netdevLink) wired() bool {
	return slices.Contains([]string{"veth", "tun", "bridge"}, l.kind)
}

// stacked reports that IFLA_LINK names the netdev that this one sends by: of a pair it
// is the other end.
func (l netdevLink) stacked() bool {
	return slices.Contains([]string{"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"}, l.kind)
}

// listNetdevs lists the netdevs in the namespace of the socket, by name: those that the
// filters select.
func listNetdevs(c *rtnl, filters ...*nl.RtAttr) ([]Netdev, error) {
	links, err := dumpLinks(c, filters...)
	if err != nil {
		return nil, fmt.Errorf("list netdevs: %w", err)
	}
	addresses, err := dumpAddresses(c)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.index] = l.name
	}
	devs := make([]Netdev, 0, len(links))
	for _, l := range links {
		n := l.netdev(names[l.master], addresses[l.index])
		if l.stacked() {
			n.Lower = names[l.peer]
		}
		devs = append(devs, n)
	}
	slices.SortFunc(devs, func(a, b Netdev) int { return cmp.Compare(a.Name, b.Name) })
	return devs, nil
}

// noMaster in a request selects netdevs without a master (Linux 5.15).
const noMaster = 1<<32 - 1

// listFreeNetdevs is listNetdevs of those without a master.
func listFreeNetdevs(c *rtnl) ([]Netdev, error) {
	return listNetdevs(c, nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(noMaster)))
}

// readNetdev reads one netdev in the namespace of the socket. One that is not there is
// vswitch.NotFound.
func readNetdev(c *rtnl, name string) (Netdev, error) {
	object := fmt.Sprintf("netdev %.32q", name)
	if err := vswitch.ValidateNetdevName(name); err != nil {
		return Netdev{}, &vswitch.Error{Kind: vswitch.NotFound, Object: object, Err: err}
	}
	r := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_ACK)
	r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	r.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	l, err := askLink(c, r)
	if errors.Is(err, unix.ENODEV) {
		return Netdev{}, &vswitch.Error{Kind: vswitch.NotFound, Object: object, Hint: "list the host's netdevs with: ip link"}
	}
	if err != nil {
		return Netdev{}, fmt.Errorf("%s: %w", object, err)
	}
	var master netdevLink
	if l.master != 0 {
		header := nl.NewIfInfomsg(unix.AF_UNSPEC)
		header.Index = int32(l.master)
		r := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_ACK)
		r.AddData(header)
		if master, err = askLink(c, r); err != nil && !errors.Is(err, unix.ENODEV) {
			return Netdev{}, fmt.Errorf("%s: its master: %w", object, err)
		}
	}
	addresses, err := dumpAddresses(c)
	if err != nil {
		return Netdev{}, fmt.Errorf("%s: its addresses: %w", object, err)
	}
	n := l.netdev(master.name, addresses[l.index])
	n.Speed = linkSpeed(n.Name)
	return n, nil
}

func (l netdevLink) netdev(master string, addresses []netip.Prefix) Netdev {
	peer := 0
	if l.kind == "veth" {
		peer = l.peer
	}
	return Netdev{
		Peer: peer,
		Name: l.name, Index: l.index, Kind: l.kind, MAC: l.mac, MTU: l.mtu, MaxMTU: l.maxMTU, Master: master, Alias: l.alias, Group: l.group,
		Up: l.up, Carrier: l.flags&unix.IFF_LOWER_UP != 0,
		Loopback: l.loopback(), Ethernet: l.hardware == unix.ARPHRD_ETHER,
		NoBridge: !l.wired() && isWireless(l.name, l.index), VFs: l.vfMACs(), NumVFs: l.numVFs, Addresses: addresses,
	}
}

// isWireless tells by sysfs, the only place that does. A station's netdev cannot
// be a bridge's port (IFF_DONT_BRIDGE, which no interface shows): an access point
// takes frames from the addresses that it knows. /sys shows the namespace that it
// was mounted in, so the index must agree.
func isWireless(name string, index int) bool {
	dir := "/sys/class/net/" + name
	for _, mark := range []string{"/phy80211", "/wireless"} {
		if _, err := os.Stat(dir + mark); err != nil {
			continue
		}
		seen, err := os.ReadFile(dir + "/ifindex")
		return err == nil && strings.TrimSpace(string(seen)) == strconv.Itoa(index)
	}
	return false
}

// linksHere is dumpLinks in the namespace of the calling thread.
func linksHere() ([]netdevLink, error) {
	c, err := dialRTNL()
	if err != nil {
		return nil, err
	}
	defer c.close()
	return dumpLinks(c)
}

// roomForVFs is for messages about a NIC, of which its VFs are one attribute.
const roomForVFs = 64 << 10

func (c *rtnl) makeRoom() {
	if len(c.buf) < roomForVFs {
		c.buf = make([]byte, roomForVFs)
	}
}

func dumpLinks(c *rtnl, filters ...*nl.RtAttr) (links []netdevLink, err error) {
	c.makeRoom()
	r := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	r.AddData(wantVFs())
	for _, f := range filters {
		r.AddData(f)
	}
	err = c.dump(r, func() { links = nil }, func(b []byte) {
		if l := parseNetdevLink(b); l.index != 0 {
			links = append(links, l)
		}
	})
	return links, err
}

func askLink(c *rtnl, r *nl.NetlinkRequest) (l netdevLink, err error) {
	c.makeRoom()
	r.AddData(wantVFs())
	err = c.dump(r, func() {}, func(b []byte) { l = parseNetdevLink(b) })
	if err == nil && l.index == 0 {
		err = unix.ENODEV
	}
	return l, err
}

// wantVFs asks for the VFs' addresses without everybody's statistics.
func wantVFs() *nl.RtAttr {
	const vf, skipStats = 1 << 0, 1 << 3 // RTEXT_FILTER_VF, RTEXT_FILTER_SKIP_STATS
	return nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(vf|skipStats))
}

func parseNetdevLink(payload []byte) netdevLink {
	l := netdevLink{link: parseLink(payload)}
	if l.index == 0 {
		return l
	}
	header := nl.DeserializeIfInfomsg(payload)
	l.flags, l.hardware = header.Flags, header.Type
	for kind, v := range attributes(payload[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_MAX_MTU:
			l.maxMTU = int(number(v))
		case unix.IFLA_NUM_VF:
			l.numVFs = int(number(v))
		case unix.IFLA_VFINFO_LIST:
			l.vfs = parseVFs(v)
		}
	}
	return l
}

// sizeofVFMAC is that of struct ifla_vf_mac: the VF's number, 4 bytes, then 32 of address.
const sizeofVFMAC = 36

// parseVFs reads the VFs' administrative addresses by their numbers. That of a VF without one is
// zero: it makes its own up.
func parseVFs(list []byte) (macs map[int]vswitch.MAC) {
	macs = make(map[int]vswitch.MAC)
	for _, vf := range attributes(list) {
		for kind, v := range attributes(vf) {
			const number = 4
			if kind == nl.IFLA_VF_MAC && len(v) >= number+len(vswitch.MAC{}) {
				macs[int(binary.NativeEndian.Uint32(v))] = vswitch.MAC(v[number : number+len(vswitch.MAC{})])
			}
		}
	}
	return macs
}

// vfMACs are the addresses that are held for VFs, in order of those.
func (l netdevLink) vfMACs() (macs []vswitch.MAC) {
	for _, n := range slices.Sorted(maps.Keys(l.vfs)) {
		if mac := l.vfs[n]; !mac.IsZero() {
			macs = append(macs, mac)
		}
	}
	return macs
}

// dumpAddresses lists addresses by the index of their netdev, without IPv6
// link-local ones.
func dumpAddresses(c *rtnl) (byIndex map[int][]netip.Prefix, err error) {
	r := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	r.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	err = c.dump(r, func() { byIndex = make(map[int][]netip.Prefix) }, func(b []byte) {
		index, prefix, ok := parseAddress(b)
		if ok && (prefix.Addr().Is4() || !prefix.Addr().IsLinkLocalUnicast()) {
			byIndex[index] = append(byIndex[index], prefix)
		}
	})
	return byIndex, err
}

// parseAddress reads an RTM_NEWADDR message. On a point-to-point netdev
// IFA_ADDRESS is the other side's, so IFA_LOCAL, where there is one, wins.
func parseAddress(payload []byte) (index int, prefix netip.Prefix, ok bool) {
	if len(payload) < unix.SizeofIfAddrmsg {
		return 0, prefix, false
	}
	header := nl.DeserializeIfAddrmsg(payload)
	var addr netip.Addr
	for kind, v := range attributes(payload[unix.SizeofIfAddrmsg:]) {
		if kind == unix.IFA_LOCAL || kind == unix.IFA_ADDRESS && !addr.IsValid() {
			addr, ok = netip.AddrFromSlice(v)
		}
	}
	return int(header.Index), netip.PrefixFrom(addr, int(header.Prefixlen)), ok
}
