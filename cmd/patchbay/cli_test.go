package main

import (
	"context"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/api"
	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fakeHost is a host in memory and the command to run on it.
type fakeHost struct {
	t      *testing.T
	kernel *kernel.Fake
	client *api.Client
	root   bool
	stdin  string
}

func newFakeHost(t *testing.T) *fakeHost {
	t.Helper()
	fake := kernel.NewFake(kernel.FakeConfig{
		Netdevs: []kernel.Netdev{
			{Name: "lo", Loopback: true, Up: true, Carrier: true, MTU: 65536},
			fakeNIC("eth0", 1, "192.0.2.10/24"),
			fakeNIC("eth1", 2),
		},
		Capabilities: kernel.Capabilities{PortLocked: true, BridgeRules: true, GuardRules: true, ACLRules: true, NAT: true, PriorityReset: true, Limits: true, Shares: true, Mirroring: true},
	})
	now := func() time.Time { return time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC) }
	s := store.New(store.Config{
		Dirs:   store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)},
		BootID: "boot-1", MachineID: "machine-1", Now: now,
	})
	client := &api.Client{Verbs: engine.New(engine.Config{Kernel: fake, Store: s, Now: now})}
	return &fakeHost{t: t, kernel: fake, client: client, root: true}
}

func fakeNIC(name string, last byte, addresses ...string) kernel.Netdev {
	n := kernel.Netdev{
		Name: name, MAC: vswitch.MAC{0x52, 0x54, 0, 0x12, 0x34, last},
		MTU: 1500, MaxMTU: 9000, Up: true, Carrier: true, Ethernet: true,
	}
	for _, a := range addresses {
		n.Addresses = append(n.Addresses, netip.MustParsePrefix(a))
	}
	return n
}

// run executes one command line as main does.
func (h *fakeHost) run(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	var out, errs strings.Builder
	c := cli{
		open: func() *api.Client { return h.client }, stdin: strings.NewReader(h.stdin), stdout: &out, stderr: &errs,
		root: h.root, terminal: terminal{unicode: true},
	}
	code = c.run(context.Background(), args)
	return out.String(), errs.String(), code
}

// must is run for what must succeed.
func (h *fakeHost) must(line string) string {
	h.t.Helper()
	stdout, stderr, code := h.run(strings.Fields(line)...)
	if code != exitOK || stderr != "" {
		h.t.Fatalf("patchbay %s: exit code %d\n%s%s", line, code, stdout, stderr)
	}
	return stdout
}

// attach puts a container on a switch, as the CNI plugin does.
func (h *fakeHost) attach(sw, id, subnet string) vswitch.Port {
	h.t.Helper()
	netns := "/run/netns/" + id
	h.kernel.AddNetns(netns)
	a, err := h.client.Attach(context.Background(), engine.AttachRequest{
		Owner:  vswitch.Owner{Kind: vswitch.OwnerContainer, Network: "net", ID: id, Endpoint: "eth0", Netns: netns},
		Switch: sw, Ranges: []vswitch.IPRangeSet{{{Subnet: netip.MustParsePrefix(subnet)}}},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return a.Port
}

// shareWAN has a guest on wan who is promised a part, and a guest who is not.
func (h *fakeHost) shareWAN() {
	h.t.Helper()
	h.kernel.SetSpeed("eth1", 1000)
	mail := h.attach("wan", "mail", "10.0.20.0/24")
	h.attach("wan", "guest", "10.0.20.0/24")
	h.must("port set mail --min-weight 60")
	h.kernel.SetShareCounters("eth1", kernel.ShareCounters{
		{}: {Packets: 17, Bytes: 1700}, mail.MAC: {Packets: 900, Bytes: 1 << 20, Dropped: 3, Borrowed: 450, Waiting: 3028},
	})
}

// furnish makes a switch of each type with guests.
func (h *fakeHost) furnish() {
	h.t.Helper()
	h.must("switch add wan --uplink eth1")
	h.must("switch add lan --type internal --gateway 10.0.10.1/24 --masquerade=ipv4 --notes guests")
	h.must("switch add lab --type private --mtu 9000")
	h.attach("lan", "web-1", "10.0.10.0/24")
	h.attach("lan", strings.Repeat("4f5a9d1e8b2c7a60", 4), "10.0.10.0/24")
	h.attach("lab", "db", "172.16.0.0/24")
}

// countSome lets traffic go by, some of which guards drop.
func (h *fakeHost) countSome() {
	h.t.Helper()
	ports, err := h.client.Ports(context.Background(), "lab")
	if err != nil {
		h.t.Fatal(err)
	}
	h.must("port set db --dhcp-guard --storm-limit 100")
	h.kernel.SetCounters(ports[0].Netdev, kernel.PortCounters{
		Counters: kernel.Counters{RxPackets: 1200, RxBytes: 1 << 20, TxPackets: 1, TxBytes: 60, TxDropped: 7, RxErrors: 1},
		Guards:   kernel.GuardDrops{DHCP: 4, Storm: 90},
	})
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("output differs (-want +got):\n%s", diff)
	}
}

func TestOutput(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	h.countSome()
	for name, line := range map[string]string{
		"switch-list":          "switch list",
		"switch-show-external": "switch show wan",
		"switch-show-internal": "switch show lan",
		"switch-show-private":  "switch show lab",
		"switch-show-yaml":     "switch show lan -o yaml",
		"port-list":            "port list",
		"port-list-switch":     "port list --switch lab",
		"port-show":            "port show web-1",
		"port-show-host":       "port show pbp-lan",
		"port-stats":           "port stats",
		"port-stats-port":      "port stats db",
		"mac-list":             "mac list",
		"mac-pool-show":        "mac pool show",
		"status":               "status",
		"topology":             "topology",
		"topology-ascii":       "topology --ascii",
		"exit-codes":           "help exit-codes",
		"explain-external":     "explain wan",
		"explain-internal":     "explain lan",
		"explain-private":      "explain lab",
		"explain-port":         "explain web-1",
		"explain-host-port":    "explain pbp-lan",
		"help-apply":           "help apply",
		"help":                 "--help",
		"help-switch-add":      "help switch add",
	} {
		t.Run(name, func(t *testing.T) {
			bridgeMAC := regexp.MustCompile(`0e(:[0-9a-f]{2}){5}`) // another one each time
			golden(t, name, bridgeMAC.ReplaceAllString(h.must(line), "0e:xx:xx:xx:xx:xx"))
		})
	}
}

// What has left by a shared uplink stands beside what ports have counted.
func TestUplinkTraffic(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	h.shareWAN()
	for name, line := range map[string]string{
		"port-stats-shared":  "port stats",
		"port-stats-minimum": "port stats mail",
		"port-stats-others":  "port stats guest",
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, h.must(line)) })
	}
	if got := h.must("port stats mail -o json"); !strings.Contains(got, `"borrowed": 450`) {
		t.Errorf("JSON does not tell of the uplink:\n%s", got)
	}
}

func TestEmptyHost(t *testing.T) {
	h := newFakeHost(t)
	for line, want := range map[string]string{
		"switch list": "There is no switch. To make one: patchbay switch add NAME --type internal\n",
		"port list":   "There is no port.\n",
		"mac list":    "No MAC address is held.\n",
		"gc":          "nothing to remove\n",

		"switch list -o json": "[]\n",
		"port list -o json":   "[]\n",
		"mac list -o yaml":    "[]\n",
	} {
		if diff := cmp.Diff(want, h.must(line)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
}

// Every verb that changes something says what it did, and once more that there
// was nothing to do.
func TestChanges(t *testing.T) {
	h := newFakeHost(t)
	for _, step := range []struct{ line, want string }{
		{"switch add lan --type internal --gateway 10.0.10.1/24", "switch lan added: internal, MTU 1500 bytes, host port pbh-lan with 10.0.10.1/24\n"},
		{"switch add lan --type internal --gateway 10.0.10.1/24", "switch lan exists already and is as asked\n"},
		{"switch add wan --uplink eth1 --host-access=false", "switch wan added: external, uplink eth1, MTU 1500 bytes, closed to the host\n"},
		{"switch set wan --host-access", "switch wan changed\n  host access  no -> yes, as netdev pbh-wan\n"},
		{"switch set wan --host-access", "switch wan is as asked already\n"},
		{
			"switch set lan --gateway 10.0.11.1/24 --gateway fd00:11::1/64 --masquerade --notes new",
			"switch lan changed\n  gateway     10.0.10.1/24 -> 10.0.11.1/24, fd00:11::1/64\n  masquerade  off -> on\n  notes       - -> new\n",
		},
		{"switch set lan --masquerade=off --gateway=", "switch lan changed\n  gateway     10.0.11.1/24, fd00:11::1/64 -> -\n  masquerade  on -> off\n"},
		{"mac pool set --first 0a:50:42:10:00:00 --last 0a:50:42:10:0f:ff", "MAC pool changed: 0a:50:42:fc:f5:00-0a:50:42:fc:f5:ff -> 0a:50:42:10:00:00-0a:50:42:10:0f:ff, 4096 addresses\n"},
		{"mac pool set --last 0a-50-42-10-0F-FF", "MAC pool is as asked already: 0a:50:42:10:00:00-0a:50:42:10:0f:ff, 4096 addresses\n"},
		{"switch delete wan", "switch wan deleted\n"},
		{"switch delete lan -o json", "{\n  \"deleted\": \"lan\"\n}\n"},
	} {
		if diff := cmp.Diff(step.want, h.must(step.line)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.line, diff)
		}
	}
}

func TestPortDelete(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	if got, want := h.must("port delete web-1"), "port web-1 deleted\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if strings.Contains(h.must("port list"), "web-1") {
		t.Error("the port is still listed")
	}
}

func TestGC(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	h.kernel.RemoveNetns("/run/netns/web-1")
	golden(t, "gc", h.must("gc"))
	if got := h.must("gc"); got != "nothing to remove\n" {
		t.Errorf("the second gc says %q", got)
	}
}

func TestStatusNotReady(t *testing.T) {
	h := newFakeHost(t)
	h.must("switch add lan --type internal")
	h.must("mac pool set --first 0a:50:42:10:00:00 --last 0a:50:42:10:00:00")
	h.must("switch add one --type internal")
	stdout, stderr, code := h.run("status")
	if code != exitFailure || stderr != "" {
		t.Errorf("exit code %d with %q on stderr, want %d and nothing", code, stderr, exitFailure)
	}
	golden(t, "status-not-ready", stdout)
}

// A number that means none is shown as nothing, before a change and after.
func TestNoneIsNoNumber(t *testing.T) {
	var was, is engine.SwitchStatus
	is.VLAN = 20
	var teamWas, teamIs engine.TeamStatus
	teamIs.MinLinks = 2
	for want, got := range map[string]*sheet{
		"  VLAN  - -> 20\n": differences(was, is), "  VLAN  20 -> -\n": differences(is, was),
		"  least links  - -> 2\n": teamDifferences(teamWas, teamIs),
	} {
		if got := got.render(terminal{}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestMirrorIsTold(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	if told := h.must("port set web-1 --mirror source"); !strings.Contains(told, "mirror source, copied to nobody: no port") {
		t.Errorf("a source alone: %s", told)
	}
	if status := h.must("status"); !strings.Contains(status, "no port is a mirror destination") {
		t.Errorf("status of a source alone: %s", status)
	}
	other := h.attach("lan", "analyser", "10.0.10.0/24")
	h.must("port set analyser --mirror destination")
	if shown := h.must("port show web-1"); !strings.Contains(shown, "to "+other.Netdev+"\n") || !strings.Contains(shown, "mirror source: ") {
		t.Errorf("a source with a destination: %s", shown)
	}
	if drawn := h.must("topology"); !strings.Contains(drawn, "mirror source") || !strings.Contains(drawn, "mirror destination") {
		t.Errorf("no mark in\n%s", drawn)
	}
	if told := h.must("port set web-1 --mirror none"); strings.Contains(told, "mirror") {
		t.Errorf("none: %s", told)
	}
}

// TestVFAwayIsTold: of a VF that is away, or about to go or come, while its VM migrates, and of a patchbayd that does not
// hear when it is.
func TestVFAwayIsTold(t *testing.T) {
	for want, is := range map[string]vswitch.VMPort{
		"0000:01:10.0 is away while the VM migrates": {VFAway: "0000:01:10.0"},
		"letting go of it":                           {VFTurn: vswitch.VFLeaves}, "nobody has heard the VM by it yet": {VFTurn: vswitch.VFComes},
	} {
		p := engine.PortStatus{Port: vswitch.Port{Owner: vswitch.Owner{Kind: vswitch.OwnerVM}, VM: is}}
		if shown := portSheet(p).render(terminal{}); !strings.Contains(shown, want) {
			t.Errorf("port show of %+v:\n%s", is, shown)
		}
	}
	d := &engine.DaemonStatus{Libvirt: []engine.LibvirtStatus{{URI: "qemu:///system", Connected: true, Deaf: "no libvirt-qemu.so.0"}}}
	if shown := daemonText(d, terminal{}); !strings.Contains(shown, "VFs of VMs that migrate keep their addresses: no libvirt-qemu.so.0") {
		t.Errorf("status:\n%s", shown)
	}
}
