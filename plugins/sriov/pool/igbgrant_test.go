package pool_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/sdk"
)

// VFs are made when one is needed; who comes when all are held is told so.
func exhaustion(t *testing.T) {
	noVFs(t, "n0")
	c := newCard(t, "n0")
	can := vswitch.Capability{Capacity: 3}
	c.capability("before any VF is made", func(n sdk.NIC) bool {
		return n.ID == c.addr && n.Netdev == "n0" && n.Driver == "igb" && n.Model == "8086:10c9" && n.Capabilities.SRIOV == can
	})
	if n := run(t, "cat", "/sys/class/net/n0/device/sriov_numvfs"); n != "0" {
		t.Errorf("%s VFs were made for nobody", n)
	}
	seen := map[string]bool{}
	for n := range 3 {
		seen[c.get(c.request(n)).VF.PCIAddr] = true
	}
	if len(seen) != 3 {
		t.Errorf("three ports have %v", seen)
	}
	can.Moderation = true
	c.capability("with all held", func(n sdk.NIC) bool { return n.Capabilities.SRIOV == can })
	c.denied(c.request(3), vswitch.NoFreeVF)
	c.free(c.request(1))
	twin := c.request(3)
	twin.MAC = c.request(0).MAC
	c.denied(twin, vswitch.Refused)
	run(t, "ip", "link", "set", "n0", "vf", "1", "mac", "02:00:00:00:00:77") // as somebody else may
	twin.MAC = vswitch.MAC{2, 0, 0, 0, 0, 0x77}
	c.denied(twin, vswitch.Refused)
	twin.MAC = vswitch.MAC{0x52, 0x54, 0, 0, 1, 0} // the NIC's own
	c.denied(twin, vswitch.Refused)
	run(t, "ip", "link", "set", "n0", "vf", "1", "mac", "00:00:00:00:00:00")
	if g := c.get(c.request(3)); g.VF.Index != 1 {
		t.Errorf("VF %d was free, want 1", g.VF.Index)
	}
	for _, n := range []int{0, 2, 3} {
		c.free(c.request(n))
	}
}

// What a port may do is what the NIC says of its VF, and what changes takes effect while the
// VF works.
func settings(t *testing.T) {
	c := newCard(t, "n0")
	r := c.request(1)
	r.VLAN, r.MaxOut, r.MTU, r.QueuePairs, r.Moderation = 7, 100_500_000, 1400, 4, vswitch.ModerationHigh
	g := c.get(r)
	want := nic.Settings{MAC: r.MAC, VLAN: 7, VLANProto: 0x8100, MaxRate: 101, SpoofChk: true}
	if diff := cmp.Diff(want, c.holds(g.VF.Index)); diff != "" {
		t.Error(diff)
	}
	if g.Amount != 1 || g.Reason != vswitch.LimitReached {
		t.Errorf("igbvf has one queue pair: %+v", g)
	}
	d, err := c.host.Netdev(g.VF.Netdev)
	if err != nil || d.MTU != 1400 {
		t.Errorf("%+v, %v", d, err)
	}
	if micros, _, err := c.host.Moderation(d); micros != nic.Micros(r.Moderation) {
		t.Errorf("events are gathered for %d us, %v", micros, err)
	}
	r.Generation++
	r.VLAN, r.MaxOut, r.MACSpoofing = 0, 0, true
	if again := c.get(r); again.VF.Netdev != g.VF.Netdev || again.Generation != 2 {
		t.Errorf("%+v became %+v", g, again)
	}
	want = nic.Settings{MAC: r.MAC, Trust: true}
	if diff := cmp.Diff(want, c.holds(g.VF.Index)); diff != "" {
		t.Error(diff)
	}
	if now, err := c.host.Netdev(g.VF.Netdev); err != nil || now.Index != d.Index {
		t.Errorf("new settings made a new netdev: %+v, %v", now, err)
	}
	r.Generation++
	r.MaxOut = 5_000_000_000 // more than the link has
	c.denied(r, vswitch.Refused)
	if diff := cmp.Diff(want, c.holds(g.VF.Index)); diff != "" {
		t.Errorf("after what was refused: %s", diff)
	}
	r.MaxOut, r.Moderation = 0, vswitch.ModerationAdaptive
	if g := c.get(r); g.Reason != vswitch.ModerationFixed {
		t.Errorf("igbvf has no adaptive moderation: %+v", g)
	}
	c.free(r)
}

// spoil does what owners do to netdevs.
func spoil(t *testing.T, netdev string) {
	t.Helper()
	run(t, "ip", "address", "add", "192.0.2.1/24", "dev", netdev)
	run(t, "ip", "link", "set", netdev, "up", "promisc", "on", "allmulticast", "on", "mtu", "1300")
	run(t, "ethtool", "-C", netdev, "rx-usecs", "77")
	run(t, "tc", "qdisc", "replace", "dev", netdev, "root", "handle", "77:", "pfifo")
}

// The next owner, and the host, get a VF of which nobody can tell who had it.
func nothingLeft(t *testing.T) {
	c := newCard(t, "n0")
	r := c.request(1)
	first := c.get(r).VF
	c.free(r)
	found := c.idle(first.Index)
	look := func() string {
		text := run(t, "sh", "-c", "n=$(ls /sys/bus/pci/devices/"+first.PCIAddr+"/net); echo $n; ip address show dev $n; tc qdisc show dev $n; ethtool -c $n; ethtool -k $n")
		var plain []string
		for line := range strings.Lines(text) { // its number and the MAC that its driver made up are others each time
			if !strings.Contains(line, "link/ether") {
				plain = append(plain, strings.TrimLeft(line, "0123456789"))
			}
		}
		return strings.Join(plain, "")
	}
	before := look()
	r.VLAN, r.MaxOut, r.MACSpoofing = 5, 50_000_000, true
	owned := c.get(r)
	asGiven := look()
	spoil(t, owned.VF.Netdev)
	r.Generation++
	r.Netns = "/run/netns/another"
	r.MaxOut, r.VLAN = 0, 0
	next := c.get(r) // another owner
	if next.VF.PCIAddr != first.PCIAddr {
		t.Fatalf("VF %+v, want %+v", next.VF, first)
	}
	if diff := cmp.Diff(asGiven, look()); diff != "" {
		t.Errorf("what the next owner gets: %s", diff)
	}
	spoil(t, next.VF.Netdev)
	run(t, "ip", "link", "set", next.VF.Netdev, "down", "name", "stolen")
	c.free(r)
	if diff := cmp.Diff(before, look()); diff != "" {
		t.Errorf("what comes back: %s", diff)
	}
	if diff := cmp.Diff(found, c.idle(first.Index)); diff != "" {
		t.Errorf("what the NIC holds: %s", diff)
	}
}

// VFs of one NIC, and what is on its wire, meet in their VLAN only; it changes while they work.
func isolation(t *testing.T) {
	c := newCard(t, "n0")
	netns(t, "red")
	netns(t, "blue")
	red, blue := c.request(1), c.request(2)
	red.VLAN, blue.VLAN = 10, 10
	into(t, c.get(red).VF.Netdev, "red", "10.1.0.1/24")
	into(t, c.get(blue).VF.Netdev, "blue", "10.1.0.2/24")
	reaches(t, "red", "10.1.0.2")
	blue.Generation++
	blue.VLAN = 20
	if g := c.get(blue); g.VF.Netdev != "" {
		t.Errorf("its netdev is in a namespace: %+v", g.VF)
	}
	apart(t, "red", "10.1.0.2")
	blue.Generation++
	blue.VLAN = 10
	c.get(blue)
	reaches(t, "red", "10.1.0.2")
	c.free(red)
	c.free(blue)
}
