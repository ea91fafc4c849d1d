package pool_test

import (
	"errors"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// A NIC that is reset behind its drivers keeps what it says of its VFs, but they are dead:
// ports are told so, and work when they are ensured anew.
func reset(t *testing.T) {
	c := newCard(t, "n0")
	netns(t, "near")
	netns(t, "far")
	run(t, "ip", "link", "set", "n1", "netns", "far", "up")
	run(t, "ip", "-n", "far", "address", "add", "10.3.0.2/24", "dev", "n1")
	r := c.request(1)
	g := c.get(r)
	into(t, g.VF.Netdev, "near", "10.3.0.1/24")
	reaches(t, "near", "10.3.0.2")
	events := c.events()
	run(t, "sh", "-c", "echo 1 >/sys/class/net/n0/device/reset")
	run(t, "ip", "link", "set", "n0", "down")
	c.capability("it is down", func(n sdk.NIC) bool { return !n.Link })
	run(t, "ip", "link", "set", "n0", "up")
	c.capability("it is up", func(n sdk.NIC) bool { return n.Link })
	c.await(events, sdk.GrantLost, r.Ref)
	if all, err := c.Grants(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	again := c.get(r)
	if again.VF.PCIAddr != g.VF.PCIAddr || again.VF.Netdev == "" {
		t.Errorf("%+v became %+v", g.VF, again.VF)
	}
	into(t, again.VF.Netdev, "near", "10.3.0.1/24")
	reaches(t, "near", "10.3.0.2")
	c.free(r)
	run(t, "ip", "-n", "far", "link", "set", "n1", "netns", "1")
}

// A driver that lets go of its NIC takes all VFs along: nobody holds any, and says so, until
// the ports are ensured anew.
func rebind(t *testing.T) {
	c := newCard(t, "n0")
	one, two := c.request(1), c.request(2)
	g := c.get(one)
	c.get(two)
	netns(t, "near")
	into(t, g.VF.Netdev, "near", "10.3.0.1/24")
	events := c.events()
	run(t, "sh", "-c", "echo "+c.addr+" >/sys/bus/pci/drivers/igb/unbind")
	c.await(events, sdk.NICReset, sdk.Ref{})
	c.await(events, sdk.GrantLost, one.Ref)
	c.capability("without a driver", func(n sdk.NIC) bool {
		return n.ID == c.addr && n.Netdev == "" && n.Driver == "" && n.Capabilities.SRIOV.Missing == vswitch.NoDriverSupport
	})
	if all, err := c.Grants(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("without a driver there are %+v, %v", all, err)
	}
	c.denied(one, vswitch.NoDriverSupport)
	run(t, "sh", "-c", "echo "+c.addr+" >/sys/bus/pci/drivers/igb/bind")
	name := run(t, "sh", "-c", "ls /sys/bus/pci/devices/"+c.addr+"/net")
	run(t, "ip", "link", "set", name, "name", "n0", "up")
	c.capability("with its driver", func(n sdk.NIC) bool {
		return n.Netdev == "n0" && n.Capabilities.SRIOV == vswitch.Capability{Capacity: 3}
	})
	again := c.get(one)
	into(t, again.VF.Netdev, "near", "10.3.0.1/24")
	c.free(two) // it was lost, and is not asked for again
	netns(t, "far")
	run(t, "ip", "link", "set", "n1", "netns", "far", "up")
	run(t, "ip", "-n", "far", "address", "add", "10.3.0.2/24", "dev", "n1")
	reaches(t, "near", "10.3.0.2")
	if all, err := c.Grants(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	run(t, "ip", "-n", "far", "link", "set", "n1", "netns", "1")

	events = c.events() // and out of its slot
	run(t, "sh", "-c", "echo 1 >/sys/bus/pci/devices/"+c.addr+"/remove")
	c.await(events, sdk.NICReset, sdk.Ref{})
	c.capability("it is gone", func(n sdk.NIC) bool { return n.ID == "" })
	if _, err := c.Ensure(t.Context(), one); !errors.Is(err, vswitch.NotFound) {
		t.Errorf("%v", err)
	}
	c.free(one)
	run(t, "sh", "-c", "echo 1 >/sys/bus/pci/rescan")
	c.capability("it is back", func(n sdk.NIC) bool { return n.Netdev != "" })
	run(t, "ip", "link", "set", run(t, "sh", "-c", "ls /sys/bus/pci/devices/"+c.addr+"/net"), "name", "n0", "up")
	if g := c.get(one); g.VF.Netdev == "" {
		t.Errorf("%+v", g)
	}
	c.free(one)
}
