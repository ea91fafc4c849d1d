package offload

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// espOffload is how the kernel calls the feature (NETIF_F_HW_ESP).
const espOffload = "esp-hw-offload"

// Of linux/ethtool_netlink.h.
const (
	getFeatures    = 11 // ETHTOOL_MSG_FEATURES_GET
	featuresHeader = 1  // ETHTOOL_A_FEATURES_HEADER
	featuresActive = 4
	headerIndex    = 1 // ETHTOOL_A_HEADER_DEV_INDEX
	bitsetBits     = 3 // ETHTOOL_A_BITSET_BITS
	bitName        = 2 // ETHTOOL_A_BITSET_BIT_NAME
)

// encrypts asks whether a netdev's driver takes SAs.
func (v *view) encrypts(ifindex int) (bool, error) {
	r := nl.NewNetlinkRequest(v.ethtool, unix.NLM_F_ACK)
	r.Sockets = v.generic
	r.AddData(&nl.Genlmsg{Command: getFeatures, Version: 1})
	header := nl.NewRtAttr(featuresHeader|unix.NLA_F_NESTED, nil)
	header.AddRtAttr(headerIndex, nl.Uint32Attr(uint32(ifindex)))
	r.AddData(header)
	answers, err := r.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return false, fmt.Errorf("ask for the features of netdev %d: %w", ifindex, err)
	}
	for _, a := range answers {
		if len(a) > nl.SizeofGenlmsg && active(a[nl.SizeofGenlmsg:], espOffload) {
			return true, nil
		}
	}
	return false, nil
}

// active reads whether a feature is among those that are on.
func active(features []byte, name string) (found bool) {
	for kind, set := range attrsOf(features) {
		if kind != featuresActive {
			continue
		}
		for kind, bits := range attrsOf(set) {
			if kind != bitsetBits {
				continue
			}
			for _, bit := range attrsOf(bits) {
				for kind, text := range attrsOf(bit) {
					found = found || kind == bitName && string(text) == name+"\x00"
				}
			}
		}
	}
	return found
}

// attrsOf goes through attributes, as far as they make sense.
func attrsOf(b []byte) func(func(uint16, []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.SizeofNlAttr || n > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED, b[unix.SizeofNlAttr:n]) {
				return
			}
			b = b[min(len(b), (n+3)&^3):]
		}
	}
}
