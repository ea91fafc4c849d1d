package follow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
	"github.com/patchbay-net/patchbay/libvirt-hook/call"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
	"github.com/patchbay-net/patchbay/libvirt-hook/network"
)

// reconcile compares what is to be looked at and makes up for what was missed. It returns
// when to look again without an event.
func (l *link) reconcile(ctx context.Context, conn Libvirt, w work) (next time.Duration, err error) {
	if !w.all && len(w.domains) == 0 {
		return resync, nil
	}
	domains, err := l.look(conn, w)
	if err != nil {
		l.again(w)
		return firstRetry, err
	}
	ports, err := l.vmPorts(ctx)
	if err != nil {
		return resync, err
	}
	var problems []error
	switch {
	case w.all:
		problems = append(problems, l.missedPorts(ctx, conn, domains, ports))
	case anyMissing(domains, ports):
		l.mark("") // its network knows more
		return resync, nil
	}
	if ports, err = l.vmPorts(ctx); err != nil {
		return resync, err
	}
	for _, d := range domains {
		problems = append(problems, l.domain(ctx, conn, d, ports[d.UUID], w.all))
	}
	next, err = l.leftOver(ctx, domains, ports, w)
	return next, errors.Join(append(problems, err, l.unhold(ctx, w.all))...)
}

// seen is a domain and what its running definition says.
type seen struct {
	Domain
	live domain.Domain // empty where it does not run
}

// look asks libvirt.
func (l *link) look(conn Libvirt, w work) (all []seen, err error) {
	look := l.lookAtSome
	if w.all {
		look = l.lookAtAll
	}
	found, err := look(conn, w.domains)
	if err != nil {
		return nil, err
	}
	for _, d := range found {
		s := seen{Domain: d}
		if d.XML != "" {
			if s.live, err = domain.Parse([]byte(d.XML)); err != nil {
				l.follower.Log.Debug("what a domain says of its ports is wrong", "domain", d.Name, "err", err)
			}
		}
		all = append(all, s)
	}
	return all, nil
}

func (l *link) lookAtAll(conn Libvirt, _ []string) ([]Domain, error) {
	found, err := conn.Domains()
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, d := range found {
		known[d.UUID] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.state = known, stateFollowing
	return found, nil
}

func (l *link) lookAtSome(conn Libvirt, ids []string) (found []Domain, err error) {
	for _, id := range ids {
		d, there, err := conn.Domain(id)
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		if there {
			l.known[id] = true
			found = append(found, d)
		} else {
			delete(l.known, id)
		}
		l.mu.Unlock()
	}
	return found, nil
}

// vmPorts are the ports of VMs, by domain.
func (l *link) vmPorts(ctx context.Context) (map[string][]vswitch.Port, error) {
	all, err := l.follower.Verbs.Ports(ctx, "")
	if err != nil {
		return nil, err
	}
	of := map[string][]vswitch.Port{}
	for _, p := range all {
		if p.Owner.Kind == vswitch.OwnerVM {
			of[p.Owner.ID] = append(of[p.Owner.ID], p)
		}
	}
	return of, nil
}

// portOf is the port of an interface: the one that libvirt calls so, or where libvirt has
// forgotten it, the one with its netdev.
func portOf(n domain.NIC, ports []vswitch.Port) (vswitch.Port, bool) {
	i := slices.IndexFunc(ports, func(p vswitch.Port) bool { return n.PortID != "" && p.Owner.Endpoint == n.PortID })
	if i < 0 {
		i = slices.IndexFunc(ports, func(p vswitch.Port) bool { return n.PortID == "" && n.Netdev != "" && p.Netdev == n.Netdev })
	}
	if i < 0 {
		return vswitch.Port{}, false
	}
	return ports[i], true
}

// onSwitch reports whether an interface is, or has to be, a port.
func onSwitch(n domain.NIC) bool {
	return n.Netdev != "" && (domain.OnSwitch(n.Bridge) || n.Wish != nil && n.Wish.Switch != "")
}

// anyMissing reports whether libvirt knows of a port that is not reserved.
func anyMissing(domains []seen, ports map[string][]vswitch.Port) bool {
	for _, d := range domains {
		for _, n := range d.live.NICs {
			if _, found := portOf(n, ports[d.UUID]); onSwitch(n) && n.PortID != "" && !found {
				return true
			}
		}
	}
	return false
}

// missedPorts reserves what libvirt has made ports for and nobody has told: a hook was not
// there, or was killed. A port that was released and is listed is in use all the same. One that no
// interface has is libvirt's to forget: a start that failed, or libvirtd's end in the middle of
// one, leaves such behind.
func (l *link) missedPorts(ctx context.Context, conn Libvirt, domains []seen, ports map[string][]vswitch.Port) error {
	networks, err := conn.Networks()
	if err != nil {
		return err
	}
	plugged := map[string]bool{}
	for _, d := range domains {
		for _, n := range d.live.NICs {
			plugged[n.PortID] = true
		}
	}
	var problems []error
	l.networks = map[string]bool{}
	for _, raw := range networks {
		n, err := network.Parse([]byte(raw.XML))
		if err != nil || !n.Ours() {
			continue // the hook has told who started it
		}
		l.networks[n.Name] = true
		for _, text := range raw.Ports {
			p, err := network.ParsePort([]byte(text))
			if err != nil || !plugged[p.UUID] {
				continue
			}
			there := slices.ContainsFunc(ports[p.OwnerUUID], func(q vswitch.Port) bool {
				return q.Owner.Endpoint == p.UUID && q.VM.Stage != vswitch.VMReleased
			})
			if there {
				continue
			}
			l.follower.Log.Info("a port that no hook told of", "network", n.Name, "domain", p.OwnerName, "port", p.UUID)
			problems = append(problems, l.follower.replay(ctx, wire.HookCall{
				Driver: call.Network, Object: n.Name, Operation: call.PortCreated, Stdin: []byte("<hookData>" + raw.XML + text + "</hookData>"),
			}))
		}
	}
	return errors.Join(problems...)
}

// domain compares one domain with its ports.
func (l *link) domain(ctx context.Context, conn Libvirt, d seen, ports []vswitch.Port, counts bool) error {
	problems := []error{l.hold(ctx, d)}
	if d.XML == "" {
		return errors.Join(problems...)
	}
	unbound := slices.ContainsFunc(d.live.NICs, func(n domain.NIC) bool {
		p, found := portOf(n, ports)
		return onSwitch(n) && (!found || p.Netdev != n.Netdev)
	})
	if unbound {
		problems = append(problems, l.follower.replay(ctx, wire.HookCall{
			Driver: driver(d.live.Type), Object: d.Name, Operation: call.Reconnect, Stdin: []byte(d.XML),
		}))
	}
	if len(ports) == 0 && !unbound {
		return errors.Join(problems...)
	}
	if d.Speaks {
		_, err := l.follower.Verbs.ActivateDomain(ctx, d.UUID)
		problems = append(problems, err, l.carry(ctx, conn, d, counts))
	}
	return errors.Join(problems...)
}

func driver(kind string) string {
	if kind == call.LXC {
		return call.LXC
	}
	return call.QEMU
}

// carry writes into a running domain what its ports are like, so that it travels with the
// domain. What the ports have counted goes along once in a while.
func (l *link) carry(ctx context.Context, conn Libvirt, d seen, counts bool) error {
	state, err := l.follower.Verbs.ExportDomain(ctx, d.UUID)
	if err != nil {
		return err
	}
	text, err := json.Marshal(state)
	if err != nil || string(text) == string(d.live.State) {
		return err
	}
	if !counts && sameButCounts(text, d.live.State) {
		return nil
	}
	if err := conn.SetState(d.UUID, domain.WriteState(text)); err != nil {
		return fmt.Errorf("metadata of domain %s: %w", d.Name, err)
	}
	level := slog.LevelInfo
	if counts {
		level = slog.LevelDebug
	}
	l.follower.Log.Log(ctx, level, "a domain carries what its ports are like", "domain", d.Name)
	return nil
}

// leftOver releases what no domain has any more, once it has been so for a while.
func (l *link) leftOver(ctx context.Context, domains []seen, ports map[string][]vswitch.Port, w work) (next time.Duration, err error) {
	known, all := l.follower.domains()
	running := map[string]seen{}
	for _, d := range domains {
		if d.XML != "" {
			running[d.UUID] = d
		}
	}
	next = resync
	over := map[string]bool{}
	var problems []error
	for id, of := range ports {
		d, runs := running[id]
		looked := w.all || slices.Contains(w.domains, id)
		if !looked || !runs && (known[id] != l.knows(id) || !all) {
			continue // another driver's, or one that cannot be asked has it
		}
		for _, p := range of {
			if runs && inUse(p, d.live.NICs) {
				continue
			}
			over[p.ID] = true
			left := l.leftFor(p.ID)
			if left > 0 {
				next = min(next, left)
				continue
			}
			l.follower.Log.Info("a port that nobody has any more", "port", p.ID, "owner", p.Owner.String())
			if runs {
				problems = append(problems, l.follower.Verbs.ReleasePort(ctx, p.Owner))
			} else {
				problems = append(problems, l.follower.Verbs.ReleaseDomain(ctx, id))
			}
		}
	}
	for id := range l.since {
		if w.all && !over[id] {
			delete(l.since, id)
		}
	}
	return next, errors.Join(problems...)
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

func (l *link) knows(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[id]
}
