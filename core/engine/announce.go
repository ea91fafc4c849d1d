package engine

import (
	"context"
	"errors"
	"net/netip"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// maxAnnouncedVLANs is how many VLANs of one trunk are announced at most: a trunk may
// have 4094, and a burst of so many frames for one guest helps nobody.
const maxAnnouncedVLANs = 64

// guestOf is a port as the network outside knows its owner.
func guestOf(p vswitch.Port) plan.Guest {
	g := plan.Guest{MAC: p.MAC, VLANs: wireVLANs(p.VLAN)}
	if p.VM.VFAway != "" {
		return g // the host that it moves to would take ARP for what the guest says there: see Hear
	}
	for _, a := range p.Addresses {
		g.Addresses = append(g.Addresses, a.Prefix.Addr())
	}
	return g
}

// wireVLANs are the VLANs that a port's frames leave the host in; 0 is without a tag.
func wireVLANs(v vswitch.PortVLAN) []int {
	switch v.Mode {
	case vswitch.Access:
		return []int{v.ID}
	case vswitch.Isolated, vswitch.Community:
		return []int{v.Secondary}
	case vswitch.Promiscuous:
		return []int{v.Primary}
	case vswitch.Trunk:
		vlans := []int{v.Native}
		for id := range v.Allowed.All() {
			if id != v.Native && len(vlans) < maxAnnouncedVLANs {
				vlans = append(vlans, id)
			}
		}
		return vlans
	}
	return []int{0}
}

// guestsOf are all that a switch's uplink speaks for: its guests and the host.
func (e *Engine) guestsOf(switchName string) (guests []plan.Guest, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		r, err := tx.Switch(switchName)
		if err != nil {
			return err
		}
		ports, err := tx.PortsOf(switchName)
		if err != nil {
			return err
		}
		if r.HostPort() {
			guests = append(guests, guestOf(hostPort(r)))
		}
		for _, p := range ports {
			if p.Speaks() { // as long as a VM is elsewhere nobody looks for it here
				guests = append(guests, guestOf(p))
			}
		}
		return nil
	})
	return guests, err
}

// announcements are how guests of a switch are told of on what carries its traffic now,
// with the addresses that the host has.
func (e *Engine) announcements(ctx context.Context, switchName string, asked func(g plan.Guest, vlan int) bool) ([]plan.AnnounceMACs, error) {
	r, err := e.record(switchName)
	if err != nil || r.Uplink == "" {
		return nil, err
	}
	guests, err := e.guestsOf(switchName)
	if err != nil {
		return nil, err
	}
	if r.HostPort() {
		guests[0].Addresses = e.hostAddresses(ctx, r)
	}
	now, err := e.carriageOf(ctx, r.Uplink)
	return plan.Announcements(now, guests, asked), err
}

// carriageOf is how an uplink carries traffic. To the physical switch a group of ports is
// one: guests are announced by the first member in use.
func (e *Engine) carriageOf(ctx context.Context, uplink string) (plan.Carriage, error) {
	alone := func(netdevs ...string) plan.Carriage {
		c := plan.Carriage{Mode: vswitch.TeamActiveStandby, Members: netdevs}
		if len(netdevs) > 0 {
			c.Active = netdevs[0]
		}
		return c
	}
	team, err := e.teamRecord(uplink)
	if errors.Is(err, vswitch.NotFound) {
		return alone(uplink), nil
	}
	if err != nil {
		return plan.Carriage{}, err
	}
	state, err := e.kernel.Team(ctx, uplink)
	now := carriage(team.Team, state)
	if team.Mode.Grouped() {
		now = alone(now.Up[:min(1, len(now.Up))]...)
	}
	return now, err
}

// announceChanged announces the guests of switches that have another uplink since a
// transaction, or whose team has its members otherwise.
func (e *Engine) announceChanged(ctx context.Context, t *transaction) {
	moved := make(map[string]bool)
	for _, c := range t.changes {
		if c.old != nil && c.new != nil && c.new.Uplink != "" && c.old.Uplink != c.new.Uplink {
			moved[c.new.Name] = true
		}
	}
	for _, c := range t.teams {
		if c.old == nil || c.new == nil {
			continue
		}
		if on, err := e.switchOn(c.new.Name); err == nil && on != "" {
			moved[on] = true
		}
	}
	for name := range moved {
		e.announceMoved(ctx, name)
	}
}

// announceMoved tells the network by which uplink a switch's guests are reached now, and
// has it told again if this engine is resident. That the first of it fails is no reason to
// undo what was done.
func (e *Engine) announceMoved(ctx context.Context, switchName string) {
	all := func(plan.Guest, int) bool { return true }
	if what, err := e.announcements(ctx, switchName, all); err == nil {
		_ = e.kernel.Apply(ctx, announcing(what)) // the guests speak for themselves sooner or later
	}
	e.resident.Load().uplinkMoved(switchName)
}

// hostAddresses are those that the host has on its port of a switch.
func (e *Engine) hostAddresses(ctx context.Context, r store.SwitchRecord) (addresses []netip.Addr) {
	a, err := e.kernel.Addressing(ctx, vswitch.HostPortName(r.Name))
	if err != nil {
		return nil // they are asked for a little later
	}
	for _, i := range a.Items {
		if i.Kind == plan.ItemAddress {
			addresses = append(addresses, i.Prefix.Addr())
		}
	}
	return addresses
}
