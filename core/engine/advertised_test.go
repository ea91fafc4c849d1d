package engine_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
)

// advertisement is a router advertisement (RFC 4861 4.2) of one prefix.
type advertisement struct {
	router           uint16 // lifetimes in seconds
	valid, preferred uint32
	prefix           netip.Prefix
}

const routerAddress = "fe80::1"

// frame is the advertisement as it goes over the wire.
func (a advertisement) frame(src net.HardwareAddr) []byte {
	body := []byte{134, 0, 0, 0, 64, 0}
	body = binary.BigEndian.AppendUint16(body, a.router)
	body = append(body, make([]byte, 8)...)                              // reachable time and retransmission
	body = append(body, 3, 4, byte(a.prefix.Bits()), 0xc0 /* L and A */) // RFC 4861 4.6.2
	body = binary.BigEndian.AppendUint32(body, a.valid)
	body = binary.BigEndian.AppendUint32(body, a.preferred)
	body = append(append(body, 0, 0, 0, 0), a.prefix.Addr().AsSlice()...)

	from, to := netip.MustParseAddr(routerAddress).AsSlice(), netip.MustParseAddr("ff02::1").AsSlice()
	binary.BigEndian.PutUint16(body[2:], icmp6Sum(from, to, body))
	packet := []byte{0x60, 0, 0, 0, 0, byte(len(body)), unix.IPPROTO_ICMPV6, 255}
	packet = append(append(append(packet, from...), to...), body...)
	frame := append([]byte{0x33, 0x33, 0, 0, 0, 1}, src...)
	return append(append(frame, 0x86, 0xdd), packet...)
}

func icmp6Sum(from, to, body []byte) uint16 {
	all := append(append([]byte{}, from...), to...)
	all = binary.BigEndian.AppendUint32(all, uint32(len(body)))
	all = append(append(all, 0, 0, 0, unix.IPPROTO_ICMPV6), body...)
	var sum uint32
	for i := 0; i+1 < len(all); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(all[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// advertise sends the advertisement from a netdev of the calling thread's namespace.
func advertise(t *testing.T, netdev string, a advertisement) {
	t.Helper()
	nic, err := net.InterfaceByName(netdev)
	must(t, err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd) //nolint:errcheck // sent or not by then
	const bypass = 20    // PACKET_QDISC_BYPASS: a netdev that has just come up drops what is queued
	must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, bypass, 1))
	must(t, unix.Sendto(fd, a.frame(nic.HardwareAddr), 0, &unix.SockaddrLinklayer{Ifindex: nic.Index}))
}

// sixHere is what a netdev has of IPv6 that is not link-local, and its default route.
type sixHere struct {
	ready     bool // it has a link-local address
	addresses map[string]netlink.Addr
	defaults  []plan.Item
}

func readSix(t *testing.T, netdev string) (s sixHere) {
	t.Helper()
	h, err := netlink.NewHandle()
	must(t, err)
	defer h.Close()
	l, err := h.LinkByName(netdev)
	must(t, err)
	addresses, err := h.AddrList(l, netlink.FAMILY_V6)
	must(t, err)
	s.addresses = make(map[string]netlink.Addr)
	for _, a := range addresses {
		if a.IP.IsLinkLocalUnicast() {
			s.ready = s.ready || a.Flags&unix.IFA_F_TENTATIVE == 0
		} else {
			s.addresses[a.IP.String()] = a
		}
	}
	all, err := kernel.NewLinux().Addressing(context.Background(), netdev)
	must(t, err)
	for _, i := range all.Items {
		if i.Kind == plan.ItemRoute && i.Prefix == netip.PrefixFrom(netip.IPv6Unspecified(), 0) {
			s.defaults = append(s.defaults, i)
		}
	}
	return s
}

func (s sixHere) String() string {
	var words []string
	for ip, a := range s.addresses {
		words = append(words, fmt.Sprintf("%s valid %d preferred %d flags %#x", ip, a.ValidLft, a.PreferedLft, a.Flags))
	}
	for _, r := range s.defaults {
		words = append(words, fmt.Sprintf("%s, expires %v", r.Words, r.Fleeting))
	}
	return strings.Join(words, "\n")
}

// of reports how many addresses of a prefix there are, and temporary ones.
func (s sixHere) of(prefix string) (lasting, temporary []netlink.Addr) {
	for ip, a := range s.addresses {
		if !netip.MustParsePrefix(prefix).Contains(netip.MustParseAddr(ip)) {
			continue
		}
		if a.Flags&unix.IFA_F_TEMPORARY != 0 {
			temporary = append(temporary, a)
		} else {
			lasting = append(lasting, a)
		}
	}
	return lasting, temporary
}

// awaitSix waits until a netdev has what is asked for.
func awaitSix(t *testing.T, netdev, what string, has func(sixHere) bool) sixHere {
	t.Helper()
	done := make(chan struct{})
	defer close(done)
	addresses, routes := make(chan netlink.AddrUpdate, 64), make(chan netlink.RouteUpdate, 64)
	must(t, netlink.AddrSubscribe(addresses, done))
	must(t, netlink.RouteSubscribe(routes, done))
	late := time.After(patience)
	for {
		s := readSix(t, netdev)
		if has(s) {
			return s
		}
		select {
		case <-addresses:
		case <-routes:
		case <-late:
			t.Fatalf("%s has no %s:\n%s", netdev, what, s)
		}
	}
}

// What a router has advertised moves with the host, with the time that it had left; the
// next advertisement is heard by the host port, and by the NIC again when the switch goes.
func TestAdvertisedAddressesMoveOnLinux(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	runtime.LockOSThread() // the thread is in another namespace from now on and ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	makePair(t, "nic0")
	for name, value := range map[string]string{"accept_dad": "0", "accept_ra": "1", "use_tempaddr": "2", "router_solicitations": "0"} {
		must(t, os.WriteFile("/proc/sys/net/ipv6/conf/nic0/"+name, []byte(value), 0))
	}
	h, err := netlink.NewHandle()
	must(t, err)
	defer h.Close()
	nic, err := h.LinkByName("nic0")
	must(t, err)
	must(t, h.LinkSetUp(nic))

	const first, second, third = "2001:db8:7::/64", "2001:db8:8::/64", "2001:db8:9::/64"
	said := advertisement{router: 600, valid: 10000, preferred: 9000, prefix: netip.MustParsePrefix(first)}
	learned := func(prefix string) func(sixHere) bool {
		return func(s sixHere) bool {
			lasting, temporary := s.of(prefix)
			return len(lasting) == 1 && len(temporary) >= 1 && len(s.defaults) > 0
		}
	}
	awaitSix(t, "nic0", "link-local address", func(s sixHere) bool { return s.ready })
	advertise(t, "nic0-peer", said)
	before := awaitSix(t, "nic0", "address of the first prefix", learned(first))

	ctx := context.Background()
	e := engine.New(engine.Config{Kernel: kernel.NewLinux(), Store: store.New(store.Config{Dirs: store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)}, MachineID: "machine"})})
	_, err = e.AddSwitch(ctx, engine.AddSwitchRequest{Switch: lan(true)})
	must(t, err)
	moved := readSix(t, "pbh-lan")
	for ip, a := range before.addresses {
		if got, there := moved.addresses[ip]; !there || got.ValidLft > a.ValidLft || got.ValidLft < a.ValidLft-60 || got.PreferedLft > a.PreferedLft {
			t.Errorf("%s has not moved with its lifetime:\n%s", ip, moved)
		}
	}
	if len(moved.defaults) != 1 || !moved.defaults[0].Fleeting {
		t.Errorf("default routes:\n%s", moved)
	}

	said.valid, said.preferred, said.router = 20000, 19000, 900
	advertise(t, "nic0-peer", said)
	said.prefix = netip.MustParsePrefix(second)
	advertise(t, "nic0-peer", said)
	renewed := awaitSix(t, "pbh-lan", "address of the second prefix", learned(second))
	if lasting, _ := renewed.of(first); len(lasting) < 1 || !slices.ContainsFunc(lasting, func(a netlink.Addr) bool { return a.ValidLft > 10000 }) {
		t.Errorf("the address of the first prefix is not renewed:\n%s", renewed)
	}
	if len(renewed.defaults) != 2 {
		t.Errorf("the kernel has not made its own default route:\n%s", renewed)
	}
	if left := readSix(t, "nic0"); len(left.addresses)+len(left.defaults) > 0 {
		t.Errorf("the NIC has, in the switch:\n%s", left)
	}

	_, err = e.DeleteSwitch(ctx, engine.DeleteSwitchRequest{Name: "lan"})
	must(t, err)
	home := readSix(t, "nic0")
	for ip := range renewed.addresses {
		if _, back := home.addresses[ip]; !back {
			t.Errorf("%s has not come home:\n%s", ip, home)
		}
	}
	said.prefix = netip.MustParsePrefix(third)
	advertise(t, "nic0-peer", said)
	awaitSix(t, "nic0", "address of the third prefix", learned(third))
}
