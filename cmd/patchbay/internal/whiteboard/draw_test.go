package whiteboard

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

var update = flag.Bool("update", false, "write the golden files anew")

func nic(name string, last byte, addresses ...string) kernel.Netdev {
	n := kernel.Netdev{Name: name, MAC: vswitch.MAC{0x52, 0x54, 0, 0x12, 0x34, last}, MTU: 1500, Up: true, Carrier: true, Ethernet: true}
	for _, a := range addresses {
		n.Addresses = append(n.Addresses, netip.MustParsePrefix(a))
	}
	return n
}

func port(owner vswitch.Owner, last byte, addresses ...string) vswitch.Port {
	p := vswitch.Port{ID: owner.PortID(), Owner: owner, MAC: vswitch.MAC{0x0a, 0x50, 0x42, 0x1c, 0x9d, last}, MTU: 1500}
	for _, a := range addresses {
		p.Addresses = append(p.Addresses, vswitch.Address{Prefix: netip.MustParsePrefix(a)})
	}
	return p
}

func host(sw string, addresses ...string) vswitch.Port {
	return port(vswitch.Owner{Kind: vswitch.OwnerHost, ID: sw, Endpoint: vswitch.HostPortName(sw)}, 0, addresses...)
}

func guest(id string, last byte, addresses ...string) vswitch.Port {
	return port(vswitch.Owner{Kind: vswitch.OwnerContainer, Network: "net", ID: id, Endpoint: "eth0"}, last, addresses...)
}

func connected(s vswitch.Switch, ports ...vswitch.Port) engine.TopologySwitch {
	return engine.TopologySwitch{SwitchStatus: engine.SwitchStatus{Switch: s, EffectiveMTU: 1500}, Attached: ports}
}

func numbered(n int, addresses func(int) []string) []vswitch.Port {
	var ports []vswitch.Port
	for i := range n {
		ports = append(ports, guest(fmt.Sprintf("web-%02d", i+1), byte(i+1), addresses(i)...))
	}
	return ports
}

// in returns the ports with the VLANs of their places; the zero VLAN is untagged.
func in(vlans []vswitch.PortVLAN, ports ...vswitch.Port) []vswitch.Port {
	for i, v := range vlans {
		ports[i].VLAN = v
	}
	return ports
}

func gateways(s ...string) []netip.Prefix {
	var g []netip.Prefix
	for _, a := range s {
		g = append(g, netip.MustParsePrefix(a))
	}
	return g
}

func set(text string) vswitch.VLANSet {
	s, err := vswitch.ParseVLANSet(text)
	if err != nil {
		panic(err)
	}
	return s
}

var (
	no   = false
	ipv4 = func(i int) []string { return []string{fmt.Sprintf("10.0.10.%d/24", i+2)} }
	wan  = vswitch.Switch{Name: "wan", Type: vswitch.External, Uplink: "eth1", Notes: "the lab's rack, port 12"}
	lan  = vswitch.Switch{Name: "lan", Type: vswitch.Internal, Gateway: gateways("10.0.10.1/24", "fd00:10::1/64"), Masquerade: vswitch.Masquerade{IPv4: true, IPv6: true}}
	lab  = vswitch.Switch{Name: "lab", Type: vswitch.Private}
)

func pictures() map[string]engine.Topology {
	down := nic("eth2", 3)
	down.Carrier = false
	many := append([]vswitch.Port{host("lan", "10.0.10.1/24", "fd00:10::1/64")}, numbered(40, func(i int) []string {
		return []string{fmt.Sprintf("10.0.10.%d/24", i+2), fmt.Sprintf("fd00:10::%x/64", i+2)}
	})...)
	hash := strings.Repeat("4f5a9d1e8b2c7a60", 4)
	small := guest("small", 9, "10.0.0.9/24")
	small.MTU = 1400
	return map[string]engine.Topology{
		"nothing":   {},
		"no-switch": {NICs: []kernel.Netdev{nic("eth0", 1, "192.0.2.10/24", "2001:db8::10/64"), nic("eth1", 2), down}},
		"each-type": {
			NICs: []kernel.Netdev{nic("eth0", 1, "192.0.2.10/24"), nic("eth1", 2)},
			Switches: []engine.TopologySwitch{
				connected(lab, guest("db", 5, "172.16.0.2/24"), guest("app", 6, "172.16.0.3/24")),
				connected(lan, host("lan", "10.0.10.1/24", "fd00:10::1/64"), guest("web-1", 3, "10.0.10.2/24", "fd00:10::2/64"), guest("web-2", 4, "10.0.10.3/24", "fd00:10::3/64")),
				connected(wan, host("wan"), guest("proxy", 1, "198.51.100.20/24"), guest("dns", 2)),
			},
		},
		"empty-switches": {
			NICs: []kernel.Netdev{nic("eth1", 2)},
			Switches: []engine.TopologySwitch{
				connected(lab), connected(wan),
				connected(vswitch.Switch{Name: "dmz", Type: vswitch.External, Uplink: "eth9", HostAccess: &no, VLAN: 20}),
				connected(vswitch.Switch{Name: "mgmt", Type: vswitch.Internal}, host("mgmt")),
			},
		},
		"three-nics": {
			NICs: []kernel.Netdev{nic("eth0", 1), nic("enp129s0f1np1", 2), down},
			Switches: []engine.TopologySwitch{
				connected(vswitch.Switch{Name: "blue", Type: vswitch.External, Uplink: "eth0", VLAN: 10}, append([]vswitch.Port{host("blue")}, numbered(3, ipv4)...)...),
				connected(vswitch.Switch{Name: "green", Type: vswitch.External, Uplink: "enp129s0f1np1", HostAccess: &no}, numbered(5, ipv4)...),
				connected(vswitch.Switch{Name: "red", Type: vswitch.External, Uplink: "eth2"}, host("red"), small),
			},
		},
		"vlans": {
			NICs: []kernel.Netdev{nic("eth1", 2)},
			Switches: []engine.TopologySwitch{
				connected(vswitch.Switch{Name: "wan", Type: vswitch.External, Uplink: "eth1", HostAccess: &no}, in([]vswitch.PortVLAN{
					vswitch.AccessVLAN(10), {Mode: vswitch.Trunk, Native: 1, Allowed: set("10-20,30")}, {},
				}, numbered(3, ipv4)...)...),
				connected(lab, in([]vswitch.PortVLAN{
					{Mode: vswitch.Isolated, Primary: 100, Secondary: 101}, {Mode: vswitch.Community, Primary: 100, Secondary: 102}, {},
				}, numbered(12, ipv4)...)...),
			},
		},
		"long-names-in-vlans": {
			NICs: []kernel.Netdev{nic("eth1", 1)},
			Switches: []engine.TopologySwitch{
				connected(vswitch.Switch{Name: "wan", Type: vswitch.External, Uplink: "eth1", HostAccess: &no}, in([]vswitch.PortVLAN{
					vswitch.AccessVLAN(10), {Mode: vswitch.Promiscuous, Primary: 100, Secondaries: set("101-103,110")},
				}, guest(strings.Repeat("long-", 8), 1, "192.168.100.121/24"), guest("a", 2, "192.168.100.122/24"), guest("b", 3), guest("c", 4))...),
			},
		},
		"forty-ports": {Switches: []engine.TopologySwitch{connected(lan, many...), connected(lab, numbered(12, ipv4)...)}},
		"long-names": {
			NICs: []kernel.Netdev{nic("enx0123456789ab", 2)},
			Switches: []engine.TopologySwitch{
				connected(vswitch.Switch{Name: strings.Repeat("production-", 5) + "europe42", Type: vswitch.External, Uplink: "enx0123456789ab", Notes: strings.Repeat("somebody wrote a novel here ", 5)},
					guest(strings.Repeat("a-very-long-container-name-", 4), 1, "10.0.0.2/24"), guest(hash, 2, "10.0.0.3/24")),
				connected(vswitch.Switch{Name: "long6", Type: vswitch.Internal, Gateway: gateways("2001:db8:1234:5678:9abc:def0:1234:5678/64")},
					host("long6", "2001:db8:1234:5678:9abc:def0:1234:5678/64"),
					guest("one", 3, "2001:db8:1234:5678:9abc:def0:1234:aaaa/64", "10.1.2.3/24"), guest("two", 4, "2001:db8:1234:5678:9abc:def0:1234:bbbb/64", "10.1.2.4/24")),
			},
		},
		"teams": {
			NICs:     []kernel.Netdev{nic("team0", 1), nic("eth0", 1), nic("eth1", 2), nic("eth2", 3), nic("eth3", 4), nic("team1", 3), nic("team2", 5), nic("team3", 6)},
			Switches: []engine.TopologySwitch{connected(vswitch.Switch{Name: "wan", Type: vswitch.External, Uplink: "team0"}, host("wan"), guest("dns", 2))},
			Teams: []engine.TeamStatus{
				{Team: vswitch.Team{Name: "team0", Mode: vswitch.TeamActiveStandby, Members: []string{"eth0", "eth1"}}, State: &kernel.TeamState{Members: []kernel.MemberState{
					{Name: "eth0", Up: true}, {Name: "eth1", Up: true, Link: true, InUse: true},
				}}},
				{
					Team: vswitch.Team{Name: "team2", Mode: vswitch.TeamActiveActive, Members: []string{"eth4", "eth5", "eth6"}, Standby: "eth6"},
					State: &kernel.TeamState{Members: []kernel.MemberState{
						{Name: "eth4", Up: true, Link: true, InUse: true}, {Name: "eth5", Up: true}, {Name: "eth6", Up: true, Link: true, InUse: true},
					}},
				},
				{
					Team: vswitch.Team{Name: "team3", Mode: vswitch.TeamActiveActive, Members: []string{"eth7", "eth8"}, Standby: "eth8"},
					State: &kernel.TeamState{Members: []kernel.MemberState{
						{Name: "eth7", Up: true, Link: true, InUse: true}, {Name: "eth8", Up: true, Link: true, Held: true},
					}},
				},
				{Team: vswitch.Team{Name: "team1", Mode: vswitch.TeamLACP, Members: []string{"eth2"}}, State: &kernel.TeamState{Members: []kernel.MemberState{{Name: "eth2"}}}},
			},
		},
		"many-nics": {NICs: func() (all []kernel.Netdev) {
			for i := range 14 {
				all = append(all, nic(fmt.Sprintf("eth%02d", i), byte(i)))
			}
			return all
		}()},
	}
}

func TestDraw(t *testing.T) {
	for name, topology := range pictures() {
		t.Run(name, func(t *testing.T) {
			got := Draw(topology, Style{Columns: 100})
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
				t.Errorf("picture differs (-want +got):\n%s", diff)
			}
		})
	}
}

// Colours are on top: without them the picture is the same.
func TestDrawColors(t *testing.T) {
	for name, topology := range pictures() {
		t.Run(name, func(t *testing.T) {
			colored := Draw(topology, Style{Columns: 100, Color: true})
			if len(topology.NICs)+len(topology.Switches) > 0 && !strings.Contains(colored, "\x1b[1m") {
				t.Error("no name is in bold")
			}
			escapes := regexp.MustCompile(`\x1b\[[0-9]+m`)
			if diff := cmp.Diff(Draw(topology, Style{Columns: 100}), escapes.ReplaceAllString(colored, "")); diff != "" {
				t.Errorf("picture differs (-without +with colours):\n%s", diff)
			}
		})
	}
}

// The picture in ASCII has the same shape, and no line is ever too long.
func TestDrawFits(t *testing.T) {
	for name, topology := range pictures() {
		for columns := 20; columns <= 200; columns += 15 {
			t.Run(fmt.Sprintf("%s/%d", name, columns), func(t *testing.T) {
				unicode := strings.Split(Draw(topology, Style{Columns: columns}), "\n")
				ascii := strings.Split(Draw(topology, Style{Columns: columns, ASCII: true}), "\n")
				if len(unicode) != len(ascii) {
					t.Fatalf("%d lines in Unicode, %d in ASCII", len(unicode), len(ascii))
				}
				for i, l := range unicode {
					if n := utf8.RuneCountInString(l); n > columns || n != len(ascii[i]) {
						t.Errorf("line %d has %d columns in Unicode and %d in ASCII, of at most %d:\n%s\n%s", i, n, len(ascii[i]), columns, l, ascii[i])
					}
				}
			})
		}
	}
}
