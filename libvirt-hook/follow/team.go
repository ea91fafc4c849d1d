package follow

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
)

// This file is about domains with a team of libvirt's, an interface that is a port and a VF: when
// they migrate, QEMU has the guest let go of the VF first, and gives it back if the migration
// fails. Who tells the NIC is patchbayd.
//
// QEMU tells UNPLUG_PRIMARY when it asks the guest. Until the guest has let go it hears
// nothing by its port, since it takes what it hears there for a copy. That it has let go QEMU tells
// by the migration's next state, which is a while after the guest's driver has.

// teams are those of domains on their way, by domain.
type teams struct {
	mu sync.Mutex
	// told is what QEMU has told and nobody has looked at yet. A domain that is in it is being
	// looked at, so that what is told of it is so in order.
	told map[string][]Event
	// asked are the devices that guests were asked to let go of.
	asked map[string][]string
}

// told carries out what QEMU tells, whatever else libvirt is being asked meanwhile.
func (l *link) told(ctx context.Context, e Event) {
	t := &l.teams
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.told == nil {
		t.told, t.asked = map[string][]Event{}, map[string][]string{}
	}
	waiting, busy := t.told[e.Domain]
	t.told[e.Domain] = append(waiting, e)
	if !busy {
		l.activating.Go(func() { l.hear(ctx, e.Domain) })
	}
}

// hear carries out what was told of a domain until there is no more.
func (l *link) hear(ctx context.Context, id string) {
	for {
		l.teams.mu.Lock()
		waiting := l.teams.told[id]
		if len(waiting) == 0 {
			delete(l.teams.told, id)
			l.teams.mu.Unlock()
			return
		}
		l.teams.told[id] = waiting[1:]
		l.teams.mu.Unlock()
		if err := l.heed(ctx, waiting[0]); err != nil {
			l.follower.Log.Warn("a VM that migrates", "domain", id, "err", err)
		}
	}
}

// heed carries out one of them. The states are QEMU's MigrationStatus.
func (l *link) heed(ctx context.Context, e Event) error {
	if e.Unplugs != "" {
		l.teams.mu.Lock()
		l.teams.asked[e.Domain] = append(l.teams.asked[e.Domain], e.Unplugs)
		l.teams.mu.Unlock()
		return l.follower.Verbs.LoosenVFs(ctx, e.Domain)
	}
	switch e.Migration {
	case "setup":
		return l.follower.Verbs.KeepVFs(ctx, e.Domain, false)
	case "active", "postcopy-active":
		if asked := l.askedOf(e.Domain); len(asked) > 0 {
			return l.takeAway(ctx, e.Domain, asked)
		}
	case "cancelling", "failing", "cancelled", "failed":
		l.askedOf(e.Domain)
		return l.giveBack(ctx, e.Domain)
	case "completed":
		l.askedOf(e.Domain)
		return l.follower.Verbs.KeepVFs(ctx, e.Domain, true)
	}
	return nil
}

// askedOf are the devices that a guest was asked to let go of, each told once.
func (l *link) askedOf(id string) []string {
	l.teams.mu.Lock()
	defer l.teams.mu.Unlock()
	asked := l.teams.asked[id]
	delete(l.teams.asked, id)
	return asked
}

// takeAway has the NICs of devices that a guest has let go of forget its addresses.
func (l *link) takeAway(ctx context.Context, id string, devices []string) error {
	l.use.RLock()
	defer l.use.RUnlock()
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return ErrNotFollowed // which looks again by itself
	}
	d, found, err := conn.Domain(id)
	if err != nil || !found {
		return err
	}
	live, err := domain.Parse([]byte(d.XML))
	if err != nil {
		return err
	}
	ports, err := l.vmPorts(ctx)
	if err != nil || len(ports[id]) == 0 {
		return err
	}
	var problems []error
	for _, alias := range devices {
		i := slices.IndexFunc(live.Primaries, func(p domain.Primary) bool { return p.Alias == alias })
		if i < 0 {
			l.follower.Log.Warn("QEMU has taken a device of a VM that is no VF of a team by the VM's definition; "+
				"a NIC that holds the VM's address for it has to be told by hand", "domain", d.Name, "device", alias)
			problems = append(problems, l.follower.Verbs.AnnounceDomain(ctx, id))
			continue
		}
		problems = append(problems, l.takeOne(ctx, live, live.Primaries[i], ports[id]))
	}
	return errors.Join(problems...)
}

// takeOne has the NIC of one of them forget it, if the team's other interface is a port.
func (l *link) takeOne(ctx context.Context, d domain.Domain, primary domain.Primary, ports []vswitch.Port) error {
	i := slices.IndexFunc(d.NICs, func(n domain.NIC) bool { return n.Alias == primary.Standby })
	if i < 0 {
		return nil
	}
	p, found := portOf(d.NICs[i], ports)
	if !found {
		return nil
	}
	err := l.follower.Verbs.TakeVF(ctx, engine.TakeVFRequest{Port: p.ID, VF: primary.VF})
	if p.VM.VFAway == primary.VF {
		return nil // it was told before, with what was wrong about it
	}
	if err != nil {
		return err
	}
	l.follower.Log.Info("a VF is away for a migration; its address goes by the port", "domain", d.Name, "vf", primary.VF, "port", p.ID, "mac", p.MAC.String())
	return nil
}

// giveBack has NICs hold the addresses again that they were made to forget.
func (l *link) giveBack(ctx context.Context, id string) error {
	back, err := l.follower.Verbs.ReturnVFs(ctx, id)
	for _, p := range back {
		l.follower.Log.Info("a VF is back, for its VM has not migrated", "domain", p.Owner.Name, "vf", p.VM.VFAway, "port", p.ID, "mac", p.MAC.String())
	}
	return err
}

// settleTeams makes up for what QEMU has told and nobody has heard: of a domain whose memory moves the VFs
// are away, and of one that stays they are not, unless it has migrated: then QEMU does not give them back.
func (l *link) settleTeams(ctx context.Context, conn Libvirt, d seen, ports []vswitch.Port) error {
	away := slices.ContainsFunc(ports, func(p vswitch.Port) bool { return p.VM.VFAway != "" })
	gone := slices.ContainsFunc(ports, func(p vswitch.Port) bool { return p.VM.VFTurn == vswitch.VFGone })
	if !away && len(d.live.Primaries) == 0 || gone {
		return nil
	}
	leaving, err := conn.Leaving(d.UUID)
	switch {
	case err != nil:
		return err
	case leaving == Stays && away:
		return l.giveBack(ctx, d.UUID)
	case leaving == Moves:
		var problems []error
		for _, primary := range d.live.Primaries {
			problems = append(problems, l.takeOne(ctx, d.live, primary, ports))
		}
		return errors.Join(problems...)
	}
	return nil
}
