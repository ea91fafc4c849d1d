package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file lets a switch grow past the ports of one bridge, and shrink again. An
// Attach that is given a port on a segment that is not there yet has the switch made
// again under its lock, which makes the segment; the last one goes, once it is empty and
// not needed soon, when a port is detached, and at the latest with GC.

// extent is how many further segments a switch may have in the kernel, and how many
// it is to have; and which VLANs of ports it is to carry, and which of these are isolated.
type extent struct {
	had, want            int
	carried, apart       vswitch.VLANSet
	hadCarried, hadApart vswitch.VLANSet
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
		d, err := demand(tx, name, t.asked...)
		if err != nil {
			return err
		}
		t.segments[name] = extent{
			had: was.Segments, want: load.Wanted(sizes), carried: d.carried, apart: d.apart, hadCarried: was.Carried, hadApart: was.Apart,
		}
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
		t.segments[name] = standingExtent(was)
	}
	return nil
}

// standingExtent is that of a switch which shall reach as far as it does.
func standingExtent(was store.Realised) extent {
	return extent{had: was.Segments, want: was.Segments, carried: was.Carried, apart: was.Apart, hadCarried: was.Carried, hadApart: was.Apart}
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

// outgrown are the switches that have more segments than they need, or carry more VLANs.
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
			spare, err := spareVLANs(tx, was)
			if err != nil {
				return err
			}
			if spare {
				names = append(names, r.Name)
				continue
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
		return fmt.Errorf("switch %s keeps a segment or a VLAN that it does not need: %w", name, err)
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
