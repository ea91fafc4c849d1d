package kernel

import (
	"cmp"
	"errors"
	"fmt"
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
	vfs      []vswitch.MAC
	numVFs   int
}

func (l netdevLink) loopback() bool { return l.flags&unix.IFF_LOOPBACK != 0 }

// stacked reports that IFLA_LINK names the netdev that this one sends by: of a pair it
// is the other end.
func (l netdevLink) stacked() bool {
	return slices.Contains([]string{"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"}, l.kind)
}

// listNetdevs lists the netdevs in the namespace of the calling thread, by name: those that the
// filters select.
func listNetdevs(filters ...*nl.RtAttr) ([]Netdev, error) {
	links, err := dumpLinks(filters...)
	if err != nil {
		return nil, fmt.Errorf("list netdevs: %w", err)
	}
	addresses, err := dumpAddresses()
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
func listFreeNetdevs() ([]Netdev, error) {
	return listNetdevs(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(noMaster)))
}

// readNetdev reads one netdev in the namespace of the calling thread. One that
// is not there is vswitch.NotFound.
func readNetdev(name string) (Netdev, error) {
	object := fmt.Sprintf("netdev %.32q", name)
	if err := vswitch.ValidateNetdevName(name); err != nil {
		return Netdev{}, &vswitch.Error{Kind: vswitch.NotFound, Object: object, Err: err}
	}
	r := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_ACK)
	r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	r.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	l, err := askLink(r)
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
		if master, err = askLink(r); err != nil && !errors.Is(err, unix.ENODEV) {
			return Netdev{}, fmt.Errorf("%s: its master: %w", object, err)
		}
	}
	addresses, err := dumpAddresses()
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
		NoBridge: isWireless(l.name, l.index), VFs: l.vfs, NumVFs: l.numVFs, Addresses: addresses,
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

// dump sends a request in the namespace of the calling thread and hands each
// message to answer.
func dump(r *nl.NetlinkRequest, reset func(), answer func([]byte)) error {
	c, err := dialRTNL()
	if err != nil {
		return err
	}
	defer c.close()
	c.buf = make([]byte, 64<<10) // a NIC's VFs are one attribute of one message
	return c.dump(r, reset, answer)
}

func dumpLinks(filters ...*nl.RtAttr) (links []netdevLink, err error) {
	r := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	r.AddData(wantVFs())
	for _, f := range filters {
		r.AddData(f)
	}
	err = dump(r, func() { links = nil }, func(b []byte) {
		if l := parseNetdevLink(b); l.index != 0 {
			links = append(links, l)
		}
	})
	return links, err
}

func askLink(r *nl.NetlinkRequest) (l netdevLink, err error) {
	r.AddData(wantVFs())
	err = dump(r, func() {}, func(b []byte) { l = parseNetdevLink(b) })
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

// parseVFs reads the VFs' administrative addresses; a VF without one (all zero)
// makes its own up and is left out.
func parseVFs(list []byte) (macs []vswitch.MAC) {
	for _, vf := range attributes(list) {
		for kind, v := range attributes(vf) {
			const number = 4 // struct ifla_vf_mac: __u32 vf, then 32 bytes of address
			if kind != nl.IFLA_VF_MAC || len(v) < number+len(vswitch.MAC{}) {
				continue
			}
			if mac := vswitch.MAC(v[number : number+len(vswitch.MAC{})]); !mac.IsZero() {
				macs = append(macs, mac)
			}
		}
	}
	return macs
}

// dumpAddresses lists addresses by the index of their netdev, without IPv6
// link-local ones.
func dumpAddresses() (byIndex map[int][]netip.Prefix, err error) {
	r := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	r.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	err = dump(r, func() { byIndex = make(map[int][]netip.Prefix) }, func(b []byte) {
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
