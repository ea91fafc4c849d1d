package engine

import (
	"strconv"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// A switch grows past the ports of one bridge by further segments, see vswitch.Load:
// this file says what they are in the kernel, extent.go how many there are, and
// guestentry.go what their guests have at the root.
//
// A frame to an address that a segment does not know goes over its trunk to the root.
// The root knows the addresses of all guests: those on a segment are entries that
// point to its trunk. They belong to the guests' ports and come and go with them.
// Broadcasts go by relays instead, from segment to segment: see core/vswitch/segment.go.

// wholeState is a switch with its further segments 1 to n.
func wholeState(r store.SwitchRecord, caps kernel.Capabilities, x extent) plan.State {
	return plan.Union(switchState(r, caps, x.carried), segmentState(r, caps, x))
}

// segmentState are the further segments 1 to n of a switch and their trunks, without
// guests' entries.
func segmentState(r store.SwitchRecord, caps kernel.Capabilities, x extent) plan.State {
	s := plan.State{Bridges: make(map[string]plan.Bridge), Ports: make(map[string]plan.Port)}
	for k := 1; k <= x.want; k++ {
		bridge, number := vswitch.SegmentName(r.Name, k), strconv.Itoa(k)
		s.Bridges[bridge] = plan.Bridge{
			Name: bridge, MAC: vswitch.DerivedMAC("segment", number, r.BridgeMAC.String()), MTU: r.EffectiveMTU, Up: true,
			Alias: vswitch.Alias("bridge", r.Name, "segment="+number), VLANFiltering: caps.VLANFiltering,
		}
		atRoot, atSegment := trunk(r, k)
		before, behind := relay(r, k)
		for _, p := range []plan.Port{atRoot, atSegment, before, behind} {
			p.VLANs = carrying(r, caps, x.carried)
			s.Ports[p.Name] = p
		}
	}
	return s
}

// trunk joins a further segment to the root for what goes to one address. At the root it
// takes what is for the segment's guests and nothing else. At the segment it is the way
// to every address that is no port's.
func trunk(r store.SwitchRecord, segment int) (atRoot, atSegment plan.Port) {
	atRoot, atSegment = joint(r, segment, "trunk")
	atRoot.Name, atSegment.Name = vswitch.TrunkNames(r.Name, segment)
	atRoot.Bridge = vswitch.BridgeName(r.Name)
	atRoot.NoBroadcast, atRoot.NoMulticast = true, true
	atSegment.NoBroadcast, atSegment.NoMulticast, atSegment.Flood = true, true, true
	atRoot.Endpoint = &plan.Endpoint{Name: atSegment.Name, MAC: atSegment.MAC, MTU: r.EffectiveMTU}
	return atRoot, atSegment
}

// relay joins a further segment to the one before it for broadcasts and multicasts.
func relay(r store.SwitchRecord, segment int) (before, atSegment plan.Port) {
	before, atSegment = joint(r, segment, "relay")
	before.Name, atSegment.Name = vswitch.RelayNames(r.Name, segment)
	before.Bridge = vswitch.SegmentName(r.Name, segment-1)
	before.Endpoint = &plan.Endpoint{Name: atSegment.Name, MAC: atSegment.MAC, MTU: r.EffectiveMTU}
	return before, atSegment
}

// joint is what trunks and relays have in common. The end that is nearer to the root is
// in the group of the switch's ports: reports of listeners do not go that way. The
// other end is in the uplinks' group: by it they reach the root, and an uplink there.
func joint(r store.SwitchRecord, segment int, role string) (near, far plan.Port) {
	number := strconv.Itoa(segment)
	near = plan.Port{
		Alias: vswitch.Alias(role, r.Name, "segment="+number), Group: vswitch.Group(r.Number), MTU: r.EffectiveMTU, Up: true,
		MAC: vswitch.DerivedMAC(role, number, r.BridgeMAC.String()), Trunk: true,
	}
	far = near
	far.Bridge, far.Group = vswitch.SegmentName(r.Name, segment), vswitch.UplinkGroup
	far.MAC = vswitch.DerivedMAC(role+", far end", number, r.BridgeMAC.String())
	return near, far
}

// around is what a port leans on besides its bridge and does not make: the trunk of
// its segment at the root, without an entry for the port. On the root it is nothing.
func around(p vswitch.Port, r store.SwitchRecord) plan.State {
	if p.Segment == 0 {
		return plan.State{}
	}
	atRoot, _ := trunk(r, p.Segment)
	return plan.State{Ports: map[string]plan.Port{atRoot.Name: atRoot}}
}
