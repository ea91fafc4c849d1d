package kernel

import (
	"net/netip"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file spells steps as rtnetlink messages, and does nothing else.

const create = unix.NLM_F_CREATE | unix.NLM_F_EXCL

func upHeader() nl.IfInfomsg {
	h := *nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Flags, h.Change = unix.IFF_UP, unix.IFF_UP
	return h
}

func noHeader() nl.IfInfomsg { return *nl.NewIfInfomsg(unix.AF_UNSPEC) }

func uint32Attribute(kind int, v int) *nl.RtAttr { return nl.NewRtAttr(kind, nl.Uint32Attr(uint32(v))) }

func macAttribute(kind int, m vswitch.MAC) *nl.RtAttr { return nl.NewRtAttr(kind, m[:]) }

// newBridge makes a bridge that is not yet as it should be: an MTU set at birth
// is one that the bridge lowers with the next port, only a change sticks
// (BROPT_MTU_SET_BY_USER). setBridge follows and changes it.
func newBridge(b plan.Bridge) *nl.NetlinkRequest {
	r := byName(unix.RTM_NEWLINK, create, b.Name, noHeader())
	r.AddData(macAttribute(unix.IFLA_ADDRESS, b.MAC))
	birth := b.MTU + 1
	if birth > vswitch.MaxMTU {
		birth = b.MTU - 1
	}
	r.AddData(uint32Attribute(unix.IFLA_MTU, birth))
	r.AddData(bridgeInfo(func(data *nl.RtAttr) {
		bridgeOptions(data)
		if b.VLANFiltering {
			data.AddRtAttr(nl.IFLA_BR_VLAN_FILTERING, switched(true))
		}
	}))
	return r
}

// bridgeInfo wraps options of a bridge.
func bridgeInfo(options func(*nl.RtAttr)) *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	options(info.AddRtAttr(nl.IFLA_INFO_DATA, nil))
	return info
}

// bridgeOptions are those that all of our bridges share.
func bridgeOptions(data *nl.RtAttr) {
	data.AddRtAttr(nl.IFLA_BR_FORWARD_DELAY, nl.Uint32Attr(0))
	data.AddRtAttr(nl.IFLA_BR_MCAST_SNOOPING, nl.Uint8Attr(0))
	data.AddRtAttr(nl.IFLA_BR_VLAN_DEFAULT_PVID, nl.Uint16Attr(0)) // ignored by kernels without VLAN filtering
}

func stpOff(data *nl.RtAttr) { data.AddRtAttr(nl.IFLA_BR_STP_STATE, nl.Uint32Attr(0)) }

// setBridge sets all that a bridge has. Link-local addresses go first: the kernel
// handles that attribute last in a message, after it has brought the bridge up.
// STP goes before that: with STP on no forward delay below 2 s is taken.
func setBridge(b plan.Bridge) []*nl.NetlinkRequest {
	still := byName(unix.RTM_NEWLINK, 0, b.Name, noHeader())
	still.AddData(bridgeInfo(stpOff))
	quiet := byName(unix.RTM_NEWLINK, 0, b.Name, noHeader())
	quiet.AddData(macAttribute(unix.IFLA_ADDRESS, b.MAC))
	quiet.AddData(uint32Attribute(unix.IFLA_MTU, b.MTU))
	quiet.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(b.Alias)))
	quiet.AddData(bridgeInfo(bridgeOptions))
	if spec := noLinkLocal(b.MTU); spec != nil {
		quiet.AddData(spec)
	}
	return []*nl.NetlinkRequest{still, quiet, byName(unix.RTM_NEWLINK, 0, b.Name, upHeader())}
}

// noLinkLocal keeps IPv6 off a netdev, or is nil where there is no IPv6 to keep
// off: a kernel without it, or an MTU below its minimum.
func noLinkLocal(mtu int) *nl.RtAttr {
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil || mtu < vswitch.MinIPv6MTU {
		return nil
	}
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(inet6AddrGenMode, nl.Uint8Attr(addrGenNone))
	return spec
}

// newVeth makes a pair in one message: the switch end already the bridge's port,
// the owner's end born in its namespace. netns is -1 for the host's own. Each end has one
// queue. The kernel would make one for every processor that the machine could have, each
// with objects in sysfs, and pairs use them for nothing but XDP and GRO, which is off.
func newVeth(p plan.Port, bridge int, netns int) *nl.NetlinkRequest {
	r := byName(unix.RTM_NEWLINK, create, p.Name, noHeader())
	r.AddData(macAttribute(unix.IFLA_ADDRESS, p.MAC))
	r.AddData(uint32Attribute(unix.IFLA_MTU, p.MTU))
	r.AddData(uint32Attribute(unix.IFLA_GROUP, int(p.Group)))
	r.AddData(uint32Attribute(unix.IFLA_MASTER, bridge))
	r.AddData(uint32Attribute(unix.IFLA_NUM_TX_QUEUES, 1))
	r.AddData(uint32Attribute(unix.IFLA_NUM_RX_QUEUES, 1))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	e := p.Endpoint
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(e.Name))
	peer.AddRtAttr(unix.IFLA_ADDRESS, e.MAC[:])
	peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(e.MTU)))
	peer.AddRtAttr(unix.IFLA_NUM_TX_QUEUES, nl.Uint32Attr(1))
	peer.AddRtAttr(unix.IFLA_NUM_RX_QUEUES, nl.Uint32Attr(1))
	if netns >= 0 {
		peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(netns)))
	}
	r.AddData(info)
	return r
}

// setMaster moves a netdev into a bridge, or out of any with 0.
func setMaster(name string, bridge int) *nl.NetlinkRequest {
	r := byName(unix.RTM_NEWLINK, 0, name, noHeader())
	r.AddData(uint32Attribute(unix.IFLA_MASTER, bridge))
	return r
}

// setPort gives a port its flags before it comes up. Of a netdev that is not
// ours (no alias wanted) MAC, alias and group stay as they are; fresh tells that
// newVeth has already set MAC, MTU and group.
func setPort(p plan.Port, fresh bool) []*nl.NetlinkRequest {
	messages := []*nl.NetlinkRequest{setNetdev(p, fresh)}
	if p.Up {
		messages = append(messages, byName(unix.RTM_NEWLINK, 0, p.Name, upHeader()))
	}
	return messages
}

// setNetdev is setPort but for the state. The flags of a port that is in VLANs are for
// setVLANs.
func setNetdev(p plan.Port, fresh bool) *nl.NetlinkRequest {
	set := byName(unix.RTM_NEWLINK, 0, p.Name, noHeader())
	if !fresh {
		if !p.MAC.IsZero() {
			set.AddData(macAttribute(unix.IFLA_ADDRESS, p.MAC))
		}
		if p.Group != 0 {
			set.AddData(uint32Attribute(unix.IFLA_GROUP, int(p.Group)))
		}
		set.AddData(uint32Attribute(unix.IFLA_MTU, p.MTU))
	}
	if p.Alias != "" {
		set.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(p.Alias)))
		if spec := noLinkLocal(p.MTU); spec != nil {
			set.AddData(spec)
		}
	}
	if p.Bridge != "" && p.VLANs.IsZero() {
		info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.NonZeroTerminated("bridge"))
		portFlags(info.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil), p, fresh)
		set.AddData(info)
	}
	return set
}

// portFlags are a bridge's flags of a port; those that a fresh one has go without saying.
func portFlags(data *nl.RtAttr, p plan.Port, fresh bool) {
	data.AddRtAttr(nl.IFLA_BRPORT_LEARNING, switched(p.Learning))
	data.AddRtAttr(nl.IFLA_BRPORT_UNICAST_FLOOD, switched(p.Flood))
	data.AddRtAttr(nl.IFLA_BRPORT_LOCKED, switched(p.Locked)) // ignored before Linux 5.18
	if !fresh && !p.Learning {                                // what the bridge has learnt of it before must not stand beside what we say
		data.AddRtAttr(nl.IFLA_BRPORT_FLUSH, nil)
	}
	if !fresh || p.Isolated || p.NoBroadcast || p.NoMulticast {
		data.AddRtAttr(nl.IFLA_BRPORT_ISOLATED, switched(p.Isolated))
		data.AddRtAttr(nl.IFLA_BRPORT_BCAST_FLOOD, switched(!p.NoBroadcast))
		data.AddRtAttr(nl.IFLA_BRPORT_MCAST_FLOOD, switched(!p.NoMulticast))
	}
}

func switched(on bool) []byte {
	if on {
		return nl.Uint8Attr(1)
	}
	return nl.Uint8Attr(0)
}

// setEndpoint brings the owner's end up; fresh tells that newVeth has already
// given it MAC and MTU. That it makes no link-local address has to be said before.
func setEndpoint(e plan.Endpoint, fresh bool) (messages []*nl.NetlinkRequest) {
	if spec := noLinkLocal(e.MTU); e.NoLinkLocal && spec != nil {
		quiet := byName(unix.RTM_NEWLINK, 0, e.Name, noHeader())
		quiet.AddData(spec)
		messages = append(messages, quiet)
	}
	header := noHeader()
	if e.Up {
		header = upHeader()
	}
	r := byName(unix.RTM_NEWLINK, 0, e.Name, header)
	if !fresh {
		if !e.MAC.IsZero() {
			r.AddData(macAttribute(unix.IFLA_ADDRESS, e.MAC))
		}
		r.AddData(uint32Attribute(unix.IFLA_MTU, e.MTU))
	}
	if e.Alias != "" {
		r.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(e.Alias)))
	}
	return append(messages, r)
}

// fdbEntry adds or removes a static, sticky entry: NUD_NOARP keeps it from
// ageing, NTF_STICKY from roaming to another port. Without a VLAN the kernel takes all
// that the port is in.
func fdbEntry(message, flags, port int, e plan.Entry) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(message, flags|unix.NLM_F_ACK)
	r.AddData(neighbour{family: unix.AF_BRIDGE, index: port, state: unix.NUD_NOARP, flags: unix.NTF_MASTER | ntfSticky})
	r.AddData(macAttribute(unix.NDA_LLADDR, e.MAC))
	if e.VLAN != 0 {
		r.AddData(nl.NewRtAttr(unix.NDA_VLAN, nl.Uint16Attr(uint16(e.VLAN))))
	}
	return r
}

// ntfSticky is NTF_STICKY of linux/neighbour.h, which x/sys lacks.
const ntfSticky = 1 << 6

// neighbour is a struct ndmsg.
type neighbour struct {
	family uint8
	index  int
	state  uint16
	flags  uint8
}

// Len is the size of struct ndmsg.
func (neighbour) Len() int { return unix.SizeofNdMsg }

// Serialize writes struct ndmsg in the machine's byte order.
func (n neighbour) Serialize() []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = n.family
	nl.NativeEndian().PutUint32(b[4:], uint32(n.index))
	nl.NativeEndian().PutUint16(b[8:], n.state)
	b[10] = n.flags
	return b
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// addressMessage adds (RTM_NEWADDR) or removes (RTM_DELADDR) an address.
func addressMessage(message, flags, index int, a plan.Address) *nl.NetlinkRequest {
	addr := a.Prefix.Addr()
	r := nl.NewNetlinkRequest(message, flags|unix.NLM_F_ACK)
	header := nl.NewIfAddrmsg(family(addr))
	header.Prefixlen, header.Index = uint8(a.Prefix.Bits()), uint32(index)
	r.AddData(header)
	r.AddData(nl.NewRtAttr(unix.IFA_LOCAL, addr.AsSlice()))
	r.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, addr.AsSlice()))
	if addr.Is4() && a.Prefix.Bits() < 31 && message == unix.RTM_NEWADDR {
		r.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, broadcast(a.Prefix)))
	}
	if addr.Is6() && a.NoDAD {
		r.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(unix.IFA_F_NODAD)))
	}
	return r
}

func broadcast(p netip.Prefix) []byte {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return b[:]
}

// routeMessage adds (RTM_NEWROUTE) or removes (RTM_DELROUTE) a route.
func routeMessage(message, flags, index int, route vswitch.Route) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(message, flags|unix.NLM_F_ACK)
	id := plan.RouteKey(route)
	header := nl.NewRtMsg()
	header.Family, header.Dst_len = uint8(family(id.Dst.Addr())), uint8(id.Dst.Bits())
	header.Protocol, header.Table = unix.RTPROT_STATIC, unix.RT_TABLE_UNSPEC
	header.Scope = unix.RT_SCOPE_UNIVERSE
	if !route.Gateway.IsValid() && id.Dst.Addr().Is4() {
		header.Scope = unix.RT_SCOPE_LINK
	}
	if route.Scope != nil {
		header.Scope = uint8(*route.Scope)
	}
	r.AddData(header)
	if id.Dst.Bits() > 0 {
		r.AddData(nl.NewRtAttr(unix.RTA_DST, id.Dst.Addr().AsSlice()))
	}
	r.AddData(uint32Attribute(unix.RTA_OIF, index))
	r.AddData(uint32Attribute(unix.RTA_TABLE, id.Table))
	if route.Gateway.IsValid() {
		r.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, route.Gateway.AsSlice()))
	}
	if id.Priority != 0 {
		r.AddData(uint32Attribute(unix.RTA_PRIORITY, id.Priority))
	}
	if route.MTU != 0 || route.AdvMSS != 0 {
		metrics := nl.NewRtAttr(unix.RTA_METRICS, nil)
		if route.MTU != 0 {
			metrics.AddRtAttr(unix.RTAX_MTU, nl.Uint32Attr(uint32(route.MTU)))
		}
		if route.AdvMSS != 0 {
			metrics.AddRtAttr(unix.RTAX_ADVMSS, nl.Uint32Attr(uint32(route.AdvMSS)))
		}
		r.AddData(metrics)
	}
	return r
}
