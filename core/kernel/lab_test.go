package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// patience bounds every wait for what has to come. Of carriers the kernel tells a hundred a
// second (linkwatch), in all namespaces together: after a test with thousands of netdevs
// whoever waits for one waits for those.
const patience = 40 * time.Second

// newNS makes a network namespace that ends with the test.
func newNS(t testing.TB) *os.File {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: CAP_SYS_ADMIN for network namespaces")
	}
	var ns *os.File
	err := inNewNetns(func() (err error) {
		ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// within runs fn in a namespace and fails the test on its error.
func within(t testing.TB, ns *os.File, fn func() error) {
	t.Helper()
	if err := inNetns(ns, fn); err != nil {
		t.Fatal(err)
	}
}

// netfilterWithin is within for what has a socket to nftables.
func netfilterWithin(t testing.TB, ns *os.File, fn func(c *rtnl) error) {
	t.Helper()
	within(t, ns, func() error {
		c, err := dialNetfilter()
		if err != nil {
			return err
		}
		defer c.close()
		return fn(c)
	})
}

// sh runs commands of a script, one a line, in a namespace and returns their output.
func sh(t testing.TB, ns *os.File, script string) string {
	t.Helper()
	var out []byte
	within(t, ns, func() (err error) {
		out, err = exec.Command("sh", "-ec", script).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s", script, err, out)
		}
		return err
	})
	return string(out)
}

// nsPath names a namespace for `ip link ... netns`.
func nsPath(ns *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()) }

// listener hears all frames that pass a netdev.
type listener struct {
	fd     int
	frames [][]byte
}

// listen opens a promiscuous packet socket.
func listen(t testing.TB, ns *os.File, dev string) *listener {
	return listenFor(t, ns, dev, unix.ETH_P_ALL)
}

func listenFor(t testing.TB, ns *os.File, dev string, protocol uint16) *listener {
	t.Helper()
	l := &listener{}
	within(t, ns, func() error {
		netdev, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		proto := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
		if l.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(proto)); err != nil {
			return err
		}
		if err := unix.Bind(l.fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: netdev.Index}); err != nil {
			return err
		}
		return unix.SetsockoptPacketMreq(l.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(netdev.Index), Type: unix.PACKET_MR_PROMISC})
	})
	t.Cleanup(func() { _ = unix.Close(l.fd) })
	return l
}

// send puts a frame on the netdev that the socket is bound to.
func (l *listener) send(t testing.TB, frame []byte) {
	t.Helper()
	if _, err := unix.Write(l.fd, frame); err != nil {
		t.Fatal(err)
	}
}

// receive waits until the deadline for one more frame that came from outside.
func (l *listener) receive(deadline time.Time) bool {
	buf := make([]byte, 2048)
	for {
		left := max(0, int(time.Until(deadline).Milliseconds()))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}, left)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return false
		}
		n, from, err := unix.Recvfrom(l.fd, buf, 0)
		if err != nil {
			return false
		}
		if sll, ok := from.(*unix.SockaddrLinklayer); ok && sll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		l.frames = append(l.frames, bytes.Clone(buf[:n]))
		return true
	}
}

// heard reports whether a frame has come, among those received so far and those
// that wait in the socket.
func (l *listener) heard(match func([]byte) bool) bool {
	for l.receive(time.Now()) {
	}
	for _, f := range l.frames {
		if match(f) {
			return true
		}
	}
	return false
}

// await fails the test unless the frame comes, or has come already.
func (l *listener) await(t testing.TB, what string, match func([]byte) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !l.heard(match); {
		if !l.receive(deadline) {
			t.Fatalf("%s did not come; heard\n%s", what, l)
		}
	}
}

func (l *listener) String() string {
	var b strings.Builder
	for _, f := range l.frames {
		fmt.Fprintf(&b, "  %x\n", f)
	}
	return b.String()
}

// fence sends a frame from one socket to another and back until what was sent
// before it must have arrived, where it does arrive.
func fence(t testing.TB, a, b *listener) {
	t.Helper()
	for i := range 3 {
		mark := fmt.Appendf(nil, "fence %d %p", i, t)
		frame := ethernet(broadcastMAC, macOf(0xfe), 0x88b5, mark)
		is := func(f []byte) bool { return bytes.Contains(f, mark) }
		a.send(t, frame)
		b.await(t, "the fence", is)
		mark[0] = 'F'
		b.send(t, ethernet(broadcastMAC, macOf(0xfd), 0x88b5, mark))
		a.await(t, "the fence's return", is)
	}
}

// upAgain returns what waits until the netdev, which is down or not there now, carries frames.
func upAgain(t testing.TB, ns *os.File, netdev string) (wait func()) {
	t.Helper()
	updates, done := make(chan netlink.LinkUpdate, 64), make(chan struct{})
	at := netns.NsHandle(ns.Fd())
	if err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{Namespace: &at}); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		defer close(done)
		for deadline := time.After(patience); ; {
			select {
			case u := <-updates:
				if u.Link.Attrs().Name == netdev && u.Link.Attrs().OperState == netlink.OperUp {
					return
				}
			case <-deadline:
				t.Fatalf("%s does not come up", netdev)
			}
		}
	}
}

var broadcastMAC = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func macOf(n byte) [6]byte { return [6]byte{2, 0, 0, 0, 0, n} }

func ethernet(dst, src [6]byte, protocol uint16, payload []byte) []byte {
	frame := append(dst[:], src[:]...)
	return append(binary.BigEndian.AppendUint16(frame, protocol), payload...)
}

// icmp6Frame is an ICMPv6 message in a frame; its checksum is nobody's concern.
func icmp6Frame(dst, src [6]byte, from, to net.IP, message []byte) []byte {
	ip := []byte{0x60, 0, 0, 0, byte(len(message) >> 8), byte(len(message)), unix.IPPROTO_ICMPV6, 255}
	ip = append(append(ip, from.To16()...), to.To16()...)
	return ethernet(dst, src, unix.ETH_P_IPV6, append(ip, message...))
}

// isICMP6 matches a type of ICMPv6, behind a Hop-by-Hop header too.
func isICMP6(kind byte) func([]byte) bool {
	return func(f []byte) bool {
		const ip = 14
		if len(f) < ip+40+1 || binary.BigEndian.Uint16(f[12:]) != unix.ETH_P_IPV6 {
			return false
		}
		next, rest := f[ip+6], f[ip+40:]
		if next == unix.IPPROTO_HOPOPTS && len(rest) > 8 {
			next, rest = rest[0], rest[8*(int(rest[1])+1):]
		}
		return next == unix.IPPROTO_ICMPV6 && len(rest) > 0 && rest[0] == kind
	}
}

// isProbeFor matches a neighbour solicitation from :: for an address.
func isProbeFor(match func(net.IP) bool) func([]byte) bool {
	return func(f []byte) bool {
		return isICMP6(neighborSolicitation)(f) && net.IP(f[22:38]).IsUnspecified() && match(net.IP(f[62:78]))
	}
}

func both(matches ...func([]byte) bool) func([]byte) bool {
	return func(f []byte) bool {
		for _, m := range matches {
			if !m(f) {
				return false
			}
		}
		return true
	}
}

// lab is a host with a bridge and guests, in namespaces of the test.
type lab struct {
	host   *os.File
	guests []*os.File
}

// newLab makes bridge pb-lab with ports p1... in the group, each the end of a pair
// whose other end is eth0 of a guest, up, with MAC macOf(1)... IPv6 is off on
// guests unless wanted.
func newLab(t testing.TB, guests int, group uint32) *lab {
	t.Helper()
	l := &lab{host: newNS(t)}
	sh(t, l.host, `[ -d /proc/sys/net/ipv6 ] || modprobe ipv6 # which a guest has not loaded yet
		sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
		ip link add pb-lab type bridge stp_state 0 forward_delay 0 mcast_snooping 0
		ip link set pb-lab up`)
	for i := range guests {
		l.guests = append(l.guests, newNS(t))
		l.plug(t, i+1, group)
	}
	return l
}

// plug connects a guest's eth0 to port pN of the bridge; the guest's IPv6 is off
// until it is wanted.
func (l *lab) plug(t testing.TB, n int, group uint32) {
	t.Helper()
	guest := l.guests[n-1]
	sh(t, guest, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
	mac := macOf(byte(n))
	carries := upAgain(t, l.host, fmt.Sprintf("p%d", n)) // until the kernel tells of its carrier the bridge takes nothing
	sh(t, l.host, fmt.Sprintf(`ip link add p%d master pb-lab group %d type veth peer name eth0 address %s netns %s
		ip link set p%d up`, n, group, net.HardwareAddr(mac[:]), nsPath(guest), n))
	sh(t, guest, "ip link set eth0 up; ip link set lo up")
	carries()
}
