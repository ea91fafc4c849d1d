package kernel

import (
	"encoding/binary"
	"net"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// announceBuffer is what may wait for a NIC to send it: the frames of some thousand guests.
const announceBuffer = 8 << 20

// announceMACs sends frames from each guest's address, in the namespace of the calling
// thread: the switches that they pass learn where the address is now. What does not get
// out is not tried again here. The netdev may be a bond's member: what is sent on the
// bond itself with a tag would be hashed as if it had none.
func announceMACs(s plan.AnnounceMACs) {
	netdev, err := net.InterfaceByName(s.Netdev)
	if err != nil {
		return
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, announceBuffer) // some of it gets out without
	to := &unix.SockaddrLinklayer{Ifindex: netdev.Index}
	send := func(frame []byte) { _ = unix.Sendto(fd, frame, unix.MSG_DONTWAIT, to) }
	for _, g := range s.Guests { // first of all where everybody is
		for _, vlan := range g.VLANs {
			send(tagged(rarp(g.MAC), vlan))
		}
	}
	for _, g := range s.Guests {
		for _, a := range g.Addresses {
			frame := gratuitousARP(g.MAC, a)
			if a.Is6() {
				frame = unsolicitedNA(g.MAC, a)
			}
			send(tagged(frame, g.VLANs[0]))
		}
	}
}

// tagged puts a frame into a VLAN; 0 leaves it alone.
func tagged(frame []byte, vlan int) []byte {
	const addresses = 2 * len(vswitch.MAC{})
	if vlan == 0 {
		return frame
	}
	tag := binary.BigEndian.AppendUint16([]byte{0x81, 0x00}, uint16(vlan))
	return append(append(append([]byte(nil), frame[:addresses]...), tag...), frame[addresses:]...)
}

// rarp is the question of RFC 903 for one's own address, as QEMU asks it after a
// migration: it says nothing but where the address is, and nobody answers it.
func rarp(mac vswitch.MAC) []byte {
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac[:]...)
	frame = append(frame, 0x80, 0x35, 0, 1, 0x08, 0, 6, 4, 0, 3) // RARP, for IPv4 on Ethernet, a request
	frame = append(append(frame, mac[:]...), 0, 0, 0, 0)
	frame = append(append(frame, mac[:]...), 0, 0, 0, 0)
	const shortest = 60 // of Ethernet, without the checksum
	return append(frame, make([]byte, shortest-len(frame))...)
}
