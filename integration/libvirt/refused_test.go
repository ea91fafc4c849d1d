package libvirt_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// TestRefused: what cannot be is refused before a guest runs, in words that virsh shows, and
// leaves nothing.
func TestRefused(t *testing.T) {
	s, d := pair(t, machine.Libvirt9)
	s.virsh("destroy", "vm1")
	refused := func(name, says string, interfaces string) {
		t.Helper()
		d := s.define(name, interfaces)
		_, err := s.Virsh("start", d.Name)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
		s.empty(name)
		s.virsh("undefine", d.Name) // its addresses are held for it until then
		s.holds(d.Name, false)
	}
	inner := fmt.Sprintf("%v", s.macOf("c1"))
	refused("address-of-a-container", inner, nic("lan", "ua-one", inner))
	refused("no-profile", "bogus", nic("lan/bogus", "ua-one", mac2))
	refused("second-nic-fails", inner, nic("lan", "ua-one", mac2)+nic("lan", "ua-two", inner))
	refused("native-bandwidth", "bandwidth", strings.Replace(nic("lan", "ua-one", mac2), "<model", "<bandwidth><outbound average='100'/></bandwidth><model", 1))
	trusting := strings.Replace(nic("lan", "ua-one", mac2), "<interface ", "<interface trustGuestRxFilters='yes' ", 1)
	refused("trusts-guest", "trustGuestRxFilters", trusting)

	// While it runs: the guest goes on as it was.
	ok(t, s.Boot(d))
	ask(t, d, "address", mac1, "10.7.0.1/24")
	if _, err := s.VirshXML(nic("lan", "ua-hot", inner), "attach-device", "vm1"); err == nil || !strings.Contains(err.Error(), inner) {
		t.Errorf("attached with the address of a container: %v", err)
	}
	s.settled("the refused one is gone", func(all []vswitch.Port) bool { return len(all) == 1 })
	s.whole(d)
}

// macOf is the address of a container.
func (s *site) macOf(container string) string {
	s.t.Helper()
	var all []vswitch.Port
	ok(s.t, s.PatchbayJSON(&all, "port", "list"))
	for _, p := range all {
		if p.Owner.ID == container {
			return p.MAC.String()
		}
	}
	s.t.Fatalf("no container %s", container)
	return ""
}

// otherHook puts a hook of somebody else behind ours, which runs a piece of shell at one
// operation.
func (s *site) otherHook(driver, operation, shell string) (remove func()) {
	s.t.Helper()
	path := "/etc/libvirt/hooks/" + driver + ".d/99-other"
	ok(s.t, s.WriteFile(path, "#!/bin/sh\n[ \"$2\" = "+operation+" ] || exit 0\n"+shell+"\n", 0o755))
	return func() { ok(s.t, s.Do(func() error { return os.Remove(path) })) }
}

// steps are the hooks that libvirt calls to start a domain, in order.
func steps() [][2]string {
	return [][2]string{{"qemu", "prepare"}, {"network", "port-created"}, {"qemu", "start"}, {"qemu", "started"}}
}

// TestStartFailsLater: ours has succeeded, somebody else's hook fails at each step of a
// start, and nothing is left.
func TestStartFailsLater(t *testing.T) { eachVersion(t, startFailsLater) }

func startFailsLater(t *testing.T, v machine.Version) {
	s, d := pair(t, v)
	s.virsh("destroy", "vm1")
	for _, step := range steps() {
		remove := s.otherHook(step[0], step[1], "echo not today >&2; exit 3")
		if _, err := s.Virsh("start", "vm1"); err == nil || !strings.Contains(err.Error(), "not today") {
			t.Errorf("%v: %v", step, err)
		}
		s.empty(fmt.Sprint(step))
		remove()
	}
	ok(t, s.Boot(d))
	ask(t, d, "address", mac1, "10.7.0.1/24")
	s.whole(d)
}

// TestReconnectNeverFails: what would refuse a start does not end a guest that runs.
func TestReconnectNeverFails(t *testing.T) { eachVersion(t, reconnectNeverFails) }

func reconnectNeverFails(t *testing.T, v machine.Version) {
	s, d := pair(t, v)
	s.virsh("metadata", "vm1", "--uri", "https://patchbay.net/xmlns/libvirt/domain/1.0", "--key", "patchbay",
		"--set", "<ports><port alias='ua-nobody'/></ports>", "--live")
	s.restart(s.Stop)
	if state := s.virsh("domstate", "vm1"); !strings.Contains(state, "running") {
		t.Fatalf("it is %s", state)
	}
	s.whole(d)
}

// TestKilled: hook, patchbayd and libvirtd are killed at each step of a start, and all is
// well when they are there again.
func TestKilled(t *testing.T) {
	s, d := pair(t, machine.Libvirt9)
	s.virsh("destroy", "vm1")
	runs := func() bool { return strings.Contains(s.virsh("domstate", "vm1"), "running") }
	started := func(what string, err error) {
		t.Helper()
		if runs() {
			// libvirt may remember a port of a start that was cut off, beside the one in use. One that
			// was killed over a start may end the domain yet.
			s.settled(what+": it runs", func(all []vswitch.Port) bool {
				return slices.ContainsFunc(all, func(p vswitch.Port) bool { return p.Plugged() && p.Policy.DHCPGuard }) || err != nil && !runs()
			})
			if _, destroyed := s.Virsh("destroy", "vm1"); destroyed != nil && (err == nil || !strings.Contains(destroyed.Error(), "not running")) {
				t.Errorf("%s: %v", what, destroyed)
			}
		} else if err == nil {
			t.Errorf("%s: started, and does not run", what)
		}
		s.empty(what)
	}
	for _, step := range steps() {
		name := fmt.Sprint(step)
		// The hook itself: libvirt sees it end by a signal.
		path := machine.HookPath(step[0])
		ok(t, s.Do(func() error { return os.Rename(path, "/etc/"+step[0]+"-program") }))
		ok(t, s.WriteFile(path, "#!/bin/sh\n[ \"$2\" = "+step[1]+" ] && kill -9 $$\nexec /etc/"+step[0]+"-program "+step[0]+" \"$@\"\n", 0o755))
		_, err := s.Virsh("start", "vm1")
		ok(t, s.Do(func() error { return os.Rename("/etc/"+step[0]+"-program", path) }))
		started("hook killed at "+name, err)

		remove := s.otherHook(step[0], step[1], "kill -9 $PPID")
		_, err = s.Virsh("start", "vm1")
		if err == nil {
			t.Errorf("libvirtd lives on at %s", name)
		}
		remove()
		n := s.daemon.Lines()
		ok(t, s.Kill())
		ok(t, s.Start())
		s.followed(n)
		started("libvirtd killed at "+name, err)

		remove = s.otherHook(step[0], step[1], fmt.Sprintf("kill -9 %d", s.daemon.Process.Pid))
		_, err = s.Virsh("start", "vm1")
		ok(t, err)
		remove()
		ok(t, s.daemon.Dead())
		s.startDaemon()
		started("patchbayd killed at "+name, err)
	}
	ok(t, s.Boot(d))
	ask(t, d, "address", mac1, "10.7.0.1/24")
	s.whole(d)
}

// TestWithoutDaemon: machines start, are plugged into, and stop, though no patchbayd runs.
func TestWithoutDaemon(t *testing.T) {
	s, d := pair(t, machine.Libvirt9)
	ok(t, s.daemon.Stop())
	s.daemon = nil
	s.whole(d)
	s.virsh("destroy", "vm1")
	if left := s.vmPorts(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
	ok(t, s.Boot(d))
	ask(t, d, "address", mac1, "10.7.0.1/24")
	s.whole(d)
	s.startDaemon()
	s.followed(0)
	s.whole(d)
}
