package offload

import (
	"context"
	"slices"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// WatchInventory tells the NICs of the host, those that cannot encrypt too, with the reason.
// How many SAs one holds nobody knows before it refuses.
func (p *Provider) WatchInventory(ctx context.Context, tell func(sdk.Inventory) error) error {
	v, err := openView()
	if err != nil {
		return err
	}
	defer v.close()
	last, err := v.inventory()
	if err != nil {
		return err
	}
	if err := tell(last); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = v.follow(ctx, func(n news) {
		if !n.netdevs {
			return
		}
		now, err := v.inventory()
		if err == nil && !slices.Equal(now.NICs, last.NICs) {
			last, err = now, tell(now)
		}
		if err != nil {
			cancel(err)
		}
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// inventory is what there is now.
func (v *view) inventory() (sdk.Inventory, error) {
	all, err := v.netdevs()
	if err != nil {
		return sdk.Inventory{}, err
	}
	var i sdk.Inventory
	for _, n := range all {
		nic := sdk.NIC{ID: n.id, Netdev: n.name, Driver: n.driver, Link: n.link}
		nic.Capabilities.IPsec = vswitch.Capability{Missing: vswitch.NoDriverSupport}
		if can, err := v.encrypts(n.index); err == nil && can { // one that went meanwhile cannot
			nic.Capabilities.IPsec = vswitch.Capability{Capacity: vswitch.Unlimited}
		}
		i.NICs = append(i.NICs, nic)
	}
	return i, nil
}
