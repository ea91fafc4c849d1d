package steering

import (
	"context"
	"errors"

	"github.com/patchbay-net/patchbay/core/kernel/ethtool"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// Ensure gives a port a queue of its own. A change of the port's address or VLAN is a new
// rule to the same queue; for the moment between the two its frames come in by the others.
func (p *Provider) Ensure(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := errors.Join(ctx.Err(), p.refresh(r.NIC)); err != nil {
		return sdk.Grant{}, err
	}
	n, there := p.nics[r.NIC]
	if !there {
		return sdk.Grant{}, sdk.NotFound("NIC "+r.NIC, "there is none")
	}
	if r.Feature != vswitch.VMQ {
		return sdk.Grant{}, sdk.Deny(vswitch.NoDriverSupport, "this plugin serves %s alone", vswitch.VMQ)
	}
	id, has, granted := p.ledger.of(r.Port)
	if granted && r.Generation < has.Generation {
		return sdk.Grant{}, sdk.Late(r, has.Generation)
	}
	if n.missing != "" {
		return sdk.Grant{}, sdk.Deny(n.missing, "%s: %s", n.Netdev, n.detail)
	}
	g := grant{Port: r.Port, Generation: r.Generation, MAC: r.MAC, VLAN: r.VLAN, RuleVLAN: r.VLAN}
	if granted && id == n.id && has.MAC == g.MAC && has.VLAN == g.VLAN {
		return p.renew(id, has, r.Generation)
	}
	if granted {
		if err := p.take(id, has); err != nil {
			return sdk.Grant{}, err
		}
		g.Queue = has.Queue
		if n, there = p.examine(n.id, n.Adapter); !there {
			return sdk.Grant{}, sdk.NotFound("NIC "+r.NIC, "it is gone")
		}
	}
	g, err := p.place(n, g)
	if err == nil {
		g, err = p.give(n, g)
	}
	if err != nil {
		err = p.refused(n, r, err)
	}
	p.lookAt(n.id) // what is told of it is another by now
	if err != nil {
		return sdk.Grant{}, err
	}
	sdk.Log(ctx).Info("a port has a queue", "port", r.Port, "nic", n.Netdev, "queue", g.Queue, "mac", r.MAC, "vlan", g.RuleVLAN)
	return g.told(n.id), nil
}

// renew notes that a grant is of another generation by now.
func (p *Provider) renew(id string, has grant, generation uint64) (sdk.Grant, error) {
	for i, g := range p.ledger.nics[id].Grants {
		if g.Port == has.Port && g.Generation != generation {
			p.ledger.nics[id].Grants[i].Generation = generation
			if err := p.ledger.save(); err != nil {
				p.ledger.nics[id].Grants[i] = g
				return sdk.Grant{}, err
			}
		}
	}
	has.Generation = generation
	return has.told(id), nil
}

// place finds a queue for a port that has none, the one that the grant names if it can.
func (p *Provider) place(n nic, g grant) (grant, error) {
	for _, r := range n.rules.All {
		if r.MAC == g.MAC && (r.VLAN == g.VLAN || r.VLAN == 0 || g.VLAN == 0) {
			return grant{}, sdk.Deny(vswitch.Refused, "another rule of %s, at %d, is about %s already", n.Netdev, r.Location, g.MAC)
		}
	}
	held := p.ledger.held(n.id)
	q, free := n.free(held, g.Queue)
	if !free {
		c := n.capability(held)
		return grant{}, sdk.Deny(vswitch.NoFreeFilter, "%s has queues for %d ports, of which %d are held and %d taken by rules of others", n.Netdev, c.Capacity, len(held), c.Foreign)
	}
	g.Queue = q
	return g, nil
}

// refused is why a NIC did not do what it was told, for the user.
func (p *Provider) refused(n nic, r sdk.Request, err error) error {
	var known *vswitch.Error
	switch {
	case errors.As(err, &known):
		return err
	case ethtool.Full(err):
		return sdk.Deny(vswitch.NoFreeFilter, "%s has no room for another rule: %v", n.Netdev, err)
	case ethtool.Unsupported(err):
		p.unfit[n.Index] = len(p.ledger.held(n.id)) == 0 // else it has such rules
		return sdk.Deny(vswitch.NoDriverSupport, "%s, driver %s: %v", n.Netdev, n.driver, err)
	case ethtool.Gone(err):
		return sdk.NotFound("NIC "+r.NIC, "%w", err)
	}
	return sdk.Deny(vswitch.Refused, "%s, driver %s: %v", n.Netdev, n.driver, err)
}

// Release takes a port's queue away. The last one puts the NIC back as it was found.
func (p *Provider) Release(ctx context.Context, ref sdk.Ref, generation uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(onlyHeld); err != nil {
		return err
	}
	id, g, granted := p.ledger.of(ref.Port)
	if !granted || ref.Feature != vswitch.VMQ || g.Generation > generation {
		return nil
	}
	if err := p.take(id, g); err != nil {
		return err
	}
	sdk.Log(ctx).Info("a port gave its queue back", "port", ref.Port, "nic", id, "queue", g.Queue)
	p.lookAt(id)
	return nil
}

// Grants lists what ports hold, as the NICs say.
func (p *Provider) Grants(context.Context) ([]sdk.Grant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(onlyHeld); err != nil {
		return nil, err
	}
	var all []sdk.Grant
	for _, id := range p.ledger.ids() {
		if !p.nics[id].readable {
			continue
		}
		for _, g := range p.ledger.held(id) {
			all = append(all, g.told(id))
		}
	}
	return all, nil
}

// Counters are those of the port's queue, where the driver counts by queue: rx_packets and
// rx_bytes, from the time when the driver was bound.
func (p *Provider) Counters(_ context.Context, ref sdk.Ref) (map[string]uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(onlyHeld); err != nil {
		return nil, err
	}
	id, g, granted := p.ledger.of(ref.Port)
	if !granted || ref.Feature != vswitch.VMQ {
		return nil, sdk.NotFound(ref.String(), "it was not granted")
	}
	return p.hardware.QueueCounters(p.nics[id].Adapter, g.Queue)
}
