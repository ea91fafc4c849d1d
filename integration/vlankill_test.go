package integration_test

import (
	"testing"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// TestKilledInVLANs is TestKilled for verbs that put a port into VLANs, or take it out, with
// what the switch and its uplink carry for it. It is a sample: a guest is slow.
func TestKilledInVLANs(t *testing.T) {
	guest.Needs(t, guest.VLANs)
	prod := cli("switch", "add", "prod", "--uplink", "eth1")
	add := func(vlan string, of func(*scene) *host.Container) op { return cni("ADD", `"prod","vlan":`+vlan, of) }
	addTwo := cni("ADD", `"prod"`, two)
	for _, x := range []struct {
		sweep
		stride int
	}{
		{sweep{name: "ADD into a VLAN", stage: []op{prod, addTwo}, verb: add(`10`, one), atLeast: 15}, 5},
		{sweep{name: "ADD of a trunk", stage: []op{prod}, verb: add(`"trunk 10-12 native 5"`, one), atLeast: 15}, 6},
		{sweep{name: "ADD into a private VLAN", stage: []op{prod, add(`"promiscuous 100 101"`, two)}, verb: add(`"isolated 100 101"`, one), atLeast: 15}, 6},
		{sweep{name: "DEL out of a VLAN", stage: []op{prod, add(`10`, one)}, verb: cni("DEL", `"prod"`, one), atLeast: 8}, 2},
		// The switch's own VLAN of untagged traffic has to go elsewhere.
		{sweep{name: "port set", stage: []op{prod, add(`11`, one), addTwo}, verb: cli("port", "set", "one", "--vlan", "4094"), atLeast: 20}, 5},
		{sweep{name: "switch set", stage: []op{prod, add(`"untagged"`, one), addTwo}, verb: cli("switch", "set", "prod", "--vlan", "20"), guest: true, atLeast: 10}, 5},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newScene(t)
			s.sweep(x.sweep, x.verb, x.stride, s.dies(x.verb))
		})
	}
}
