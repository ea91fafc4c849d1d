package vswitch

import (
	"errors"
	"fmt"
)

// A Linux bridge takes 1023 ports and slows down on the way there. A switch has no
// such limit: it is several bridges, its segments. Segment 0 is the root, with the
// uplink, the host port, the first guests and a trunk to every further segment.
// Ports that may send from any address are on the root, whose bridge learns; the
// further ones are told every address.
//
// Trunks carry what goes to one address. Broadcasts go from segment to segment, by
// relays that make a chain of them: over the trunks they would come to all segments
// at once, and of the copies that are made then, one for each guest, the kernel drops
// all beyond net.core.netdev_max_backlog (1000), the answers among them.

// SegmentSizes are how many guests' ports a segment takes before the next one fills.
type SegmentSizes struct {
	Root     int // on the root, of guests bound to their address
	Spoofing int // on the root, of guests that may send from any, or have a standby beside a VF
	Further  int // on each further segment
}

// DefaultSegmentSizes leave the root 273 of its 1023 ports for trunks, the uplink and
// the host. A broadcast reaches two segments at a time: of 250 ports each, two of them
// at once do not come near the backlog's 1000.
func DefaultSegmentSizes() SegmentSizes { return SegmentSizes{Root: 250, Spoofing: 500, Further: 250} }

// MaxSegments is how many further segments a switch has room for on its root.
const MaxSegments = 250

// Load is how many guests' ports there are on each segment of a switch.
type Load struct {
	Root, Spoofing int   // on segment 0
	Further        []int // on segment 1, 2, ...
}

// On is the number of ports of a further segment.
func (l Load) On(segment int) int {
	if segment < 1 || segment > len(l.Further) {
		return 0
	}
	return l.Further[segment-1]
}

// Next is the segment of the next port, the lowest one with room; SwitchFull if
// there is none. See Port.AtRoot.
func (l Load) Next(sizes SegmentSizes, atRoot bool) (int, error) {
	if atRoot {
		if l.Spoofing < sizes.Spoofing {
			return 0, nil
		}
		return 0, &Error{
			Kind: SwitchFull, Err: fmt.Errorf("it has %d ports with macSpoofing or failover, which share one Linux bridge of at most 1023 ports", l.Spoofing),
			Hint: "attach to another switch, or without them",
		}
	}
	if l.Root < sizes.Root {
		return 0, nil
	}
	for k := 1; k <= MaxSegments; k++ {
		if l.On(k) < sizes.Further {
			return k, nil
		}
	}
	return 0, &Error{
		Kind: SwitchFull, Err: errors.New("all of its segments are full, and its first Linux bridge of 1023 ports has no room for the trunk to another one"),
		Hint: "attach to another switch",
	}
}

// Used is the highest segment that has a port.
func (l Load) Used() int {
	for k := len(l.Further); k > 0; k-- {
		if l.On(k) > 0 {
			return k
		}
	}
	return 0
}

// Wanted is how many further segments there should be: those in use, and the one
// that the next port goes to.
func (l Load) Wanted(sizes SegmentSizes) int {
	next, _ := l.Next(sizes, false) // 0 where there is none
	return max(l.Used(), next)
}

// Spare reports whether of the further segments that are made the last can go. It
// stays while little room is left below it, or the next few guests that come and go
// would have it made and removed again each time.
func (l Load) Spare(sizes SegmentSizes, made int) bool {
	if made <= l.Wanted(sizes) {
		return false
	}
	room := max(0, sizes.Root-l.Root)
	for k := 1; k < made; k++ {
		room += max(0, sizes.Further-l.On(k))
	}
	return room > sizes.Further/4
}
