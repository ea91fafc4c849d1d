package nic

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/mortal"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ethtoolHeader is the attribute 1 of every request of ethtool: which netdev is meant.
const ethtoolHeader = 1

// attrType is an attribute's type without its flags.
const attrType = 1<<14 - 1

// ethtool asks something of a netdev's driver, and reads the attributes of the answer.
func (h *Host) ethtool(command uint8, d Netdev, attrs ...*nl.RtAttr) (map[uint16][]byte, error) {
	family, err := h.nl.GenlFamilyGet("ethtool")
	if err != nil {
		return nil, fmt.Errorf("ethtool's netlink: %w", err)
	}
	r := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
	r.AddData(&nl.Genlmsg{Command: command, Version: 1})
	header := nl.NewRtAttr(ethtoolHeader|unix.NLA_F_NESTED, nil)
	header.AddRtAttr(unix.ETHTOOL_A_HEADER_DEV_INDEX, nl.Uint32Attr(uint32(d.Index)))
	r.AddData(header)
	for _, a := range attrs {
		r.AddData(a)
	}
	messages, err := r.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return nil, err
	}
	found := map[uint16][]byte{}
	for _, m := range messages {
		if len(m) < nl.SizeofGenlmsg {
			continue
		}
		parsed, err := nl.ParseRouteAttr(m[nl.SizeofGenlmsg:])
		if err != nil {
			return nil, err
		}
		for _, a := range parsed {
			found[a.Attr.Type&attrType] = a.Value
		}
	}
	return found, nil
}

func uint32Of(value []byte) int {
	if len(value) < 4 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(value))
}

// QueuePairs is how many queue pairs a netdev has, and how many it can have; an error where
// its driver does not say.
func (h *Host) QueuePairs(d Netdev) (has, most int, err error) {
	a, err := h.ethtool(unix.ETHTOOL_MSG_CHANNELS_GET, d)
	if err != nil {
		return 0, 0, fmt.Errorf("queue pairs of %s: %w", d.Name, err)
	}
	return uint32Of(a[unix.ETHTOOL_A_CHANNELS_COMBINED_COUNT]), uint32Of(a[unix.ETHTOOL_A_CHANNELS_COMBINED_MAX]), nil
}

// SetQueuePairs gives a netdev queue pairs.
func (h *Host) SetQueuePairs(d Netdev, n int) error {
	mortal.Point()
	if _, err := h.ethtool(unix.ETHTOOL_MSG_CHANNELS_SET, d, nl.NewRtAttr(unix.ETHTOOL_A_CHANNELS_COMBINED_COUNT, nl.Uint32Attr(uint32(n)))); err != nil {
		return fmt.Errorf("%d queue pairs of %s: %w", n, d.Name, err)
	}
	return nil
}

// CanModerate reports whether a netdev's driver gathers events into interrupts as it is told.
func (h *Host) CanModerate(d Netdev) bool {
	a, err := h.ethtool(unix.ETHTOOL_MSG_COALESCE_GET, d)
	return err == nil && len(a[unix.ETHTOOL_A_COALESCE_RX_USECS]) > 0
}

// Moderation reads how many microseconds a netdev gathers events for, and whether its driver
// changes that by itself.
func (h *Host) Moderation(d Netdev) (micros int, adaptive bool, err error) {
	a, err := h.ethtool(unix.ETHTOOL_MSG_COALESCE_GET, d)
	if err != nil {
		return 0, false, fmt.Errorf("moderation of %s: %w", d.Name, err)
	}
	own := a[unix.ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX]
	return uint32Of(a[unix.ETHTOOL_A_COALESCE_RX_USECS]), len(own) > 0 && own[0] != 0, nil
}

// Micros is for how long a moderation gathers events at most.
func Micros(m vswitch.Moderation) int {
	const low, medium, high = 20, 60, 125
	return map[vswitch.Moderation]int{vswitch.ModerationLow: low, vswitch.ModerationMedium: medium, vswitch.ModerationHigh: high}[m]
}

// SetModeration has a netdev gather events so. The NIC's own moderation is that of a driver
// that has just taken the function, so there is nothing to set.
func (h *Host) SetModeration(d Netdev, m vswitch.Moderation) error {
	if m == "" || m == vswitch.ModerationDefault {
		return nil
	}
	adaptive := nl.NewRtAttr(unix.ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX, []byte{1})
	attrs := []*nl.RtAttr{adaptive}
	if m != vswitch.ModerationAdaptive {
		attrs = []*nl.RtAttr{nl.NewRtAttr(unix.ETHTOOL_A_COALESCE_RX_USECS, nl.Uint32Attr(uint32(Micros(m))))}
		now, err := h.ethtool(unix.ETHTOOL_MSG_COALESCE_GET, d)
		if err != nil {
			return fmt.Errorf("moderation of %s: %w", d.Name, err)
		}
		if len(now[unix.ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX]) > 0 { // others refuse even to be told no
			adaptive.Data[0] = 0
			attrs = append(attrs, adaptive)
		}
	}
	mortal.Point()
	if _, err := h.ethtool(unix.ETHTOOL_MSG_COALESCE_SET, d, attrs...); err != nil {
		return fmt.Errorf("moderation %s of %s: %w", m, d.Name, err)
	}
	return nil
}
