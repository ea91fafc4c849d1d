package pool_test

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
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
