package libvirt_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// physical is what a team of two NICs, eth0 and eth1, is plugged into: two switches that
// are joined, with a router behind the second one, who is 10.7.0.99 in VLAN 10 and
// 10.8.0.99 in VLAN 11. Switches learn where a guest is from what it says, and from
// announcements.
func (s *site) physical() *host.Netns {
	s.t.Helper()
	outside, err := s.Neighbour("physical")
	ok(s.t, err)
	for _, n := range []string{"0", "1"} {
		ok(s.t, host.Cable(s.Netns, "eth"+n, outside, "port"+n))
	}
	for line := range strings.Lines(`link add swA type bridge forward_delay 0
link add swB type bridge forward_delay 0
link add joinA type veth peer name joinB
link add far type veth peer name farB
link add link far name far.10 type vlan id 10
link add link far name far.11 type vlan id 11
link set port0 master swA
link set joinA master swA
link set port1 master swB
link set joinB master swB
link set farB master swB
link set swA up
link set swB up
link set joinA up
link set joinB up
link set farB up
link set far up
link set far.10 up
link set far.11 up
addr add 10.7.0.99/24 dev far.10
addr add 10.8.0.99/24 dev far.11`) {
		_, err := outside.Run(append([]string{"ip"}, strings.Fields(line)...)...)
		ok(s.t, err)
	}
	return outside
}

// TestVLANs has virtual machines in VLANs, by access and by trunk, on a switch whose
// uplink is a team, with containers and an outside network; and the team loses a cable.
func TestVLANs(t *testing.T) {
	guest.Needs(t, guest.VLANs, guest.Bonding, guest.VLANDevs, guest.TUN)
	s := newSites(t, machine.Libvirt11, "a")[0]
	outside := s.physical()
	s.patchbay("team", "add", "team0", "--members", "eth0,eth1", "--lab")
	s.patchbay("switch", "add", "lan", "--uplink", "team0")
	s.patchbay("switch", "profile", "set", "lan", "web", "--vlan", "10", "--dhcp-guard", "--default")
	s.patchbay("switch", "profile", "set", "lan", "other", "--vlan", "11")
	s.patchbay("switch", "profile", "set", "lan", "router", "--vlan", "trunk 10-11 native 12")
	s.network("lan")
	in10, in11 := s.containerIn("lan", "10", "c10", "10.7.0.10"), s.containerIn("lan", "11", "c11", "10.8.0.11")
	s.containerIn("lan", "12", "c12", "10.9.0.12")
	s.containerIn("lan", "13", "c13", "10.6.0.13")

	web := s.boot("web", nic("lan", "ua-web", mac1))
	ask(t, web, "address", mac1, "10.7.0.1/24")
	ask(t, web, "answer", "10.7.0.1:7")
	reaches(t, web, "10.7.0.10")
	reaches(t, web, "10.7.0.99")
	pings(t, in10.Netns, "10.7.0.1")

	// Its own tags, and none: what is in the trunk and nothing else.
	router := s.boot("router", nic("lan/router", "ua-all", mac2))
	ask(t, router, "address", mac2, "10.9.0.2/24")
	for vlan, addr := range map[string]string{"10": "10.7.0.2/24", "11": "10.8.0.2/24", "13": "10.6.0.2/24"} {
		ask(t, router, "address", ask(t, router, "vlan", mac2, vlan), addr)
	}
	for _, there := range []string{"10.7.0.1", "10.7.0.10", "10.7.0.99", "10.8.0.11", "10.8.0.99", "10.9.0.12"} {
		reaches(t, router, there)
	}
	isDeafTo(t, router, "10.6.0.13")
	pings(t, in11.Netns, "10.8.0.2")
	for mac, vlan := range map[string]string{mac1: "10", mac2: "trunk 10-11 native 12"} {
		if list := s.patchbay("port", "list"); !strings.Contains(lineOf(list, mac), vlan) {
			t.Errorf("%s should be in %s:\n%s", mac, vlan, list)
		}
	}

	// Plugged in while it runs.
	_, err := s.VirshXML(nic("lan/other", "ua-hot", mac3), "attach-device", "web")
	ok(t, err)
	s.settled("plugged", func(all []vswitch.Port) bool { return len(all) == 3 && s.portOf(mac3).VM.Stage == vswitch.VMActive })
	ask(t, web, "await", mac3, "30s")
	ask(t, web, "address", mac3, "10.8.0.3/24")
	pings(t, in11.Netns, "10.8.0.3")
	reaches(t, router, "10.8.0.3")
	_, err = s.VirshXML(nic("lan/other", "ua-hot", mac3), "detach-device", "web")
	ok(t, err)
	s.settled("unplugged", func(all []vswitch.Port) bool { return len(all) == 2 })

	// From one VLAN to another, while it runs: it has an address of both.
	ask(t, web, "address", mac1, "10.8.0.1/24")
	isDeafTo(t, web, "10.8.0.11")
	s.patchbay("port", "set", s.portOf(mac1).ID, "--vlan", "11")
	reaches(t, web, "10.8.0.11")
	isDeafTo(t, web, "10.7.0.10")
	s.patchbay("port", "set", s.portOf(mac1).ID, "--vlan", "10")
	reaches(t, web, "10.7.0.10")

	// The team's active member loses its cable. Nobody asks for the machine, which only
	// answers: it is found by its announcement.
	pulse, err := outside.PulseTo(netip.MustParseAddrPort("10.7.0.1:7"), 20*time.Millisecond)
	ok(t, err)
	defer func() { ok(t, pulse.Close()) }()
	n := s.daemon.Lines()
	out, err := pulse.During(func() {
		_, err := outside.Run("ip", "link", "set", "port0", "down")
		ok(t, err)
	}, patience)
	ok(t, err)
	t.Logf("lost link: %d of a pulse each 20 ms lost, silent for %d ms", out.Lost, out.Silence.Milliseconds())
	_, err = s.daemon.Await(n, patience, "msg=failover", "team=team0", "to=eth1")
	ok(t, err)
	pings(t, outside, "10.8.0.2")
	reaches(t, web, "10.7.0.99")
	s.virsh("destroy", "web")
	s.virsh("destroy", "router")
	s.empty("destroyed")
}

// TestMigrationInVLAN: the VLAN goes with the machine, unless the host there cannot have it.
func TestMigrationInVLAN(t *testing.T) {
	guest.Needs(t, guest.VLANs, guest.VLANDevs, guest.TUN)
	st := newStreet(t, machine.Libvirt9)
	n := st.a.daemon.Lines()
	st.a.patchbay("port", "set", st.a.portOf(mac1).ID, "--vlan", "10")
	_, err := st.a.daemon.Await(n, patience, "carries", "vm1")
	ok(t, err)
	for line := range strings.Lines(`addr del 10.1.0.8/24 dev br0
link add link br0 name br0.10 type vlan id 10
link set br0.10 up
addr add 10.1.0.8/24 dev br0.10`) {
		_, err := st.outside.Run(append([]string{"ip"}, strings.Fields(line)...)...)
		ok(t, err)
	}
	reaches(t, st.vm, outsideAddr)
	// Nobody may just be in a VLAN that isolates others.
	st.b.containerIn("lan", "isolated 100 10", "c1", "10.1.0.7")
	st.refused(t, "isolated there", "10")
	var there []vswitch.Port
	ok(t, st.b.PatchbayJSON(&there, "port", "list"))
	for _, p := range there {
		if p.Owner.ID == "c1" {
			st.b.patchbay("port", "set", p.ID, "--vlan", "untagged")
		}
	}
	ok(t, st.migrate(st.a, st.b))
	st.a.empty("gone")
	if p := st.b.portOf(mac1); !p.VLAN.Equal(vswitch.AccessVLAN(10)) {
		t.Errorf("port on b: %+v", p)
	}
	pings(t, st.outside, "10.1.0.1")
}

// lineOf is the line of a table that has the word.
func lineOf(table, word string) string {
	for line := range strings.Lines(table) {
		if strings.Contains(line, word) {
			return line
		}
	}
	return ""
}
