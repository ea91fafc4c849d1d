package libvirt_test

import (
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// TestLab tries the laboratory itself: two libvirtds side by side, a virtual machine on
// a plain bridge, and its way from one to the other.
func TestLab(t *testing.T) {
	for _, v := range []machine.Version{machine.Libvirt9, machine.Libvirt11} {
		t.Run(string(v), func(t *testing.T) {
			all := newMachines(t, v, "a")
			a := all[0]
			ok(t, a.Start())
			_, err := a.Run("ip", "link", "add", "br0", "type", "bridge")
			ok(t, err)
			_, err = a.Run("ip", "link", "set", "br0", "up")
			ok(t, err)
			d, err := a.Define(machine.Definition{Name: "vm1", Interfaces: "<interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface>"})
			ok(t, err)
			start := time.Now()
			ok(t, a.Boot(d))
			t.Logf("booted in %v", time.Since(start))
			links, err := d.Ask("links")
			ok(t, err)
			if !strings.Contains(links, "eth0 52:54:00:") {
				t.Errorf("links: %q", links)
			}
		})
	}
}
