package kernel

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// announce sends one frame for each address, in the namespace of the calling thread.
// Neighbours that do not hear it ask a little later: it never fails.
func announce(s plan.Announce) {
	netdev, err := net.InterfaceByName(s.Netdev)
	if err != nil || len(netdev.HardwareAddr) != len(vswitch.MAC{}) {
		return
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	for _, a := range s.Addresses {
		frame := gratuitousARP(vswitch.MAC(netdev.HardwareAddr), a)
		if a.Is6() {
			frame = unsolicitedNA(vswitch.MAC(netdev.HardwareAddr), a)
		}
		_ = unix.Sendto(fd, frame, unix.MSG_DONTWAIT, &unix.SockaddrLinklayer{Ifindex: netdev.Index})
	}
}

// gratuitousARP is a request of RFC 5227 2.3: sender and target are the same.
func gratuitousARP(mac vswitch.MAC, a netip.Addr) []byte {
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac[:]...)
	frame = append(frame, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1) // ARP, for IPv4 on Ethernet, a request
	frame = append(append(frame, mac[:]...), a.AsSlice()...)
	return append(append(frame, make([]byte, len(mac))...), a.AsSlice()...)
}

// unsolicitedNA is an advertisement of RFC 4861 7.2.6 to all nodes, with the flag that
// overrides what they know.
func unsolicitedNA(mac vswitch.MAC, a netip.Addr) []byte {
	all := netip.MustParseAddr("ff02::1")
	const override, advertisement, targetLinkLayer, icmpv6, onLink = 0x20, 136, 2, 58, 255
	body := append([]byte{advertisement, 0, 0, 0, override, 0, 0, 0}, a.AsSlice()...)
	body = append(append(body, targetLinkLayer, 1), mac[:]...)
	pseudo := append(append(a.AsSlice(), all.AsSlice()...), 0, 0, 0, byte(len(body)), 0, 0, 0, icmpv6)
	binary.BigEndian.PutUint16(body[2:], checksum(append(pseudo, body...)))
	frame := append([]byte{0x33, 0x33, 0, 0, 0, 1}, mac[:]...)
	frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(body)), icmpv6, onLink)
	return append(append(append(frame, a.AsSlice()...), all.AsSlice()...), body...)
}

// checksum is the internet's, of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
