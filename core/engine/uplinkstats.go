package engine

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// UplinkTraffic is what has left by the class of a port, at all members of a team together,
// since the class was made: of a port with a minimum its own.
type UplinkTraffic struct {
	// DefaultFlow says that it is the class of all ports together that have none of their own.
	DefaultFlow bool `json:"defaultFlow,omitempty"`
	kernel.ClassCounters
}

// classCounters are what has left by the classes at the uplinks of the ports' switches.
func (e *Engine) classCounters(ctx context.Context, ports []vswitch.Port) (map[string]kernel.ShareCounters, error) {
	at := make(map[string][]string) // by switch, the netdevs
	err := e.store.View(func(tx *store.Tx) error {
		for _, p := range ports {
			if _, known := at[p.Switch]; known {
				continue
			}
			at[p.Switch] = nil
			r, err := tx.Switch(p.Switch)
			if errors.Is(err, vswitch.NotFound) || err == nil && r.Uplink == "" {
				continue
			}
			if err != nil {
				return err
			}
			s, err := sharedState(tx, r)
			if err != nil {
				return err
			}
			at[p.Switch] = slices.Collect(maps.Keys(s.Shares))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	counted, err := e.kernel.ShareCounters(ctx, slices.Concat(slices.Collect(maps.Values(at))...)...)
	all := make(map[string]kernel.ShareCounters)
	for name, netdevs := range at {
		sum := make(kernel.ShareCounters)
		for _, netdev := range netdevs {
			for mac, c := range counted[netdev] {
				sum[mac] = sum[mac].Add(c)
			}
		}
		all[name] = sum
	}
	return all, err
}

// uplinkTraffic is what a port's class has counted: nil where nothing is shared.
func uplinkTraffic(p vswitch.Port, classes kernel.ShareCounters) *UplinkTraffic {
	if c, own := classes[p.MAC]; own {
		return &UplinkTraffic{ClassCounters: c}
	}
	if c, shared := classes[vswitch.MAC{}]; shared {
		return &UplinkTraffic{DefaultFlow: true, ClassCounters: c}
	}
	return nil
}
