package kernel

import (
	"net"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// announceMACs sends a frame from each address, in the namespace of the calling thread:
// the switches that it passes learn where the address is now. What does not get out is
// not tried again here.
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
	to := &unix.SockaddrLinklayer{Ifindex: netdev.Index}
	for _, mac := range s.MACs {
		_ = unix.Sendto(fd, rarp(mac), unix.MSG_DONTWAIT, to)
	}
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
