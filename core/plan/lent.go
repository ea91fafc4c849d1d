package plan

import (
	"fmt"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Lent is a netdev of the host's, a VF, that an owner has in its own namespace instead of
// the end of a pair. It is no bridge's port. Its alias tells whose it is.
type Lent struct {
	Netdev   string // its name in the host's namespace
	Endpoint Endpoint
}

// The steps for netdevs that are lent.
type (
	// LendNetdev moves a netdev into the owner's namespace, under the owner's name and with
	// the alias. One that is there already, by its alias, is fine. One that has another MAC
	// address than the endpoint is refused: whoever has made it should have set it.
	LendNetdev struct{ Lent Lent }
	// ReturnNetdev moves it back under its own name, down and without the alias. Where there
	// is none with the alias, or no namespace any more, it has come back by itself.
	ReturnNetdev struct{ Lent Lent }
)

func (LendNetdev) step()   {}
func (ReturnNetdev) step() {}

func (s LendNetdev) String() string {
	e := s.Lent.Endpoint
	return fmt.Sprintf("ip link set dev %s netns %s name %s alias %q", s.Lent.Netdev, e.Netns, e.Name, e.Alias)
}

func (s ReturnNetdev) String() string {
	e := s.Lent.Endpoint
	return fmt.Sprintf("ip -n %s link set dev %s netns 1 name %s alias \"\"", e.Netns, e.Name, s.Lent.Netdev)
}

// returns brings back what is not to be lent any more.
func (d *differ) returns() {
	for _, id := range sorted(d.observed.Lent) {
		if _, keep := d.desired.Lent[id]; !keep {
			d.add(ReturnNetdev{d.observed.Lent[id]})
		}
	}
}

// lends brings what is lent to what is wanted. Its MAC address stays as the NIC has it.
func (d *differ) lends() {
	for _, id := range sorted(d.desired.Lent) {
		want := d.desired.Lent[id]
		have, there := d.observed.Lent[id]
		if !there {
			d.add(LendNetdev{want})
			have.Endpoint = Endpoint{Netns: want.Endpoint.Netns, Name: want.Endpoint.Name, Alias: want.Endpoint.Alias}
		}
		joins := want.Endpoint.Bond != have.Endpoint.Bond
		end := want.Endpoint
		end.MAC, have.Endpoint.MAC = vswitch.MAC{}, vswitch.MAC{}
		at := At{Netns: end.Netns, Name: end.Name}
		d.dropRoutes(at, have.Endpoint.Routes, end.Routes)
		d.endpoint("", end, have.Endpoint)
		if joins {
			d.add(AwaitTwin{Endpoint: want.Endpoint, Patience: TwinPatience})
			d.add(DeleteFDB{Port: id, MAC: want.Endpoint.MAC})
		}
	}
}

// dropRoutes takes away the routes of an end that are not wanted.
func (d *differ) dropRoutes(at At, have, wanted []vswitch.Route) {
	for _, r := range have {
		if !containsRoute(wanted, r) {
			d.add(DeleteRoute{At: at, Route: r})
		}
	}
}

func containsRoute(wanted []vswitch.Route, r vswitch.Route) bool {
	for _, w := range wanted {
		if sameRoute(w, r) {
			return true
		}
	}
	return false
}
