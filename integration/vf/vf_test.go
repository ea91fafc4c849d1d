package vf_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// TestContainerOnVF: igb's VFs carry containers, in their namespaces under their names, and
// come home; all of it in one guest.
func TestContainerOnVF(t *testing.T) {
	guest.Needs(t, guest.NICs)
	h := newVFHost(t)
	h.daemon()
	h.must("bin/patchbay", "switch", "add", "wan", "--uplink", "n0", "--sriov", "--host-access=false", "--yes")
	for _, c := range []struct {
		name string
		test func(*vfHost)
	}{
		{"there and back", thereAndBack},
		{"fewer than ports", fewerThanPorts},
		{"VLANs keep them apart", isolation},
		{"what a port says", status},
		{"namespace that ends", namespaceEnds},
		{"what befalls those who work", mishaps},
		{"patchbayd that is killed", killed},
	} {
		begun := time.Now()
		t.Run(c.name, func(t *testing.T) {
			was := h.t
			defer func() { h.t = was }()
			h.t = t
			c.test(h)
		})
		t.Logf("%s: %s", c.name, time.Since(begun).Round(10*time.Millisecond))
		if t.Failed() {
			return // one goes on with the VFs of the other
		}
	}
	t.Logf("%v", h.took)
	h.must("bin/patchbay", "switch", "delete", "wan")
	ok(t, h.d.Stop())
}

const gateway = "10.9.0.1"

func thereAndBack(h *vfHost) {
	a, c := h.netns("a"), h.netns("c")
	h.cni("ADD", "a", "require")
	links, err := a.Links()
	ok(h.t, err)
	defer links.Close()
	if eth0, err := links.LinkByName("eth0"); err != nil || eth0.Type() != "device" || eth0.Attrs().Alias == "" {
		h.t.Errorf("eth0 is %+v, %v", eth0, err)
	}
	h.reaches(a, gateway)
	h.cni("CHECK", "a", "require")
	h.cni("DEL", "a", "require")
	h.cni("ADD", "c", "require")
	h.reaches(c, gateway)
	ok(h.t, h.d.Kill())
	h.cni("DEL", "c", "require") // by the CNI plugin alone
	h.daemon()
	h.awaits(0, "offload taken back")
	h.cni("ADD", "a", "require")
	h.reaches(a, gateway)
	h.cni("DEL", "a", "require")
	h.free()
}

// free fails unless all VFs are home.
func (h *vfHost) free() {
	h.t.Helper()
	h.says("sriov: 0 of 2 VFs used", "bin/patchbay", "switch", "show", "wan")
}

// session is a TCP connection from a container to the outside.
func (h *vfHost) session(n *host.Netns) *host.Stream {
	h.t.Helper()
	s, err := n.Connect(netip.Addr{}, h.peer, netip.MustParseAddr(gateway))
	ok(h.t, err)
	h.t.Cleanup(func() { ok(h.t, s.Close()) })
	return s
}

// Who finds none free gets a pair. Nobody's connection ends as VFs go from one to the next,
// nor as weights change.
func fewerThanPorts(h *vfHost) {
	a, b, c := h.netns("a"), h.netns("b"), h.netns("c")
	h.cni("ADD", "a", "prefer")
	h.cni("ADD", "c", "require")
	h.cni("ADD", "b", "prefer")
	h.reaches(b, h.address(a)) // by the bridge and the NIC's own switch
	h.says("sriov prefer: in software, every VF of the NIC is held", "bin/patchbay", "port", "show", "b")
	h.says("sriov: 2 of 2 VFs used", "bin/patchbay", "switch", "show", "wan")
	byVF, byPair := h.session(a), h.session(b)
	h.reaches(c, gateway)
	h.must("bin/patchbay", "port", "set", "a", "--sriov-weight", "1")
	h.cni("DEL", "c", "require")
	h.says("attached when no VF was to be had", "bin/patchbay", "port", "show", "b")
	h.cni("ADD", "c", "require")
	h.reaches(c, gateway)
	for name, s := range map[string]*host.Stream{"VF": byVF, "pair": byPair} {
		if _, err := s.Longest(); err != nil {
			h.t.Errorf("by the %s: %v", name, err)
		}
	}
	h.says("sriov prefer: VF", "bin/patchbay", "port", "show", "a")
	for _, name := range []string{"a", "b", "c"} {
		h.cni("DEL", name, "prefer")
	}
	h.free()
}

func isolation(h *vfHost) {
	a, b := h.netns("a"), h.netns("b")
	h.cni("ADD", "a", "require")
	h.cni("ADD", "b", "require")
	second := h.address(b)
	h.reaches(a, second)
	h.must("bin/patchbay", "port", "set", "a", "--vlan", "7")
	if err := a.Ping(netip.MustParseAddr(second), time.Second); err == nil {
		h.t.Error("VLAN 7 reaches who has none")
	}
	h.must("bin/patchbay", "port", "set", "b", "--vlan", "7")
	h.reaches(a, second)
	if err := a.Ping(netip.MustParseAddr(gateway), time.Second); err == nil {
		h.t.Error("VLAN 7 reaches the outside, which has none")
	}
	h.cni("DEL", "a", "require")
	h.cni("DEL", "b", "require")
	h.cni("ADD", "a", "require") // and nothing is left of that
	h.reaches(a, gateway)
	h.cni("DEL", "a", "require")
	h.free()
}

// address is that of a container's eth0.
func (h *vfHost) address(n *host.Netns) string {
	h.t.Helper()
	out, err := n.Run("ip", "-4", "-o", "addr", "show", "dev", "eth0")
	ok(h.t, err)
	_, rest, _ := strings.Cut(out, " inet ")
	addr, _, _ := strings.Cut(rest, "/")
	return addr
}

func status(h *vfHost) {
	a := h.netns("a")
	h.cni("ADD", "a", "require")
	h.says("not the switch", "bin/patchbay", "port", "stats", "a")
	from := h.d.Lines()
	h.must("bin/patchbay", "switch", "set", "wan", "--mtu", "1400")
	h.awaits(from, "offload given", port("a"))
	h.says("the NIC refused: queue pairs, moderation and MTU are set when the port is attached anew", "bin/patchbay", "port", "show", "a")
	h.mtu(a, 1500)
	h.reaches(a, gateway)
	h.cni("DEL", "a", "require")
	h.cni("ADD", "a", "require")
	h.mtu(a, 1400)
	h.cni("DEL", "a", "require")
	h.must("bin/patchbay", "switch", "set", "wan", "--mtu", "1500")
	h.cni("ADD", "a", "require")
	h.mtu(a, 1500)
	h.reaches(a, gateway)
	h.cni("DEL", "a", "require")
	h.free()
}

// mtu fails unless the container's eth0 has it.
func (h *vfHost) mtu(n *host.Netns, want int) {
	h.t.Helper()
	links, err := n.Links()
	ok(h.t, err)
	defer links.Close()
	eth0, err := links.LinkByName("eth0")
	ok(h.t, err)
	if got := eth0.Attrs().MTU; got != want {
		h.t.Errorf("MTU %d, want %d", got, want)
	}
}

// A VF whose container's namespace ends comes home, and the next owner finds nothing of it.
func namespaceEnds(h *vfHost) {
	a := h.netns("a")
	h.cni("ADD", "a", "require")
	for _, argv := range [][]string{{"addr", "add", "10.99.0.1/24", "dev", "eth0"}, {"link", "set", "eth0", "promisc", "on"}} {
		_, err := a.Run(append([]string{"ip"}, argv...)...)
		ok(h.t, err)
	}
	h.must("bin/patchbay", "port", "set", "a", "--vlan", "7")
	ok(h.t, a.Close())
	h.must("bin/patchbay", "gc")
	h.free()
	for _, name := range []string{"b", "c"} { // both VFs
		n := h.netns(name)
		h.cni("ADD", name, "require")
		h.reaches(n, gateway)
		if out, err := n.Run("ip", "addr", "show", "dev", "eth0"); err != nil || strings.Contains(out, "10.99.") || strings.Contains(out, "PROMISC") {
			h.t.Errorf("%s, %v", out, err)
		}
	}
	h.cni("DEL", "b", "require")
	h.cni("DEL", "c", "require")
	h.free()
}
