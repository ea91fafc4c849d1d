package libvirt_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/host"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// street is two sites whose External switches are on one network outside, and a virtual
// machine on the first one.
type street struct {
	a, b    *site
	outside *host.Netns
	vm      *machine.Domain
}

const outsideAddr = "10.1.0.8"

func newStreet(t *testing.T, v machine.Version) *street {
	t.Helper()
	return newStreetOf(t, v, plugged, machine.Definition{Interfaces: nic("lan/guarded", "ua-one", mac1)})
}

// plugged puts the uplink of a site into a socket of the network outside.
func plugged(t *testing.T, s *site, outside *host.Netns, socket string) {
	t.Helper()
	ok(t, host.Cable(s.Netns, "eth9", outside, socket))
}

// newStreetOf is newStreet with another machine of mac1, or other uplinks.
func newStreetOf(t *testing.T, v machine.Version, plug func(t *testing.T, s *site, outside *host.Netns, socket string), vm machine.Definition) *street {
	t.Helper()
	all := newSites(t, v, "a", "b")
	st := &street{a: all[0], b: all[1]}
	var err error
	st.outside, err = st.a.Neighbour("outside")
	ok(t, err)
	run := func(argv ...string) {
		t.Helper()
		_, err := st.outside.Run(argv...)
		ok(t, err)
	}
	run("ip", "link", "add", "br0", "type", "bridge")
	for _, s := range all {
		plug(t, s, st.outside, "to-"+s.Name())
		run("ip", "link", "set", "to-"+s.Name(), "master", "br0")
	}
	run("ip", "addr", "add", outsideAddr+"/24", "dev", "br0")
	run("ip", "link", "set", "br0", "up")
	for _, s := range all {
		ok(t, s.WriteFile("/etc/host.yaml", strings.Replace(profiles, "type: private", "uplink: eth9", 1), 0o644))
		s.patchbay("apply", "-f", "/etc/host.yaml")
		s.network("lan")
	}
	vm.Name = "vm1"
	st.vm, err = st.a.Define(vm)
	ok(t, err)
	ok(t, st.a.Boot(st.vm))
	ask(t, st.vm, "address", mac1, "10.1.0.1/24")
	ask(t, st.vm, "answer", "10.1.0.1:7")
	reaches(t, st.vm, outsideAddr)
	return st
}

// migrate moves the machine.
func (st *street) migrate(from, to *site, more ...string) error {
	socket := filepath.Join(filepath.Dir(from.Dir), "move.sock")
	_, err := from.Virsh(append([]string{"migrate", "--live", "vm1", to.URI(), "--migrateuri", "unix://" + socket}, more...)...)
	return err
}

// stays fails the test unless the machine runs where it was, and nothing of it is elsewhere.
func (st *street) stays(t *testing.T, why string) {
	t.Helper()
	if state := st.a.virsh("domstate", "vm1"); !strings.Contains(state, "running") {
		t.Fatalf("%s: on a it is %s", why, state)
	}
	p := st.a.portOf(mac1)
	if p.VM.Stage != vswitch.VMActive || !p.Policy.DHCPGuard {
		t.Errorf("%s: port on a: %+v", why, p)
	}
	pings(t, st.outside, "10.1.0.1")
	st.b.empty(why)
	st.b.forgets("vm1")
}

// TestMigration: with the machine go its policy, what was changed of it, and its counts; the
// network outside finds it at once. So it is with the port of a team whose VF is away: the guest
// sends by it as by any other.
func TestMigration(t *testing.T) {
	plain := nic("lan/guarded", "ua-one", mac1)
	team := strings.Replace(plain, "<alias", "<teaming type='persistent'/><alias", 1)
	for v, nic := range map[machine.Version]string{machine.Libvirt9: plain, machine.Libvirt11: team} {
		t.Run(string(v), func(t *testing.T) {
			st := newStreetOf(t, v, plugged, machine.Definition{Interfaces: nic})
			if links := ask(t, st.vm, "links"); strings.Count(links, mac1) != map[string]int{plain: 1, team: 2}[nic] {
				t.Errorf("the guest has made this of %s:\n%s", nic, links)
			}
			n := st.a.daemon.Lines()
			st.a.patchbay("port", "set", st.a.portOf(mac1).ID, "--storm-limit", "1234")
			_, err := st.a.daemon.Await(n, patience, "carries", "vm1")
			ok(t, err)
			counted := statsOf(t, st.a, mac1)
			pulse, err := st.outside.PulseTo(netip.MustParseAddrPort("10.1.0.1:7"), 10*time.Millisecond)
			ok(t, err)
			defer func() { ok(t, pulse.Close()) }()
			for i, way := range [][2]*site{{st.a, st.b}, {st.b, st.a}} {
				from, to := way[0], way[1]
				begun := time.Now()
				out, err := pulse.During(func() { ok(t, st.migrate(from, to)) }, patience)
				ok(t, err)
				t.Logf("| %s, move %d | took %.1f s | %d of a pulse each 10 ms lost | silent for %d ms |", v, i+1, time.Since(begun).Seconds(), out.Lost, out.Silence.Milliseconds())
				from.empty("gone")
				to.settled("arrived", func(all []vswitch.Port) bool { return len(all) == 1 && all[0].VM.Stage == vswitch.VMActive })
				p := to.portOf(mac1)
				if !p.Policy.DHCPGuard || p.Policy.StormLimit != 1234 || p.Switch != "lan" {
					t.Errorf("port: %+v", p)
				}
				if now := statsOf(t, to, mac1); now.In.Packets < counted.In.Packets || now.Out.Packets < counted.Out.Packets {
					t.Errorf("counted %+v before and %+v after", counted, now)
				}
				reaches(t, st.vm, outsideAddr)
			}
		})
	}
}

func statsOf(t *testing.T, s *site, mac string) engine.PortStats {
	t.Helper()
	id := s.portOf(mac).ID
	var all []engine.PortStats
	ok(t, s.PatchbayJSON(&all, "port", "stats"))
	for _, x := range all {
		if x.ID == id {
			return x
		}
	}
	t.Fatalf("%s is not counted", id)
	return engine.PortStats{}
}

// TestMigrationRefused: a host that cannot take the machine says so before memory moves, and
// one that fails later leaves it where it is.
func TestMigrationRefused(t *testing.T) {
	eachVersion(t, migrationRefused)
}

func migrationRefused(t *testing.T, v machine.Version) {
	st := newStreet(t, v)
	before := st.a.portOf(mac1)
	refused := func(why, says string, more ...string) {
		t.Helper()
		st.refused(t, why, says, more...)
	}
	if !st.b.status().Capabilities.VLANFiltering {
		st.inVLAN(t, 10)
		refused("its kernel has no VLANs", "CONFIG_BRIDGE_VLAN_FILTERING", "--xml", "/etc/vm1.xml")
	}
	// Another machine is defined with the address there.
	other := st.b.define("vm2", nic("lan", "ua-one", mac1))
	st.b.holds(other.Name, true)
	refused("its address is another's", mac1)
	st.b.virsh("undefine", other.Name)
	st.b.holds(other.Name, false)
	// The guest is on its way, and somebody thinks better of it.
	slow := make(chan error, 1)
	lines := st.b.daemon.Lines()
	go func() { slow <- st.migrate(st.a, st.b, "--bandwidth", "1") }()
	_, err := st.b.daemon.Await(lines, patience, "port bind")
	ok(t, err)
	if p := st.b.portOf(mac1); p.VM.Stage != vswitch.VMIncoming {
		t.Errorf("on the way: %+v", p)
	}
	pings(t, st.outside, "10.1.0.1")
	ok(t, st.abort())
	if err := <-slow; err == nil {
		t.Error("it came all the same")
	}
	st.stays(t, "thought better of")
	// No such switch.
	st.b.virsh("net-destroy", "lan")
	st.b.virsh("net-undefine", "lan")
	st.b.patchbay("switch", "delete", "lan")
	refused("no network", "lan")
	xml := st.a.virsh("net-dumpxml", "lan", "--inactive")
	_, err = st.b.VirshXML(xml, "net-define")
	ok(t, err)
	if out, err := st.b.Virsh("net-start", "lan"); err == nil || !strings.Contains(err.Error(), "lan") {
		t.Errorf("a network of no switch starts: %v %s", err, out)
	}
	refused("no switch", "lan")
	if after := st.a.portOf(mac1); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the port was %+v and is %+v", before, after)
	}
}

// refused fails the test unless the machine may not move, and that before memory does.
func (st *street) refused(t *testing.T, why, says string, more ...string) {
	t.Helper()
	before := st.b.launches()
	if err := st.migrate(st.a, st.b, more...); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v, want %q", why, err, says)
	}
	if st.b.launches() != before {
		t.Errorf("%s: a hypervisor was started there", why)
	}
	st.stays(t, why)
}

// inVLAN writes /etc/vm1.xml of a, which is the machine as it would go to b if its port were in
// a VLAN: for kernels on which no port can be.
func (st *street) inVLAN(t *testing.T, id int) {
	t.Helper()
	_, err := st.a.daemon.Await(0, patience, "carries", "vm1")
	ok(t, err)
	xml := st.a.virsh("dumpxml", "vm1", "--migratable")
	const at = `"switch":"lan"`
	if !strings.Contains(xml, at) {
		t.Fatalf("it does not carry its port's state:\n%s", xml)
	}
	ok(t, st.a.WriteFile("/etc/vm1.xml", strings.Replace(xml, at, fmt.Sprintf(`%s,"vlan":%d`, at, id), 1), 0o644))
}

// holds waits until an address is held for a domain, or none is.
func (s *site) holds(domain string, want bool) {
	s.t.Helper()
	s.settled("held for "+domain, func([]vswitch.Port) bool {
		var all []engine.MACLease
		ok(s.t, s.PatchbayJSON(&all, "mac", "list"))
		return want == slices.ContainsFunc(all, func(m engine.MACLease) bool { return m.Held && m.Domain.Name == domain })
	})
}

// abort ends a migration that has begun, as soon as libvirt knows of it.
func (st *street) abort() (err error) {
	for range 50 {
		if _, err = st.a.Virsh("domjobabort", "vm1"); err == nil {
			return nil
		}
	}
	return err
}
