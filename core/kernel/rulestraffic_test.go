package kernel

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// withAndWithout runs a test without our tables, as the control, and with them.
func withAndWithout(t *testing.T, fn func(t *testing.T, rules bool)) {
	t.Run("control", func(t *testing.T) { fn(t, false) })
	t.Run("rules", func(t *testing.T) { fn(t, true) })
}

// verdict checks what a listener heard: the control must hear it, rules stop it.
func verdict(t *testing.T, what string, rules bool, l *listener, match func([]byte) bool) {
	t.Helper()
	if !rules {
		l.await(t, what, match)
	} else if l.heard(match) {
		t.Errorf("%s came through:\n%s", what, l)
	}
}

func containing(text string) func([]byte) bool {
	return func(f []byte) bool { return bytes.Contains(f, []byte(text)) }
}

func TestBridgeDeviceIsClosed(t *testing.T) {
	withAndWithout(t, func(t *testing.T, rules bool) {
		l := newLab(t, 2, vswitch.Group(1))
		if rules {
			apply(t, l.host, plan.SetRules{Add: plan.Rules{Base: true, Quiet: map[uint32]bool{vswitch.Group(1): true}}})
		}
		bridge := listen(t, l.host, "pb-lab")
		g1, g2 := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
		fence(t, g1, g2)
		g1.send(t, ethernet(macOf(2), macOf(1), 0x88b5, []byte("unicast to a guest")))
		g1.send(t, ethernet(broadcastMAC, macOf(1), 0x88b5, []byte("broadcast")))
		g2.await(t, "unicast between guests", containing("unicast to a guest"))
		g2.await(t, "broadcast between guests", containing("broadcast"))
		fence(t, g1, g2)
		verdict(t, "unicast between guests", rules, bridge, containing("unicast to a guest"))
		verdict(t, "a guest's broadcast", rules, bridge, containing("broadcast"))

		bridge.send(t, ethernet(broadcastMAC, macOf(9), 0x88b5, []byte("the host speaks")))
		fence(t, g1, g2)
		verdict(t, "the bridge device's broadcast", rules, g1, containing("the host speaks"))
		verdict(t, "the bridge device's broadcast", rules, g2, containing("the host speaks"))
	})
}

func TestUplinkKeepsLinkLocalFrames(t *testing.T) {
	l := newLab(t, 2, vswitch.UplinkGroup)
	sh(t, l.host, fmt.Sprintf("ip link set p2 group %d", vswitch.Group(1)))
	apply(t, l.host, plan.SetRules{Add: plan.Rules{Base: true}})
	const portAccess = unix.ETH_P_PAE // 802.1X
	group := [6]byte{0x01, 0x80, 0xc2, 0, 0, 3}
	uplink, port := listenFor(t, l.host, "p1", portAccess), listenFor(t, l.host, "p2", portAccess)
	wire, guest := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
	wire.send(t, ethernet(group, macOf(1), portAccess, []byte("from the network")))
	uplink.await(t, "802.1X on the uplink", containing("from the network"))
	guest.send(t, ethernet(group, macOf(2), portAccess, []byte("from a guest")))
	fence(t, guest, wire)
	if port.heard(containing("from a guest")) {
		t.Error("a guest's 802.1X reached the host")
	}
}

// A guest's own kernel sends here what it sends when its netdev comes up.
func TestQuietSwitchKeepsReportsAndProbes(t *testing.T) {
	withAndWithout(t, func(t *testing.T, rules bool) {
		l := newLab(t, 3, vswitch.Group(1))
		if rules {
			apply(t, l.host, plan.SetRules{Add: plan.Rules{Base: true, Quiet: map[uint32]bool{vswitch.Group(1): true}}})
		}
		port := listen(t, l.host, "p1") // hears before any rule
		g1, third := listen(t, l.guests[0], "eth0"), listen(t, l.guests[2], "eth0")
		sh(t, l.guests[0], "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0; ip addr add fd00::1234/64 dev eth0")

		report := both(isICMP6(listenerReport2), func(f []byte) bool { return f[14+6] == unix.IPPROTO_HOPOPTS })
		ownProbe := isProbeFor(func(a net.IP) bool { return a.IsLinkLocalUnicast() })
		otherProbe := isProbeFor(net.ParseIP("fd00::1234").Equal)
		port.await(t, "the guest's MLDv2 report", report)
		port.await(t, "the guest's probe of its link-local address", ownProbe)
		port.await(t, "the guest's probe of the address it was given", otherProbe)
		fence(t, g1, third)
		verdict(t, "an MLDv2 report", rules, third, report)
		verdict(t, "a probe of an address made of the MAC", rules, third, ownProbe)
		third.await(t, "the probe of any other address", otherProbe)

		linkLocal := net.ParseIP("fe80::ff:fe00:1")
		for _, kind := range []byte{listenerReport, listenerDone} {
			g1.send(t, icmp6Frame([6]byte{0x33, 0x33, 0, 0, 0, 2}, macOf(1), linkLocal, net.ParseIP("ff02::2"), []byte{kind, 0, 0, 0, 0, 0, 0, 0}))
			fence(t, g1, third)
			verdict(t, fmt.Sprintf("MLD type %d", kind), rules, third, isICMP6(kind))
		}
		// Who has an address and asks for another's is no probe.
		ask := append([]byte{neighborSolicitation, 0, 0, 0, 0, 0, 0, 0}, net.ParseIP("fe80::ff:fe00:3").To16()...)
		g1.send(t, icmp6Frame([6]byte{0x33, 0x33, 0xff, 0, 0, 3}, macOf(1), linkLocal, net.ParseIP("ff02::1:ff00:3"), ask))
		third.await(t, "a neighbour solicitation", both(isICMP6(neighborSolicitation), func(f []byte) bool { return net.IP(f[22:38]).Equal(linkLocal) }))
	})
}

func TestReportsReachTheUplinkAlone(t *testing.T) {
	withAndWithout(t, func(t *testing.T, rules bool) {
		l := newLab(t, 3, vswitch.Group(1))
		sh(t, l.host, fmt.Sprintf("ip link set p3 group %d", vswitch.UplinkGroup))
		if rules {
			apply(t, l.host, plan.SetRules{Add: plan.Rules{Base: true}})
		}
		guest, wire := listen(t, l.guests[1], "eth0"), listen(t, l.guests[2], "eth0")
		g1 := listen(t, l.guests[0], "eth0")
		sh(t, l.guests[0], "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0")
		probe := isProbeFor(func(a net.IP) bool { return a.IsLinkLocalUnicast() })
		wire.await(t, "the report on the uplink", isICMP6(listenerReport2))
		wire.await(t, "the probe on the uplink", probe)
		fence(t, g1, guest)
		verdict(t, "a report to another guest", rules, guest, isICMP6(listenerReport2))
		guest.await(t, "the probe to another guest", probe)

		// IPv4's, and other multicast, is nobody's business.
		sh(t, l.guests[0], "ip addr add 10.1.0.1/24 dev eth0; ip route add 224.0.0.0/4 dev eth0")
		within(t, l.guests[0], func() error {
			c, err := net.Dial("udp4", "224.0.0.251:5353")
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			_, err = c.Write([]byte("mDNS"))
			return err
		})
		guest.await(t, "IPv4 multicast", containing("mDNS"))
		advert := icmp6Frame([6]byte{0x33, 0x33, 0, 0, 0, 1}, macOf(3), net.ParseIP("fe80::3"), net.ParseIP("ff02::1"), []byte{134, 0, 0, 0, 64, 0, 0, 0})
		wire.send(t, advert)
		guest.await(t, "a router advertisement", isICMP6(134))
	})
}

func TestRouterSolicitationIsSteered(t *testing.T) {
	withAndWithout(t, func(t *testing.T, rules bool) {
		l := newLab(t, 3, vswitch.Group(1))
		if rules {
			apply(t, l.host, plan.SetRules{Add: plan.Rules{Base: true, Router: map[uint32]vswitch.MAC{vswitch.Group(1): macOf(2)}}})
		}
		mac := net.HardwareAddr([]byte{2, 0, 0, 0, 0, 2})
		sh(t, l.host, fmt.Sprintf("bridge fdb replace %s dev p2 master static; bridge link set dev p3 flood off", mac))
		g1, router, third := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0"), listen(t, l.guests[2], "eth0")
		g1.send(t, icmp6Frame([6]byte{0x33, 0x33, 0, 0, 0, 2}, macOf(1), net.ParseIP("fe80::1"), net.ParseIP("ff02::2"), []byte{routerSolicitation, 0, 0, 0, 0, 0, 0, 0}))
		router.await(t, "the solicitation at the router", isICMP6(routerSolicitation))
		if rules {
			router.await(t, "the router's own address on it", func(f []byte) bool { return isICMP6(routerSolicitation)(f) && bytes.HasPrefix(f, mac) })
		}
		fence(t, g1, third)
		verdict(t, "the solicitation at a third port", rules, third, isICMP6(routerSolicitation))
	})
}

// solicitor sends solicitations for routers that can be told apart.
type solicitor struct {
	*listener
	mac  [6]byte
	sent int
}

func (s *solicitor) ask(t *testing.T, n int) (asked []func([]byte) bool) {
	t.Helper()
	for range n {
		s.sent++
		id := byte(s.sent)
		s.send(t, icmp6Frame([6]byte{0x33, 0x33, 0, 0, 0, 2}, s.mac, net.ParseIP(fmt.Sprintf("fe80::%x", id)), net.ParseIP("ff02::2"),
			[]byte{routerSolicitation, 0, 0, 0, 0, 0, 0, 0}))
		asked = append(asked, both(isICMP6(routerSolicitation), func(f []byte) bool { return f[14+8+15] == id && [6]byte(f[6:]) == s.mac }))
	}
	return asked
}

// advertise has all know of a router.
func advertise(t *testing.T, router *listener, n byte, heard ...*listener) {
	t.Helper()
	mac := macOf(n)
	router.send(t, icmp6Frame([6]byte{0x33, 0x33, 0, 0, 0, 1}, mac, net.ParseIP(fmt.Sprintf("fe80::%x", n)), net.ParseIP("ff02::1"), []byte{routerAdvertisement, 0, 0, 0, 64, 0, 0, 0}))
	for _, l := range heard {
		l.await(t, "the router's advertisement", both(isICMP6(routerAdvertisement), func(f []byte) bool { return [6]byte(f[6:]) == mac }))
	}
}

// seldom checks that of the solicitations one a second was heard with rules, all without.
func seldom(t *testing.T, rules bool, l *listener, asked []func([]byte) bool, since time.Time) {
	t.Helper()
	heard := 0
	for _, is := range asked {
		if l.heard(is) {
			heard++
		}
	}
	least, most := 1, 1+int(time.Since(since).Seconds())
	if !rules {
		least, most = len(asked), len(asked)
	}
	if heard < least || heard > most {
		t.Errorf("%d of %d solicitations came through in %s, want %d to %d", heard, len(asked), time.Since(since), least, most)
	}
}

// While no router is heard on a switch, one solicitation a second passes, from whatever
// segment; afterwards they reach the router, and others as seldom as before.
func TestQuietSwitchSeldomAsksForRouters(t *testing.T) {
	const many = 20
	withAndWithout(t, func(t *testing.T, rules bool) {
		l := newLab(t, 3, vswitch.Group(1))
		sh(t, l.host, fmt.Sprintf(`ip link add pb-further type bridge stp_state 0 forward_delay 0 mcast_snooping 0
			ip link set pb-further up
			ip link add r1 master pb-lab group %d type veth peer name pbs1-lab
			ip link set pbs1-lab master pb-further group %d up
			ip link set r1 up
			ip link set p3 master pb-further
			ip link`, vswitch.Group(1), vswitch.UplinkGroup))
		if rules {
			apply(t, l.host, plan.SetRules{Add: plan.Rules{Base: true, Quiet: map[uint32]bool{vswitch.Group(1): true}}})
		}
		other, router := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
		guest := &solicitor{listener: listen(t, l.guests[2], "eth0"), mac: macOf(3)}
		start := time.Now()
		asked := guest.ask(t, many)
		fence(t, guest.listener, other)
		seldom(t, rules, other, asked, start)
		advertise(t, router, 2, guest.listener)
		more := guest.ask(t, many)
		for _, is := range more {
			router.await(t, "a solicitation for the router", is)
		}
		fence(t, guest.listener, other)
		seldom(t, rules, other, append(asked, more...), start)
	})
}

// On a switch with an uplink all solicitations reach the uplink, the host's port and the
// guests who are routers, of whatever segment. The others hear one a second: of those of
// guests, and of those from outside.
func TestSolicitationsReachRouters(t *testing.T) {
	const many = 20
	withAndWithout(t, func(t *testing.T, rules bool) {
		l := newLab(t, 6, vswitch.Group(1))
		sh(t, l.host, fmt.Sprintf(`ip link add pb-further type bridge stp_state 0 forward_delay 0 mcast_snooping 0
			ip link set pb-further up
			ip link add r1 master pb-lab group %[1]d type veth peer name pbs1-lab
			ip link set pbs1-lab master pb-further group %[2]d up
			ip link set r1 up
			ip link set p5 master pb-further
			ip link set p6 master pb-further
			ip link set p1 group %[2]d
			ip link set p2 down name pbp-lab up`, vswitch.Group(1), vswitch.UplinkGroup))
		if rules {
			apply(t, l.host, plan.SetRules{Add: plan.Rules{Base: true}})
		}
		wire := &solicitor{listener: listen(t, l.guests[0], "eth0"), mac: macOf(1)}
		host, router := listen(t, l.guests[1], "eth0"), listen(t, l.guests[2], "eth0")
		guest := &solicitor{listener: listen(t, l.guests[3], "eth0"), mac: macOf(4)}
		far, farRouter := listen(t, l.guests[4], "eth0"), listen(t, l.guests[5], "eth0")
		reach := func(asked []func([]byte) bool, routers ...*listener) {
			t.Helper()
			for i, l := range routers {
				for _, is := range asked {
					l.await(t, fmt.Sprintf("a solicitation for router %d", i), is)
				}
			}
		}
		start := time.Now()
		asked := guest.ask(t, many)
		reach(asked, wire.listener, host)
		fence(t, guest.listener, router)
		fence(t, guest.listener, far)
		seldom(t, rules, router, asked, start)
		seldom(t, rules, far, asked, start)
		advertise(t, router, 3, guest.listener, wire.listener)
		advertise(t, farRouter, 6, guest.listener, wire.listener)
		more := guest.ask(t, many)
		reach(more, wire.listener, host, router, farRouter)
		fence(t, guest.listener, far)
		seldom(t, rules, far, append(asked, more...), start)

		start = time.Now()
		outside := wire.ask(t, many)
		reach(outside, host, router, farRouter)
		fence(t, wire.listener, guest.listener)
		seldom(t, rules, guest.listener, outside, start)
	})
}

func TestGuardStopsForeignSources(t *testing.T) {
	withAndWithout(t, func(t *testing.T, rules bool) {
		l := newLab(t, 2, vswitch.Group(1))
		if rules {
			apply(t, l.host, plan.SetRules{Add: plan.Rules{Base: true, Guard: map[string]vswitch.MAC{"p1": macOf(1)}}})
		}
		g1, g2 := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
		for _, dst := range [][6]byte{broadcastMAC, macOf(2)} {
			spoofed := fmt.Sprintf("spoofed to %x", dst)
			honest := fmt.Sprintf("honest to %x", dst)
			g1.send(t, ethernet(dst, macOf(7), 0x88b5, []byte(spoofed)))
			g1.send(t, ethernet(dst, macOf(1), 0x88b5, []byte(honest)))
			g2.await(t, honest, containing(honest))
			verdict(t, spoofed, rules, g2, containing(spoofed))
		}
		g2.send(t, ethernet(broadcastMAC, macOf(7), 0x88b5, []byte("unguarded")))
		g1.await(t, "what an unguarded port sends", containing("unguarded"))
	})
}

func TestGuestsReachEachOther(t *testing.T) {
	l := newLab(t, 2, vswitch.Group(1))
	all := sampleRules()
	all.Guard = map[string]vswitch.MAC{"p1": macOf(1), "p2": macOf(2)}
	apply(t, l.host, plan.SetRules{Add: all})
	for i, guest := range l.guests {
		sh(t, guest, fmt.Sprintf(`sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0
			ip addr add 10.1.0.%d/24 dev eth0; ip addr add fd01::%d/64 dev eth0 nodad`, i+1, i+1))
	}
	sh(t, l.guests[0], "ping -c1 -w40 10.1.0.2; ping -c1 -w40 fd01::2")
	sh(t, l.guests[1], "ping -c1 -w40 10.1.0.1; ping -c1 -w40 fd01::1")
}

func TestMasquerade(t *testing.T) {
	families := map[string]struct{ network, guest, host, outside string }{
		"IPv4": {"udp4", "10.1.0.2", "192.0.2.1", "192.0.2.2"},
		"IPv6": {"udp6", "fd01::2", "2001:db8::1", "2001:db8::2"},
	}
	both := plan.Families{IPv4: true, IPv6: true}
	tests := map[string]struct {
		masquerade map[string]plan.Families
		asHost     bool
	}{
		"control":                        {nil, false},
		"by the host port":               {map[string]plan.Families{"pbh-lab": both}, true},
		"to another masqueraded switch":  {map[string]plan.Families{"pbh-lab": both, "out": both}, false},
		"of somebody else's switch only": {map[string]plan.Families{"pbh-other": both}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			host, guest, outside := routedLab(t)
			apply(t, host, plan.SetRules{Add: plan.Rules{Base: true, Masquerade: tt.masquerade}})
			for family, f := range families {
				want := f.guest
				if tt.asHost {
					want = f.host
				}
				if got := seenSource(t, guest, outside, f.network, f.outside); got != want {
					t.Errorf("%s: outside sees %s, want %s", family, got, want)
				}
			}
		})
	}
}

// routedLab is guest - pbh-lab host out - outside, forwarding both families.
func routedLab(t *testing.T) (host, guest, outside *os.File) {
	t.Helper()
	host, guest, outside = newNS(t), newNS(t), newNS(t)
	sh(t, host, fmt.Sprintf(`sysctl -qw net.ipv6.conf.default.accept_dad=0
		ip link add pbh-lab type veth peer name eth0 netns %s
		ip link add out type veth peer name eth0 netns %s
		ip addr add 10.1.0.1/24 dev pbh-lab; ip addr add fd01::1/64 dev pbh-lab nodad; ip link set pbh-lab up
		ip addr add 192.0.2.1/24 dev out; ip addr add 2001:db8::1/64 dev out nodad; ip link set out up`, nsPath(guest), nsPath(outside)))
	sh(t, guest, `ip addr add 10.1.0.2/24 dev eth0; ip addr add fd01::2/64 dev eth0 nodad; ip link set eth0 up
		ip route add default via 10.1.0.1; ip route add default via fd01::1`)
	sh(t, outside, "ip addr add 192.0.2.2/24 dev eth0; ip addr add 2001:db8::2/64 dev eth0 nodad; ip link set eth0 up")
	within(t, host, func() error { return setForwarding(plan.Families{IPv4: true, IPv6: true}) })
	return host, guest, outside
}

// seenSource sends a datagram and returns the address that it arrives from.
func seenSource(t *testing.T, from, to *os.File, network, addr string) string {
	t.Helper()
	var server net.PacketConn
	within(t, to, func() (err error) {
		server, err = net.ListenPacket(network, net.JoinHostPort(addr, "7000"))
		return err
	})
	defer func() { _ = server.Close() }()
	var client net.Conn
	within(t, from, func() (err error) {
		client, err = net.Dial(network, net.JoinHostPort(addr, "7000"))
		return err
	})
	defer func() { _ = client.Close() }()
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = server.SetReadDeadline(time.Now().Add(patience))
	_, source, err := server.ReadFrom(make([]byte, 64))
	if err != nil {
		t.Fatal(err)
	}
	return source.(*net.UDPAddr).IP.String()
}
