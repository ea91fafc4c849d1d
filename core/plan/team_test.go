package plan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
)

// nicMAC is the address of nic1, nic2 or nic3. Teams have that of nic1.
func nicMAC(n int) vswitch.MAC { return vswitch.MAC{0x52, 0x54, 0, 0, 0, byte(n)} }

// teamHost is a host with three NICs.
func teamHost() *kernel.Fake {
	var nics []kernel.Netdev
	for n := 1; n <= 3; n++ {
		nics = append(nics, kernel.Netdev{Name: fmt.Sprint("nic", n), MAC: nicMAC(n), MTU: 1500, Up: true, Carrier: true, Ethernet: true})
	}
	return kernel.NewFake(kernel.FakeConfig{
		Netdevs:      nics,
		Capabilities: kernel.Capabilities{PortLocked: true, VLANFiltering: true, BridgeRules: true, NAT: true, Bonding: true},
	})
}

// teamOf is a bond, whose members are NICs that were up.
func teamOf(name string, options plan.BondOptions, members ...string) plan.State {
	b := plan.Bond{
		Name: name, MAC: nicMAC(1), MTU: 1500, Alias: vswitch.AliasPrefix + "team name=" + name, Up: true, Options: options,
	}
	b.Options.Monitor = 100
	for _, m := range members {
		b.Members = append(b.Members, plan.Member{Name: m, Released: plan.Released{Up: true}})
	}
	return plan.State{
		Bonds: map[string]plan.Bond{name: b},
		Ports: map[string]plan.Port{name: {Name: name, MTU: 1500, Up: true}}, // unless a switch has it
	}
}

// hostOn is a switch whose host port has the address of nic1: the host has moved from it.
func hostOn(uplink string) plan.State {
	s := all(switchOf("ext"), adopted("ext", uplink), hostPort("ext"))
	p := s.Ports[vswitch.HostPortSwitchEnd("ext")]
	p.FDB, p.Endpoint.MAC = []vswitch.MAC{nicMAC(1)}, nicMAC(1)
	s.Ports[p.Name] = p
	return s
}

// teamStates are states between which any transition must work.
func teamStates() map[string]plan.State {
	var (
		standby = plan.BondOptions{Mode: "active-backup", Reselect: "failure"}
		static  = plan.BondOptions{Mode: "balance-xor", Hash: "layer3+4"}
		lacp    = plan.BondOptions{Mode: "802.3ad", Hash: "layer2+3", MinLinks: 1}
		slow    = plan.BondOptions{Mode: "802.3ad", Hash: "layer2+3", MinLinks: 1, LACPSlow: true}
		primary = standby
	)
	primary.Primary = "nic2"
	return map[string]plan.State{
		"nothing":              {},
		"nic":                  hostOn("nic1"),
		"standby":              teamOf("team0", standby, "nic1", "nic2"),
		"primary":              teamOf("team0", primary, "nic1", "nic2", "nic3"),
		"lacp":                 teamOf("team0", lacp, "nic1", "nic2"),
		"two":                  all(teamOf("team0", standby, "nic1"), teamOf("team1", lacp, "nic3", "nic2")),
		"two, swapped":         all(teamOf("team1", standby, "nic1"), teamOf("team0", static, "nic3", "nic2")),
		"under switch":         all(hostOn("team0"), teamOf("team0", standby, "nic1", "nic2")),
		"under switch, static": all(hostOn("team0"), teamOf("team0", static, "nic1", "nic2")),
		"under switch, lacp":   all(hostOn("team0"), teamOf("team0", lacp, "nic2", "nic3")),
		"under switch, slow":   all(hostOn("team0"), teamOf("team0", slow, "nic3", "nic1")),
		"under switch, empty":  all(hostOn("team0"), teamOf("team0", lacp)),
	}
}

// TestTeamTransitions goes from every state of teams to every other one: among them are
// those in which a bond is without members for a moment, and the bridge that it is a port
// of takes the address of the host's port for the bond's. Then it does the same with a
// process that dies before each step.
func TestTeamTransitions(t *testing.T) {
	eachTransition(t, teamStates(), func(t *testing.T, from, to plan.State) {
		host := teamHost()
		reach(t, host, from, plan.State{})
		reach(t, host, to, from)
		for n := 1; dieAndRecover(t, teamHost, from, to, n); n++ {
		}
	})
}

// TestAnnouncedWithAllMembers: before the host's NIC became a member somebody outside may
// have learned the address of another one that has become a member, and lost it.
func TestAnnouncedWithAllMembers(t *testing.T) {
	address := item("192.0.2.5/24")
	standby := plan.BondOptions{Mode: "active-backup"}
	for netdev, want := range map[string]plan.State{
		"pbh-ext": all(hostOn("team0"), teamOf("team0", standby, "nic1", "nic2")),
		"team0":   teamOf("team0", standby, "nic1", "nic2"),
	} {
		t.Run(netdev, func(t *testing.T) {
			host := teamHost()
			host.SetAddressing("nic1", plan.Addressing{Items: []plan.Item{address}})
			want.Hosts = map[string]plan.Addressing{"nic1": {}, netdev: {Items: []plan.Item{address}}}
			have := plan.State{Hosts: map[string]plan.Addressing{"nic1": {Items: []plan.Item{address}}}}
			said := words(steps(t, host, want, have))
			if joined := strings.Index(said, "nic1 master team0"); joined < 0 || strings.LastIndex(said, "arping") < joined {
				t.Errorf("the host is not announced when all members are there:\n%s", said)
			}
		})
	}
}

// TestTeamTransitionsOnLinux walks through the same states on a kernel.
func TestTeamTransitionsOnLinux(t *testing.T) {
	guest.Needs(t, guest.Bonding)
	enterNetns(t)
	for n := 1; n <= 3; n++ {
		mac := nicMAC(n)
		makeNetdev(t, fmt.Sprint("nic", n), mac[:])
	}
	walkOnLinux(t, teamStates(), nil, 60)
}
