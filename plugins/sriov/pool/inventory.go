package pool

import (
	"context"
	"reflect"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/plugins/sriov/record"
	"github.com/patchbay-net/patchbay/sdk"
)

// WatchInventory tells the NICs, and again whenever one of them, its driver, its link or its
// VFs come or go.
func (p *Provider) WatchInventory(ctx context.Context, tell func(sdk.Inventory) error) error {
	var told *sdk.Inventory
	for {
		next := p.news.wait()
		now, err := p.inventory()
		if err != nil {
			return err
		}
		if told == nil || !reflect.DeepEqual(*told, now) {
			if err := tell(now); err != nil {
				return err
			}
			told = &now
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		case <-p.life.Done():
			return errClosed()
		}
	}
}

func (p *Provider) inventory() (sdk.Inventory, error) {
	all, err := p.host.PFs()
	if err != nil {
		return sdk.Inventory{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return sdk.Inventory{}, errClosed()
	}
	if err := p.forget(); err != nil {
		return sdk.Inventory{}, err
	}
	state := p.file.State()
	var i sdk.Inventory
	for _, pf := range all {
		if !p.serves(pf) {
			continue
		}
		i.NICs = append(i.NICs, sdk.NIC{
			ID: pf.Addr, Netdev: pf.Netdev, Driver: pf.Driver, Model: pf.Model, Link: pf.Link,
			Capabilities: vswitch.Capabilities{SRIOV: p.capability(pf, state)},
		})
	}
	return i, nil
}

func (p *Provider) capability(pf nic.PF, state record.State) vswitch.Capability {
	if pf.Netdev == "" || pf.Total == 0 {
		return vswitch.Capability{Missing: vswitch.NoDriverSupport}
	}
	c := vswitch.Capability{Capacity: min(p.o.vfs, pf.Total), VMs: p.host.VMs(pf)}
	if pf.Num == 0 {
		return c
	}
	c.Capacity = pf.Num
	vfs := p.host.VFs(pf)
	for _, vf := range vfs {
		mine, known := state.VFs[vf.Addr]
		if known && mine.Phase != record.Held && !p.busy[vf.Addr] || !known && !p.free(vf, state.Made[pf.Addr] > 0) {
			c.Foreign++
		}
	}
	for _, vf := range vfs { // one is as the others
		if d, err := p.host.Netdev(vf.Netdev()); err == nil {
			_, c.QueuePairs, _ = p.host.QueuePairs(d) // 0 where the driver does not say
			c.Moderation = p.host.CanModerate(d)
			break
		}
	}
	return c
}

// free reports whether a VF is nobody's. Those that the plugin made it may take, unless
// somebody else has in the meantime; of others only what lies idle.
func (p *Provider) free(vf nic.VF, made bool) bool {
	switch {
	case vf.PassedThrough() || vf.Override != "":
		return false // for a VM
	case vf.Driver == "":
		return made
	case vf.Netdev() == "":
		return false // in somebody's namespace
	}
	d, err := p.host.Netdev(vf.Netdev())
	return err == nil && !d.Master && (made || !d.Up)
}
