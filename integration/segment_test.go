package integration_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// engineOn is an engine in this process on a host, whose state the command and the
// plugin share. Its verbs are to be called on threads that are in the host's namespace.
func engineOn(h *testHost, sizes vswitch.SegmentSizes) *engine.Engine {
	return engine.New(engine.Config{
		Kernel:   kernel.NewLinux(),
		Store:    store.New(store.Config{Dirs: store.Dirs{State: h.StateDir(), Run: h.RunDir()}}),
		Segments: sizes,
	})
}

func ownerOf(c *host.Container) vswitch.Owner {
	return vswitch.Owner{Kind: vswitch.OwnerContainer, Network: "net1", ID: c.ContainerID, Endpoint: c.IfName, Netns: c.NetNS}
}

// attachedGuest is a container with the addresses that it got.
type attachedGuest struct {
	*host.Container
	port   vswitch.Port
	v4, v6 netip.Addr
}

// site is a switch with the subnets on it.
type site struct {
	*engine.Engine
	name    string
	subnets []string
}

// attachTo asks for a port with an address of each subnet.
func attachTo(h *testHost, at site, id string, spoofing bool) attachedGuest {
	h.t.Helper()
	g := attachedGuest{Container: h.container(id)}
	req := engine.AttachRequest{Owner: ownerOf(g.Container), Switch: at.name, MACSpoofing: spoofing}
	for _, s := range at.subnets {
		req.Ranges = append(req.Ranges, vswitch.IPRangeSet{{Subnet: netip.MustParsePrefix(s)}})
	}
	if at.name == "seg" {
		req.Routes = []vswitch.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0")}, {Dst: netip.MustParsePrefix("::/0")}}
	}
	ok(h.t, h.Do(func() error {
		a, err := at.Attach(context.Background(), req)
		g.port = a.Port
		return err
	}))
	for _, a := range g.port.Addresses {
		if a.Prefix.Addr().Is4() {
			g.v4 = a.Prefix.Addr()
		} else {
			g.v6 = a.Prefix.Addr()
		}
	}
	return g
}

func (g attachedGuest) detach(h *testHost, e *engine.Engine) {
	h.t.Helper()
	ok(h.t, h.Do(func() error { return e.Detach(context.Background(), ownerOf(g.Container)) }))
}

// talk fails unless two guests reach each other both ways by ping and TCP in both
// families, which takes ARP and neighbour discovery, and hear each other's broadcast
// and multicast.
func talk(t *testing.T, h *testHost, a, b attachedGuest) {
	t.Helper()
	for _, pair := range [][2]attachedGuest{{a, b}, {b, a}} {
		from, to := pair[0], pair[1]
		for _, dst := range []netip.Addr{to.v4, to.v6} {
			if err := from.Ping(dst, patience); err != nil {
				t.Errorf("%s to %s: %v", from.ContainerID, to.ContainerID, err)
			}
			l, err := to.Serve(netip.AddrPortFrom(dst, 7000))
			ok(t, err)
			if _, err := from.Ask(netip.AddrPortFrom(dst, 7000), patience); err != nil {
				t.Errorf("TCP from %s to %s: %v", from.ContainerID, to.ContainerID, err)
			}
			ok(t, l.Close())
		}
		sender, ear := h.tap(from.Netns, "eth0"), h.tap(to.Netns, "eth0")
		for what, group := range map[string]string{"broadcast": "ff:ff:ff:ff:ff:ff", "ff02::1": "33:33:00:00:00:01", "224.0.0.251": "01:00:5e:00:00:fb"} {
			mac, err := net.ParseMAC(group)
			ok(t, err)
			text := fmt.Sprintf("%s from %s", what, from.ContainerID)
			ok(t, sender.Send(host.Frame{Dst: mac, Src: sender.MAC(), Payload: text}))
			if heard, err := ear.Hears(text, patience); err != nil || !heard {
				t.Errorf("%s does not hear %s: %v", to.ContainerID, text, err)
			}
		}
	}
}

// masqueraded fails unless a guest reaches a server outside under the host's address,
// by TCP and by UDP.
func masqueraded(t *testing.T, g attachedGuest, outside *host.Netns, server, as netip.Addr) {
	t.Helper()
	l, err := outside.Serve(netip.AddrPortFrom(server, 7000))
	ok(t, err)
	if seen, err := g.Ask(netip.AddrPortFrom(server, 7000), patience); err != nil || seen.Addr() != as {
		t.Errorf("%s is seen as %s outside, want %s: %v", g.ContainerID, seen, as, err)
	}
	ok(t, l.Close())
	var echo net.PacketConn
	ok(t, outside.Do(func() (err error) {
		echo, err = net.ListenPacket("udp", netip.AddrPortFrom(server, 7000).String())
		return err
	}))
	defer func() { ok(t, echo.Close()) }()
	go func() {
		for buf := make([]byte, 64); ; {
			_, from, err := echo.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = echo.WriteTo([]byte(from.String()), from) // the guest's patience tells
		}
	}()
	ok(t, g.Do(func() error {
		c, err := net.Dial("udp", netip.AddrPortFrom(server, 7000).String())
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }() // read to its end
		_ = c.SetDeadline(time.Now().Add(patience))
		for range 2 { // the second answer is to a connection that is being tracked
			answer := make([]byte, 64)
			if _, err := c.Write([]byte("who am I?")); err != nil {
				return err
			}
			n, err := c.Read(answer)
			if err != nil {
				return fmt.Errorf("UDP from %s to the outside: %w", g.ContainerID, err)
			}
			if seen, err := netip.ParseAddrPort(string(answer[:n])); err != nil || seen.Addr() != as {
				return fmt.Errorf("UDP from %s arrives as %s, want %s", g.ContainerID, answer[:n], as)
			}
		}
		return nil
	}))
}

// filtersBridged has the IP firewall see bridged frames, connection tracking included,
// as Docker and Kubernetes have it.
func (h *testHost) filtersBridged() {
	h.t.Helper()
	for _, family := range []string{"iptables", "ip6tables"} {
		path := "/proc/sys/net/bridge/bridge-nf-call-" + family
		if err := h.Write(path, "1"); err != nil {
			h.t.Fatal(err) // the test has said guest.Needs
		}
	}
	// Connection tracking is on where a rule asks for it.
	h.run(h.Netns, "nft", "add table inet tracks; add chain inet tracks forward { type filter hook forward priority 0; }; add rule inet tracks forward ct state established counter")
}

// internalSeg has gateways and masquerade of both families.
func internalSeg() vswitch.Switch {
	return vswitch.Switch{
		Name: "seg", Type: vswitch.Internal, Masquerade: vswitch.Masquerade{IPv4: true, IPv6: true},
		Gateway: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/16"), netip.MustParsePrefix("fd00::1/64")},
	}
}

// outsideOf gives the host an uplink to an outside network that knows no way back.
func outsideOf(h *testHost) *host.Netns {
	h.t.Helper()
	outside := h.outside("wan0")
	for _, x := range []struct {
		at           *host.Netns
		netdev, addr string
	}{{h.Netns, "wan0", "192.0.2.2/24"}, {h.Netns, "wan0", "2001:db8::2/64"}, {outside, "wan", "192.0.2.1/24"}, {outside, "wan", "2001:db8::1/64"}} {
		h.run(x.at, "ip", "addr", "add", x.addr, "dev", x.netdev, "nodad")
	}
	return outside
}

// TestSegments has one guest on each of three segments, and one that may spoof.
func TestSegments(t *testing.T) {
	guest.Needs(t, guest.Bridged)
	h := newHost(t)
	outside := outsideOf(h)
	h.filtersBridged()
	defer h.run(h.Netns, "nft", "delete table inet tracks")
	e := engineOn(h, vswitch.SegmentSizes{Root: 1, Spoofing: 1, Further: 1})
	ok(t, h.Do(func() error {
		_, err := e.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: internalSeg()})
		return err
	}))
	subnets := []string{"10.0.0.0/16", "fd00::/64"}
	a, b, c := attachTo(h, site{e, "seg", subnets}, "a", false), attachTo(h, site{e, "seg", subnets}, "b", false), attachTo(h, site{e, "seg", subnets}, "c", false)
	spoofer := attachTo(h, site{e, "seg", subnets}, "d", true)
	for i, g := range []attachedGuest{a, b, c} {
		if g.port.Segment != i {
			t.Fatalf("guest %d is on segment %d", i, g.port.Segment)
		}
	}
	for _, pair := range [][2]attachedGuest{{a, b}, {b, c}, {c, spoofer}} {
		talk(t, h, pair[0], pair[1])
	}
	for _, g := range []attachedGuest{a, b, c} {
		for _, gateway := range []string{"10.0.0.1", "fd00::1"} {
			reaches(t, g.Netns, gateway)
		}
		reaches(t, h.Netns, g.v4.String())
		reaches(t, h.Netns, g.v6.String())
		masqueraded(t, g, outside, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"))
		masqueraded(t, g, outside, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"))
	}
	foreignAddress(t, h, spoofer, c, b)
	var switches []struct {
		Name     string
		Segments int
	}
	ok(t, h.PatchbayJSON(&switches, "switch", "list"))
	if len(switches) != 1 || switches[0].Segments != 3 {
		t.Errorf("switch list shows %+v", switches)
	}
	for _, g := range []attachedGuest{a, b, c, spoofer} {
		g.detach(h, e)
	}
}

// foreignAddress: what a guest answers to an address that another one only now has
// taken finds its way there, and to nobody else.
func foreignAddress(t *testing.T, h *testHost, spoofer, friend, third attachedGuest) {
	t.Helper()
	foreign := net.HardwareAddr{2, 0x66, 0, 0, 0, 1}
	at, from, other := h.tap(spoofer.Netns, "eth0"), h.tap(friend.Netns, "eth0"), h.tap(third.Netns, "eth0")
	ok(t, at.Send(host.Frame{Dst: net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, Src: foreign, Payload: "I am new"}))
	for _, ear := range []*host.Tap{from, other} {
		if heard, err := ear.Hears("I am new", patience); err != nil || !heard {
			t.Fatalf("a foreign source address is not heard: %v", err)
		}
	}
	ok(t, from.Send(host.Frame{Dst: foreign, Src: from.MAC(), Payload: "welcome"}))
	if heard, err := at.Hears("welcome", patience); err != nil || !heard {
		t.Errorf("the answer does not reach the foreign address: %v", err)
	}
	if heard, err := other.Hears("welcome", silence); err != nil || heard {
		t.Errorf("a third guest hears what is not for it: %v", err)
	}
}

// TestSegmentsOfAPrivateSwitch: neither the root nor a segment opens a closed switch to
// the host, for ears or mouth.
func TestSegmentsOfAPrivateSwitch(t *testing.T) {
	h := newHost(t)
	e := engineOn(h, vswitch.SegmentSizes{Root: 1, Spoofing: 1, Further: 2})
	ok(t, h.Do(func() error {
		_, err := e.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "box", Type: vswitch.Private}})
		return err
	}))
	subnets := []string{"10.9.0.0/24", "fd09::/64"}
	a, b, c := attachTo(h, site{e, "box", subnets}, "a", false), attachTo(h, site{e, "box", subnets}, "b", false), attachTo(h, site{e, "box", subnets}, "c", false)
	talk(t, h, a, b)
	talk(t, h, b, c)
	guests := []*host.Tap{h.tap(a.Netns, "eth0"), h.tap(b.Netns, "eth0"), h.tap(c.Netns, "eth0")}
	all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, bridge := range []string{"pb-box", "pb1-box"} {
		ears := h.tap(h.Netns, bridge)
		ok(t, ears.Send(host.Frame{Dst: all, Src: ears.MAC(), Payload: "the host speaks"}))
		for _, from := range guests {
			for _, dst := range append([]net.HardwareAddr{all}, guests[0].MAC(), guests[1].MAC(), guests[2].MAC()) {
				ok(t, from.Send(host.Frame{Dst: dst, Src: from.MAC(), Payload: "among us"}))
			}
		}
		if heard, err := ears.Hears("among us", silence); err != nil || heard {
			t.Errorf("a raw socket on %s hears the guests: %v", bridge, err)
		}
		for _, g := range guests {
			if heard, err := g.Hears("the host speaks", silence); err != nil || heard {
				t.Errorf("a guest hears what the host sends on %s: %v", bridge, err)
			}
		}
	}
	for _, g := range []attachedGuest{a, b, c} {
		g.detach(h, e)
	}
}

// TestSegmentsOfAnExternalSwitch: the outside reaches guests on a segment and is reached,
// and reports of multicast listeners reach it, but no other segment.
func TestSegmentsOfAnExternalSwitch(t *testing.T) {
	h := newHost(t)
	outside := h.outside("eth0")
	h.run(outside, "ip", "addr", "add", "192.0.2.1/24", "dev", "wan")
	h.run(outside, "ip", "addr", "add", "2001:db8::1/64", "dev", "wan", "nodad")
	e := engineOn(h, vswitch.SegmentSizes{Root: 1, Spoofing: 1, Further: 1})
	ok(t, h.Do(func() error {
		_, err := e.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "lan", Uplink: "eth0"}})
		return err
	}))
	subnets := []string{"192.0.2.0/24", "2001:db8::/64"}
	attach := func(id string) attachedGuest { return attachTo(h, site{e, "lan", subnets}, id, false) }
	h.run(h.Netns, "ip", "addr", "add", "192.0.2.250/24", "dev", "pbh-lan")
	first := attach("first")
	a, b := attach("a"), attach("b")
	talk(t, h, a, b)
	talk(t, h, first, b)
	for _, g := range []attachedGuest{first, a, b} {
		reaches(t, g.Netns, "192.0.2.1")
		reaches(t, g.Netns, "192.0.2.250")
		reaches(t, outside, g.v4.String())
		reaches(t, outside, g.v6.String())
	}
	wan, other, sender := h.tap(outside, "wan"), h.tap(b.Netns, "eth0"), h.tap(a.Netns, "eth0")
	report := mldReport(sender.MAC())
	ok(t, sender.SendRaw(report))
	if heard, err := wan.HearsRaw(report, patience); err != nil || !heard {
		t.Errorf("the uplink does not hear a listener's report: %v", err)
	}
	if heard, err := other.HearsRaw(report, silence); err != nil || heard {
		t.Errorf("another segment hears a listener's report: %v", err)
	}
	for _, g := range []attachedGuest{first, a, b} {
		g.detach(h, e)
	}
}

// mldReport is an MLDv1 report (RFC 2710) for ff02::db8:1, with the router alert option
// that goes with it. Nobody looks at its checksum on the way.
func mldReport(src net.HardwareAddr) []byte {
	f := append(net.HardwareAddr{0x33, 0x33, 0x0d, 0xb8, 0, 1}, src...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 0, 1) // a hop-by-hop option, 1 hop
	f = append(f, netip.MustParseAddr("fe80::1").AsSlice()...)
	f = append(f, netip.MustParseAddr("ff02::db8:1").AsSlice()...)
	f = append(f, 58, 0, 5, 2, 0, 0, 1, 0) // router alert: MLD
	f = append(f, 131, 0, 0, 0, 0, 0, 0, 0)
	return append(f, netip.MustParseAddr("ff02::db8:1").AsSlice()...)
}

// workers runs do for 0 to n-1 on a few threads in the host's namespace.
func (h *testHost) workers(threads, n int, do func(i int) error) {
	h.t.Helper()
	errs := make(chan error, threads)
	for w := range threads {
		go func() {
			runtime.LockOSThread() // never unlocked: the thread has been elsewhere
			err := h.Enter()
			for i := w; i < n && err == nil; i += threads {
				err = do(i)
			}
			errs <- err
		}()
	}
	for range threads {
		ok(h.t, <-errs)
	}
}
