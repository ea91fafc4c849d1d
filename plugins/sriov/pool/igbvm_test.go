package pool_test

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// A VM's VF has no driver of the host's until libvirt gives it VFIO's, is not taken while the
// VM has it open, and comes back from VFIO when the VM has ended without giving it back.
func ofVM(t *testing.T) {
	run(t, "modprobe", "vfio-pci")
	c := newCard(t, "n0")
	c.get(c.request(1))
	c.free(c.request(1))
	found := c.idle(0)
	r := c.request(1)
	r.Owner, r.VLAN = vswitch.OwnerVM, 9
	g := c.get(r)
	at := "/sys/bus/pci/devices/" + g.VF.PCIAddr
	if _, err := os.Readlink(at + "/driver"); g.VF.Netdev != "" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%+v has a driver: %v", g.VF, err)
	}
	run(t, "sh", "-ec", "echo vfio-pci >"+at+"/driver_override; echo "+g.VF.PCIAddr+" >/sys/bus/pci/drivers_probe")
	group := run(t, "sh", "-ec", "basename $(readlink "+at+"/iommu_group)")
	vm, err := os.OpenFile("/dev/vfio/"+group, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if again := c.get(r); *again.VF != *g.VF {
		t.Errorf("%+v became %+v", g.VF, again.VF)
	}
	if err := c.Release(t.Context(), r.Ref, r.Generation); !errors.Is(err, vswitch.InUse) {
		t.Errorf("a VM has it, and its release: %v", err)
	}
	if all, err := c.Grants(t.Context()); err != nil || len(all) != 1 || c.holds(0).VLAN != 9 {
		t.Errorf("%+v, %v, %+v", all, err, c.holds(0))
	}
	if err := vm.Close(); err != nil {
		t.Fatal(err)
	}
	c.free(r)
	if text := run(t, "sh", "-ec", "basename $(readlink "+at+"/driver); cat "+at+"/driver_override"); text != "igbvf\n(null)" {
		t.Errorf("driver and override: %s", text)
	}
	if diff := cmp.Diff(found, c.idle(0)); diff != "" {
		t.Error(diff)
	}
}

// A container's VF that libvirt gave to a VM is left to the VM, and the container gets another
// one. When the VM has ended, it is as it was before the container had it, and not as libvirt
// found it.
func seizedByVM(t *testing.T) {
	run(t, "modprobe", "vfio-pci")
	c := newCard(t, "n0")
	c.get(c.request(2)) // it has VF 0
	found := c.idle(1)
	netns(t, "one")
	r := c.request(1)
	g := c.get(r)
	into(t, g.VF.Netdev, "one", "10.4.0.1/24")
	at := "/sys/bus/pci/devices/" + g.VF.PCIAddr
	events := c.events()
	run(t, "sh", "-ec", "echo vfio-pci >"+at+"/driver_override; echo "+g.VF.PCIAddr+" >"+at+"/driver/unbind; echo "+g.VF.PCIAddr+" >/sys/bus/pci/drivers_probe")
	c.await(events, sdk.GrantLost, r.Ref)
	vm, err := os.OpenFile("/dev/vfio/"+run(t, "sh", "-ec", "basename $(readlink "+at+"/iommu_group)"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "ip", "link", "set", "n0", "vf", "1", "mac", "02:00:00:00:99:99") // as libvirt does
	again := c.get(r)
	if again.VF.Index != 2 || again.VF.Netdev == "" {
		t.Errorf("%+v", again.VF)
	}
	c.capability("one is a VM's", func(n sdk.NIC) bool { return n.Capabilities.SRIOV.Foreign == 1 })
	if text := run(t, "sh", "-ec", "basename $(readlink "+at+"/driver)"); text != "vfio-pci" || c.holds(1).MAC.String() != "02:00:00:00:99:99" {
		t.Errorf("the VM's has driver %s, %+v", text, c.holds(1))
	}
	run(t, "ip", "link", "set", "n0", "vf", "1", "mac", r.MAC.String()) // as it was when libvirt took it
	if err := vm.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, "sh", "-ec", "echo >"+at+"/driver_override; echo "+g.VF.PCIAddr+" >"+at+"/driver/unbind; echo "+g.VF.PCIAddr+" >/sys/bus/pci/drivers_probe")
	c.until("it is brought back", func() bool {
		vf, err := c.host.VF(c.addr, 1)
		return err == nil && vf.Netdev() != "" && c.holds(1).MAC != r.MAC
	})
	if diff := cmp.Diff(found, c.idle(1)); diff != "" {
		t.Error(diff)
	}
	c.free(r)
	c.free(c.request(2))
}
