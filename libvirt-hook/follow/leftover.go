package follow

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
)

// leftOver releases what no domain has any more, once it has been so for a while.
func (l *link) leftOver(ctx context.Context, conn Libvirt, domains []seen, ports map[string][]vswitch.Port, w work) error {
	others, all := l.follower.others(l)
	running := map[string]seen{}
	for _, d := range domains {
		if d.XML != "" {
			running[d.UUID] = d
		}
	}
	over := map[string]bool{}
	var problems []error
	for id, of := range ports {
		d, runs := running[id]
		looked := w.all || slices.Contains(w.domains, id)
		if !looked || !runs && (others[id] || !all) {
			continue // another driver's, or one that cannot be asked has it
		}
		for _, p := range of {
			if runs && inUse(p, d.live.NICs) {
				continue
			}
			over[p.ID] = true
			if l.leftFor(p.ID) > 0 {
				continue
			}
			problems = append(problems, l.release(ctx, conn, p))
			delete(l.since, p.ID) // one that stays has its time anew
		}
	}
	for id := range l.since {
		if w.all && !over[id] {
			delete(l.since, id)
		}
	}
	return errors.Join(problems...)
}

// release lets go of a port that nobody has any more. Its domain may have started since libvirt
// was asked, and a domain that this driver does not know may be one of a driver that nobody follows.
func (l *link) release(ctx context.Context, conn Libvirt, p vswitch.Port) error {
	d, found, err := conn.Domain(p.Owner.ID)
	if err != nil {
		return err
	}
	if uses(d, p) {
		return nil
	}
	gone := true
	if d.XML == "" {
		gone, err = l.follower.Verbs.ReleaseUnused(ctx, p, found)
	} else {
		err = l.follower.Verbs.ReleasePort(ctx, p.Owner)
	}
	if err == nil && gone {
		l.follower.Log.Info("let go of a port that nobody has any more", "port", p.ID, "owner", p.Owner.String())
	}
	return err
}

// nextLook is how long it is until something has been left over for long enough, or until all is
// looked at anyhow.
func (l *link) nextLook() time.Duration {
	next := resync
	for _, since := range l.since {
		next = min(next, settling-time.Since(since))
	}
	return max(next, 0)
}

// uses reports whether a domain has a port. One that runs and cannot be read has all that it had.
func uses(d Domain, p vswitch.Port) bool {
	live, err := domain.Parse([]byte(d.XML)) // wrong metadata leave the rest to be read
	return inUse(p, live.NICs) || d.XML != "" && err != nil && live.UUID == ""
}

// inUse reports whether an interface of a running domain has the port.
func inUse(p vswitch.Port, nics []domain.NIC) bool {
	return slices.ContainsFunc(nics, func(n domain.NIC) bool {
		return n.PortID == p.Owner.Endpoint || n.Netdev != "" && n.Netdev == p.Netdev
	})
}

// leftFor is how much longer something has to be left over until it goes.
func (l *link) leftFor(id string) time.Duration {
	since, found := l.since[id]
	if !found {
		since = time.Now()
		l.since[id] = since
	}
	return settling - time.Since(since)
}
