package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// allGuards are those of p1 in a lab, whose guest has 10.1.0.1 and fd01::1.
func allGuards() plan.Guards {
	return plan.Guards{DHCP: true, Router: true, Storm: 1000, Bound: plan.BindAddresses(macOf(1),
		netip.MustParseAddr("10.1.0.1"), netip.IPv4Unspecified(), netip.MustParseAddr("fd01::1"))}
}

func guarding(all map[string]plan.Guards) plan.SetRules {
	return plan.SetRules{Add: plan.Rules{GuardBase: true, Guards: all}}
}

func TestGuardsGolden(t *testing.T) {
	ns := newNS(t)
	apply(t, ns, guarding(map[string]plan.Guards{"p1": allGuards()}))
	golden(t, "guards.nft", sh(t, ns, "nft -s list ruleset"))
}

// A table that somebody else has made, or has taken parts of, is told to be gone: whoever wants
// a guard or a list makes it anew.
func TestTablesThatAreNotWhole(t *testing.T) {
	for name, script := range map[string]string{
		"empty":           "add table bridge patchbay_guards; add table bridge patchbay_acl",
		"asleep":          "add table bridge patchbay_guards { flags dormant; }; add table bridge patchbay_acl { flags dormant; }",
		"with a set":      "add table bridge patchbay_guards; add set bridge patchbay_guards dhcp { type ifname; }; add table bridge patchbay_acl; add map bridge patchbay_acl in { type ifname : verdict; }",
		"without a chain": "",
	} {
		t.Run(name, func(t *testing.T) {
			ns := newNS(t)
			if script == "" {
				apply(t, ns, plan.SetRules{Add: plan.Rules{GuardBase: true, ACLBase: true}})
				script = "flush table bridge patchbay_guards; delete set bridge patchbay_guards dhcp; flush table bridge patchbay_acl; delete map bridge patchbay_acl in"
			}
			sh(t, ns, "nft '"+script+"'")
			guards, acls := map[string]plan.Guards{"p1": {DHCP: true}}, map[string]plan.ACL{"p1": aclFrom(t, "deny in any")}
			for _, add := range []plan.Rules{{Guards: guards}, {ACLs: acls}} {
				if err := errorWithin(t, ns, plan.SetRules{Add: add}); !errors.Is(err, vswitch.Drifted) {
					t.Errorf("%v: %v", add, err)
				}
			}
			both := plan.Rules{GuardBase: true, Guards: guards, ACLBase: true, ACLs: acls}
			apply(t, ns, plan.SetRules{Add: both})
			if diff := cmp.Diff(both, observe(t, ns, both)); diff != "" {
				t.Errorf("not made anew (-want +got):\n%s", diff)
			}
			apply(t, ns, plan.SetRules{Remove: plan.Rules{Guards: guards, ACLs: acls}})
		})
	}
}

func TestGuardsComeAndGo(t *testing.T) {
	ns := newNS(t)
	one, two := allGuards(), plan.Guards{DHCP: true}
	scope := plan.Rules{GuardBase: true, Guards: map[string]plan.Guards{"p1": one, "p2": two}}
	expect := func(what string, want map[string]plan.Guards) {
		t.Helper()
		got := observe(t, ns, scope)
		if diff := cmp.Diff(want, got.Guards); diff != "" || got.GuardBase != (want != nil) {
			t.Errorf("%s: base %v (-want +got):\n%s", what, got.GuardBase, diff)
		}
	}
	err := errorWithin(t, ns, plan.SetRules{Add: plan.Rules{Guards: map[string]plan.Guards{"p1": one}}})
	if !errors.Is(err, vswitch.Drifted) {
		t.Errorf("without the table: %v", err)
	}
	apply(t, ns, plan.SetRules{Remove: plan.Rules{Guards: map[string]plan.Guards{"p1": one}}}) // of nothing
	expect("nothing", nil)
	apply(t, ns, guarding(map[string]plan.Guards{"p1": one}))
	for range 2 {
		apply(t, ns, plan.SetRules{Add: plan.Rules{Guards: map[string]plan.Guards{"p2": two}}})
		expect("both", map[string]plan.Guards{"p1": one, "p2": two})
	}
	slower := one
	slower.Storm, slower.Router = 10, false
	change := plan.SetRules{Remove: plan.Rules{Guards: map[string]plan.Guards{"p1": {}}}, Add: plan.Rules{Guards: map[string]plan.Guards{"p1": slower}}}
	for range 2 { // the second time what is to be removed is not there
		apply(t, ns, change)
	}
	scope.Guards["p1"] = slower
	expect("changed", map[string]plan.Guards{"p1": slower, "p2": two})
	scope.Guards["p1"] = one
	expect("not as wanted", map[string]plan.Guards{"p1": {}, "p2": two})
	apply(t, ns, plan.SetRules{Remove: plan.Rules{Guards: map[string]plan.Guards{"p1": {}}}})
	expect("one gone, whatever it was", map[string]plan.Guards{"p2": two})
	for _, harm := range []struct {
		command string
		leaves  map[string]plan.Guards
	}{
		{"flush chain bridge patchbay_guards guards", map[string]plan.Guards{"p1": one, "p2": two}},
		{"add table bridge patchbay_guards '{ flags dormant; }'", map[string]plan.Guards{"p1": one, "p2": two}},
		{"delete table bridge patchbay_guards", map[string]plan.Guards{"p1": one}},
	} {
		sh(t, ns, "nft "+harm.command)
		expect(harm.command, nil)
		apply(t, ns, guarding(map[string]plan.Guards{"p1": one}))
		expect("made anew after "+harm.command, harm.leaves)
	}
	apply(t, ns, plan.SetRules{Remove: plan.Rules{GuardBase: true}})
	if left := sh(t, ns, "nft list ruleset"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

func errorWithin(t *testing.T, ns *os.File, step plan.SetRules) (err error) {
	t.Helper()
	netfilterWithin(t, ns, func(c *rtnl) error {
		err = applyRules(c, step)
		return nil
	})
	return err
}

// frame is one that the guest of p1 sends, and what stops it.
type frame struct {
	name  string
	bytes func(mark string) []byte
	guard string // the set whose element counts it; "" for what passes
}

// attacks are frames of every kind that a guard is for, with the ways around one that are
// known, and what an honest guest sends.
func attacks() []frame {
	own4, other4 := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.0.2")
	own6, other6 := netip.MustParseAddr("fd01::1"), netip.MustParseAddr("fd01::2")
	link6, all6 := vswitch.MAC(macOf(1)).LinkLocal(), netip.MustParseAddr("ff02::1")
	advert := icmp(routerAdvertisement, make([]byte, 12))
	neighbour := func(kind byte, target netip.Addr) []byte {
		return icmp(kind, slices.Concat(make([]byte, 4), target.AsSlice()))
	}
	arp := func(op uint16, mac [6]byte, ip netip.Addr) func(string) []byte {
		return func(mark string) []byte {
			return ethernet(broadcastMAC, macOf(1), unix.ETH_P_ARP, append(arpMessage(op, mac, ip), mark...))
		}
	}
	v4 := func(protocol byte, message []byte) func(string) []byte {
		return func(mark string) []byte { return packet4(protocol, own4, append(slices.Clone(message), mark...)) }
	}
	v6 := func(from netip.Addr, next byte, message []byte) func(string) []byte {
		return func(mark string) []byte { return packet6(from, all6, next, append(slices.Clone(message), mark...)) }
	}
	tagged := func(tags int, inner func(string) []byte) func(string) []byte {
		return func(mark string) []byte {
			f := inner(mark)
			for range tags {
				f = slices.Insert(f, 12, 0x81, 0x00, 0xe0, 0x00) // priority 7, no VLAN
			}
			return f
		}
	}
	return []frame{
		{"an offer of DHCP", v4(unix.IPPROTO_UDP, udp(67, 68)), setDHCP},
		{"an offer from another port", v4(unix.IPPROTO_UDP, udp(4711, 68)), setDHCP},
		{"an offer behind a priority tag", tagged(1, v4(unix.IPPROTO_UDP, udp(67, 68))), setDHCP},
		{"an offer behind two tags", tagged(2, v4(unix.IPPROTO_UDP, udp(67, 68))), setDHCP},
		{"a request of DHCP", v4(unix.IPPROTO_UDP, udp(68, 67)), ""},
		{"an advertisement of DHCPv6", v6(link6, unix.IPPROTO_UDP, udp(547, 546)), setDHCP},
		{"one behind destination options", v6(link6, unix.IPPROTO_DSTOPTS, slices.Concat(options(unix.IPPROTO_UDP), udp(547, 546))), setDHCP},
		{"a solicitation of DHCPv6", v6(link6, unix.IPPROTO_UDP, udp(546, 547)), ""},

		{"a redirect of ICMP", v4(unix.IPPROTO_ICMP, icmp(icmpRedirect, make([]byte, 4))), setRouterGuard},
		{"a router advertisement of ICMP", v4(unix.IPPROTO_ICMP, icmp(icmpRouterAdvertisement, make([]byte, 4))), setRouterGuard},
		{"a ping", v4(unix.IPPROTO_ICMP, icmp(8, make([]byte, 4))), ""},
		{"a router advertisement", v6(link6, unix.IPPROTO_ICMPV6, advert), setRouterGuard},
		{"one behind a priority tag", tagged(1, v6(link6, unix.IPPROTO_ICMPV6, advert)), setRouterGuard},
		{"one behind a hop-by-hop header", v6(link6, unix.IPPROTO_HOPOPTS, slices.Concat(options(unix.IPPROTO_ICMPV6), advert)), setRouterGuard},
		{"one behind several headers", v6(link6, unix.IPPROTO_HOPOPTS, slices.Concat(options(unix.IPPROTO_DSTOPTS), options(unix.IPPROTO_DSTOPTS), options(unix.IPPROTO_ICMPV6), advert)), setRouterGuard},
		{"one in a first fragment", v6(link6, unix.IPPROTO_FRAGMENT, slices.Concat(fragment(unix.IPPROTO_ICMPV6, 0, true), advert)), setRouterGuard},
		{"a redirect of ICMPv6", v6(link6, unix.IPPROTO_ICMPV6, icmp(neighborsRedirect, make([]byte, 36))), setRouterGuard},
		{"a ping of ICMPv6", v6(own6, unix.IPPROTO_ICMPV6, icmp(128, make([]byte, 4))), ""},
		{"a later fragment", v6(own6, unix.IPPROTO_FRAGMENT, fragment(unix.IPPROTO_UDP, 185, false)), ""},
		{"the first fragment of a long ping", v6(own6, unix.IPPROTO_FRAGMENT, slices.Concat(fragment(unix.IPPROTO_ICMPV6, 0, true), icmp(128, make([]byte, 4)))), ""},

		{"an answer of ARP", arp(2, macOf(1), own4), ""},
		{"the question whether the own address is free", arp(1, macOf(1), netip.IPv4Unspecified()), ""},
		{"an answer for another address", arp(2, macOf(1), other4), setBound},
		{"a question in the name of another", arp(1, macOf(1), other4), setBound},
		{"an answer with another's MAC address", arp(2, macOf(2), own4), setBound},
		{"one behind a priority tag", tagged(1, arp(2, macOf(1), other4)), setBound},
		{"a neighbour advertisement", v6(own6, unix.IPPROTO_ICMPV6, neighbour(neighborAdvertisement, own6)), ""},
		{"one of the link-local address", v6(link6, unix.IPPROTO_ICMPV6, neighbour(neighborAdvertisement, link6)), ""},
		{"a neighbour advertisement of another", v6(own6, unix.IPPROTO_ICMPV6, neighbour(neighborAdvertisement, other6)), setBound},
		{"a neighbour solicitation", v6(own6, unix.IPPROTO_ICMPV6, neighbour(neighborSolicitation, other6)), ""},
		{"one in the name of another", v6(other6, unix.IPPROTO_ICMPV6, neighbour(neighborSolicitation, own6)), setBound},
		{"a probe for the own address", v6(netip.IPv6Unspecified(), unix.IPPROTO_ICMPV6, neighbour(neighborSolicitation, own6)), ""},
		{"a probe that claims another's", v6(netip.IPv6Unspecified(), unix.IPPROTO_ICMPV6, neighbour(neighborSolicitation, other6)), setBound},
	}
}

func TestGuardsDropAttacks(t *testing.T) {
	withAndWithout(t, func(t *testing.T, rules bool) {
		l := newLab(t, 2, vswitch.Group(1))
		if rules {
			apply(t, l.host, guarding(map[string]plan.Guards{"p1": allGuards(), "p3": allGuards()}))
		}
		g1, g2 := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
		dropped := make(map[string]int)
		for i, f := range attacks() {
			mark := fmt.Sprintf("frame %d.", i)
			g1.send(t, f.bytes(mark))
			dropped[f.guard]++
			if f.guard == "" {
				g2.await(t, f.name, containing(mark))
			}
		}
		fence(t, g1, g2)
		for i, f := range attacks() {
			if f.guard != "" {
				verdict(t, f.name, rules, g2, containing(fmt.Sprintf("frame %d.", i)))
			}
		}
		if !rules {
			return
		}
		want := GuardDrops{DHCP: uint64(dropped[setDHCP]), Router: uint64(dropped[setRouterGuard]), Address: uint64(dropped[setBound])}
		if got := portCounters(t, l.host); got["p1"].Guards != want || got["p3"].Guards != (GuardDrops{}) {
			t.Errorf("counted %+v of p1 and %+v of p3, want %+v of p1 alone", got["p1"].Guards, got["p3"].Guards, want)
		}
	})
}

// What a fragment hides has to be refused without being read: nothing in it bears a mark.
func TestGuardsDropWhatCannotBeRead(t *testing.T) {
	all6, link6 := netip.MustParseAddr("ff02::1"), vswitch.MAC(macOf(1)).LinkLocal()
	tagged := func(inner uint16) []byte {
		tags := slices.Concat(tagOf(unix.ETH_P_8021Q, 1), tagOf(inner, 2))
		return slices.Insert(packet6(link6, all6, unix.IPPROTO_ICMPV6, icmp(routerAdvertisement, make([]byte, 12))), 12, tags...)
	}
	for name, hidden := range map[string][]byte{
		"a first fragment with options alone":       packet6(link6, all6, unix.IPPROTO_FRAGMENT, slices.Concat(fragment(unix.IPPROTO_DSTOPTS, 0, true), options(unix.IPPROTO_ICMPV6))),
		"one that ends within the options":          packet6(link6, all6, unix.IPPROTO_FRAGMENT, slices.Concat(fragment(unix.IPPROTO_DSTOPTS, 0, true), options(unix.IPPROTO_ICMPV6)[:1])),
		"an advertisement behind two tags":          tagged(unix.ETH_P_8021Q),
		"one behind a provider's tag":               tagged(unix.ETH_P_8021AD),
		"one that ends before the transport header": packet6(link6, all6, unix.IPPROTO_FRAGMENT, fragment(unix.IPPROTO_UDP, 0, true)),
	} {
		for guard, g := range map[string]plan.Guards{"router": {Router: true}, "dhcp": {DHCP: true}, "bound": {Bound: allGuards().Bound}, "storm": {Storm: 1000}} {
			t.Run(name+"/"+guard, func(t *testing.T) {
				l := newLab(t, 2, vswitch.Group(1))
				apply(t, l.host, guarding(map[string]plan.Guards{"p1": g}))
				g1, g2 := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
				g1.send(t, hidden)
				fence(t, g1, g2)
				if came := g2.heard(func(f []byte) bool { return bytes.HasSuffix(f, hidden[20:]) }); came != (guard == "storm") {
					t.Errorf("came through: %v", came)
				}
			})
		}
	}
}

func TestStormLimit(t *testing.T) {
	const limit, sent = 20, 150
	l := newLab(t, 2, vswitch.Group(1))
	apply(t, l.host, guarding(map[string]plan.Guards{"p1": {Storm: limit}}))
	g1, g2 := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
	for range sent {
		g1.send(t, ethernet(broadcastMAC, macOf(1), 0x88b5, []byte("storm")))
		g1.send(t, ethernet(macOf(2), macOf(1), 0x88b5, []byte("to one")))
	}
	g2.send(t, ethernet(broadcastMAC, macOf(2), 0x88b5, []byte("end")))
	g1.await(t, "another port's broadcast", containing("end"))
	count := func(text string) (n int) {
		g2.heard(containing(text)) // all that waits
		for _, f := range g2.frames {
			if containing(text)(f) {
				n++
			}
		}
		return n
	}
	// A bucket that is full lets the limit pass at once, and then by the time it took.
	if n := count("storm"); n < limit || n > 3*limit {
		t.Errorf("%d of %d broadcasts passed a limit of %d a second", n, sent, limit)
	}
	if n := count("to one"); n != sent {
		t.Errorf("%d of %d frames to one receiver passed", n, sent)
	}
	passed := uint64(count("storm"))
	if d := portCounters(t, l.host)["p1"].Guards; d.Storm+passed != sent {
		t.Errorf("%d passed and %d were dropped of %d", passed, d.Storm, sent)
	}
}

func packet4(protocol byte, from netip.Addr, message []byte) []byte {
	ip := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0}
	binary.BigEndian.PutUint16(ip[2:], uint16(20+len(message)))
	ip = slices.Concat(ip, from.AsSlice(), []byte{255, 255, 255, 255})
	sum := uint32(0)
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16)) // br_netfilter looks at it
	ip = append(ip, message...)
	return ethernet(broadcastMAC, macOf(1), unix.ETH_P_IP, ip)
}

func packet6(from, to netip.Addr, next byte, message []byte) []byte {
	ip := []byte{0x60, 0, 0, 0, byte(len(message) >> 8), byte(len(message)), next, 255}
	ip = slices.Concat(ip, from.AsSlice(), to.AsSlice(), message)
	return ethernet([6]byte{0x33, 0x33, 0, 0, 0, 1}, macOf(1), unix.ETH_P_IPV6, ip)
}

func udp(from, to uint16) []byte {
	return append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to), 0, 8, 0, 0)
}

func icmp(kind byte, rest []byte) []byte { return append([]byte{kind, 0, 0, 0}, rest...) }

// options is a header of padding before another one.
func options(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }

func fragment(next byte, offset uint16, more bool) []byte {
	at := offset << 3
	if more {
		at |= 1
	}
	return append(binary.BigEndian.AppendUint16([]byte{next, 0}, at), 0, 0, 0, 1)
}

func arpMessage(op uint16, mac [6]byte, ip netip.Addr) []byte {
	m := binary.BigEndian.AppendUint16([]byte{0, 1, 8, 0, 6, 4}, op)
	return slices.Concat(m, mac[:], ip.AsSlice(), make([]byte, 6), []byte{10, 1, 0, 9})
}

// More than one message can hold come and go together.
func TestGuardsOfManyPorts(t *testing.T) {
	ns := newNS(t)
	many := make(map[string]plan.Guards)
	for i := range 3000 {
		many[fmt.Sprintf("pb%d", i)] = allGuards()
	}
	apply(t, ns, guarding(many))
	if diff := cmp.Diff(many, observe(t, ns, plan.Rules{Guards: many}).Guards); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	apply(t, ns, plan.SetRules{Remove: plan.Rules{Guards: many}})
	if left := observe(t, ns, plan.Rules{Guards: many}).Guards; len(left) > 0 {
		t.Errorf("%d are left", len(left))
	}
}
