package pool_test

import (
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// A VF whose netdev is still with its owner comes back, and the next port gets it like new.
func away(t *testing.T) {
	c := newCard(t, "n0")
	netns(t, "one")
	r := c.request(1)
	g := c.get(r)
	spoil(t, g.VF.Netdev)
	into(t, g.VF.Netdev, "one", "10.2.0.1/24")
	if all, err := c.Grants(t.Context()); err != nil || len(all) != 1 || all[0].VF.Netdev != "" {
		t.Errorf("%+v, %v", all, err)
	}
	c.free(r)
	run(t, "ip", "-n", "one", "link", "show", "lo")
	if links := run(t, "ip", "-n", "one", "-o", "link"); len(links) == 0 || strings.Contains(links, "net1") {
		t.Errorf("the owner still has it: %s", links)
	}
	next := c.get(c.request(2))
	if next.VF.PCIAddr != g.VF.PCIAddr || next.VF.Netdev == "" {
		t.Fatalf("%+v, want %s", next.VF, g.VF.PCIAddr)
	}
	if text := run(t, "ip", "-d", "address", "show", "dev", next.VF.Netdev); strings.Contains(text, "PROMISC") || strings.Contains(text, "inet ") || !strings.Contains(text, "mtu 1500") {
		t.Error(text)
	}
	c.free(c.request(2))
}

// A namespace that ends with a VF in it loses the VF to nobody else.
func namespaceEnds(t *testing.T) {
	c := newCard(t, "n0")
	netns(t, "short")
	r := c.request(1)
	g := c.get(r)
	into(t, g.VF.Netdev, "short", "10.2.0.1/24")
	c.capability("its netdev is away", func(n sdk.NIC) bool { return n.Capabilities.SRIOV.Foreign == 0 })
	events := c.events()
	run(t, "ip", "netns", "del", "short")
	c.await(events, sdk.GrantChanged, r.Ref)
	if again := c.get(r); again.VF.PCIAddr != g.VF.PCIAddr || again.VF.Netdev == "" {
		t.Errorf("%+v became %+v", g.VF, again.VF)
	}
	r.Generation++
	r.Netns = "/run/netns/next"
	again := c.get(r)
	if text := run(t, "ip", "-d", "address", "show", "dev", again.VF.Netdev); strings.Contains(text, "net1") || strings.Contains(text, "inet ") || strings.Contains(text, ",UP") {
		t.Error(text)
	}
	c.free(r)
}

// VFs that others use are theirs, whoever made them.
func foreign(t *testing.T) {
	c := newCard(t, "n0")
	c.get(c.request(1))
	c.free(c.request(1))
	netns(t, "theirs")
	theirs := run(t, "sh", "-c", "ls /sys/class/net/n0/device/virtfn1/net")
	run(t, "ip", "link", "set", theirs, "netns", "theirs")
	c.capability("one is in somebody's namespace", func(n sdk.NIC) bool {
		return n.Capabilities.SRIOV.Foreign == 1 && n.Capabilities.SRIOV.Capacity == 3
	})
	for n := range 2 {
		if g := c.get(c.request(n)); g.VF.Index == 1 {
			t.Errorf("port %d has VF %+v of others", n, g.VF)
		}
	}
	c.denied(c.request(2), vswitch.NoFreeVF)
	run(t, "ip", "-n", "theirs", "link", "show", theirs)
	run(t, "ip", "netns", "del", "theirs")
	c.capability("it came back", func(n sdk.NIC) bool { return n.Capabilities.SRIOV.Foreign == 0 })
	for n := range 2 {
		c.free(c.request(n))
	}

	c.get(c.request(1)) // and made anew by somebody else, as many as there were
	noVFs(t, "n0")
	run(t, "sh", "-c", "echo 3 >/sys/class/net/n0/device/sriov_numvfs")
	for _, vf := range []string{"virtfn2", "virtfn0"} {
		theirs = run(t, "sh", "-c", "ls /sys/class/net/n0/device/"+vf+"/net")
		run(t, "ip", "link", "set", theirs, "up")
	}
	c.free(c.request(1)) // who has a VF in the place of the port's keeps it
	if text := run(t, "ip", "link", "show", theirs); !strings.Contains(text, ",UP") {
		t.Error(text)
	}
	c.capability("two are up", func(n sdk.NIC) bool {
		return n.Capabilities.SRIOV.Foreign == 2 && n.Capabilities.SRIOV.Capacity == 3
	})
	if g := c.get(c.request(1)); g.VF.Index != 1 {
		t.Errorf("%+v", g.VF)
	}
	c.denied(c.request(2), vswitch.NoFreeVF)
	c.free(c.request(1))
	noVFs(t, "n0")
}
