package kernel

import (
	"encoding/binary"
	"net"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// queryGroups sends every guest a general query, in the namespace of the calling thread,
// as a router would: what guests answer goes out by the member that is designated now. A
// query that does not get out is not missed for long, since real routers ask too.
func queryGroups(s plan.QueryGroups) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	frames := [][]byte{igmpQuery(s.Source), mldQuery(s.Source)}
	for _, q := range s.Queries {
		netdev, err := net.InterfaceByName(q.Netdev)
		if err != nil {
			continue
		}
		to := &unix.SockaddrLinklayer{Ifindex: netdev.Index}
		for _, frame := range frames {
			_ = unix.Sendto(fd, frame, unix.MSG_DONTWAIT, to)
			for id := range q.VLANs.All() {
				_ = unix.Sendto(fd, withTag(frame, id), unix.MSG_DONTWAIT, to)
			}
		}
	}
}

// withTag puts an IEEE 802.1Q tag into a frame.
func withTag(frame []byte, id int) []byte {
	out := append([]byte{}, frame[:etherType]...)
	out = binary.BigEndian.AppendUint16(out, unix.ETH_P_8021Q)
	out = binary.BigEndian.AppendUint16(out, uint16(id))
	return append(out, frame[etherType:]...)
}

// igmpQuery is a general query of RFC 3376 4.1 from a querier without an address (RFC
// 4541 2.1.1), which wins no election against a router; answers are due within a second.
func igmpQuery(source vswitch.MAC) []byte {
	const query, tenths, robustness, interval = 0x11, 10, 2, 125
	body := []byte{query, tenths, 0, 0, 0, 0, 0, 0, robustness, interval, 0, 0}
	binary.BigEndian.PutUint16(body[2:], checksum(body))
	const headerWords, precedence, hops, routerAlert = 6, 0xc0, 1, 0x94
	header := []byte{0x40 | headerWords, precedence, 0, byte(4*headerWords + len(body)), 0, 0, 0, 0, hops, unix.IPPROTO_IGMP, 0, 0}
	header = append(header, 0, 0, 0, 0, 224, 0, 0, 1, routerAlert, 4, 0, 0)
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	frame := append([]byte{0x01, 0x00, 0x5e, 0, 0, 1}, source[:]...)
	frame = append(append(append(frame, 0x08, 0x00), header...), body...)
	return append(frame, make([]byte, shortestFrame-len(frame))...)
}

// mldQuery is a general query of RFC 3810 5.1, from the link-local address that belongs
// to the source.
func mldQuery(source vswitch.MAC) []byte {
	from := []byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0, source[0] ^ 2, source[1], source[2], 0xff, 0xfe, source[3], source[4], source[5]}
	all := []byte{0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
	const robustness, interval, hops, routerAlert, padN = 2, 125, 1, 5, 1
	body := append([]byte{listenerQuery, 0, 0, 0, 1000 >> 8, 1000 & 0xff, 0, 0}, make([]byte, 16)...)
	body = append(body, robustness, interval, 0, 0)
	pseudo := append(append(append([]byte{}, from...), all...), 0, 0, 0, byte(len(body)), 0, 0, 0, unix.IPPROTO_ICMPV6)
	binary.BigEndian.PutUint16(body[2:], checksum(append(pseudo, body...)))
	hopByHop := []byte{unix.IPPROTO_ICMPV6, 0, routerAlert, 2, 0, 0, padN, 0}
	frame := append([]byte{0x33, 0x33, 0, 0, 0, 1}, source[:]...)
	frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(hopByHop)+len(body)), unix.IPPROTO_HOPOPTS, hops)
	return append(append(append(append(frame, from...), all...), hopByHop...), body...)
}

// shortestFrame is that of Ethernet, without the checksum.
const shortestFrame = 60
