package plan

import (
	"fmt"
	"time"
)

// The steps for twins: bonds in owners' namespaces that carry all by the VF while its link is
// there, and by the pair otherwise.
type (
	// MakeTwin makes the bond, down and without members. Another netdev of the name is
	// refused.
	MakeTwin struct{ Endpoint Endpoint }
	// JoinTwin puts an end into the bond that it names, where it comes up: the end of the
	// pair of a port, or, without one, a VF, which the bond prefers.
	JoinTwin struct {
		Port     string
		Endpoint Endpoint
	}
	// AwaitTwin returns when the bond carries all by the VF, the VF is gone, or patience ends: it
	// may have no link, and then the bond goes by the pair.
	AwaitTwin struct {
		Endpoint Endpoint
		Patience time.Duration
	}
	// DeleteTwin removes the bond. Without bond or namespace it is done.
	DeleteTwin struct{ Endpoint Endpoint }
)

func (MakeTwin) step()   {}
func (JoinTwin) step()   {}
func (AwaitTwin) step()  {}
func (DeleteTwin) step() {}

func (s MakeTwin) String() string {
	e := s.Endpoint
	return fmt.Sprintf("ip -n %s link add %s address %s mtu %d type bond mode active-backup miimon %d primary_reselect always", e.Netns, e.Name, e.MAC, e.MTU, TwinMonitor)
}

func (s JoinTwin) String() string {
	e := s.Endpoint
	text := fmt.Sprintf("ip -n %s link set %s down master %s", e.Netns, e.Name, e.Bond)
	if s.Port == "" {
		text += fmt.Sprintf(" && ip -n %s link set %s type bond primary %s", e.Netns, e.Bond, e.Name)
	}
	return text
}

func (s AwaitTwin) String() string {
	return fmt.Sprintf("ip -n %s monitor link dev %s", s.Endpoint.Netns, s.Endpoint.Bond)
}

func (s DeleteTwin) String() string {
	return fmt.Sprintf("ip -n %s link delete dev %s", s.Endpoint.Netns, s.Endpoint.Name)
}

// TwinMonitor is how often a twin looks at its members' links, in milliseconds.
const TwinMonitor = 100

// TwinPatience is for how long who gives an owner a VF waits for its link.
const TwinPatience = 5 * time.Second

func (d *differ) twinsGone() {
	for _, id := range sorted(d.observed.Twins) {
		if _, keep := d.desired.Twins[id]; !keep {
			d.add(DeleteTwin{d.observed.Twins[id]})
		}
	}
}

// twins makes those that are missing, before their members are.
func (d *differ) twins() {
	for _, id := range sorted(d.desired.Twins) {
		if _, there := d.observed.Twins[id]; !there {
			d.add(MakeTwin{d.desired.Twins[id]})
		}
	}
}

// twinsUp brings them to what is wanted, when they have their members.
func (d *differ) twinsUp() {
	for _, id := range sorted(d.desired.Twins) {
		want := d.desired.Twins[id]
		have, there := d.observed.Twins[id]
		if !there {
			have = Endpoint{Netns: want.Netns, Name: want.Name, MAC: want.MAC, MTU: want.MTU}
		}
		at := At{Netns: want.Netns, Name: want.Name}
		d.dropRoutes(at, have.Routes, want.Routes)
		d.endpoint("", want, have)
	}
}
