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
		return l.nextLook(), nil
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
	if err := l.leaveOthers(ctx, domains, ports); err != nil {
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
	problems = append(problems, l.leftOver(ctx, conn, domains, ports, w), l.unhold(ctx, w.all))
	return l.nextLook(), errors.Join(problems...)
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
		known[d.UUID] = d.XML != ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.state, l.followed = known, stateFollowing, true
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
			l.known[id] = d.XML != ""
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
	ours := map[string]bool{}
	for _, raw := range networks {
		n, err := network.Parse([]byte(raw.XML))
		if err != nil || !n.Ours() {
			continue // the hook has told who started it
		}
		ours[n.Name] = true
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
			err = l.follower.replay(ctx, wire.HookCall{
				Driver: call.Network, Object: n.Name, Operation: call.PortCreated, Stdin: []byte("<hookData>" + raw.XML + text + "</hookData>"),
			})
			if err == nil {
				l.follower.Log.Info("reserved a port that no hook told of", "network", n.Name, "domain", p.OwnerName, "port", p.UUID)
			}
			problems = append(problems, err, l.stillPlugged(ctx, conn, p))
		}
	}
	l.learn(ours)
	return errors.Join(problems...)
}

// stillPlugged releases a port that was reserved by what libvirt has listed, unless its domain
// still has it: where it has stopped meanwhile, libvirt's word of that came before the port was
// there. (libvirt has a domain stop running before it calls the hook.)
func (l *link) stillPlugged(ctx context.Context, conn Libvirt, p network.Port) error {
	d, found, err := conn.Domain(p.OwnerUUID)
	if err != nil {
		return err
	}
	owner := vswitch.Owner{Kind: vswitch.OwnerVM, ID: p.OwnerUUID, Endpoint: p.UUID}
	if found && uses(d, vswitch.Port{Owner: owner}) {
		return nil
	}
	return l.follower.Verbs.ReleasePort(ctx, owner)
}

// domain compares one domain with its ports.
func (l *link) domain(ctx context.Context, conn Libvirt, d seen, ports []vswitch.Port, counts bool) error {
	problems := []error{l.hold(ctx, d)}
	if d.XML == "" {
		return errors.Join(problems...)
	}
	unbound := slices.ContainsFunc(d.live.NICs, func(n domain.NIC) bool {
		p, found := portOf(n, ports)
		return onSwitch(n) && (!found || !isAsDefined(p, n))
	})
	if unbound {
		err := l.follower.replay(ctx, wire.HookCall{
			Driver: driver(d.live.Type), Object: d.Name, Operation: call.Reconnect, Stdin: []byte(d.XML),
		})
		if err == nil {
			l.follower.Log.Info("bound the ports of a domain that runs as it is defined now", "domain", d.Name)
		}
		problems = append(problems, err)
	}
	if len(ports) == 0 && !unbound {
		return errors.Join(problems...)
	}
	problems = append(problems, l.settleTeams(ctx, conn, d, ports))
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
// domain. What the ports have counted goes along once in a while. To a domain on its way libvirt
// writes nothing, but waits for 30 s whether it may; it has read by then what travels.
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
	if leaving, err := conn.Leaving(d.UUID); err != nil || leaving != Stays {
		return err // one that stays all the same is looked at when QEMU tells so, and once a minute
	}
	if err := conn.SetState(d.UUID, domain.WriteState(text)); err != nil {
		return fmt.Errorf("metadata of domain %s: %w", d.Name, err)
	}
	level := slog.LevelInfo
	if sameButCounts(text, d.live.State) {
		level = slog.LevelDebug
	}
	l.follower.Log.Log(ctx, level, "a domain carries what its ports are like", "domain", d.Name)
	return nil
}

func (l *link) knows(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known := l.known[id]
	return known
}

// binds is Follower.Binds for one driver. Of a domain that starts libvirt tells once it runs.
func (l *link) binds(id string) bool {
	l.mu.Lock()
	runs, known := l.known[id]
	known = known || l.dirty[id]
	state := l.state
	l.mu.Unlock()
	if runs && state == stateFollowing {
		l.mark(id)
	}
	return state == stateDown || state == stateFollowing && known
}

// runs reports whether a domain ran when it was last heard of.
func (l *link) runs(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[id]
}
