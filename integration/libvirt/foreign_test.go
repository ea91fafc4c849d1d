package libvirt_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// TestLXC: a container of libvirt's on a switch, beside one of a container runtime.
func TestLXC(t *testing.T) {
	s := newSite(t, machine.Libvirt9)
	s.patchbay("switch", "add", "lan", "--type", "private")
	s.network("lan")
	lxc := func(args ...string) {
		t.Helper()
		_, err := s.Run(append([]string{"/usr/bin/virsh", "-q", "-c", "lxc:///system"}, args...)...)
		ok(t, err)
	}
	const xml = `<domain type='lxc'><name>ct1</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type>exe</type><init>/usr/bin/busybox</init><initarg>sleep</initarg><initarg>1000</initarg></os>
<devices><emulator>/usr/lib/libvirt/libvirt_lxc</emulator><console type='pty'/>`
	ok(t, s.WriteFile("/etc/ct1.xml", xml+nic("lan", "ua-one", mac1)+"</devices></domain>", 0o644))
	lxc("define", "/etc/ct1.xml")
	lxc("start", "ct1")
	s.settled("it runs", func(all []vswitch.Port) bool { return len(all) == 1 && all[0].Plugged() && all[0].MAC.String() == mac1 })
	_, err := s.daemon.Await(0, patience, "a domain carries what its ports are like", "ct1")
	ok(t, err)
	lxc("destroy", "ct1")
	s.empty("destroyed")
	lxc("undefine", "ct1")
}

// TestEthernet: a tap that Patchbay makes, of no network of libvirt's.
func TestEthernet(t *testing.T) {
	s := newSite(t, machine.Libvirt9)
	s.patchbay("switch", "add", "lan", "--type", "private")
	c := s.container("lan", "c1", "10.7.0.9")
	d, err := s.Define(machine.Definition{
		Name:       "vm1",
		Interfaces: "<interface type='ethernet'><target dev='pt-vm1' managed='no'/><mac address='" + mac1 + "'/><model type='virtio'/><alias name='ua-one'/></interface>",
		Metadata:   "<p:ports xmlns:p='https://patchbay.net/xmlns/libvirt/domain/1.0'><p:port alias='ua-one' switch='lan'/></p:ports>",
	})
	ok(t, err)
	ok(t, s.Boot(d))
	ask(t, d, "address", mac1, "10.7.0.1/24")
	reaches(t, d, "10.7.0.9")
	pings(t, c.Netns, "10.7.0.1")
	s.restart(s.Stop)
	reaches(t, d, "10.7.0.9")
	s.virsh("destroy", "vm1")
	s.empty("destroyed")
}

// TestForeign: machines and networks that are nothing to us start and stop as if we were not
// there, with a patchbayd that is stopped in the middle of everything.
func TestForeign(t *testing.T) {
	s := newSite(t, machine.Libvirt9)
	_, err := s.VirshXML("<network><name>theirs</name><forward mode='bridge'/><bridge name='br0'/></network>", "net-define")
	ok(t, err)
	_, err = s.Run("ip", "link", "add", "br0", "type", "bridge")
	ok(t, err)
	ok(t, s.daemon.Process.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { ok(t, s.daemon.Process.Signal(syscall.SIGCONT)) })
	s.virsh("net-start", "theirs")
	d := s.boot("vm1", nic("theirs", "ua-one", mac1))
	out, err := s.Run("ip", "-o", "link", "show", "master", "br0")
	if err != nil || !strings.Contains(out, "vnet") {
		t.Errorf("its bridge has %q, %v", out, err)
	}
	s.virsh("destroy", d.Name)
	s.virsh("net-destroy", "theirs")
	var left []os.DirEntry
	err = s.Do(func() (err error) { left, err = os.ReadDir("/run/patchbay/libvirt"); return err })
	if len(left) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("noted as ours: %v, %v", left, err)
	}
}
