package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// sample is a frame that the owner of p1 sends (out) or gets, and whether it arrives.
type sample struct {
	out    bool
	name   string
	bytes  func(mark string) []byte
	passes bool
}

func out(passes bool, name string, bytes func(string) []byte) sample {
	return sample{true, name, bytes, passes}
}

func in(passes bool, name string, bytes func(string) []byte) sample {
	return sample{false, name, bytes, passes}
}

const passes, dropped = true, false

// marked makes frames of what comes before the mark.
func marked(etherType uint16, src, dst byte, packet func(mark string) []byte) func(string) []byte {
	return func(mark string) []byte { return ethernet(macOf(dst), macOf(src), etherType, packet(mark)) }
}

// ip4 is a packet of IPv4 between two guests' MAC addresses, 1 and 2 if it goes out.
func ip4(from, to string, protocol byte, payload []byte) func(string) []byte {
	return fragment4(from, to, protocol, 0, payload)
}

// fragment4 has the flags and the offset of a fragment.
func fragment4(from, to string, protocol byte, at uint16, payload []byte) func(string) []byte {
	src, dst := netip.MustParseAddr(from), netip.MustParseAddr(to)
	a, b := macsFor(src)
	return marked(unix.ETH_P_IP, a, b, func(mark string) []byte {
		ip := []byte{0x45, 0, 0, 0, 0, 1, byte(at >> 8), byte(at), 64, protocol, 0, 0}
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(payload)+len(mark)))
		ip = slices.Concat(ip, src.AsSlice(), dst.AsSlice())
		sum := uint32(0)
		for i := 0; i < len(ip); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(ip[i:]))
		}
		sum = sum&0xffff + sum>>16
		binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16)) // br_netfilter looks at it
		return slices.Concat(ip, payload, []byte(mark))
	})
}

func ip6(from, to string, next byte, payload []byte) func(string) []byte {
	return ip6WithHops(from, to, next, 64, payload)
}

func ip6WithHops(from, to string, next, hops byte, payload []byte) func(string) []byte {
	src, dst := netip.MustParseAddr(from), netip.MustParseAddr(to)
	a, b := macsFor(src)
	return marked(unix.ETH_P_IPV6, a, b, func(mark string) []byte {
		n := len(payload) + len(mark)
		return slices.Concat([]byte{0x60, 0, 0, 0, byte(n >> 8), byte(n), next, hops}, src.AsSlice(), dst.AsSlice(), payload, []byte(mark))
	})
}

// macsFor are the sender's and the receiver's: p1 has addresses that end with 1.
func macsFor(src netip.Addr) (from, to byte) {
	if b := src.AsSlice(); b[len(b)-1] == 1 {
		return 1, 2
	}
	return 2, 1
}

func behindTags(tags int, inner func(string) []byte) func(string) []byte {
	return func(mark string) []byte {
		f := inner(mark)
		for range tags {
			f = slices.Insert(f, 12, 0x81, 0x00, 0xe0, 0x00) // priority 7, no VLAN
		}
		return f
	}
}

func tcp(from, to uint16) []byte {
	return append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to), 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0)
}

// echo is an echo or the answer to it, with an identifier.
func echo(kind byte, id uint16) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind, 0, 0, 0}, id), 0, 1)
}

// about is a message of ICMP about a packet, whose frame it is given.
func about(kind byte, frame func(string) []byte) []byte {
	const ethernetHeader = 14
	return append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, frame("")[ethernetHeader:]...)
}

const (
	own4, other4 = "10.1.0.1", "10.1.0.2"
	own6, other6 = "fd01::1", "fd01::2"
)

// readyLab is a lab of two guests whose ports forward.
func readyLab(t *testing.T) *lab {
	t.Helper()
	l := newLab(t, 2, vswitch.Group(1))
	within(t, l.host, func() error {
		c, err := dialRTNL()
		if err != nil {
			return err
		}
		defer c.close()
		return errors.Join(awaitPort(c, "p1"), awaitPort(c, "p2"))
	})
	for _, guest := range l.guests {
		sh(t, guest, "ip link show eth0") // reading it runs the link watch: see awaitPort
	}
	return l
}

// check sends samples one after the other and checks which arrive.
func (l *lab) check(t *testing.T, g1, g2 *listener, samples []sample) {
	t.Helper()
	for i, s := range samples {
		from, to := g2, g1
		if s.out {
			from, to = g1, g2
		}
		mark := fmt.Sprintf("%p sample %d.", &samples[0], i)
		from.send(t, s.bytes(mark))
		if s.passes {
			to.await(t, s.name, containing(mark))
			continue
		}
		fence(t, g1, g2)
		if to.heard(containing(mark)) {
			t.Errorf("%s came through", s.name)
		}
	}
}

func TestACLTraffic(t *testing.T) {
	udp53, tcp25 := udp(4711, 53), tcp(4711, 25)
	ether := func(src, dst byte) func(string) []byte {
		return marked(0x88b5, src, dst, func(mark string) []byte { return []byte(mark) })
	}
	arp := marked(unix.ETH_P_ARP, 1, 2, func(mark string) []byte {
		return append(arpMessage(1, macOf(1), netip.MustParseAddr(own4)), mark...)
	})
	solicitation := icmp(neighborSolicitation, slices.Concat(make([]byte, 4), netip.MustParseAddr(other6).AsSlice()))
	for name, c := range map[string]struct {
		rules   []string
		samples []sample
	}{
		"longest prefix": {
			[]string{"deny out to 10.0.0.0/8", "allow out to 10.1.0.0/16", "deny out to 10.1.0.2", "deny out to fd01::/64", "allow out to fd01::2"},
			[]sample{
				out(dropped, "to the widest", ip4(own4, "10.9.0.2", unix.IPPROTO_UDP, udp53)),
				out(passes, "to a longer one", ip4(own4, "10.1.0.3", unix.IPPROTO_UDP, udp53)),
				out(dropped, "to the longest", ip4(own4, other4, unix.IPPROTO_UDP, udp53)),
				out(passes, "to what no rule is about", ip4(own4, "192.0.2.2", unix.IPPROTO_UDP, udp53)),
				out(dropped, "of IPv6", ip6(own6, "fd01::3", unix.IPPROTO_TCP, tcp25)),
				out(passes, "to the longest of IPv6", ip6(own6, other6, unix.IPPROTO_TCP, tcp25)),
				in(passes, "the other way", ip4("10.9.0.2", own4, unix.IPPROTO_UDP, udp53)),
				in(passes, "the other way of IPv6", ip6("fd01::3", own6, unix.IPPROTO_UDP, udp53)),
			},
		},
		"in": {
			[]string{"deny in from 10.1.0.0/16", "deny in from fd01::/64", "deny in to 10.8.0.1"},
			[]sample{
				in(dropped, "from the prefix", ip4(other4, own4, unix.IPPROTO_ICMP, echo(8, 1))),
				in(dropped, "behind a priority tag", behindTags(1, ip4(other4, own4, unix.IPPROTO_ICMP, echo(8, 1)))),
				in(dropped, "behind two tags", behindTags(2, ip4(other4, own4, unix.IPPROTO_ICMP, echo(8, 1)))),
				in(dropped, "of IPv6", ip6(other6, own6, unix.IPPROTO_ICMPV6, echo(128, 1))),
				in(dropped, "to a local address", ip4("192.0.2.2", "10.8.0.1", unix.IPPROTO_UDP, udp53)),
				in(passes, "from elsewhere", ip4("192.0.2.2", own4, unix.IPPROTO_UDP, udp53)),
				out(passes, "the other way", ip4(own4, other4, unix.IPPROTO_ICMP, echo(0, 1))),
			},
		},
		"any is IP alone": {
			[]string{"deny out any", "allow out to 192.0.2.0/24"},
			[]sample{
				out(dropped, "IPv4", ip4(own4, other4, unix.IPPROTO_UDP, udp53)),
				out(dropped, "IPv6", ip6(own6, other6, unix.IPPROTO_UDP, udp53)),
				out(dropped, "behind a tag", behindTags(1, ip6(own6, other6, unix.IPPROTO_UDP, udp53))),
				out(dropped, "behind two", behindTags(2, ip6(own6, other6, unix.IPPROTO_UDP, udp53))),
				out(passes, "what is allowed", ip4(own4, "192.0.2.2", unix.IPPROTO_UDP, udp53)),
				out(passes, "ARP", arp),
				out(passes, "another protocol", ether(1, 2)),
				out(passes, "a neighbour solicitation", ip6WithHops(own6, other6, unix.IPPROTO_ICMPV6, 255, solicitation)),
				out(dropped, "one from afar", ip6WithHops(own6, other6, unix.IPPROTO_ICMPV6, 254, solicitation)),
				out(dropped, "one behind options", ip6WithHops(own6, other6, unix.IPPROTO_DSTOPTS, 255, slices.Concat(options(unix.IPPROTO_ICMPV6), solicitation))),
				out(dropped, "a router advertisement", ip6WithHops(own6, other6, unix.IPPROTO_ICMPV6, 255, icmp(routerAdvertisement, make([]byte, 12)))),
			},
		},
		"MAC addresses": {
			[]string{"deny in from 02:00:00:00:00:09", "deny out to 02:00:00:00:00:09", "allow in from 10.1.0.2"},
			[]sample{
				in(dropped, "from the address", ether(9, 1)),
				in(passes, "from another one", ether(2, 1)),
				out(dropped, "to the address", ether(1, 9)),
				out(passes, "to another one", ether(1, 2)),
				in(dropped, "IP from the address", func(mark string) []byte {
					f := ip4(other4, own4, unix.IPPROTO_UDP, udp53)(mark)
					f[11] = 9
					return f
				}),
			},
		},
		"any frame": {
			[]string{"deny out any-mac", "allow out from 02:00:00:00:00:fe", "allow out to 02:00:00:00:00:08", "allow out to 192.0.2.2"},
			[]sample{
				out(dropped, "another protocol", ether(1, 2)),
				out(dropped, "ARP", arp),
				out(dropped, "a neighbour solicitation", ip6WithHops(own6, other6, unix.IPPROTO_ICMPV6, 255, solicitation)),
				out(dropped, "IP", ip4(own4, other4, unix.IPPROTO_UDP, udp53)),
				out(passes, "to an address that is allowed", ip4(own4, "192.0.2.2", unix.IPPROTO_UDP, udp53)),
				out(passes, "to a MAC address that is allowed", ether(1, 8)),
			},
		},
		"weight": {
			[]string{"allow out tcp to port 25 weight 30", "deny out tcp to 10.1.0.0/16 weight 20", "allow out to 10.1.0.2 weight 10", "deny out weight 1"},
			[]sample{
				out(passes, "by the first", ip4(own4, other4, unix.IPPROTO_TCP, tcp25)),
				out(dropped, "by the second", ip4(own4, other4, unix.IPPROTO_TCP, tcp(4711, 26))),
				out(passes, "by the third", ip4(own4, other4, unix.IPPROTO_UDP, udp53)),
				out(dropped, "by the last", ip4(own4, "10.1.0.3", unix.IPPROTO_UDP, udp53)),
				out(passes, "by the first, of IPv6", ip6(own6, other6, unix.IPPROTO_TCP, tcp25)),
				out(dropped, "by the last, of IPv6", ip6(own6, other6, unix.IPPROTO_TCP, tcp(4711, 26))),
				out(passes, "a neighbour solicitation", ip6WithHops(own6, other6, unix.IPPROTO_ICMPV6, 255, solicitation)),
				out(passes, "ARP", arp),
				in(passes, "the other way", ip4(other4, own4, unix.IPPROTO_TCP, tcp(4711, 26))),
			},
		},
		"both kinds": {
			[]string{"deny in from 10.1.0.2", "allow in udp from 10.1.0.0/16 weight 9", "deny in udp weight 1"},
			[]sample{
				in(dropped, "allowed by weight, denied by prefix", ip4(other4, own4, unix.IPPROTO_UDP, udp53)),
				in(passes, "allowed by both", ip4("10.1.0.3", own4, unix.IPPROTO_UDP, udp53)),
				in(dropped, "denied by weight", ip4("192.0.2.2", own4, unix.IPPROTO_UDP, udp53)),
			},
		},
		"protocols and ports": {
			[]string{
				"deny in tcp from port 4000-4999 to port 25 weight 9", "deny in udp to port 53 weight 9", "deny in icmp weight 9", "deny in icmpv6 weight 9", "deny in 47 weight 9",
				"deny out udp from fd01::1 port 53 to fd01::2 weight 9",
			},
			[]sample{
				in(dropped, "both ports", ip4(other4, own4, unix.IPPROTO_TCP, tcp(4000, 25))),
				in(dropped, "the last of the range", ip6(other6, own6, unix.IPPROTO_TCP, tcp(4999, 25))),
				in(passes, "beyond the range", ip4(other4, own4, unix.IPPROTO_TCP, tcp(5000, 25))),
				in(passes, "another port", ip4(other4, own4, unix.IPPROTO_TCP, tcp(4000, 26))),
				in(dropped, "UDP", ip6(other6, own6, unix.IPPROTO_UDP, udp53)),
				in(dropped, "UDP behind options", ip6(other6, own6, unix.IPPROTO_DSTOPTS, slices.Concat(options(unix.IPPROTO_UDP), udp53))),
				in(passes, "TCP to that port", ip6(other6, own6, unix.IPPROTO_TCP, tcp(4711, 53))),
				in(dropped, "a ping", ip4(other4, own4, unix.IPPROTO_ICMP, echo(8, 1))),
				in(dropped, "a ping of IPv6", ip6(other6, own6, unix.IPPROTO_ICMPV6, echo(128, 1))),
				in(dropped, "a protocol by its number", ip4(other4, own4, 47, make([]byte, 8))),
				in(passes, "another one", ip4(other4, own4, 50, make([]byte, 8))),
				out(dropped, "from a port, to an address", ip6(own6, other6, unix.IPPROTO_UDP, udp(53, 4711))),
				out(passes, "to that port", ip6(own6, other6, unix.IPPROTO_UDP, udp53)),
			},
		},
		"fragments": {
			[]string{"deny out udp to port 53 weight 9", "deny out icmpv6 weight 9", "allow in udp to port 53 weight 9", "deny in udp weight 1"},
			[]sample{
				out(dropped, "the first", fragment4(own4, other4, unix.IPPROTO_UDP, 0x2000, udp53)),
				out(passes, "a later one, which has no port", fragment4(own4, other4, unix.IPPROTO_UDP, 0x0003, udp53)),
				out(dropped, "the first of IPv6", ip6(own6, other6, unix.IPPROTO_FRAGMENT, slices.Concat(fragment(unix.IPPROTO_UDP, 0, true), udp53))),
				out(passes, "a later one of IPv6", ip6(own6, other6, unix.IPPROTO_FRAGMENT, slices.Concat(fragment(unix.IPPROTO_UDP, 185, true), udp53))),
				out(dropped, "a later one of a denied protocol", ip6(own6, other6, unix.IPPROTO_FRAGMENT, slices.Concat(fragment(unix.IPPROTO_ICMPV6, 185, true), udp53))),
				in(passes, "the first that is allowed", fragment4(other4, own4, unix.IPPROTO_UDP, 0x2000, udp53)),
				in(dropped, "a later one, which the port does not allow", fragment4(other4, own4, unix.IPPROTO_UDP, 0x0003, udp53)),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := readyLab(t)
			g1, g2 := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
			control := slices.Clone(c.samples)
			for i := range control {
				control[i].passes = true
			}
			l.check(t, g1, g2, control)
			apply(t, l.host, listing(map[string]plan.ACL{"p1": aclFrom(t, c.rules...), "p9": aclFrom(t, c.rules...)}))
			l.check(t, g1, g2, c.samples)
		})
	}
}

// What a fragment hides has to be refused without being read: nothing in it bears a mark.
func TestACLDropsWhatCannotBeRead(t *testing.T) {
	own, other := netip.MustParseAddr(own6), netip.MustParseAddr(other6)
	for name, hidden := range map[string][]byte{
		"options alone":                      packet6(own, other, unix.IPPROTO_FRAGMENT, slices.Concat(fragment(unix.IPPROTO_DSTOPTS, 0, true), options(unix.IPPROTO_TCP))),
		"an end within the options":          packet6(own, other, unix.IPPROTO_FRAGMENT, slices.Concat(fragment(unix.IPPROTO_DSTOPTS, 0, true), options(unix.IPPROTO_TCP)[:1])),
		"an end before the transport header": packet6(own, other, unix.IPPROTO_FRAGMENT, fragment(unix.IPPROTO_TCP, 0, true)),
	} {
		for rule, comes := range map[string]bool{"deny out tcp to port 25 weight 1": false, "meter out any": true} {
			t.Run(name+"/"+rule, func(t *testing.T) {
				l := readyLab(t)
				apply(t, l.host, listing(map[string]plan.ACL{"p1": aclFrom(t, rule)}))
				g1, g2 := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
				g1.send(t, hidden)
				fence(t, g1, g2)
				if came := g2.heard(func(f []byte) bool { return slices.Equal(f, hidden) }); came != comes {
					t.Errorf("came through: %v", came)
				}
			})
		}
	}
}

func TestACLSessions(t *testing.T) {
	l := readyLab(t)
	apply(t, l.host, listing(map[string]plan.ACL{"p1": aclFrom(t,
		"allow out tcp weight 20 stateful", "allow out udp to port 53 weight 20 stateful idle 1", "allow out icmp weight 20 stateful", "allow out icmpv6 weight 20 stateful",
		"allow out 50 weight 20 stateful", "allow in tcp to port 443 weight 20 stateful", "deny out weight 1", "deny in weight 1",
	)}))
	g1, g2 := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
	question4, question6 := ip4(own4, other4, unix.IPPROTO_TCP, tcp(40000, 80)), ip6(own6, other6, unix.IPPROTO_TCP, tcp(40000, 80))
	l.check(t, g1, g2, []sample{
		in(dropped, "an answer before the question", ip4(other4, own4, unix.IPPROTO_TCP, tcp(80, 40000))),
		in(dropped, "a message about what was not sent", ip4("10.1.0.9", own4, unix.IPPROTO_ICMP, about(3, question4))),
		out(passes, "a question", question4),
		in(passes, "the answer", ip4(other4, own4, unix.IPPROTO_TCP, tcp(80, 40000))),
		in(passes, "the answer behind a tag", behindTags(1, ip4(other4, own4, unix.IPPROTO_TCP, tcp(80, 40000)))),
		in(dropped, "from another port", ip4(other4, own4, unix.IPPROTO_TCP, tcp(81, 40000))),
		in(dropped, "from another address", ip4("10.1.0.9", own4, unix.IPPROTO_TCP, tcp(80, 40000))),
		in(dropped, "to another port", ip4(other4, own4, unix.IPPROTO_TCP, tcp(80, 40001))),
		in(dropped, "by another protocol", ip4(other4, own4, unix.IPPROTO_UDP, udp(80, 40000))),
		in(dropped, "a fragment of an answer", fragment4(other4, own4, unix.IPPROTO_TCP, 0x0003, tcp(80, 40000))),
		in(passes, "a message about the question", ip4("10.1.0.9", own4, unix.IPPROTO_ICMP, about(3, question4))),
		in(dropped, "a message about another one", ip4("10.1.0.9", own4, unix.IPPROTO_ICMP, about(3, ip4(own4, other4, unix.IPPROTO_TCP, tcp(40000, 81))))),
		in(dropped, "a redirect", ip4("10.1.0.9", own4, unix.IPPROTO_ICMP, about(5, question4))),

		in(dropped, "an answer of IPv6 before the question", ip6(other6, own6, unix.IPPROTO_TCP, tcp(80, 40000))),
		out(passes, "a question of IPv6", question6),
		in(passes, "the answer of IPv6", ip6(other6, own6, unix.IPPROTO_TCP, tcp(80, 40000))),
		in(passes, "that a packet of IPv6 is too big", ip6("fd01::9", own6, unix.IPPROTO_ICMPV6, about(2, question6))),
		in(dropped, "that another one is", ip6("fd01::9", own6, unix.IPPROTO_ICMPV6, about(2, ip6(own6, other6, unix.IPPROTO_TCP, tcp(40001, 80))))),

		in(dropped, "an answer to no ping", ip4(other4, own4, unix.IPPROTO_ICMP, echo(0, 7))),
		out(passes, "a ping", ip4(own4, other4, unix.IPPROTO_ICMP, echo(8, 7))),
		in(passes, "the answer to the ping", ip4(other4, own4, unix.IPPROTO_ICMP, echo(0, 7))),
		in(dropped, "an answer with another identifier", ip4(other4, own4, unix.IPPROTO_ICMP, echo(0, 8))),
		in(dropped, "a ping back", ip4(other4, own4, unix.IPPROTO_ICMP, echo(8, 7))),
		in(passes, "a message about the ping", ip4("10.1.0.9", own4, unix.IPPROTO_ICMP, about(11, ip4(own4, other4, unix.IPPROTO_ICMP, echo(8, 7))))),
		out(passes, "a ping of IPv6", ip6(own6, other6, unix.IPPROTO_ICMPV6, echo(128, 7))),
		in(passes, "the answer of IPv6 to the ping", ip6(other6, own6, unix.IPPROTO_ICMPV6, echo(129, 7))),
		in(dropped, "a ping of IPv6 back", ip6(other6, own6, unix.IPPROTO_ICMPV6, echo(128, 7))),

		out(passes, "a protocol without ports", ip4(own4, other4, 50, make([]byte, 8))),
		in(passes, "its answer", ip4(other4, own4, 50, []byte("other bytes"))),
		in(dropped, "its answer from elsewhere", ip4("10.1.0.9", own4, 50, make([]byte, 8))),

		out(dropped, "an answer to what has not come", ip4(own4, other4, unix.IPPROTO_UDP, udp(443, 5000))),
		in(dropped, "what is not allowed in", ip4(other4, own4, unix.IPPROTO_TCP, tcp(5000, 444))),
		in(passes, "what is allowed in", ip4(other4, own4, unix.IPPROTO_TCP, tcp(5000, 443))),
		out(passes, "and its answer", ip4(own4, other4, unix.IPPROTO_TCP, tcp(443, 5000))),
	})
	if hits := sh(t, l.host, "nft list set bridge patchbay_acl p1/out/sessions4-3600"); !strings.Contains(hits, "10.1.0.1 . 10.1.0.2 . tcp . 40000 . 80") {
		t.Errorf("no session:\n%s", hits)
	}
}

// A session ends when nothing has come for its time, whichever way, and not before.
func TestACLSessionsExpire(t *testing.T) {
	l := readyLab(t)
	apply(t, l.host, listing(map[string]plan.ACL{"p1": aclFrom(t, "allow out udp weight 20 stateful idle 2", "deny in weight 1")}))
	g1, g2 := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
	question, answer := ip4(own4, other4, unix.IPPROTO_UDP, udp(40000, 53)), ip4(other4, own4, unix.IPPROTO_UDP, udp(53, 40000))
	l.check(t, g1, g2, []sample{out(passes, "a question", question)})
	begin := time.Now()
	for time.Since(begin) < 3*time.Second { // half the time each, so that one of them alone would not do
		g1.receive(time.Now().Add(time.Second))
		l.check(t, g1, g2, []sample{in(passes, "an answer", answer)})
	}
	for deadline := time.Now().Add(2500 * time.Millisecond); time.Now().Before(deadline); {
		g1.receive(deadline)
	}
	l.check(t, g1, g2, []sample{in(dropped, "an answer after the session", answer)})
}

func TestACLHits(t *testing.T) {
	l := readyLab(t)
	acl := aclFrom(t, "meter both 10.1.0.0/16", "meter both 10.0.0.0/8", "meter out any", "deny in udp to port 53 weight 10", "deny out to 10.9.0.0/16", "allow in udp weight 5")
	apply(t, l.host, listing(map[string]plan.ACL{"p1": acl}))
	g1, g2 := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
	sent := ip4(own4, other4, unix.IPPROTO_UDP, udp(4711, 80))
	l.check(t, g1, g2, []sample{
		out(passes, "to the longest prefix", sent), out(passes, "again", sent),
		out(dropped, "to the shorter one", ip4(own4, "10.9.0.2", unix.IPPROTO_UDP, udp(4711, 80))),
		out(passes, "to none", ip6(own6, other6, unix.IPPROTO_UDP, udp(4711, 80))),
		in(passes, "from the longest", ip4(other4, own4, unix.IPPROTO_UDP, udp(53, 4711))),
		in(dropped, "from the longest, denied", ip4(other4, own4, unix.IPPROTO_UDP, udp(4711, 53))),
		in(passes, "a fragment from it", fragment4(other4, own4, unix.IPPROTO_UDP, 0x0003, udp(4711, 53))),
	})
	var got map[string][]ACLHits
	within(t, l.host, func() (err error) {
		got, err = NewLinux().ACLHits(t.Context(), "p1", acl)
		return err
	})
	want := map[string][2]uint64{ // out, in
		"meter both remote 10.1.0.0/16": {2, 3}, "meter both remote 10.0.0.0/8": {1, 0}, "meter out any": {1, 0},
		"deny in udp to port 53 weight 10": {0, 1}, "deny out to 10.9.0.0/16": {1, 0}, "allow in udp weight 5": {0, 2},
	}
	for rule, counts := range want {
		var seen [2]uint64
		for _, h := range got[rule] {
			at := 0
			if h.Direction == vswitch.ACLIn {
				at = 1
			}
			if seen[at] = h.Packets; h.Packets > 0 && h.Bytes < 28*h.Packets {
				t.Errorf("%s: %d bytes in %d packets", rule, h.Bytes, h.Packets)
			}
		}
		if seen != counts {
			t.Errorf("%s: counted %v out and in, want %v", rule, seen, counts)
		}
	}
	within(t, l.host, func() (err error) {
		got, err = NewLinux().ACLHits(t.Context(), "p1", aclFrom(t, "deny out any"))
		return err
	})
	if len(got) > 0 {
		t.Errorf("of a list that is not there: %v", got)
	}
}

// Sessions stay when other rules come and go.
func TestACLSessionsSurviveChanges(t *testing.T) {
	l := readyLab(t)
	before, after := aclFrom(t, "allow out tcp weight 20 stateful", "deny in weight 1"), aclFrom(t, "allow out tcp weight 20 stateful", "deny in weight 1", "deny out tcp to port 25 weight 30")
	apply(t, l.host, listing(map[string]plan.ACL{"p1": before}))
	g1, g2 := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
	l.check(t, g1, g2, []sample{out(passes, "a question", ip4(own4, other4, unix.IPPROTO_TCP, tcp(40000, 80)))})
	apply(t, l.host, plan.SetRules{Remove: plan.Rules{ACLs: map[string]plan.ACL{"p1": plan.OtherACL}}, Add: plan.Rules{ACLs: map[string]plan.ACL{"p1": after}}})
	l.check(t, g1, g2, []sample{
		in(passes, "the answer", ip4(other4, own4, unix.IPPROTO_TCP, tcp(80, 40000))),
		out(dropped, "by the new rule", ip4(own4, other4, unix.IPPROTO_TCP, tcp(40000, 25))),
	})
}
