package kernel

import (
	"encoding/binary"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// link is what an RTM_NEWLINK message says of a netdev, as far as we use it.
type link struct {
	index, peer, master int
	name, kind, alias   string
	mac                 vswitch.MAC
	mtu                 int
	group               uint32
	up                  bool
	noAddrGen           bool // no IPv6 link-local address is made for it
	bridge              bridgeAttributes
	port                portAttributes
	bond                bondAttributes
	member              memberAttributes
}

type bridgeAttributes struct {
	stp, snooping, filtering  bool
	forwardDelay, defaultPVID int
}

type portAttributes struct {
	forwarding, learning, flood, locked bool
	isolated, noBroadcast, noMulticast  bool
}

// attributes iterates over the netlink attributes in b; a malformed rest ends it.
func attributes(b []byte) func(func(uint16, []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size := int(binary.NativeEndian.Uint16(b))
			kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if size < unix.SizeofRtAttr || size > len(b) {
				return
			}
			if !yield(kind, b[unix.SizeofRtAttr:size]) {
				return
			}
			b = b[min(len(b), (size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
		}
	}
}

// parseLink reads the payload of an RTM_NEWLINK message.
func parseLink(payload []byte) link {
	if len(payload) < unix.SizeofIfInfomsg {
		return link{}
	}
	header := nl.DeserializeIfInfomsg(payload)
	l := link{index: int(header.Index), up: header.Flags&unix.IFF_UP != 0}
	for kind, v := range attributes(payload[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.name = text(v)
		case unix.IFLA_IFALIAS:
			l.alias = text(v)
		case unix.IFLA_ADDRESS:
			if len(v) == len(l.mac) {
				l.mac = vswitch.MAC(v)
			}
		case unix.IFLA_MTU:
			l.mtu = int(number(v))
		case unix.IFLA_MASTER:
			l.master = int(number(v))
		case unix.IFLA_LINK:
			l.peer = int(number(v))
		case unix.IFLA_GROUP:
			l.group = number(v)
		case unix.IFLA_LINKINFO:
			l.parseInfo(v)
		case unix.IFLA_AF_SPEC:
			l.parseFamilies(v)
		}
	}
	return l
}

func (l *link) parseInfo(info []byte) {
	var slaveKind string
	for kind, v := range attributes(info) {
		switch kind {
		case nl.IFLA_INFO_KIND:
			l.kind = text(v)
		case nl.IFLA_INFO_SLAVE_KIND:
			slaveKind = text(v)
		case nl.IFLA_INFO_DATA:
			switch l.kind {
			case "bridge":
				l.bridge.parse(v)
			case "bond":
				l.bond.parse(v)
			}
		case nl.IFLA_INFO_SLAVE_DATA:
			switch slaveKind {
			case "bridge":
				l.port.parse(v)
			case "bond":
				l.member.parse(v)
			}
		}
	}
}

func (b *bridgeAttributes) parse(data []byte) {
	for kind, v := range attributes(data) {
		switch kind {
		case nl.IFLA_BR_STP_STATE:
			b.stp = number(v) != 0
		case nl.IFLA_BR_FORWARD_DELAY:
			b.forwardDelay = int(number(v))
		case nl.IFLA_BR_MCAST_SNOOPING:
			b.snooping = number(v) != 0
		case nl.IFLA_BR_VLAN_FILTERING:
			b.filtering = number(v) != 0
		case nl.IFLA_BR_VLAN_DEFAULT_PVID:
			b.defaultPVID = int(number(v))
		}
	}
}

func (p *portAttributes) parse(data []byte) {
	for kind, v := range attributes(data) {
		switch kind {
		case nl.IFLA_BRPORT_STATE:
			p.forwarding = number(v) == brStateForwarding
		case nl.IFLA_BRPORT_LEARNING:
			p.learning = number(v) != 0
		case nl.IFLA_BRPORT_UNICAST_FLOOD:
			p.flood = number(v) != 0
		case nl.IFLA_BRPORT_LOCKED:
			p.locked = number(v) != 0
		case nl.IFLA_BRPORT_ISOLATED:
			p.isolated = number(v) != 0
		case nl.IFLA_BRPORT_BCAST_FLOOD:
			p.noBroadcast = number(v) == 0
		case nl.IFLA_BRPORT_MCAST_FLOOD:
			p.noMulticast = number(v) == 0
		}
	}
}

// brStateForwarding is BR_STATE_FORWARDING of linux/if_bridge.h.
const brStateForwarding = 3

func (l *link) parseFamilies(spec []byte) {
	for family, attrs := range attributes(spec) {
		if family != unix.AF_INET6 {
			continue
		}
		for kind, v := range attributes(attrs) {
			if kind == inet6AddrGenMode {
				l.noAddrGen = number(v) == addrGenNone
			}
		}
	}
}

// Nested attributes of IFLA_AF_SPEC for AF_INET6 (linux/if_link.h).
const (
	inet6AddrGenMode = 8 // IFLA_INET6_ADDR_GEN_MODE
	addrGenNone      = 1 // IN6_ADDR_GEN_MODE_NONE
)

// number reads an unsigned attribute of 1, 2 or 4 bytes.
func number(v []byte) uint32 {
	switch {
	case len(v) >= 4:
		return binary.NativeEndian.Uint32(v)
	case len(v) >= 2:
		return uint32(binary.NativeEndian.Uint16(v))
	case len(v) == 1:
		return uint32(v[0])
	}
	return 0
}

func text(v []byte) string { return strings.TrimRight(string(v), "\x00") }

// byName is a request about a netdev that is named, not numbered: the kernel
// looks the name up under its own lock, so no other netdev can be meant.
func byName(message, flags int, name string, header nl.IfInfomsg) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(message, flags|unix.NLM_F_ACK)
	r.AddData(&header)
	r.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	return r
}

// getLink asks for one netdev, without its statistics.
func getLink(name string) *nl.NetlinkRequest {
	const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS
	r := byName(unix.RTM_GETLINK, 0, name, *nl.NewIfInfomsg(unix.AF_UNSPEC))
	r.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	return r
}

// link reads one netdev; the errno is ENODEV if there is none.
func (c *rtnl) link(name string) (link, error) {
	var l link
	err := c.do([]request{{NetlinkRequest: getLink(name), answer: func(b []byte) { l = parseLink(b) }}})
	if err == nil && l.index == 0 {
		err = syscall.ENODEV
	}
	return l, err
}

// linkAt reads a netdev by its number; one that is not there has no name.
func (c *rtnl) linkAt(index int) (l link, err error) {
	r := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_ACK)
	header := nl.NewIfInfomsg(unix.AF_UNSPEC)
	header.Index = int32(index)
	r.AddData(header)
	err = c.do([]request{{NetlinkRequest: r, absent: true, answer: func(b []byte) { l = parseLink(b) }}})
	return l, err
}
