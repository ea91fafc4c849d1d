package libvirt_test

import (
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
	"github.com/patchbay-net/patchbay/libvirt-hook/network"
)

// TestSRIOVDefinitions: libvirt takes what `patchbay libvirt network|interface --sriov` write, by
// its schema and by its own rules for teams.
func TestSRIOVDefinitions(t *testing.T) {
	eachVersion(t, func(t *testing.T, v machine.Version) {
		m := newMachines(t, v, "a")[0]
		ok(t, m.Start())
		pool, err := network.Pool("wan-sriov", "eth9")
		ok(t, err)
		_, err = m.VirshXML(pool, "net-define", "--validate")
		ok(t, err)
		mac, err := vswitch.ParseMAC(mac1)
		ok(t, err)
		team, err := domain.Interface{MAC: mac, Network: "wan", Alias: "ua-db", Model: "virtio", VFs: "wan-sriov", VLAN: 10}.Write()
		ok(t, err)
		d, err := m.Define(machine.Definition{Name: "vm1", Interfaces: team})
		ok(t, err)
		xml, err := m.Virsh("dumpxml", d.Name)
		ok(t, err)
		for _, want := range []string{"<teaming type='persistent'/>", "<teaming type='transient' persistent='ua-db'/>", "<tag id='10'/>"} {
			if !strings.Contains(xml, want) {
				t.Errorf("libvirt has made something else of it, without %s:\n%s", want, xml)
			}
		}
		_, err = m.VirshXML(xml, "define", "--validate")
		ok(t, err)
	})
}
