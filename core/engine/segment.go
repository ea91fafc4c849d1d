package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file lets a switch grow past the ports of one bridge, and shrink again: see
// vswitch.Load. An Attach that is given a port on a segment that is not there yet has
// the switch made again under its lock, which makes the segment; the last one goes,
// once it is empty and not needed soon, when a port is detached, and at the latest
// with GC.
//
// A frame to an address that a segment does not know goes over its trunk to the root.
// The root knows the addresses of all guests: those on a segment are entries that
// point to its trunk. They belong to the guests' ports and come and go with them.
// Broadcasts go by relays instead, from segment to segment: see core/vswitch/segment.go.

// extent is how many further segments a switch may have in the kernel, and how many
// it is to have.
type extent struct{ had, want int }

// wholeState is a switch with its further segments 1 to n.
func wholeState(r store.SwitchRecord, caps kernel.Capabilities, n int) plan.State {
	return plan.Union(switchState(r, caps), segmentState(r, n))
}

// segmentState are the further segments 1 to n of a switch and their trunks, without
// guests' entries.
func segmentState(r store.SwitchRecord, n int) plan.State {
	s := plan.State{Bridges: make(map[string]plan.Bridge), Ports: make(map[string]plan.Port)}
	for k := 1; k <= n; k++ {
		bridge, number := vswitch.SegmentName(r.Name, k), strconv.Itoa(k)
		s.Bridges[bridge] = plan.Bridge{
			Name: bridge, MAC: vswitch.DerivedMAC("segment", number, r.BridgeMAC.String()), MTU: r.EffectiveMTU, Up: true,
			Alias: vswitch.Alias("bridge", r.Name, "segment="+number),
		}
		atRoot, atSegment := trunk(r, k)
		before, behind := relay(r, k)
		for _, p := range []plan.Port{atRoot, atSegment, before, behind} {
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

// entryState is the port's entry at the root, on the trunk of its segment.
func entryState(p vswitch.Port, r store.SwitchRecord) plan.State {
	s := around(p, r)
	for name, t := range s.Ports {
		t.FDB = []vswitch.MAC{p.MAC}
		s.Ports[name] = t
	}
	return s
}

// withoutEntries is what was seen besides a port, without guests' entries.
func withoutEntries(seen plan.State, port string) plan.State {
	rest := plan.State{Ports: make(map[string]plan.Port)}
	for name, p := range seen.Ports {
		if name != port {
			p.FDB = nil
			rest.Ports[name] = p
		}
	}
	return rest
}

// extents reads, for the transaction's switches, how far they reach and how far they
// shall reach, which follows from the ports that they have.
func (t *transaction) extents(tx *store.Tx, sizes vswitch.SegmentSizes) error {
	t.segments = make(map[string]extent)
	for _, name := range t.names() {
		was, _, err := tx.Realised(name)
		if err != nil {
			return err
		}
		load, err := tx.Load(name)
		if err != nil {
			return err
		}
		t.segments[name] = extent{had: was.Segments, want: load.Wanted(sizes)}
	}
	return nil
}

// standing is extents for a look at a switch: it shall reach as far as it does.
func (t *transaction) standing(tx *store.Tx) error {
	t.segments = make(map[string]extent)
	for _, name := range t.names() {
		was, _, err := tx.Realised(name)
		if err != nil {
			return err
		}
		t.segments[name] = extent{had: was.Segments, want: was.Segments}
	}
	return nil
}

// joinGuests gives the trunks of the transaction's switches the guests' entries that
// they lack: a trunk that is made again has none. Each is looked at under its port's
// lock, since a guest may go at any time, and its entry with it.
func (e *Engine) joinGuests(ctx context.Context, t *transaction) error {
	for _, r := range t.news() {
		if t.segments[r.Name].want == 0 {
			continue
		}
		ports, err := e.portsOn(r.Name)
		if err != nil {
			return err
		}
		missing, err := e.unjoined(ctx, r, ports)
		if err != nil {
			return err
		}
		for _, p := range missing {
			if err := e.joinGuest(ctx, p.ID, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// unjoined are the ports whose entry at the root is not there.
func (e *Engine) unjoined(ctx context.Context, r store.SwitchRecord, ports []vswitch.Port) (missing []vswitch.Port, err error) {
	scope := plan.State{Ports: make(map[string]plan.Port)}
	names := make(map[int]string)
	for _, p := range ports {
		if p.Segment == 0 {
			continue
		}
		if names[p.Segment] == "" {
			t, _ := trunk(r, p.Segment)
			names[p.Segment] = t.Name
		}
		t := scope.Ports[names[p.Segment]]
		t.FDB = append(t.FDB, p.MAC)
		scope.Ports[names[p.Segment]] = t
	}
	if len(scope.Ports) == 0 {
		return nil, nil
	}
	seen, err := e.kernel.Observe(ctx, scope)
	if err != nil {
		return nil, err
	}
	joined := make(map[vswitch.MAC]bool)
	for _, t := range seen.Ports {
		for _, mac := range t.FDB {
			joined[mac] = true
		}
	}
	for _, p := range ports {
		if p.Segment > 0 && !joined[p.MAC] {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

func (e *Engine) joinGuest(ctx context.Context, id string, r store.SwitchRecord) error {
	return e.withGuest(id, r, func(p vswitch.Port) error {
		return e.kernel.Apply(ctx, plan.Diff(entryState(p, r), around(p, r)))
	})
}

// withGuest calls fn under a port's lock unless the port has gone from the switch.
func (e *Engine) withGuest(id string, r store.SwitchRecord, fn func(vswitch.Port) error) error {
	unlock, err := e.store.LockPort(id)
	if err != nil {
		return err
	}
	defer unlock()
	var p vswitch.Port
	err = e.store.View(func(tx *store.Tx) (err error) {
		p, err = tx.Port(id)
		return err
	})
	if errors.Is(err, vswitch.NotFound) || err == nil && p.Switch != r.Name {
		return nil
	}
	if err != nil {
		return err
	}
	return fn(p)
}

// lostEntries is the plan that gives guests who are attached their entries at the root
// back. Ports that come and go meanwhile are none of it.
func (e *Engine) lostEntries(ctx context.Context, r store.SwitchRecord) (steps []plan.Step, err error) {
	ports, err := e.portsOn(r.Name)
	if err != nil {
		return nil, err
	}
	missing, err := e.unjoined(ctx, r, ports)
	for _, p := range missing {
		err = errors.Join(err, e.withGuest(p.ID, r, func(p vswitch.Port) error {
			want := entryState(p, r)
			scope := plan.Union(want, plan.State{Ports: map[string]plan.Port{p.Netdev: {}}})
			seen, err := e.kernel.Observe(ctx, scope)
			if _, attached := seen.Ports[p.Netdev]; attached {
				delete(seen.Ports, p.Netdev)
				steps = append(steps, plan.Diff(want, seen)...)
			}
			return err
		}))
	}
	return steps, err
}

// strangers refuses to make segments whose netdevs' names somebody else has. It goes
// before the intent: what was begun before is ours, whatever a killed process has made
// of it.
func (e *Engine) strangers(ctx context.Context, t *transaction) error {
	if err := e.store.View(func(tx *store.Tx) error { return t.extents(tx, e.sizes) }); err != nil {
		return err
	}
	for _, r := range t.news() {
		x := t.segments[r.Name]
		for k := x.had + 1; k <= x.want; k++ {
			atRoot, atSegment := vswitch.TrunkNames(r.Name, k)
			before, behind := vswitch.RelayNames(r.Name, k)
			if err := e.netdevsFree(ctx, r.Name, vswitch.SegmentName(r.Name, k), atRoot, atSegment, before, behind); err != nil {
				return err
			}
		}
	}
	return nil
}

// shrink removes the further segments that a switch needs no more. Of many who notice
// at once, the first does it for all.
func (e *Engine) shrink(ctx context.Context, name string) error {
	unlock, err := e.lockSwitches(name)
	if err != nil {
		return err
	}
	defer unlock()
	if names, err := e.outgrown(); err != nil || !slices.Contains(names, name) {
		return err
	}
	r, err := e.record(name)
	if errors.Is(err, vswitch.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	caps, err := e.capabilities(ctx)
	if err != nil {
		return err
	}
	if _, err := e.repairSwitch(ctx, r, caps); err != nil {
		return fmt.Errorf("switch %s keeps a segment that it does not need: %w", name, err)
	}
	return nil
}

// tidySegments removes the further segments that switches need no more, and what is left
// of those that nobody knows.
func (e *Engine) tidySegments(ctx context.Context, netdevs []kernel.Netdev) (removed []string, err error) {
	names, err := e.outgrown()
	for _, name := range names {
		err = errors.Join(err, e.shrink(ctx, name))
	}
	removed, orphans := e.orphanSegments(ctx, netdevs)
	return removed, errors.Join(err, orphans)
}

// grown reports whether somebody else has made the segment that a switch needs.
func (e *Engine) grown(name string) (grown bool, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		was, found, err := tx.Realised(name)
		if err != nil {
			return err
		}
		load, err := tx.Load(name)
		grown = found && !was.Changing && was.Segments >= load.Wanted(e.sizes)
		return err
	})
	return grown, err
}

// outgrown are the switches that have more segments than they need.
func (e *Engine) outgrown() (names []string, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		switches, err := tx.Switches()
		if err != nil {
			return err
		}
		for _, r := range switches {
			was, _, err := tx.Realised(r.Name)
			if err != nil {
				return err
			}
			if was.Segments == 0 {
				continue
			}
			load, err := tx.Load(r.Name)
			if err != nil {
				return err
			}
			if load.Wanted(e.sizes) < was.Segments {
				names = append(names, r.Name)
			}
		}
		return nil
	})
	return names, err
}

// orphanSegments removes what is left of segments that no switch has: the bridges, by
// their alias, that no guest with a carrier is on.
func (e *Engine) orphanSegments(ctx context.Context, netdevs []kernel.Netdev) (removed []string, err error) {
	used := make(map[string]bool) // bridges with somebody on them
	for _, n := range netdevs {
		joint := strings.HasPrefix(n.Alias, vswitch.AliasPrefix+"trunk ") || strings.HasPrefix(n.Alias, vswitch.AliasPrefix+"relay ")
		if n.Carrier && !joint {
			used[n.Master] = true
		}
	}
	for _, n := range netdevs {
		name, segment, ok := segmentOf(n.Alias)
		if !ok || n.Kind != "bridge" || used[n.Name] {
			continue
		}
		gone, err := e.removeOrphanSegment(ctx, name, segment, n.Name)
		if err != nil {
			return removed, err
		}
		if gone {
			removed = append(removed, n.Name)
		}
	}
	return removed, nil
}

func (e *Engine) removeOrphanSegment(ctx context.Context, name string, segment int, bridge string) (bool, error) {
	unlock, err := e.lockSwitches(name)
	if err != nil {
		return false, nil //nolint:nilerr // an alias that names no switch is a stranger's
	}
	defer unlock()
	var was store.Realised
	err = e.store.View(func(tx *store.Tx) (err error) {
		was, _, err = tx.Realised(name)
		return err
	})
	if err != nil || segment <= was.Segments || bridge != vswitch.SegmentName(name, segment) {
		return false, err
	}
	atRoot, _ := vswitch.TrunkNames(name, segment)
	before, _ := vswitch.RelayNames(name, segment)
	err = e.kernel.Apply(ctx, []plan.Step{plan.DeleteNetdev{Name: atRoot}, plan.DeleteNetdev{Name: before}, plan.DeleteBridge{Name: bridge}})
	return err == nil, err
}

// segmentOf reads the alias of a further segment's bridge.
func segmentOf(alias string) (name string, segment int, ok bool) {
	rest, ours := strings.CutPrefix(alias, vswitch.AliasPrefix+"bridge switch=")
	name, number, more := strings.Cut(rest, " segment=")
	segment, err := strconv.Atoi(number)
	return name, segment, ours && more && err == nil && segment > 0 && segment <= vswitch.MaxSegments
}
