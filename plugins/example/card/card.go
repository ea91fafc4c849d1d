// Package card is a provider for NICs that somebody made up. It is what to begin with: where
// a comment says "hardware", a real one asks its driver.
package card

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// Provider is the example's sdk.Provider. It is an sdk.CounterReader too: that is optional,
// and having the method is all there is to do.
type Provider struct {
	mu     sync.Mutex // calls come several at once
	nics   []sdk.NIC
	grants map[sdk.Ref]sdk.Grant
}

// New makes a provider. It gets to know its NICs in Configure.
func New() *Provider { return &Provider{grants: map[sdk.Ref]sdk.Grant{}} }

// Describe says who we are, and what users may set. The host holds their settings against
// the schema, with defaults and good messages: Configure sees only what fits.
func (p *Provider) Describe(context.Context) (sdk.Description, error) {
	return sdk.Description{
		Name: "example", Vendor: "Patchbay", Version: "1.0.0",
		Features: []vswitch.Feature{vswitch.SRIOV, vswitch.VMQ},
		Schema: sdk.Schema{
			{Key: "nics", Type: sdk.Integer, Doc: "how many NICs to make up", Default: 1, Min: 1, Max: 64},
			{Key: "netdevs", Type: sdk.Strings, Doc: "the netdevs that they are, in order"},
			{Key: "vfs", Type: sdk.Integer, Doc: "how many VFs each has", Default: 4, Min: 1, Max: 255},
			{Key: "queues", Type: sdk.Integer, Doc: "how many queues each has, besides the default one", Default: 8, Min: 1, Max: 255},
		},
	}, nil
}

// Configure looks for the NICs. It may come again: what ports hold stays.
func (p *Provider) Configure(_ context.Context, c sdk.Config) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nics = nil
	netdevs := append(c.Strings("netdevs"), make([]string, c.Int("nics"))...)
	for i := range c.Int("nics") { // hardware: look through /sys/bus/pci for your driver
		p.nics = append(p.nics, sdk.NIC{
			ID: fmt.Sprintf("example-%d", i), Netdev: netdevs[i], Driver: "example", Model: "Made Up 2000", Link: true,
			Capabilities: vswitch.Capabilities{
				SRIOV: vswitch.Capability{Capacity: c.Int("vfs"), QueuePairs: 2},
				VMQ:   vswitch.Capability{Capacity: c.Int("queues")},
				IPsec: vswitch.Capability{Missing: vswitch.NoDriverSupport}, // say why not
			},
		})
	}
	return nil
}

// WatchInventory tells the NICs at once. Nothing ever changes about ours; hardware would
// tell all of them again when a link or a driver comes or goes.
func (p *Provider) WatchInventory(ctx context.Context, tell func(sdk.Inventory) error) error {
	p.mu.Lock()
	now := sdk.Inventory{NICs: slices.Clone(p.nics)}
	p.mu.Unlock()
	if err := tell(now); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// Ensure gives a port a VF or a queue. Asked again it gives the same one.
func (p *Provider) Ensure(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.nics, func(n sdk.NIC) bool { return n.ID == r.NIC })
	if i < 0 {
		return sdk.Grant{}, sdk.NotFound("NIC "+r.NIC, "there is none")
	}
	has, granted := p.grants[r.Ref]
	if granted && r.Generation < has.Generation {
		return sdk.Grant{}, sdk.Late(r, has.Generation) // its owner is gone; somebody else has the port
	}
	capability := p.nics[i].Capabilities.Of(r.Feature)
	if capability.Missing != "" {
		return sdk.Grant{}, sdk.Deny(capability.Missing, "a %s has no %s", p.nics[i].Model, r.Feature)
	}
	place := has.Queue
	if !granted || has.NIC != r.NIC {
		var free bool
		if place, free = p.freePlace(r, capability.Capacity); !free {
			return sdk.Grant{}, noneLeft(r, capability.Capacity)
		}
	}
	g := sdk.Grant{Ref: r.Ref, NIC: r.NIC, Generation: r.Generation, Queue: place}
	if r.Feature == vswitch.SRIOV {
		// Hardware: set MAC, VLAN and rate of the VF, and bring it to a known state first.
		g.VF = &sdk.VF{Index: place}
		g.Amount = min(max(1, r.QueuePairs), capability.QueuePairs)
		if g.Amount < r.QueuePairs { // less than asked for is fine, if we say so
			g.Reason, g.Detail = vswitch.LimitReached, fmt.Sprintf("%d queue pairs of %d", g.Amount, r.QueuePairs)
		}
	}
	p.grants[r.Ref] = g
	sdk.Log(ctx).Info("granted", "what", r.String(), "nic", r.NIC, "place", place) // into patchbayd's log
	return g, nil
}

// freePlace is the least number of a VF or queue that nobody has.
func (p *Provider) freePlace(r sdk.Request, capacity int) (int, bool) {
	taken := map[int]bool{}
	for _, g := range p.grants {
		if g.NIC == r.NIC && g.Feature == r.Feature {
			taken[g.Queue] = true
		}
	}
	for place := range capacity {
		if !taken[place] {
			return place, true
		}
	}
	return 0, false
}

func noneLeft(r sdk.Request, capacity int) error {
	reason := vswitch.NoFreeFilter
	if r.Feature == vswitch.SRIOV {
		reason = vswitch.NoFreeVF
	}
	return sdk.Deny(reason, "all %d of NIC %s are held", capacity, r.NIC)
}

// Release takes a grant back. What is not there, or by now somebody else's, is none of it.
func (p *Provider) Release(_ context.Context, ref sdk.Ref, generation uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g, granted := p.grants[ref]; granted && g.Generation <= generation {
		delete(p.grants, ref) // hardware: clear the VF's address, and reset it
	}
	return nil
}

// Grants lists what ports hold. Our memory ends with the process; hardware would be asked.
func (p *Provider) Grants(context.Context) ([]sdk.Grant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.grants)), nil
}

// Counters says how much of a port's work the hardware did.
func (p *Provider) Counters(_ context.Context, ref sdk.Ref) (map[string]uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, granted := p.grants[ref]; !granted {
		return nil, sdk.NotFound(ref.String(), "it was not granted")
	}
	return map[string]uint64{"rx_packets": 0, "tx_packets": 0}, nil
}
