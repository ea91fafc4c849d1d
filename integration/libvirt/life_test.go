package libvirt_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
)

// TestLife is a virtual machine's life on a switch with a container: started, unplugged,
// plugged in again, stopped. What the metadata say of an interface is in force from the first.
func TestLife(t *testing.T) { eachVersion(t, life) }

func life(t *testing.T, v machine.Version) {
	s := newSite(t, v)
	s.patchbay("switch", "add", "lan", "--type", "private")
	s.network("lan")
	c := s.container("lan", "c1", "10.7.0.9")
	d := s.boot("vm1", nic("lan", "ua-one", mac1), nic("lan", "ua-two", mac2))
	ask(t, d, "address", mac1, "10.7.0.1/24")
	reaches(t, d, "10.7.0.9")
	pings(t, c.Netns, "10.7.0.1")

	p := s.portOf(mac1)
	if p.Owner.Name != "vm1" || p.VM.Alias != "ua-one" || p.VM.Stage != vswitch.VMActive || !strings.HasPrefix(p.Netdev, "vnet") {
		t.Errorf("port: %+v", p)
	}
	_, err := s.VirshXML(nic("lan", "ua-two", mac2), "detach-device", "vm1")
	ok(t, err)
	s.settled("unplugged", func(all []vswitch.Port) bool { return len(all) == 1 })
	s.takeAway("vm1", "ua-hot", 50)
	n := s.daemon.Lines()
	_, err = s.VirshXML(nic("lan", "ua-hot", mac3), "attach-device", "vm1")
	ok(t, err)
	s.settled("plugged", func(all []vswitch.Port) bool {
		if len(all) < 2 || !s.portOf(mac3).Plugged() {
			return false
		}
		if p := s.portOf(mac3); p.Policy.StormLimit != 50 || p.VM.Alias != "ua-hot" {
			t.Errorf("plugged in without what metadata take away: %+v", p)
		}
		return true
	})
	if log := strings.Split(s.daemon.Log(), "\n")[n:]; slices.ContainsFunc(log, func(line string) bool { return strings.Contains(line, "msg=bound ") }) {
		t.Error("bound by its tap alone, before libvirt has said how it is defined")
	}
	ask(t, d, "await", mac3, "30s")
	ask(t, d, "address", mac3, "10.7.0.3/24")
	pings(t, c.Netns, "10.7.0.3")
	s.takeAway("vm1", "ua-hot", 40)
	s.settled("metadata are set", func([]vswitch.Port) bool { return s.portOf(mac3).Policy.StormLimit == 40 })
	s.virsh("destroy", "vm1")
	if left := s.vmPorts(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

// takeAway has the metadata of a virtual machine that runs limit an interface's broadcasts.
func (s *site) takeAway(name, alias string, stormLimit int) {
	s.t.Helper()
	wish := domain.BareWish(alias, domain.Wish{Narrowing: vswitch.Narrowing{Policy: vswitch.PolicyChange{StormLimit: &stormLimit}}})
	s.virsh("metadata", name, "--uri", domain.Namespace, "--key", "patchbay", "--set", wish, "--live")
}

// TestDefine: patchbayd has libvirt define a switch's network and start it, and tells when a
// network that runs is behind its switch.
func TestDefine(t *testing.T) {
	s := newSite(t, machine.Libvirt9)
	s.followed(0)
	s.patchbay("switch", "add", "lan", "--type", "private")
	for range 2 {
		if out := s.patchbay("libvirt", "network", "lan", "--define"); !strings.Contains(out, "is defined and runs") {
			t.Error(out)
		}
	}
	if info := s.virsh("net-info", "lan"); strings.Count(info, "yes") != 3 { // active, persistent, started with libvirt
		t.Errorf("defined:\n%s", info)
	}
	s.patchbay("switch", "profile", "set", "lan", "web", "--dhcp-guard", "--default")
	const behind = "runs as it was before"
	if out := s.patchbay("libvirt", "network", "lan", "--define"); !strings.Contains(out, behind) {
		t.Errorf("a network that runs without its new profile: %s", out)
	}
	s.virsh("net-destroy", "lan")
	if out := s.patchbay("libvirt", "network", "lan", "--define"); strings.Contains(out, behind) {
		t.Errorf("started anew: %s", out)
	}
	d := s.boot("vm1", nic("lan/web", "ua-one", mac1))
	ask(t, d, "address", mac1, "10.7.0.1/24")
	if p := s.portOf(mac1); !p.Policy.DHCPGuard {
		t.Errorf("port %+v", p)
	}
}
