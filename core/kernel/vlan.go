package kernel

import (
	"encoding/binary"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file spells and reads what VLANs the ports of a bridge are in.

// Attributes and flags of linux/if_bridge.h.
const (
	bridgeVLANInfo = 2 // IFLA_BRIDGE_VLAN_INFO in IFLA_AF_SPEC
	bridgeFlags    = 0 // IFLA_BRIDGE_FLAGS there
	bridgeSelf     = 2 // BRIDGE_FLAGS_SELF: the bridge itself, not one of its ports

	vlanPVID, vlanUntagged       = 1 << 1, 1 << 2 // BRIDGE_VLAN_INFO_*
	vlanRangeBegin, vlanRangeEnd = 1 << 3, 1 << 4

	vlanEntry                    = 1    // BRIDGE_VLANDB_ENTRY
	vlanEntryInfo, vlanEntryLast = 1, 2 // BRIDGE_VLANDB_ENTRY_INFO, _RANGE in it
	sizeofVLANMessage            = 8    // struct br_vlan_msg
)

// setVLANs puts a port into its VLANs and gives it its flags, in one message.
func setVLANs(index int, p plan.Port, fresh bool) *nl.NetlinkRequest {
	r := bridgeMessage(unix.RTM_SETLINK, index)
	flags := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	portFlags(flags, p, fresh)
	r.AddData(flags)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	addVLANs(spec, p.VLANs.Tagged, 0)
	pvid := vswitch.VLANs(p.VLANs.PVID) // is never a part of a range
	addVLANs(spec, p.VLANs.Untagged.Minus(pvid), vlanUntagged)
	addVLANs(spec, pvid, vlanPVID|vlanUntagged)
	r.AddData(spec)
	return r
}

// leaveVLANs takes a port out of VLANs, or the bridge itself; those that it is not in are
// no failure.
func leaveVLANs(index int, vlans vswitch.VLANSet, self bool) *nl.NetlinkRequest {
	r := bridgeMessage(unix.RTM_DELLINK, index)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	if self {
		spec.AddRtAttr(bridgeFlags, nl.Uint16Attr(bridgeSelf))
	}
	addVLANs(spec, vlans, 0)
	r.AddData(spec)
	return r
}

func bridgeMessage(kind, index int) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(kind, unix.NLM_F_ACK)
	header := nl.NewIfInfomsg(unix.AF_BRIDGE)
	header.Index = int32(index)
	r.AddData(header)
	return r
}

// addVLANs spells spans; one of more than one VLAN is its two ends.
func addVLANs(spec *nl.RtAttr, vlans vswitch.VLANSet, flags uint16) {
	info := func(flags uint16, id int) { // struct bridge_vlan_info
		b := binary.NativeEndian.AppendUint16(nil, flags)
		spec.AddRtAttr(bridgeVLANInfo, binary.NativeEndian.AppendUint16(b, uint16(id)))
	}
	for _, s := range vlans {
		if s.First == s.Last {
			info(flags, s.First)
			continue
		}
		info(flags|vlanRangeBegin, s.First)
		info(flags|vlanRangeEnd, s.Last)
	}
}

// filterVLANs makes a bridge keep VLANs apart, or not.
func filterVLANs(s plan.FilterVLANs) *nl.NetlinkRequest {
	r := byName(unix.RTM_NEWLINK, 0, s.Bridge, noHeader())
	r.AddData(bridgeInfo(func(data *nl.RtAttr) { data.AddRtAttr(nl.IFLA_BR_VLAN_FILTERING, switched(s.On)) }))
	return r
}

// vlans reads what VLANs a port, or a bridge itself, is in (Linux 5.6).
func (c *rtnl) vlans(index int) (m vswitch.Membership, err error) {
	r := nl.NewNetlinkRequest(unix.RTM_GETVLAN, unix.NLM_F_DUMP)
	r.AddData(vlanMessage(index))
	err = c.dump(r, func() { m = vswitch.Membership{} }, func(b []byte) {
		if len(b) < sizeofVLANMessage || int(binary.NativeEndian.Uint32(b[4:])) != index {
			return
		}
		for kind, entry := range attributes(b[sizeofVLANMessage:]) {
			if kind == vlanEntry {
				m = withVLAN(m, entry)
			}
		}
	})
	return m, err
}

// withVLAN adds one entry of the kernel's list, a VLAN or a range.
func withVLAN(m vswitch.Membership, entry []byte) vswitch.Membership {
	var flags uint16
	var s vswitch.VLANSpan
	for kind, v := range attributes(entry) {
		switch {
		case kind == vlanEntryInfo && len(v) >= 4:
			flags = binary.NativeEndian.Uint16(v)
			s.First = int(binary.NativeEndian.Uint16(v[2:]))
		case kind == vlanEntryLast:
			s.Last = int(number(v))
		}
	}
	s.Last = max(s.First, s.Last)
	if flags&vlanPVID != 0 {
		m.PVID = s.First
	}
	if flags&vlanUntagged != 0 {
		m.Untagged = m.Untagged.Union(vswitch.VLANSet{s})
	} else {
		m.Tagged = m.Tagged.Union(vswitch.VLANSet{s})
	}
	return m
}

// vlanMessage is a struct br_vlan_msg with the index of a netdev.
type vlanMessage int

// Len is its size.
func (vlanMessage) Len() int { return sizeofVLANMessage }

// Serialize writes it in the machine's byte order.
func (index vlanMessage) Serialize() []byte {
	b := make([]byte, sizeofVLANMessage)
	b[0] = unix.AF_BRIDGE
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	return b
}
