package libvirt_test

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// pair is a site with a virtual machine on switch lan, of the guarded profile, a second
// switch, and a container to talk to.
func pair(t *testing.T, v machine.Version) (s *site, d *machine.Domain) {
	t.Helper()
	s = newSite(t, v)
	ok(t, s.WriteFile("/etc/host.yaml", profiles, 0o644))
	s.patchbay("apply", "-f", "/etc/host.yaml")
	s.patchbay("switch", "add", "dmz", "--type", "private")
	s.patchbay("switch", "profile", "set", "dmz", "guarded", "--storm-limit", "4321")
	s.network("lan")
	s.network("dmz")
	s.container("lan", "c1", "10.7.0.9")
	d = s.boot("vm1", nic("lan/guarded", "ua-one", mac1))
	ask(t, d, "address", mac1, "10.7.0.1/24")
	reaches(t, d, "10.7.0.9")
	return s, d
}

// whole fails the test unless the machine has its one port with all that it was granted and
// denied, and is reached.
func (s *site) whole(d *machine.Domain) {
	s.t.Helper()
	all := s.vmPorts()
	if len(all) != 1 {
		s.t.Fatalf("ports: %+v", all)
	}
	p := all[0]
	if p.Switch != "lan" || p.MAC.String() != mac1 || !p.Policy.DHCPGuard || !p.Plugged() || p.VM.Stage == vswitch.VMReserved {
		s.t.Errorf("port: %+v", p)
	}
	if out, err := s.Patchbay("port", "show", p.ID, "-o", "json"); err != nil || strings.Contains(out, `"drift"`) {
		s.t.Errorf("port show: %v %s", err, out)
	}
	reaches(s.t, d, "10.7.0.9")
}

// empty waits until there is no port of a virtual machine.
func (s *site) empty(what string) {
	s.t.Helper()
	s.settled(what, func(all []vswitch.Port) bool { return len(all) == 0 })
}

// forgets waits until libvirt knows nothing of a transient domain: its port ends with the
// release hook, which is called while libvirt still removes the domain, and refuses another
// of that name.
func (s *site) forgets(name string) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); slices.Contains(strings.Fields(s.virsh("list", "--all", "--name")), name); {
		if time.Now().After(deadline) {
			s.t.Fatalf("libvirt keeps %s", name)
		}
		// There is an event, but virsh does not say since when it listens.
	}
}

// restart starts libvirtd anew and waits until patchbayd has looked at it.
func (s *site) restart(how func() error) {
	s.t.Helper()
	n := s.daemon.Lines()
	ok(s.t, how())
	ok(s.t, s.Start())
	s.followed(n)
}

func (s *site) pidOf(d *machine.Domain) int {
	s.t.Helper()
	pid, err := s.PID(d)
	ok(s.t, err)
	return pid
}

// TestLibvirtdRestarts: stopped, killed, and started again, with virtual machines that run on.
func TestLibvirtdRestarts(t *testing.T) { eachVersion(t, libvirtdRestarts) }

func libvirtdRestarts(t *testing.T, v machine.Version) {
	s, d := pair(t, v)
	before := s.portOf(mac1).ID
	for name, how := range map[string]func() error{"stopped": s.Stop, "killed": s.Kill} {
		s.restart(how)
		s.whole(d)
		if after := s.portOf(mac1).ID; after != before {
			t.Errorf("%s: port %s was %s", name, after, before)
		}
	}
	// The machine dies while libvirtd is away.
	pid := s.pidOf(d)
	ok(t, s.Stop())
	ok(t, syscall.Kill(pid, syscall.SIGKILL))
	ok(t, d.AwaitEnd(patience))
	s.empty("its tap is gone")
	s.stopDaemon()
	s.startDaemon()
	_, err := s.daemon.Await(0, patience, "libvirt is not there", "qemu:///system", "has not been started")
	ok(t, err)
	n := s.daemon.Lines()
	ok(t, s.Start())
	s.followed(n)
	s.empty("libvirtd knows it is gone")
	ok(t, s.Boot(d))
	ask(t, d, "address", mac1, "10.7.0.1/24")
	s.whole(d)
}

// TestNetworkBounces: a network is stopped and started below a machine.
func TestNetworkBounces(t *testing.T) { eachVersion(t, networkBounces) }

func networkBounces(t *testing.T, v machine.Version) {
	s, d := pair(t, v)
	s.virsh("net-destroy", "lan")
	s.whole(d)
	s.virsh("net-start", "lan")
	s.whole(d)
	s.restart(s.Stop)
	s.whole(d)
	netdev := s.portOf(mac1).Netdev
	n := s.daemon.Lines()
	_, err := s.Run("ip", "link", "set", netdev, "nomaster")
	ok(t, err)
	_, err = s.daemon.Await(n, patience, "repaired", s.portOf(mac1).ID)
	ok(t, err)
	s.whole(d)
	s.virsh("net-destroy", "lan")
	s.virsh("net-start", "lan")
	s.virsh("destroy", "vm1")
	s.empty("no port-deleted was called for it")
}

// TestUpdateDevice: a NIC goes to another network, and to another state.
func TestUpdateDevice(t *testing.T) { eachVersion(t, updateDevice) }

func updateDevice(t *testing.T, v machine.Version) {
	s, d := pair(t, v)
	update := func(xml string) {
		t.Helper()
		_, err := s.VirshXML(xml, "update-device", "vm1", "--live")
		ok(t, err)
	}
	off := strings.Replace(nic("lan/guarded", "ua-one", mac1), "<model", "<link state='down'/><model", 1)
	update(off)
	ask(t, d, "await", mac1, "30s", "down")
	update(nic("lan/guarded", "ua-one", mac1))
	ask(t, d, "await", mac1, "30s", "up")
	s.settled("the same network", func(all []vswitch.Port) bool { return len(all) == 1 })
	s.whole(d)
	update(nic("dmz/guarded", "ua-one", mac1)) // libvirt 11.3 lets nobody change the portgroup's name
	s.settled("moved", func(all []vswitch.Port) bool { return len(all) == 1 && all[0].Switch == "dmz" && all[0].Plugged() })
	if p := s.portOf(mac1); p.Policy.DHCPGuard || p.Policy.StormLimit != 4321 {
		t.Errorf("its profile is another one there: %+v", p)
	}
	isDeafTo(t, d, "10.7.0.9")
	update(nic("lan/guarded", "ua-one", mac1))
	s.settled("moved back", func(all []vswitch.Port) bool { return len(all) == 1 && all[0].Switch == "lan" && all[0].Plugged() })
	s.whole(d)
}

// TestSetLink: libvirt forgets the network of a NIC whose link was set, and the port stays
// what it was.
func TestSetLink(t *testing.T) { eachVersion(t, setLink) }

func setLink(t *testing.T, v machine.Version) {
	s, d := pair(t, v)
	netdev := s.portOf(mac1).Netdev
	s.virsh("domif-setlink", "vm1", netdev, "down")
	ask(t, d, "await", mac1, "30s", "down")
	s.virsh("domif-setlink", "vm1", netdev, "up")
	ask(t, d, "await", mac1, "30s", "up")
	s.whole(d)
	s.restart(s.Stop)
	s.whole(d)
	s.virsh("destroy", "vm1")
	s.empty("no port-deleted was called for it")
}

// TestHookIsMissing: nobody tells of a machine that starts, is plugged into, and stops.
func TestHookIsMissing(t *testing.T) { eachVersion(t, hookIsMissing) }

func hookIsMissing(t *testing.T, v machine.Version) {
	s, d := pair(t, v)
	s.virsh("destroy", "vm1")
	s.empty("stopped")
	// Not in the directory, or libvirt runs it there by any name.
	ok(t, s.Do(func() error { return os.Mkdir("/etc/away", 0o755) }))
	for _, driver := range machine.HookDrivers() {
		ok(t, s.Do(func() error { return os.Rename(machine.HookPath(driver), "/etc/away/"+driver) }))
	}
	ok(t, s.Boot(d))
	s.settled("found", func(all []vswitch.Port) bool { return len(all) == 1 && all[0].Plugged() })
	ask(t, d, "address", mac1, "10.7.0.1/24")
	s.whole(d)
	_, err := s.VirshXML(nic("lan", "ua-hot", mac2), "attach-device", "vm1")
	ok(t, err)
	s.settled("found", func(all []vswitch.Port) bool { return len(all) == 2 && all[0].Plugged() && all[1].Plugged() })
	_, err = s.VirshXML(nic("lan", "ua-hot", mac2), "detach-device", "vm1")
	ok(t, err)
	s.settled("unplugged", func(all []vswitch.Port) bool { return len(all) == 1 })
	s.virsh("destroy", "vm1")
	s.empty("stopped")
}

// TestEnds: however a machine ends, and comes back, its port does too.
func TestEnds(t *testing.T) { eachVersion(t, ends) }

func ends(t *testing.T, v machine.Version) {
	s, d := pair(t, v)
	saved := s.Dir + "/vm1.save"
	s.virsh("save", "vm1", saved)
	s.empty("saved")
	s.virsh("restore", saved)
	s.whole(d)
	s.virsh("suspend", "vm1")
	s.virsh("resume", "vm1")
	s.whole(d)
	s.crashes(d)
	for name, end := range map[string]func(){
		"killed":  func() { ok(t, syscall.Kill(s.pidOf(d), syscall.SIGKILL)) },
		"off":     func() { _, _ = d.Do(silence, "poweroff") }, // nobody is left to answer
		"crashed": func() { _, _ = d.Do(silence, "crash") },    // nor here
		"stopped": func() { s.virsh("destroy", "vm1") },
	} {
		n := s.daemon.Lines()
		end()
		ok(t, d.AwaitEnd(patience))
		_, err := s.daemon.Await(n, patience, "domain release") // libvirt has noticed
		ok(t, err)
		s.empty(name)
		ok(t, s.Boot(d))
		ask(t, d, "address", mac1, "10.7.0.1/24")
		s.whole(d)
	}
}

// crashes has a machine crash that libvirt keeps, with its QEMU and its tap, and ends it: until
// then its port is in use as that of any other.
func (s *site) crashes(d *machine.Domain) {
	s.t.Helper()
	_, _ = d.Do(silence, "panic") // nobody is left to answer
	for deadline := time.Now().Add(patience); !strings.Contains(s.virsh("domstate", "vm1"), "crashed"); {
		if time.Now().After(deadline) {
			s.t.Fatalf("it is %s", s.virsh("domstate", "vm1"))
		}
		// As for a domain that libvirt forgets.
	}
	s.patchbay("port", "delete", s.portOf(mac1).ID)
	s.virsh("net-destroy", "dmz")
	s.virsh("net-start", "dmz") // has all looked at
	s.settled("crashed", func(all []vswitch.Port) bool { return len(all) == 1 && all[0].Policy.DHCPGuard })
	s.virsh("destroy", "vm1")
	s.empty("crashed and destroyed")
	ok(s.t, s.Boot(d))
	ask(s.t, d, "address", mac1, "10.7.0.1/24")
	s.whole(d)
}
