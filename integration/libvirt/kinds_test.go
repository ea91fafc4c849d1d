package libvirt_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/integration/host"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// TestKinds has one virtual machine on switches of each kind, with containers, the host
// and an outside network.
func TestKinds(t *testing.T) {
	s := newSite(t, machine.Libvirt9)
	out, err := s.Neighbour("outside")
	ok(t, err)
	ok(t, host.Cable(s.Netns, "eth9", out, "wan"))
	_, err = out.Run("ip", "addr", "add", "10.1.0.8/24", "dev", "wan")
	ok(t, err)
	s.patchbay("switch", "add", "wan", "--uplink", "eth9")
	s.patchbay("switch", "add", "lan", "--type", "internal", "--gateway", "10.2.0.254/24")
	s.patchbay("switch", "add", "box", "--type", "private")
	inner := map[string]*host.Container{}
	for i, sw := range []string{"wan", "lan", "box"} {
		s.network(sw)
		inner[sw] = s.container(sw, "c-"+sw, fmt.Sprintf("10.%d.0.9", i+1))
	}
	d := s.boot("vm1", nic("wan", "ua-wan", mac1), nic("lan", "ua-lan", mac2), nic("box", "ua-box", mac3))
	for i, mac := range []string{mac1, mac2, mac3} {
		ask(t, d, "address", mac, fmt.Sprintf("10.%d.0.1/24", i+1))
		reaches(t, d, fmt.Sprintf("10.%d.0.9", i+1))
	}
	for i, sw := range []string{"wan", "lan", "box"} {
		pings(t, inner[sw].Netns, fmt.Sprintf("10.%d.0.1", i+1))
	}
	reaches(t, d, "10.1.0.8")
	pings(t, out, "10.1.0.1")
	reaches(t, d, "10.2.0.254") // the host
	isDeafTo(t, d, "10.3.0.254")
}

// profiles is a switch with port profiles, as a file for `patchbay apply`.
const profiles = `version: 1
switches:
  - name: lan
    type: private
    portProfiles:
      - {name: plain, default: true}
      - {name: free, macSpoofing: true}
      - {name: guarded, policy: {dhcpGuard: true, routerGuard: true, acl: [{direction: out, action: deny, protocol: tcp, remotePort: "81", weight: 10}]}}
      - {name: slow, policy: {bandwidth: {in: {max: 2M}, out: {max: 2M}}}}
      - {name: source, policy: {mirror: source}}
      - {name: analyser, policy: {mirror: destination}}
`

// TestHostileGuest: what a profile denies, no guest can do, whatever it sends.
func TestHostileGuest(t *testing.T) {
	s := newSite(t, machine.Libvirt9)
	ok(t, s.WriteFile("/etc/host.yaml", profiles, 0o644))
	s.patchbay("apply", "-f", "/etc/host.yaml")
	s.network("lan")
	c := s.container("lan", "c1", "10.7.0.9")
	ear, err := c.Tap("eth0")
	ok(t, err)
	d := s.boot("vm1", nic("lan/guarded", "ua-bad", mac1), nic("lan/free", "ua-free", mac2))
	ask(t, d, "address", mac1, "10.7.0.1/24")
	ask(t, d, "address", mac2)
	everybody := net.HardwareAddr{255, 255, 255, 255, 255, 255}
	hears := func(name, from string, frame []byte, want bool) {
		t.Helper()
		ask(t, d, "send", from, hex.EncodeToString(frame))
		within := silence
		if want {
			within = patience
		}
		if came, err := ear.HearsRaw(frame, within); err != nil || came != want {
			t.Errorf("%s: heard %v (%v), want %v", name, came, err, want)
		}
	}
	own, _ := net.ParseMAC(mac1)
	other := net.HardwareAddr{0x02, 0xba, 0xd0, 0, 0, 1}
	for _, x := range []struct {
		name string
		from string
		src  net.HardwareAddr
		kind string // what follows the addresses, in hex
		is   bool
	}{
		{name: "its own address", from: mac1, src: own, kind: "88b5" + strings.Repeat("11", 50), is: true},
		{name: "another's address", from: mac1, src: other, kind: "88b5" + strings.Repeat("12", 50)},
		{name: "the container's address", from: mac1, src: ear.MAC(), kind: "88b5" + strings.Repeat("13", 50)},
		{name: "any address, where it may", from: mac2, src: other, kind: "88b5" + strings.Repeat("14", 50), is: true},
		{name: "an offer of DHCP", from: mac1, src: own, kind: dhcpOffer},
		{name: "an offer of DHCP, where it may", from: mac2, src: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 2}, kind: dhcpOffer, is: true},
		{name: "a router advertisement", from: mac1, src: own, kind: routerAdvertisement},
	} {
		frame, err := hex.DecodeString(hex.EncodeToString(everybody) + hex.EncodeToString(x.src) + x.kind)
		ok(t, err)
		hears(x.name, x.from, frame, x.is)
	}
	reaches(t, d, "10.7.0.9") // the container's address has not moved
	server, err := c.Serve(netip.MustParseAddrPort("10.7.0.9:80"))
	ok(t, err)
	defer func() { _ = server.Close() }()
	denied, err := c.Serve(netip.MustParseAddrPort("10.7.0.9:81"))
	ok(t, err)
	defer func() { _ = denied.Close() }()
	ask(t, d, "ask", "10.7.0.9:80", "20s")
	if _, err := d.Ask("ask", "10.7.0.9:81", "1s"); err == nil {
		t.Error("the list of the profile does not hold")
	}
}

// Frames behind the addresses, in hex.
const (
	// IPv4, UDP 67 to 68, a DHCP offer as far as guards look. It is as long as it says: a bridge
	// that tracks connections cuts off what is not.
	dhcpOffer = "0800" + "4500002e00010000401165b10a0700010a0700ff" + "00430044001a0000" + "000000000000000000000000000000000000"
	// IPv6, ICMPv6 134.
	routerAdvertisement = "86dd" + "6000000000103aff" + "fe800000000000005054000000000001" + "ff020000000000000000000000000001" + "8600000040000708" + "0000000000000000"
)

// TestCountersAndBandwidth: each NIC of a virtual machine is counted, and held to its rate.
func TestCountersAndBandwidth(t *testing.T) {
	s := newSite(t, machine.Libvirt9)
	ok(t, s.WriteFile("/etc/host.yaml", profiles, 0o644))
	s.patchbay("apply", "-f", "/etc/host.yaml")
	s.network("lan")
	c := s.container("lan", "c1", "10.7.0.9")
	d := s.boot("vm1", nic("lan/slow", "ua-slow", mac1), nic("lan", "ua-other", mac2))
	ask(t, d, "address", mac1, "10.7.0.1/24")
	ask(t, d, "answer", "10.7.0.1:7")
	reaches(t, d, "10.7.0.9")

	var stats []engine.PortStats
	ok(t, s.PatchbayJSON(&stats, "port", "stats"))
	text, err := json.Marshal(stats)
	ok(t, err)
	if !strings.Contains(string(text), s.portOf(mac1).ID) || !strings.Contains(string(text), s.portOf(mac2).ID) {
		t.Error("a NIC is not counted")
	}
	rate := udpRate(t, c.Netns, "10.7.0.1:7")
	t.Logf("echoed at %.1f Mbit/s where 2 are allowed", rate)
	if rate > 2.5 || rate < 0.5 {
		t.Errorf("%.1f Mbit/s where 2 are allowed", rate)
	}
}

// udpRate sends at 20 Mbit/s to a machine that sends back and returns how much comes.
func udpRate(t *testing.T, from *host.Netns, addr string) (mbit float64) {
	t.Helper()
	var conn net.Conn
	ok(t, from.Do(func() (err error) { conn, err = net.Dial("udp", addr); return err }))
	defer func() { _ = conn.Close() }()
	const length, size = 3 * time.Second, 1200
	ok(t, conn.SetDeadline(time.Now().Add(length)))
	go func() {
		ticker := time.NewTicker(size * 8 * time.Second / 20_000_000)
		defer ticker.Stop()
		b := make([]byte, size)
		for range ticker.C {
			if _, err := conn.Write(b); err != nil {
				return
			}
		}
	}()
	got := 0
	b := make([]byte, 2*size)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return float64(got) * 8 / length.Seconds() / 1e6
		}
		got += n
	}
}

// TestMirror: an analyser hears what a virtual machine says, and not what others say.
func TestMirror(t *testing.T) {
	s := newSite(t, machine.Libvirt9)
	if !s.status().Capabilities.Mirroring {
		t.Skip("left out: the kernel has no CONFIG_NFT_DUP_NETDEV; the same rules are tried on containers in a guest (TestMirroring)")
	}
	ok(t, s.WriteFile("/etc/host.yaml", profiles, 0o644))
	s.patchbay("apply", "-f", "/etc/host.yaml")
	s.network("lan")
	c := s.container("lan", "c1", "10.7.0.9")
	source := s.boot("vm1", nic("lan/source", "ua-a", mac1))
	analyser := s.boot("vm2", nic("lan/analyser", "ua-b", mac2))
	ask(t, source, "address", mac1, "10.7.0.1/24")
	ask(t, analyser, "address", mac2)
	ask(t, analyser, "tap", mac2)
	ear, err := c.Tap("eth0")
	ok(t, err)
	mac, _ := net.ParseMAC(mac1)
	ok(t, ear.Send(host.Frame{Dst: mac, Src: ear.MAC(), Payload: "for one alone"}))
	if heard := ask(t, analyser, "heard", mac2, "for one alone", "20s"); heard != "true" {
		t.Errorf("heard: %s", heard)
	}
}
