package nested_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/host"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// patience is how long a host may take for anything.
const patience = 3 * time.Minute

// site is a host with a NIC that has a VF, libvirtd and patchbayd.
type site struct {
	*machine.Machine
	t      *testing.T
	pf     string
	daemon *host.Patchbayd
	near   *host.Container // on the switch
}

// street is two sites, and somebody outside, on one cable.
type street struct {
	a, b    *site
	outside *host.Netns
}

const (
	outsideAddr = "10.9.0.2"
	guestAddr   = "10.9.0.50"
)

func newStreet(t *testing.T) *street {
	t.Helper()
	_, err := command("modprobe", "-a", "vfio-pci", "vfio_iommu_type1", "tun", "bridge")
	ok(t, err)
	dir, err := os.MkdirTemp("", "lv") // paths of sockets are short
	ok(t, err)
	t.Cleanup(func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH) // none where no host was made
		ok(t, os.RemoveAll(dir))
	})
	st := &street{a: newSite(t, dir, "a", "n0", "10.9.0.11"), b: newSite(t, dir, "b", "n1", "10.9.0.12")}
	st.outside, err = st.a.Neighbour("outside")
	ok(t, err)
	move(t, "n2", st.outside)
	for _, args := range [][]string{{"addr", "add", outsideAddr + "/24", "dev", "n2"}, {"link", "set", "n2", "up"}} {
		_, err := st.outside.Run(append([]string{"ip"}, args...)...)
		ok(t, err)
	}
	return st
}

// newSite makes a host of a NIC, as docs/libvirt.md says, with a container that has the address near.
func newSite(t *testing.T, share, name, pf, near string) *site {
	t.Helper()
	m, err := machine.New(t.Context(), machine.Config{Name: name, Version: machine.Libvirt11, Share: share, Nested: true})
	ok(t, err)
	s := &site{Machine: m, t: t, pf: pf}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("libvirtd of %s:\n%.20000s", name, m.Log())
		}
		ok(t, m.Close())
	})
	move(t, pf, m.Netns)
	ok(t, m.Write("/sys/class/net/"+pf+"/device/sriov_numvfs", "1"))
	ok(t, m.InstallHooks())
	s.daemon, err = m.Patchbayd("libvirt/patchbayd")
	ok(t, err)
	t.Cleanup(func() {
		ok(t, s.daemon.Stop())
		if t.Failed() {
			t.Logf("patchbayd of %s:\n%s", name, s.daemon.Log())
		}
	})
	ok(t, m.Start())
	_, err = s.daemon.Await(0, patience, "libvirt connected", "qemu:///system")
	ok(t, err)
	s.patchbay("switch", "add", "wan", "--uplink", pf, "--sriov")
	s.patchbay("libvirt", "network", "wan", "--define")
	s.patchbay("libvirt", "network", "wan", "--sriov", "--define")
	s.near, err = m.Container("near")
	ok(t, err)
	n, err := m.Network(fmt.Sprintf(`{"cniVersion":"1.0.0","name":"wan","plugins":[{"type":"patchbay","switch":"wan",
		"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.9.0.0/24","rangeStart":%q,"rangeEnd":%[1]q}]]}}]}`, near))
	ok(t, err)
	_, err = n.Add(s.near)
	ok(t, err)
	return s
}

// move moves a NIC of the guest.
func move(t *testing.T, nic string, to *host.Netns) {
	t.Helper()
	_, err := command("ip", "link", "set", nic, "netns", to.Path)
	ok(t, err)
}

func command(argv ...string) (string, error) {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return string(out), err
}

func (s *site) patchbay(args ...string) string {
	s.t.Helper()
	out, err := s.Patchbay(args...)
	ok(s.t, err)
	return out
}

// boot starts a virtual machine with a team of a port of the switch and a VF, and tells its address.
func (s *site) boot(name string) (d *machine.Domain, mac string) {
	s.t.Helper()
	var team struct{ XML, MAC string }
	ok(s.t, json.Unmarshal([]byte(s.patchbay("libvirt", "interface", "wan", "--domain", name, "--alias", "ua-db", "--sriov", "-o", "json")), &team))
	// Programs to boot from a network take a minute in a guest's guest.
	team.XML = strings.ReplaceAll(team.XML, "</interface>", "<rom enabled='no'/></interface>")
	d, err := s.Define(machine.Definition{Name: name, Interfaces: team.XML})
	ok(s.t, err)
	ok(s.t, s.Boot(d))
	return d, team.MAC
}

// migrate moves a virtual machine to another site.
func (s *site) migrate(name string, to *site, more ...string) error {
	socket := filepath.Join(filepath.Dir(s.Dir), "move.sock")
	_, err := s.Virsh(append([]string{"migrate", "--live", name, to.URI(), "--migrateuri", "unix://" + socket}, more...)...)
	return err
}

// vfMAC is the address for which the NIC hands frames to its VF.
func (s *site) vfMAC() string {
	s.t.Helper()
	h, err := s.Links()
	ok(s.t, err)
	defer h.Close()
	l, err := h.LinkByName(s.pf)
	ok(s.t, err)
	if len(l.Attrs().Vfs) != 1 {
		s.t.Fatalf("%s has %d VFs", s.pf, len(l.Attrs().Vfs))
	}
	return l.Attrs().Vfs[0].Mac.String()
}

// guests are the ports of virtual machines.
func (s *site) guests() []vswitch.Port {
	s.t.Helper()
	ports, err := s.VMPorts()
	ok(s.t, err)
	return ports
}

// ask has a virtual machine do something.
func ask(t *testing.T, d *machine.Domain, args ...string) string {
	t.Helper()
	out, err := d.Ask(args...)
	ok(t, err)
	return out
}

// traffic is packets.
type traffic struct{ in, out int }

// counts are what a virtual machine has received and sent by its VF.
func counts(t *testing.T, d *machine.Domain) (c traffic) {
	t.Helper()
	_, err := fmt.Sscan(ask(t, d, "counts", "igbvf"), &c.in, &c.out)
	ok(t, err)
	return c
}

// pulse is traffic to the virtual machine.
func (st *street) pulse(t *testing.T) *host.Pulse {
	t.Helper()
	p, err := st.outside.PingTo(netip.MustParseAddr(guestAddr), beat)
	ok(t, err)
	t.Cleanup(func() { ok(t, p.Close()) })
	return p
}
