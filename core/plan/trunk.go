package plan

import (
	"cmp"
	"maps"
	"slices"
)

// A trunk is a pair whose two ends are ports of two bridges. The end with an Endpoint
// makes the pair and is deleted; the other one is configured as any port.

// inOrder lists ports as they are to be made: trunks before what sends over them, and
// of those the ends that make the pair before those that are made with it; and an uplink
// before ports that may have its address, since where it goes the bridge takes that for
// its own.
func inOrder(ports map[string]Port) []string {
	rank := func(p Port) int {
		switch {
		case p.Trunk && p.Endpoint != nil:
			return 0
		case p.Trunk:
			return 1
		case p.Endpoint == nil:
			return 2
		}
		return 3
	}
	return slices.SortedFunc(maps.Keys(ports), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(ports[a]), rank(ports[b])), cmp.Compare(a, b))
	})
}

// lostHalves are the ends that are to be made with their pair and are there without
// it: their other end was renamed, or the pair is replaced.
func lostHalves(desired, observed map[string]Port) map[string]bool {
	lost := make(map[string]bool)
	for name, want := range desired {
		if !want.Trunk || want.Endpoint == nil {
			continue
		}
		have, exists := observed[name]
		if _, half := observed[want.Endpoint.Name]; half && (!exists || elsewhere(want, have)) {
			lost[want.Endpoint.Name] = true
		}
	}
	return lost
}

// takenAlong are the ends in the host's namespace that go when a pair is removed by
// its other end.
func takenAlong(desired, observed map[string]Port) map[string]bool {
	taken := make(map[string]bool)
	for name, have := range observed {
		if _, keep := desired[name]; !keep && have.Endpoint != nil && have.Endpoint.Netns == "" {
			taken[have.Endpoint.Name] = true
		}
	}
	return taken
}

// awaitTrunks waits until the bridges forward on trunks that were brought up: what
// comes up behind them is heard at once.
func (d *differ) awaitTrunks() {
	for _, name := range d.trunk {
		d.add(AwaitPort{Name: name})
	}
	d.trunk = nil
}
