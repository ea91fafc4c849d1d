package plan_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// A twin is made before its members, gets addresses when it has them, and prefers what is
// lent; what is lent leaves and comes back without a change of anything else.
func TestTwin(t *testing.T) {
	mac := vswitch.MAC{0x0a, 0x50, 0x42, 0, 0, 9}
	bond := plan.Endpoint{Netns: "/c", Name: "eth0", MAC: mac, MTU: 1500, Up: true, Addresses: []plan.Address{{Prefix: netip.MustParsePrefix("10.0.0.5/24")}}}
	pair := plan.Endpoint{Netns: "/c", Name: "swa", MAC: mac, MTU: 1500, Up: true, Bond: "eth0"}
	vf := pair
	vf.Name, vf.Alias = "vfa", "patchbay-vf: port=pba"
	port := plan.Port{Name: "pba", Bridge: "br", Up: true, MTU: 1500, FDB: []vswitch.MAC{mac}, Endpoint: &pair}
	without := plan.State{Twins: map[string]plan.Endpoint{"pba": bond}, Ports: map[string]plan.Port{"pba": port}}
	port.FDB = nil
	with := plan.State{
		Twins: without.Twins, Ports: map[string]plan.Port{"pba": port},
		Lent: map[string]plan.Lent{"pba": {Netdev: "vf0", Endpoint: vf}},
	}
	for name, c := range map[string]struct {
		desired, observed plan.State
		want              []string
	}{
		"from nothing":    {with, plan.State{}, []string{"MakeTwin", "CreateVeth", "SetPort", "JoinTwin", "AwaitPort", "LendNetdev", "SetEndpoint", "JoinTwin", "AwaitTwin", "DeleteFDB", "SetEndpoint", "AddAddress"}},
		"without a VF":    {without, plan.State{}, []string{"MakeTwin", "CreateVeth", "SetPort", "AddFDB", "JoinTwin", "AwaitPort", "SetEndpoint", "AddAddress"}},
		"the VF is lost":  {without, with, []string{"ReturnNetdev", "AddFDB"}},
		"the VF is back":  {with, without, []string{"DeleteFDB", "LendNetdev", "SetEndpoint", "JoinTwin", "AwaitTwin", "DeleteFDB"}},
		"nothing to do":   {with, with, nil},
		"all of it goes":  {plan.State{}, with, []string{"DeleteTwin", "ReturnNetdev", "DeleteNetdev"}},
		"the pair is new": {without, plan.State{Twins: without.Twins}, []string{"CreateVeth", "SetPort", "AddFDB", "JoinTwin", "AwaitPort"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, s := range plan.Diff(c.desired, c.observed) {
				got = append(got, fmt.Sprintf("%T", s)[len("plan."):])
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%v\nwant %v", got, c.want)
			}
		})
	}
}

// Of an end whose address stays nothing is said of one.
func TestEndWithItsAddress(t *testing.T) {
	end := plan.Endpoint{Netns: nsWeb, Name: "eth0", MTU: 1400, Up: true}
	if got, want := (plan.SetEndpoint{Endpoint: end}).String(), "nsenter --net="+nsWeb+" ip link set eth0 mtu 1400 up"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
