package libvirt_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/host"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// This file is about a machine whose guest goes by another NIC than its port while it has that, as
// it would by a VF. The NIC is an emulated one, which QEMU treats as it treats a VF; libvirt knows
// nothing of it, for it takes none but PCI devices of the host for the purpose.

// primaryArgs are that NIC: the guest gets it once it has the driver for such teams.
func primaryArgs() []string {
	return []string{
		"-netdev", "tap,id=vf,ifname=vf0,script=no,downscript=no,vhost=off",
		// In JSON, as libvirt writes it, for QEMU makes what is not before all that is.
		"-device", `{"driver":"e1000e","id":"vf","netdev":"vf","mac":"` + mac1 + `","bus":"pci.12","failover_pair_id":"ua-one","romfile":""}`,
	}
}

// throughNIC gives a site a NIC with a VF: a bridge that is what switches within a NIC, with
// the socket outside, the site's uplink and the VF on it. It learns who is where, so that it is
// enough to tell it; a NIC that holds an address for a VF has to be made to forget it.
func throughNIC(t *testing.T, s *site, outside *host.Netns, socket string) {
	t.Helper()
	ok(t, host.Cable(s.Netns, "wire", outside, socket))
	for _, command := range []string{
		"link add nic0 type bridge", "link set nic0 up", "link add eth9 type veth peer name pf", "link set eth9 up", "link set pf up",
		"tuntap add vf0 mode tap", "link set vf0 up", "link set wire master nic0", "link set pf master nic0", "link set vf0 master nic0",
	} {
		_, err := s.Run(append([]string{"ip"}, strings.Fields(command)...)...)
		ok(t, err)
	}
}

// hasPrimary waits until the guest has all its three netdevs, and fails unless it goes by the
// third.
func (st *street) hasPrimary(t *testing.T, s *site) {
	t.Helper()
	ask(t, st.vm, "await", "eth2", patience.String(), "up")
	if links := ask(t, st.vm, "links"); strings.Count(links, mac1) != 3 {
		t.Fatalf("the guest has\n%s", links)
	}
	pings(t, st.outside, "10.1.0.1")
	fdb, err := s.Run("bridge", "fdb", "show", "br", "nic0", "brport", "vf0")
	ok(t, err)
	if !strings.Contains(fdb, mac1+" master nic0") {
		t.Errorf("on %s the guest does not go by its VF: %s", s.Name(), fdb)
	}
}

// TestTeamMigration: QEMU takes the VF away, patchbayd hears of it and has the network outside know
// that the guest goes by its port; the other host gives it a VF again. So does this one if
// the migration fails.
func TestTeamMigration(t *testing.T) {
	team := strings.Replace(nic("lan/guarded", "ua-one", mac1), "<alias", "<teaming type='persistent'/><alias", 1)
	st := newStreetOf(t, machine.Libvirt11, throughNIC, machine.Definition{Interfaces: team, Args: primaryArgs()})
	st.hasPrimary(t, st.a)
	pulse, err := st.outside.PulseTo(netip.MustParseAddrPort("10.1.0.1:7"), 10*time.Millisecond)
	ok(t, err)
	defer func() { ok(t, pulse.Close()) }()
	x := &said{}
	end, err := st.outside.Overhear(x.hear)
	ok(t, err)
	heard := func(what string, event func()) {
		t.Helper()
		lines, start := st.a.daemon.Lines(), time.Now()
		out, err := pulse.During(event, patience)
		ok(t, err)
		t.Logf("| %s | after %.1f s | %d of a pulse each 10 ms lost | silent for %d ms |", what, time.Since(start).Seconds(), out.Lost, out.Silence.Milliseconds())
		if out.Silence > 3*time.Second {
			t.Errorf("%s: the guest is not heard for %v", what, out.Silence)
		}
		_, err = st.a.daemon.Await(lines, patience, "no VF of a team by the VM's definition", "device=vf")
		ok(t, err)
	}
	var moved <-chan error
	heard("the VF is away", func() { moved = st.start(t) })
	ok(t, st.abort())
	if err := <-moved; err == nil {
		t.Fatal("it came all the same")
	}
	st.hasPrimary(t, st.a)
	st.stays(t, "it fails")
	// The bridge that stands in for the NIC believes whoever spoke last, and QEMU says for a second that
	// the guest goes by its port: it has to be heard by its VF without being asked, as any guest is.
	ask(t, st.vm, "speak", outsideAddr+":9", "100ms")
	heard("it arrives", func() { ok(t, st.migrate(st.a, st.b)) })
	st.hasPrimary(t, st.b)
	st.a.empty("gone")
	ok(t, end())
	announced := 0
	for _, s := range x.by("a") {
		if s == "a: announcement" { // which the guest makes none of
			announced++
		}
	}
	if announced < 2 {
		t.Errorf("the network outside was told %d times that the guest goes by its port", announced)
	}
}

// TestDeafToQEMU: without libvirt's second library patchbayd follows libvirt, and says what it
// does not hear.
func TestDeafToQEMU(t *testing.T) {
	t.Parallel()
	m := newMachines(t, machine.Libvirt11, "a")[0]
	ok(t, m.Start())
	ok(t, m.Do(func() error { return os.Remove("/usr/lib/x86_64-linux-gnu/libvirt-qemu.so.0") }))
	s := &site{Machine: m, t: t}
	t.Cleanup(s.stopDaemon)
	s.startDaemon()
	s.followed(0)
	_, err := s.daemon.Await(0, patience, "what QEMU tells is not heard", "libvirt-qemu.so.0")
	ok(t, err)
	if shown := s.patchbay("status"); !strings.Contains(shown, "keep their addresses") || strings.Count(shown, "followed, version 11.3.0") != 2 {
		t.Errorf("status:\n%s", shown)
	}
}
