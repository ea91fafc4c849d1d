package libvirt_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// TestVirtInstall: what docs/libvirt.md begins with, an address of the pool and a machine
// that virt-install makes; and one that it may not make.
func TestVirtInstall(t *testing.T) {
	s := newSite(t, machine.Libvirt9)
	ok(t, s.WriteFile("/etc/host.yaml", profiles, 0o644))
	s.patchbay("apply", "-f", "/etc/host.yaml")
	s.followed(0)
	s.patchbay("libvirt", "network", "lan", "--define")
	s.container("lan", "c1", "10.7.0.9")
	mac := strings.TrimSpace(s.patchbay("libvirt", "mac", "lan", "--domain", "web01"))
	d, err := s.Install("web01", "network=lan,portgroup=guarded,mac="+mac)
	ok(t, err)
	ask(t, d, "address", mac, "10.7.0.1/24")
	reaches(t, d, "10.7.0.9")
	if p := s.portOf(mac); p.Owner.Name != "web01" || !p.Policy.DHCPGuard || p.VM.Stage != vswitch.VMActive {
		t.Errorf("port: %+v", p)
	}

	taken := fmt.Sprint(s.macOf("c1"))
	if _, err := s.Install("web02", "network=lan,mac="+taken); err == nil || !strings.Contains(err.Error(), taken) || !strings.Contains(err.Error(), "patchbay: ") {
		t.Errorf("with the address of a container: %v", err)
	}
	if list := s.virsh("list", "--all", "--name"); strings.TrimSpace(list) != "web01" {
		t.Errorf("there is %q", list)
	}
	s.settled("the refused one is gone", func(all []vswitch.Port) bool { return len(all) == 1 })
	reaches(t, d, "10.7.0.9")
}

// TestRestoreRefused: a saved machine whose port cannot be says why, keeps what was saved,
// and goes on from there when it can.
func TestRestoreRefused(t *testing.T) {
	eachVersion(t, func(t *testing.T, v machine.Version) {
		s, d := pair(t, v)
		network := s.virsh("net-dumpxml", "lan", "--inactive")
		without := strings.NewReplacer("name='guarded'", "name='unguarded'", `name="guarded"`, `name="unguarded"`).Replace(network)
		redefine := func(xml string) {
			t.Helper()
			s.virsh("net-destroy", "lan")
			_, err := s.VirshXML(xml, "net-define")
			ok(t, err)
			s.virsh("net-start", "lan")
		}
		saved := s.Dir + "/vm1.save"
		for name, way := range map[string]struct{ save, restore []string }{
			"save":        {[]string{"save", "vm1", saved}, []string{"restore", saved}},
			"managedsave": {[]string{"managedsave", "vm1"}, []string{"start", "vm1"}},
		} {
			ask(t, d, "vlan", mac1, "77") // which tells this boot from another
			s.virsh(way.save...)
			s.empty(name)
			redefine(without)
			for range 2 { // it is still there after the first try
				if _, err := s.Virsh(way.restore...); err == nil || !strings.Contains(err.Error(), "guarded") || !strings.Contains(err.Error(), "patchbay: ") {
					t.Errorf("%s: %v", name, err)
				}
				s.empty(name + ", refused")
			}
			if state := s.virsh("domstate", "vm1"); !strings.Contains(state, "shut off") {
				t.Errorf("%s: it is %s", name, state)
			}
			redefine(network)
			s.virsh(way.restore...)
			s.whole(d)
			if links := ask(t, d, "links"); !strings.Contains(links, "eth0.77") {
				t.Errorf("%s: it has begun anew: %s", name, links)
			}
			s.virsh("destroy", "vm1")
			ok(t, s.Boot(d))
			ask(t, d, "address", mac1, "10.7.0.1/24")
		}
	})
}
