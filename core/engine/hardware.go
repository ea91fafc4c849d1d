package engine

import (
	"context"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Hardware is what NICs can do for ports, by the plugins of their vendors. The engine is in
// the CNI plugin too, which must not link what plugins are spoken to with: whoever runs
// plugins hands them over as this. Its methods may be called at the same time.
type Hardware interface {
	// Look returns all NICs that plugins serve, as they told last. It waits, within bounds,
	// until each plugin has told or failed once.
	Look(ctx context.Context) vswitch.OffloadInventory
	// Ensure has a plugin give a port a feature, or bring what it has up to date; it fails
	// with a *vswitch.Denied. See sdk.Provider, also for Release.
	Ensure(ctx context.Context, plugin string, r vswitch.OffloadRequest) (vswitch.OffloadGrant, error)
	// Release has a plugin take a feature back, which need not be there.
	Release(ctx context.Context, plugin string, ref vswitch.OffloadRef, generation uint64) error
	// Grants returns what ports have by a plugin, as the hardware knows it.
	Grants(ctx context.Context, plugin string) ([]vswitch.OffloadGrant, error)
	// Watch calls changed, with the name of the plugin, whenever it may tell something else,
	// or may have lost what it gave, until ctx ends.
	Watch(ctx context.Context, changed func(plugin string))
}
