package engine

import (
	"context"
	"strconv"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

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
	unlock, err := e.lockAlone(name)
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
	rules := plan.Rules{Priority: map[string]bool{atRoot: true, before: true}}
	err = e.kernel.Apply(ctx, []plan.Step{plan.SetRules{Remove: rules}, plan.DeleteNetdev{Name: atRoot}, plan.DeleteNetdev{Name: before}, plan.DeleteBridge{Name: bridge}})
	return err == nil, err
}

// segmentOf reads the alias of a further segment's bridge.
func segmentOf(alias string) (name string, segment int, ok bool) {
	rest, ours := strings.CutPrefix(alias, vswitch.AliasPrefix+"bridge switch=")
	name, number, more := strings.Cut(rest, " segment=")
	segment, err := strconv.Atoi(number)
	return name, segment, ours && more && err == nil && segment > 0 && segment <= vswitch.MaxSegments
}
