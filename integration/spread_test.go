package integration_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// twoSwitches is a host with an active/active team on two physical switches, which are
// bridges and know nothing of it. Behind each is a host.
//
//	hA -- swA ---(joined)--- swB -- hB
//	        |                 |
//	      eth0               eth1
//	        +---- team0 ------+
//	           switch "wan"
type twoSwitches struct {
	*testHost
	physical *host.Netns
	hosts    map[string]*host.Netns // by side
	points   map[string]*point      // guests, and hA and hB
	vlans    map[string][]int       // that each point is in: 0 is the one without a tag on the wire
	bare     map[string]int         // the VLAN of each point's frames without a tag
}

// point is somebody who sends and counts.
type point struct {
	tap  *host.Tap
	mac  net.HardwareAddr
	mu   sync.Mutex
	got  map[string]int // by payload
	more chan struct{}
}

func newTwoSwitches(t *testing.T) *twoSwitches {
	t.Helper()
	s := newPhysical(t)
	s.teamUp("eth0,eth1")
	return s
}

// newPhysical is all of it but for team and switch.
func newPhysical(t *testing.T) *twoSwitches {
	t.Helper()
	h := newHost(t)
	s := &twoSwitches{testHost: h, hosts: make(map[string]*host.Netns), points: make(map[string]*point), vlans: make(map[string][]int), bare: make(map[string]int)}
	var err error
	s.physical, err = h.Neighbour("physical")
	ok(t, err)
	h.script(s.physical, `link add swA type bridge vlan_filtering 1 mcast_snooping 0 forward_delay 0
link add swB type bridge vlan_filtering 1 mcast_snooping 0 forward_delay 0
link set swA up
link set swB up
link add jA type veth peer name jB
link set jA master swA
link set jB master swB
link set jA up
link set jB up`)
	ok(t, host.Cable(h.Netns, "eth0", s.physical, "uA"))
	ok(t, host.Cable(h.Netns, "eth1", s.physical, "uB"))
	h.keeps = append(h.keeps, "eth0", "eth1")
	for i, side := range []string{"A", "B"} {
		ns, err := h.Neighbour("h" + side)
		ok(t, err)
		ok(t, host.Cable(ns, "eth0", s.physical, "h"+side))
		s.hosts[side] = ns
		h.script(ns, fmt.Sprintf("addr add 192.0.2.%d/24 dev eth0", i+1))
		for _, port := range []string{"j", "h", "u"} {
			h.script(s.physical, fmt.Sprintf("link set %s%s master sw%s\nlink set %s%s up", port, side, side, port, side))
			for _, vlan := range []string{"10", "20", "21"} {
				h.run(s.physical, "bridge", "vlan", "add", "dev", port+side, "vid", vlan)
			}
		}
		s.listen("h"+side, ns, 0, 10, 20, 21)
	}
	return s
}

// teamUp makes the team and the switch on it.
func (s *twoSwitches) teamUp(members string, args ...string) {
	s.t.Helper()
	s.patchbay(append([]string{"team", "add", "team0", "--members", members, "--mode", "active-active", "--monitor", "20", "--lab"}, args...)...)
	s.patchbay("switch", "add", "wan", "--uplink", "team0", "--host-access=false")
	s.t.Cleanup(func() { // the guests have gone before
		s.patchbay("switch", "delete", "wan")
		s.patchbay("team", "delete", "team0")
	})
}

const spreadGuest = `{"cniVersion":"1.1.0","name":"%s","plugins":[{"type":"patchbay","switch":"wan"%s,"ipam":{"type":"patchbay","ranges":[[{"subnet":"192.0.2.0/24","rangeStart":"%s"}]]}}]}`

// plug attaches a guest with what its network's configuration says of VLANs. The first of
// vlans is that of its frames without a tag.
func (s *twoSwitches) plug(id, vlan, first string, vlans ...int) *host.Container {
	s.t.Helper()
	if vlan != "" {
		vlan = `,"vlan":` + vlan
	}
	n := s.network(fmt.Sprintf(spreadGuest, "net-"+id, vlan, first))
	c, _ := s.attached(n, id)
	s.t.Cleanup(func() { ok(s.t, n.Del(c)) })
	s.listen(id, c.Netns, vlans...)
	return c
}

// guests attaches some of each kind: two without VLAN, two in VLAN 10, of which each is
// on another member, and trunks of VLAN 20, and of 20 and 21.
func (s *twoSwitches) guests() {
	s.t.Helper()
	s.plug("u0", "", "192.0.2.10", 0)
	s.plug("u1", "", "192.0.2.11", 0)
	s.plug("v0", "10", "192.0.2.12", 10)
	s.plug("v1", "10", "192.0.2.13", 10)
	s.plug("t0", `"trunk 20 native 21"`, "192.0.2.14", 21, 20)
	s.plug("t1", `"trunk 20-21 native 10"`, "192.0.2.15", 10, 20, 21)
}

func (s *twoSwitches) listen(name string, ns *host.Netns, vlans ...int) {
	s.t.Helper()
	p := &point{tap: s.tap(ns, "eth0"), got: make(map[string]int), more: make(chan struct{}, 1)}
	p.mac = p.tap.MAC()
	s.points[name], s.vlans[name], s.bare[name] = p, vlans, vlans[0]
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- p.tap.Each(stop, p.count) }()
	s.t.Cleanup(func() {
		close(stop)
		ok(s.t, <-done)
	})
}

func (p *point) count(payload string) {
	p.mu.Lock()
	p.got[payload]++
	p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
}

func (p *point) counted() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.got)
}

// await returns when everything that is wanted has come since before, or all is over.
func (p *point) await(all context.Context, want, before map[string]int) {
	for {
		got := p.counted()
		missing := false
		for payload := range want {
			missing = missing || got[payload] == before[payload]
		}
		if !missing {
			return
		}
		select {
		case <-p.more:
		case <-all.Done():
			return
		}
	}
}

// send sends n frames with payloads of their own.
func (p *point) send(what string, to net.HardwareAddr, vlan, n int) error {
	for i := range n {
		frame := append(slices.Clone(to), p.mac...)
		if vlan != 0 {
			frame = append(frame, 0x81, 0x00, byte(vlan>>8), byte(vlan))
		}
		frame = append(frame, 0x88, 0xb5)
		frame = append(frame, fmt.Sprintf("%s %d\x00", what, i)...)
		if err := p.tap.SendRaw(append(frame, make([]byte, max(0, 64-len(frame)))...)); err != nil {
			return err
		}
	}
	return nil
}

// burst is frames that somebody sends, and who is to hear each of them once.
type burst struct {
	what, from string
	to         net.HardwareAddr
	vlan       int
	heard      []string
}

var (
	toAll    = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	toGroup  = net.HardwareAddr{0x01, 0x00, 0x5e, 0x01, 0x01, 0x01}
	bursting = 20
)

// inVLAN are the points that are in a VLAN, as their own frames say it.
func (s *twoSwitches) inVLAN(vlan int, but string) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(s.points)) {
		if name != but && slices.Contains(s.vlans[name], vlan) {
			names = append(names, name)
		}
	}
	return names
}

// floods are broadcasts and multicasts of everybody in all VLANs.
func (s *twoSwitches) floods() (all []burst) {
	for _, from := range slices.Sorted(maps.Keys(s.points)) {
		for _, vlan := range s.vlans[from] {
			tag := vlan
			if tag == s.bare[from] {
				tag = 0
			}
			for what, to := range map[string]net.HardwareAddr{"broadcast": toAll, "multicast": toGroup} {
				all = append(all, burst{fmt.Sprintf("%s by %s in %d", what, from, vlan), from, to, tag, s.inVLAN(vlan, from)})
			}
		}
	}
	return all
}

// check sends bursts and compares what everybody hears with what they should, frame by
// frame, which it waits for that long. It returns the differences.
func (s *twoSwitches) check(phase string, within time.Duration, bursts []burst) (wrong []string) {
	s.t.Helper()
	before := make(map[string]map[string]int)
	want := make(map[string]map[string]int)
	for name, p := range s.points {
		before[name], want[name] = p.counted(), make(map[string]int)
	}
	all, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for _, b := range bursts {
		what := phase + ": " + b.what
		for _, name := range b.heard {
			for i := range bursting {
				want[name][fmt.Sprintf("%s %d", what, i)] = 1
			}
		}
		ok(s.t, s.points[b.from].send(what, b.to, b.vlan, bursting))
		// One burst at a time: a socket has room for some hundred frames.
		for _, name := range b.heard {
			s.points[name].await(all, want[name], before[name])
		}
	}
	_, err := s.tap(s.physical, "swA").Hears("never", silence) // for what must not come
	ok(s.t, err)
	for _, name := range slices.Sorted(maps.Keys(s.points)) {
		wrong = append(wrong, differences(name, want[name], before[name], s.points[name].counted())...)
	}
	return wrong
}

// differences sums up, by burst, how many frames somebody heard otherwise than once, or
// not, as wanted.
func differences(name string, want, before, got map[string]int) (wrong []string) {
	lost, twice, foreign := make(map[string]int), make(map[string]int), make(map[string]int)
	for payload := range want {
		burst := payload[:strings.LastIndex(payload, " ")]
		switch n := got[payload] - before[payload]; {
		case n == 0:
			lost[burst]++
		case n > 1:
			twice[burst]++
		}
	}
	for payload, n := range got {
		if want[payload] == 0 && n > before[payload] {
			foreign[payload[:max(0, strings.LastIndex(payload, " "))]] += n - before[payload]
		}
	}
	for kind, bursts := range map[string]map[string]int{"lost": lost, "heard twice": twice, "not to be heard": foreign} {
		for burst, n := range bursts {
			wrong = append(wrong, fmt.Sprintf("%s: %d of %q %s", name, n, burst, kind))
		}
	}
	slices.Sort(wrong)
	return wrong
}

func (s *twoSwitches) wantExact(phase string, bursts []burst) {
	s.t.Helper()
	wrong := s.check(phase, patience, bursts)
	if len(wrong) > 0 {
		s.t.Errorf("%d differences:\n%s\n%s", len(wrong), strings.Join(wrong[:min(len(wrong), 40)], "\n"), s.run(s.Netns, "nft", "list", "table", "netdev", "patchbay-team0"))
		return
	}
	s.t.Logf("%s: %d bursts of %d frames, each frame heard once by everybody it is for, and by nobody else", phase, len(bursts), bursting)
}

// TestEveryFrameOnce counts every frame on two physical switches, joined: broadcast and
// multicast of everybody in every VLAN, before and after a member was lost and came back.
func TestEveryFrameOnce(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.VLANs, guest.Netdev)
	s := newTwoSwitches(t)
	s.startDaemon()
	s.guests()
	s.wantExact("both members", s.floods())
	for _, cut := range []string{"A", "B"} {
		s.failOver(func() { s.script(s.physical, "link set u"+cut+" down") })
		s.wantExact("without "+cut, s.floods())
		s.cables(func() { s.script(s.physical, "link set u"+cut+" up") })
		s.wantExact(cut+" back", s.floods())
	}
	// It is the rules that do it.
	s.stopDaemon()
	s.run(s.Netns, "nft", "delete", "table", "netdev", "patchbay-team0")
	wrong := s.check("without rules", patience, s.floods())
	if !slices.ContainsFunc(wrong, func(w string) bool { return strings.Contains(w, "heard twice") }) ||
		!slices.ContainsFunc(wrong, func(w string) bool { return strings.HasPrefix(w, "u0") && strings.Contains(w, "by u0") }) {
		t.Errorf("without rules no frame is heard twice, and none comes back: %q", wrong)
	}
	t.Logf("without rules: %d differences, like %q", len(wrong), wrong[:min(3, len(wrong))])
	s.patchbay("switch", "add", "wan", "--uplink", "team0", "--host-access=false")
	s.wantExact("rules again", s.floods())
}

// TestUnknownUnicastOnce has the physical switches forget the guests, who say nothing, so
// that both send what is for one of them to all: he hears it once all the same.
func TestUnknownUnicastOnce(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.VLANs, guest.Netdev)
	s := newTwoSwitches(t)
	s.startDaemon()
	s.guests()
	s.wantExact("all speak", s.floods())
	s.wantForgotten("forgotten")
	s.failOver(func() { s.script(s.physical, "link set uA down") })
	s.wantForgotten("without A")
	s.cables(func() { s.script(s.physical, "link set uA up") })
	s.wantForgotten("A back")
	// It is the rules that do it.
	s.stopDaemon()
	s.run(s.Netns, "nft", "delete", "table", "netdev", "patchbay-team0")
	wrong := s.check("without rules", patience, s.forgotten())
	if !slices.ContainsFunc(wrong, func(w string) bool { return strings.HasPrefix(w, "u0") && strings.Contains(w, "heard twice") }) {
		t.Errorf("without rules no frame is heard twice: %q", wrong)
	}
}

// wantForgotten checks what guests hear. The other host hears nothing of whom patchbayd has
// announced meanwhile.
func (s *twoSwitches) wantForgotten(phase string) {
	s.t.Helper()
	wrong := slices.DeleteFunc(s.check(phase, 10*silence, s.forgotten()), func(w string) bool {
		return strings.HasPrefix(w, "h") && strings.HasSuffix(w, " lost")
	})
	if len(wrong) > 0 {
		s.t.Errorf("%d differences:\n%s", len(wrong), strings.Join(wrong, "\n"))
	}
}

// forgotten are frames of both hosts to each guest, in each of his VLANs, by way of
// switches that do not know him: the other host's card sees them too.
func (s *twoSwitches) forgotten() (all []burst) {
	s.t.Helper()
	s.script(s.physical, "link set swA type bridge fdb_flush\nlink set swB type bridge fdb_flush")
	for from, other := range map[string]string{"hA": "hB", "hB": "hA"} {
		for name, p := range s.points {
			if name == "hA" || name == "hB" {
				continue
			}
			for _, vlan := range s.vlans[name] {
				all = append(all, burst{fmt.Sprintf("%s to %s in %d", from, name, vlan), from, p.mac, vlan, []string{name, other}})
			}
		}
	}
	return all
}

// failOver does what takes a member away and waits until the other carries on alone.
func (s *twoSwitches) failOver(do func()) {
	s.t.Helper()
	s.settles(do, 1)
}

// cables does what gives a member back.
func (s *twoSwitches) cables(do func()) {
	s.t.Helper()
	s.settles(do, 2)
}

// settles waits, event by event, until so many members are up and one of them is
// designated.
func (s *twoSwitches) settles(do func(), want int) {
	s.t.Helper()
	events, end, err := s.LinkEvents()
	ok(s.t, err)
	defer end()
	designated := s.designated()
	lines := s.daemon.Lines()
	do()
	deadline := time.After(patience)
	for {
		up := s.up()
		if len(up) == want {
			if !slices.Contains(up, designated) {
				_, err := s.daemon.Await(lines, patience, "hears what is for all", "to="+up[0])
				ok(s.t, err)
			}
			return
		}
		select {
		case <-events:
		case <-deadline:
			s.t.Fatalf("members that are up: %v, want %d", up, want)
		}
	}
}

// up are the members that have a link.
func (s *twoSwitches) up() (names []string) {
	s.t.Helper()
	for _, m := range s.team("team0").State.Members {
		if m.Link {
			names = append(names, m.Name)
		}
	}
	return names
}

// designated is the member that hears what is for all, as the kernel has it.
func (s *twoSwitches) designated() string {
	s.t.Helper()
	shown := s.run(s.Netns, "nft", "list", "map", "netdev", "patchbay-team0", "designated")
	for _, name := range []string{"eth0", "eth1", "eth2"} {
		if strings.Contains(shown, `: "`+name+`"`) {
			return name
		}
	}
	s.t.Fatalf("no member is designated:\n%s", shown)
	return ""
}

// TestSwitchesApart takes the cable between the physical switches away: what was one
// network is two, and still nothing is heard twice, comes back, or goes round.
func TestSwitchesApart(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.VLANs, guest.Netdev)
	s := newTwoSwitches(t)
	s.guests()
	s.script(s.physical, "link set jA down")
	local := slices.DeleteFunc(slices.Collect(maps.Keys(s.points)), func(name string) bool { return name == "hA" || name == "hB" })
	wrong := slices.DeleteFunc(s.check("apart", 10*silence, s.floods()), func(w string) bool {
		lost := strings.HasSuffix(w, " lost")
		beyond := strings.HasPrefix(w, "hA:") || strings.HasPrefix(w, "hB:") || strings.Contains(w, "by hB")
		return lost && beyond // by the other switch there is no way
	})
	if len(wrong) > 0 {
		t.Errorf("guests %v: %d differences:\n%s", local, len(wrong), strings.Join(wrong, "\n"))
	}
	s.script(s.physical, "link set jA up")
	s.wantExact("joined again", s.floods())
}

// TestGroupsComeByTheDesignated has the physical switches listen for multicast groups:
// a guest whose own way is the other member hears its group all the same, also when
// another member is designated.
func TestGroupsComeByTheDesignated(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.VLANs, guest.Netdev)
	s := newTwoSwitches(t)
	s.startDaemon()
	containers := []*host.Container{s.plug("u0", "", "192.0.2.10", 0), s.plug("u1", "", "192.0.2.11", 0)}
	for _, side := range []string{"A", "B"} {
		s.script(s.physical, fmt.Sprintf("link set sw%s type bridge mcast_snooping 1 mcast_querier 1 mcast_startup_query_interval 100", side))
	}
	for _, ns := range s.hosts {
		s.script(ns, "route add 224.0.0.0/4 dev eth0")
	}
	var ears []*net.UDPConn
	group := &net.UDPAddr{IP: net.IPv4(239, 1, 1, 1), Port: 5000}
	for _, c := range containers {
		s.script(c.Netns, "route add 224.0.0.0/4 dev eth0")
		ok(t, c.Do(func() error {
			nic, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			ear, err := net.ListenMulticastUDP("udp4", nic, group)
			ears = append(ears, ear)
			return err
		}))
	}
	s.hearGroup("both members", s.hosts["A"], ears)
	s.hearGroup("both members", s.hosts["B"], ears)
	s.reportedAt("uA", "uB")
	s.failOver(func() { s.script(s.physical, "link set uA down") })
	s.hearGroup("without A", s.hosts["A"], ears)
	s.hearGroup("without A", s.hosts["B"], ears)
	s.reportedAt("uB", "uA")
	for _, ear := range ears {
		ok(t, ear.Close())
	}
}

// hearGroup sends to the group until everybody hears it, and then counts.
func (s *twoSwitches) hearGroup(phase string, from *host.Netns, ears []*net.UDPConn) {
	s.t.Helper()
	var mouth net.Conn
	ok(s.t, from.Do(func() (err error) {
		mouth, err = net.Dial("udp4", "239.1.1.1:5000")
		return err
	}))
	defer func() { ok(s.t, mouth.Close()) }()
	buf := make([]byte, 100)
	for i, ear := range ears {
		for deadline := time.Now().Add(patience); ; { // as one asks until an answer comes
			_, err := mouth.Write([]byte("?"))
			ok(s.t, err)
			_ = ear.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := ear.Read(buf); err == nil {
				break
			}
			if time.Now().After(deadline) {
				s.t.Fatalf("%s: guest %d does not hear its group:\n%s", phase, i, s.run(s.physical, "bridge", "mdb", "show"))
			}
		}
	}
	for range bursting {
		_, err := mouth.Write([]byte("!"))
		ok(s.t, err)
	}
	for i, ear := range ears {
		heard := 0
		_ = ear.SetReadDeadline(time.Now().Add(2 * time.Second))
		for {
			n, err := ear.Read(buf)
			if err != nil {
				break
			}
			if string(buf[:n]) == "!" {
				heard++
			}
			_ = ear.SetReadDeadline(time.Now().Add(silence))
		}
		if heard != bursting {
			s.t.Errorf("%s: guest %d heard %d of %d", phase, i, heard, bursting)
		}
	}
}

// reportedAt checks at which port of the physical switches the group was asked for.
func (s *twoSwitches) reportedAt(port, not string) {
	s.t.Helper()
	mdb := s.run(s.physical, "bridge", "mdb", "show")
	if !strings.Contains(mdb, "port "+port+" grp 239.1.1.1") || strings.Contains(mdb, "port "+not+" grp 239.1.1.1") {
		s.t.Errorf("the group was not asked for at %s alone:\n%s", port, mdb)
	}
}

// TestFlowsStayInOrder sends one big TCP stream, which stays on one member with every
// segment in its order, and many, which spread over all members.
func TestFlowsStayInOrder(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.VLANs, guest.Netdev)
	s := newTwoSwitches(t)
	var guests []*host.Container
	for i := range 6 {
		guests = append(guests, s.plug(fmt.Sprintf("u%d", i), "", fmt.Sprintf("192.0.2.%d", 10+i), 0))
	}
	const much, some = 24 << 20, 2 << 20
	before := s.sent()
	s.stream(guests[0], much)
	after := s.sent()
	var carried []uint64
	for name, bytes := range after {
		carried = append(carried, bytes-before[name])
	}
	slices.Sort(carried)
	if carried[1] < much || carried[0] > much/100 {
		t.Errorf("a stream of %d bytes left by the members with %v bytes", much, carried)
	}
	t.Logf("one stream of %d bytes: %v bytes by the two members, no segment out of order", much, carried)
	before = after
	var streams sync.WaitGroup
	for _, g := range guests {
		streams.Go(func() { s.stream(g, some) })
	}
	streams.Wait()
	for name, bytes := range s.sent() {
		if bytes-before[name] < some {
			t.Errorf("%d streams: %s carried %d bytes", len(guests), name, bytes-before[name])
		}
		t.Logf("%d streams of %d bytes: %d by %s", len(guests), some, bytes-before[name], name)
	}
}

// sent is what each member has sent.
func (s *twoSwitches) sent() map[string]uint64 {
	s.t.Helper()
	bytes := make(map[string]uint64)
	for _, m := range s.team("team0").State.Members {
		bytes[m.Name] = m.TxBytes
	}
	return bytes
}

// stream sends bytes from a guest to hA by TCP and fails the test for any segment that
// came out of order or was taken for lost.
func (s *twoSwitches) stream(from *host.Container, size int) {
	var listener net.Listener
	err := s.hosts["A"].Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 0).String())
		return err
	})
	if err != nil {
		s.t.Error(err)
		return
	}
	defer func() { _ = listener.Close() }()
	type end struct {
		n    int
		info *unix.TCPInfo
		err  error
	}
	received := make(chan end, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			received <- end{err: err}
			return
		}
		defer func() { _ = c.Close() }()
		buf, e := make([]byte, 1<<16), end{}
		for e.n < size && e.err == nil {
			var n int
			n, e.err = c.Read(buf)
			e.n += n
		}
		if e.err == nil {
			e.info, e.err = tcpInfo(c)
		}
		received <- e
	}()
	var c net.Conn
	err = from.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", listener.Addr().String(), patience)
		return err
	})
	if err != nil {
		s.t.Error(err)
		return
	}
	defer func() { _ = c.Close() }()
	chunk := make([]byte, 1<<16)
	for left := size; left > 0 && err == nil; left -= len(chunk) {
		_, err = c.Write(chunk[:min(left, len(chunk))])
	}
	got := <-received
	sent, infoErr := tcpInfo(c)
	if err != nil || got.err != nil || infoErr != nil {
		s.t.Errorf("stream: %v, %v, %v", err, got.err, infoErr)
		return
	}
	if got.info.Rcv_ooopack != 0 || sent.Reord_seen != 0 {
		s.t.Errorf("of %d bytes %d segments came out of order; the sender saw reordering %d times", got.n, got.info.Rcv_ooopack, sent.Reord_seen)
	}
}

func tcpInfo(c net.Conn) (info *unix.TCPInfo, err error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var infoErr error
	err = raw.Control(func(fd uintptr) { info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err == nil {
		err = infoErr
	}
	return info, err
}
