package libvirt_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/host"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
	"github.com/patchbay-net/patchbay/libvirt-hook/network"
)

// How long to wait for what must come, and for what must not.
const (
	patience = 2 * time.Minute // a busy machine emulates slowly
	silence  = 700 * time.Millisecond
)

// site is a machine with Patchbay: its hooks, and a patchbayd that follows libvirt.
type site struct {
	*machine.Machine
	t      *testing.T
	daemon *host.Patchbayd
}

// newSites makes sites between which virtual machines can move, beside those of other tests.
func newSites(t *testing.T, v machine.Version, names ...string) []*site {
	t.Helper()
	t.Parallel()
	return sitesAlone(t, v, names...)
}

// sitesAlone is newSites for a test that measures.
func sitesAlone(t *testing.T, v machine.Version, names ...string) (all []*site) {
	t.Helper()
	for _, m := range newMachines(t, v, names...) {
		s := &site{Machine: m, t: t}
		ok(t, m.InstallHooks())
		t.Cleanup(s.stopDaemon) // before the machine goes
		s.startDaemon()
		ok(t, m.Start())
		all = append(all, s)
	}
	return all
}

func newSite(t *testing.T, v machine.Version) *site {
	t.Helper()
	return newSites(t, v, "a")[0]
}

// eachVersion runs a test with each libvirt, at the same time.
func eachVersion(t *testing.T, test func(t *testing.T, v machine.Version)) {
	t.Helper()
	t.Parallel()
	for _, v := range []machine.Version{machine.Libvirt9, machine.Libvirt11} {
		t.Run(string(v), func(t *testing.T) { test(t, v) })
	}
}

func (s *site) startDaemon() {
	s.t.Helper()
	d, err := s.Patchbayd("libvirt/patchbayd")
	ok(s.t, err)
	s.daemon = d
}

func (s *site) stopDaemon() {
	s.t.Helper()
	if s.daemon == nil {
		return
	}
	ok(s.t, s.daemon.Stop())
	if s.t.Failed() {
		s.t.Logf("patchbayd of %s:\n%s", s.Name(), s.daemon.Log())
	}
	s.daemon = nil
}

// followed waits until patchbayd follows libvirt.
func (s *site) followed(after int) {
	s.t.Helper()
	_, err := s.daemon.Await(after, patience, "libvirt connected", "qemu:///system")
	ok(s.t, err)
}

// Name is that of the site's directory.
func (s *site) Name() string { return filepath.Base(s.Dir) }

func (s *site) virsh(args ...string) string {
	s.t.Helper()
	out, err := s.Virsh(args...)
	ok(s.t, err)
	return out
}

func (s *site) patchbay(args ...string) string {
	s.t.Helper()
	out, err := s.Patchbay(args...)
	ok(s.t, err)
	return out
}

// network defines and starts the libvirt network of a switch that exists.
func (s *site) network(name string) {
	s.t.Helper()
	var sw vswitch.Switch
	ok(s.t, s.PatchbayJSON(&sw, "switch", "show", name))
	xml, err := network.Definition(sw, name)
	ok(s.t, err)
	_, err = s.VirshXML(xml, "net-define", "--validate")
	ok(s.t, err)
	s.virsh("net-start", name)
}

// nic is the XML of an interface.
func nic(network, alias, mac string) string {
	name, group, _ := strings.Cut(network, "/")
	if group != "" {
		group = fmt.Sprintf(" portgroup='%s'", group)
	}
	return fmt.Sprintf("<interface type='network'><source network='%s'%s/><mac address='%s'/><model type='virtio'/><alias name='%s'/></interface>", name, group, mac, alias)
}

// MAC addresses of virtual machines.
const (
	mac1 = "52:54:00:00:00:01"
	mac2 = "52:54:00:00:00:02"
	mac3 = "52:54:00:00:00:03"
)

// boot defines a virtual machine and starts it.
func (s *site) boot(name string, interfaces ...string) *machine.Domain {
	s.t.Helper()
	d := s.define(name, interfaces...)
	ok(s.t, s.Boot(d))
	return d
}

func (s *site) define(name string, interfaces ...string) *machine.Domain {
	s.t.Helper()
	d, err := s.Define(machine.Definition{Name: name, Interfaces: strings.Join(interfaces, "\n")})
	ok(s.t, err)
	return d
}

// vmPorts are the ports of virtual machines.
func (s *site) vmPorts() []vswitch.Port {
	s.t.Helper()
	ports, err := s.VMPorts()
	ok(s.t, err)
	return ports
}

// portOf is the port of a virtual machine's address.
func (s *site) portOf(mac string) vswitch.Port {
	s.t.Helper()
	for _, p := range s.vmPorts() {
		if p.MAC.String() == mac {
			return p
		}
	}
	s.t.Fatalf("no port has %s: %+v", mac, s.vmPorts())
	return vswitch.Port{}
}

// settled waits until the ports of virtual machines are so; it looks whenever patchbayd
// says something.
func (s *site) settled(what string, done func([]vswitch.Port) bool) {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		more := s.daemon.More()
		ports := s.vmPorts()
		if done(ports) {
			return
		}
		select {
		case <-more:
		case <-deadline:
			text, _ := json.Marshal(ports)
			s.t.Fatalf("%s: not so after %v: %s\n%s", what, patience, text, s.daemon.Log())
		}
	}
}

// ask has a virtual machine do something.
func ask(t *testing.T, d *machine.Domain, args ...string) string {
	t.Helper()
	out, err := d.Ask(args...)
	ok(t, err)
	return out
}

// reaches fails the test unless the machine gets an answer.
func reaches(t *testing.T, d *machine.Domain, addr string) {
	t.Helper()
	if _, err := d.Ask("ping", addr, "20s"); err != nil {
		t.Errorf("%s does not reach %s: %v", d.Name, addr, err)
	}
}

// isDeafTo fails the test if the machine gets an answer.
func isDeafTo(t *testing.T, d *machine.Domain, addr string) {
	t.Helper()
	if _, err := d.Ask("ping", addr, "1s"); err == nil {
		t.Errorf("%s reaches %s", d.Name, addr)
	}
}

// container attaches a container to a switch by the CNI plugin.
func (s *site) container(sw, id, address string) *host.Container {
	s.t.Helper()
	return s.containerIn(sw, "untagged", id, address)
}

// containerIn is container for one that is in a VLAN.
func (s *site) containerIn(sw, vlan, id, address string) *host.Container {
	s.t.Helper()
	n, err := s.Network(fmt.Sprintf(`{"cniVersion":"1.0.0","name":"n-%[1]s","plugins":[{"type":"patchbay","switch":"%[1]s","vlan":%q,"ipam":{"type":"static","addresses":[{"address":"%s/24"}]}}]}`, sw, vlan, address))
	ok(s.t, err)
	c, err := s.Container(id)
	ok(s.t, err)
	_, err = n.Add(c)
	ok(s.t, err)
	s.t.Cleanup(func() { ok(s.t, n.Del(c)) })
	return c
}

func pings(t *testing.T, from *host.Netns, addr string) {
	t.Helper()
	if err := from.Ping(netip.MustParseAddr(addr), 20*time.Second); err != nil {
		t.Errorf("from %s: %v", filepath.Base(from.Path), err)
	}
}

// status is what patchbayd tells of itself.
func (s *site) status() engine.Status {
	s.t.Helper()
	var st engine.Status
	ok(s.t, s.PatchbayJSON(&st, "status"))
	return st
}
