package engine_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
)

// wire is a switch on a real kernel with an ear, and a mouth, at every guest and at the
// far end of the uplink.
type wire struct {
	*engine.Engine
	t      *testing.T
	points map[string]*tap
	frames int
	heard  map[int][]string // by frame: who heard it, and with which tag
}

// tap is a packet socket.
type tap struct {
	fd, index int
	mac       vswitch.MAC
}

// newWire makes a network namespace for the test, with a NIC and a switch on it.
func newWire(t *testing.T, s vswitch.Switch, sizes vswitch.SegmentSizes) *wire {
	t.Helper()
	runtime.LockOSThread() // the thread is in another namespace from now on and ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	makePair(t, "nic0")
	h, err := netlink.NewHandle()
	must(t, err)
	defer h.Close()
	nic, err := h.LinkByName("nic0")
	must(t, err)
	must(t, h.LinkSetUp(nic))
	w := &wire{t: t, points: make(map[string]*tap), heard: make(map[int][]string)}
	w.Engine = engine.New(engine.Config{
		Kernel: kernel.NewLinux(), Segments: sizes,
		Store: store.New(store.Config{Dirs: store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)}, MachineID: "machine"}),
	})
	_, err = w.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: s})
	must(t, err)
	w.points["uplink"] = openTap(t, "nic0-peer", nil)
	return w
}

// plug attaches a guest and listens at its end.
func (w *wire) plug(i int, name, vlan string, change func(*engine.AttachRequest)) {
	w.t.Helper()
	req := inVLAN(w.t, i, vlan)
	req.Owner.Netns = newNetns(w.t)
	if change != nil {
		change(&req)
	}
	a, err := w.Attach(context.Background(), req)
	must(w.t, err)
	ns, err := os.Open(req.Owner.Netns)
	must(w.t, err)
	defer func() { _ = ns.Close() }()
	w.points[name] = openTap(w.t, "eth0", ns)
	w.points[name].mac = a.Port.MAC
}

// etherTest is IEEE's EtherType for experiments.
const etherTest = 0x88b5

// openTap opens a packet socket in a namespace, nil for that of the thread.
func openTap(t *testing.T, netdev string, ns *os.File) *tap {
	t.Helper()
	made := make(chan *tap, 1)
	open := func() {
		defer close(made)
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(hton(unix.ETH_P_ALL)))
		if err != nil {
			t.Error(err)
			return
		}
		h, err := netlink.NewHandle()
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		link, err := h.LinkByName(netdev)
		if err != nil {
			t.Error(err)
			return
		}
		p := &tap{fd: fd, index: link.Attrs().Index}
		copy(p.mac[:], link.Attrs().HardwareAddr)
		for _, err := range []error{
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: hton(unix.ETH_P_ALL), Ifindex: p.index}),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
			unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(p.index), Type: unix.PACKET_MR_PROMISC}),
		} {
			if err != nil {
				t.Errorf("%s: %v", netdev, err)
			}
		}
		made <- p
	}
	if ns == nil {
		open()
	} else {
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				t.Error(err)
			}
			open()
		}()
	}
	p := <-made
	if p == nil {
		t.FailNow()
	}
	t.Cleanup(func() { _ = unix.Close(p.fd) })
	return p
}

func hton(v uint16) uint16 { return v<<8 | v>>8 }

// send sends a frame from one point to an address, with a tag unless vid is 0.
func (w *wire) send(from string, vid int, dst vswitch.MAC) (frame int) {
	w.t.Helper()
	w.frames++
	p := w.points[from]
	src := p.mac
	if from == "uplink" {
		src = vswitch.MAC{0x02, 0xee, 0, 0, 0, 1} // somebody behind it
	}
	b := slices.Concat(dst[:], src[:])
	if vid != 0 {
		b = binary.BigEndian.AppendUint16(b, unix.ETH_P_8021Q)
		b = binary.BigEndian.AppendUint16(b, uint16(vid))
	}
	b = binary.BigEndian.AppendUint16(b, etherTest)
	b = binary.BigEndian.AppendUint32(b, uint32(w.frames))
	b = append(b, make([]byte, 60)...)
	must(w.t, unix.Sendto(p.fd, b, 0, &unix.SockaddrLinklayer{Ifindex: p.index, Halen: 6}))
	return w.frames
}

// listen reads all that has come to every point, until nothing comes any more.
func (w *wire) listen() {
	w.t.Helper()
	const quiet = 500 // ms; delivery takes microseconds
	var polls []unix.PollFd
	var names []string
	for name, p := range w.points {
		polls, names = append(polls, unix.PollFd{Fd: int32(p.fd), Events: unix.POLLIN}), append(names, name)
	}
	for {
		n, err := unix.Poll(polls, quiet)
		if err == unix.EINTR {
			continue
		}
		must(w.t, err)
		if n == 0 {
			return
		}
		for i := range polls {
			if polls[i].Revents&unix.POLLIN != 0 {
				w.read(names[i])
			}
		}
	}
}

func (w *wire) read(name string) {
	b, oob := make([]byte, 2048), make([]byte, 128)
	n, oobn, _, from, err := unix.Recvmsg(w.points[name].fd, b, oob, 0)
	must(w.t, err)
	if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
		return
	}
	vid, rest := 0, b[12:n]
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	must(w.t, err)
	for _, m := range messages {
		const valid = 1 << 4                       // TP_STATUS_VLAN_VALID
		if m.Header.Type == unix.PACKET_AUXDATA && // struct tpacket_auxdata
			binary.NativeEndian.Uint32(m.Data)&valid != 0 {
			vid = int(binary.NativeEndian.Uint16(m.Data[16:])) & 0xfff
		}
	}
	if binary.BigEndian.Uint16(rest) == unix.ETH_P_8021Q {
		vid, rest = int(binary.BigEndian.Uint16(rest[2:]))&0xfff, rest[4:]
	}
	if binary.BigEndian.Uint16(rest) != etherTest {
		return
	}
	word := name
	if vid != 0 {
		word = fmt.Sprintf("%s:%d", name, vid)
	}
	frame := int(binary.BigEndian.Uint32(rest[2:]))
	w.heard[frame] = append(w.heard[frame], word)
}

// passage is a frame with who is to hear it: names, with ":" and the tag if there is one.
type passage struct {
	from string
	vid  int
	to   string // a name, "all" or "nobody"
	want string
}

// try sends all frames and compares who has heard each; twice is not once.
func (w *wire) try(passages []passage) {
	w.t.Helper()
	frames := make([]int, len(passages))
	for i, p := range passages {
		dst := vswitch.MAC{0x02, 0xdd, 0, 0, 0, 9} // nobody's
		switch p.to {
		case "all":
			dst = vswitch.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		case "nobody":
		default:
			dst = w.points[p.to].mac
		}
		frames[i] = w.send(p.from, p.vid, dst)
	}
	w.listen()
	for i, p := range passages {
		got := w.heard[frames[i]]
		slices.Sort(got)
		want := strings.Fields(p.want)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			w.t.Errorf("from %s (tag %d) to %s: heard by %q, want %q", p.from, p.vid, p.to, got, want)
		}
	}
}

// TestPrivateVLANOnLinux counts every frame of a private VLAN: broadcast, unicast, and to
// an address that nobody has, among all kinds of ports and the uplink; on one bridge and
// with every port on a segment of its own.
func TestPrivateVLANOnLinux(t *testing.T) {
	guest.Needs(t, guest.VLANs)
	for name, sizes := range map[string]vswitch.SegmentSizes{
		"one bridge": {}, "segments": {Root: 1, Spoofing: 1, Further: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, wan(), sizes)
			guests := []struct{ name, vlan string }{
				{"iso1", "isolated 100 101"},
				{"iso2", "isolated 100 101"},
				{"a1", "community 100 102"},
				{"a2", "community 100 102"},
				{"b", "community 100 103"},
				{"promisc", "promiscuous 100 101-103"},
			}
			for i, g := range guests {
				w.plug(i, g.name, g.vlan, nil)
			}
			hears := map[string]string{ // a broadcast
				"iso1": "promisc uplink:101", "iso2": "promisc uplink:101",
				"a1": "a2 promisc uplink:102", "a2": "a1 promisc uplink:102", "b": "promisc uplink:103",
				"promisc":    "iso1 iso2 a1 a2 b uplink:100",
				"uplink:100": "iso1 iso2 a1 a2 b promisc", "uplink:101": "promisc", "uplink:102": "a1 a2 promisc", "uplink:103": "b promisc",
				"uplink": "", "uplink:1": "", "uplink:4094": "", "uplink:104": "",
			}
			var all []passage
			for point, want := range hears {
				from, tag, _ := strings.Cut(point, ":")
				vid := 0
				_, _ = fmt.Sscan(tag, &vid)
				all = append(all, passage{from, vid, "all", want})
				unknown := ""
				for word := range strings.FieldsSeq(want) {
					if strings.HasPrefix(word, "uplink:") {
						unknown = word
					}
				}
				all = append(all, passage{from, vid, "nobody", unknown})
				for _, g := range guests {
					reached := slices.Contains(strings.Fields(want), g.name)
					switch {
					case g.name == from:
					case reached:
						all = append(all, passage{from, vid, g.name, g.name})
					case from == "uplink", strings.HasPrefix(from, "iso") && strings.HasPrefix(g.name, "iso"):
						all = append(all, passage{from, vid, g.name, ""})
					default: // of another secondary: the switch does not know it in this one
						all = append(all, passage{from, vid, g.name, unknown})
					}
				}
			}
			w.try(all)
		})
	}
}

// TestVLANsOnLinux counts frames of access ports, trunks and untagged ports, and again
// after the ports have changed places.
func TestVLANsOnLinux(t *testing.T) {
	guest.Needs(t, guest.VLANs)
	for name, sizes := range map[string]vswitch.SegmentSizes{
		"one bridge": {}, "segments": {Root: 1, Spoofing: 1, Further: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, wan(), sizes)
			w.plug(0, "ten", "access 10", nil)
			w.plug(1, "ten2", "access 10", nil)
			w.plug(2, "twenty", "access 20", nil)
			w.plug(3, "plain", "", nil)
			w.plug(4, "plain2", "", nil)
			w.plug(5, "trunk", "trunk 10-11,4094 native 20", nil)
			w.try([]passage{
				{"ten", 0, "all", "ten2 trunk:10 uplink:10"},
				{"ten", 0, "ten2", "ten2"},
				{"ten", 0, "twenty", "uplink:10"},
				{"ten", 10, "all", "ten2 trunk:10 uplink:10"}, // its own tag is no other VLAN
				{"ten", 20, "all", ""},
				{"ten", 1, "all", ""},
				{"twenty", 0, "all", "trunk uplink:20"},
				{"twenty", 0, "trunk", "trunk"},
				{"plain", 0, "all", "plain2 uplink"},
				{"plain", 0, "plain2", "plain2"},
				{"plain", 10, "all", ""},
				{"plain", 0, "nobody", "uplink"},
				{"trunk", 0, "all", "twenty uplink:20"},
				{"trunk", 10, "all", "ten ten2 uplink:10"},
				{"trunk", 11, "all", "uplink:11"},
				{"trunk", 4094, "all", "uplink:4094"},
				{"trunk", 12, "all", ""},
				{"trunk", 10, "ten", "ten"},
				{"uplink", 0, "all", "plain plain2"},
				{"uplink", 10, "all", "ten ten2 trunk:10"},
				{"uplink", 20, "trunk", "trunk"},
				{"uplink", 4094, "all", "trunk:4094"},
				{"uplink", 4093, "all", ""}, // the switch's own VLAN by now
				{"uplink", 1, "all", ""},
				{"uplink", 10, "nobody", ""},
				{"uplink", 0, "ten", ""},
			})
			set := func(i int, vlan string) {
				t.Helper()
				v, err := vswitch.ParsePortVLAN(vlan)
				must(t, err)
				_, err = w.SetPort(context.Background(), owner(i).PortID(), engine.PortChange{VLAN: &v})
				must(t, err)
			}
			set(0, "untagged")
			set(3, "access 4093")
			set(5, "access 30")
			w.try([]passage{
				{"ten", 0, "all", "plain2 uplink"},
				{"ten2", 0, "all", "uplink:10"},
				{"plain", 0, "all", "uplink:4093"},
				{"plain2", 0, "ten", "ten"},
				{"uplink", 4093, "all", "plain"},
				{"uplink", 0, "all", "ten plain2"},
				{"trunk", 0, "all", "uplink:30"},
				{"trunk", 10, "all", ""},
				{"uplink", 11, "all", ""},
			})
			s, err := w.Status(context.Background())
			must(t, err)
			for _, p := range s.Problems {
				if p.Kind != vswitch.CapabilityMissing { // of the kernel, not of the switch
					t.Errorf("status: %+v", p)
				}
			}
		})
	}
}

// TestIsolatedPortsOnLinux: none of them hears another, wherever it is, and all hear the
// rest.
func TestIsolatedPortsOnLinux(t *testing.T) {
	guest.Needs(t, guest.VLANs)
	for name, sizes := range map[string]vswitch.SegmentSizes{
		"one bridge": {}, "segments": {Root: 1, Spoofing: 1, Further: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, wan(), sizes)
			isolated := func(req *engine.AttachRequest) { req.Isolated = true }
			w.plug(0, "one", "", isolated)
			w.plug(1, "two", "", isolated)
			w.plug(2, "open", "", nil)
			w.try([]passage{
				{"one", 0, "all", "open uplink"},
				{"two", 0, "one", ""},
				{"one", 0, "two", ""},
				{"one", 0, "open", "open"},
				{"open", 0, "one", "one"},
				{"open", 0, "all", "one two uplink"},
				{"uplink", 0, "all", "one two open"},
				{"uplink", 0, "two", "two"},
			})
		})
	}
}

// TestHostInVLANOnLinux: the host port is in the VLAN of its switch, and has the NIC's own
// address there, which the bridge would keep for itself.
func TestHostInVLANOnLinux(t *testing.T) {
	guest.Needs(t, guest.VLANs)
	s := wan()
	s.HostAccess, s.VLAN = nil, 10
	w := newWire(t, s, vswitch.SegmentSizes{})
	w.points["host"] = openTap(t, vswitch.HostPortName("wan"), nil)
	w.plug(0, "ten", "", nil)
	w.plug(1, "plain", "untagged", nil)
	w.try([]passage{
		{"ten", 0, "all", "host uplink:10"},
		{"ten", 0, "host", "host"},
		{"plain", 0, "all", "uplink"},
		{"uplink", 10, "host", "host"},
		{"uplink", 10, "all", "host ten"},
		{"uplink", 0, "all", "plain"},
		{"uplink", 0, "host", ""},
	})
	_, err := w.SetSwitch(context.Background(), "wan", engine.SwitchChange{VLAN: ptr(4094)})
	must(t, err)
	w.try([]passage{
		{"uplink", 4094, "host", "host"},
		{"uplink", 4094, "all", "host"},
		{"host", 0, "all", "uplink:4094"},
		{"uplink", 10, "all", "ten"},
		{"uplink", 0, "all", "plain"},
	})
}
