package engine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// GC detaches what is not valid any more and goes on after errors, which it
// returns joined with the report of what it did remove: see GCRequest. Netdevs of
// ours that no record knows go too. A store that cannot be read keeps GC of a
// network from nothing: the netdevs say whose they are.
func (e *Engine) GC(ctx context.Context, req GCRequest) (GCReport, error) {
	report := GCReport{Removed: []vswitch.Port{}}
	netdevs, err := e.kernel.Netdevs(ctx)
	if err != nil {
		return report, fault("gc", "", err)
	}
	there := make(map[string]bool, len(netdevs))
	for _, n := range netdevs {
		there[n.Name] = true
	}
	ports, storeErr := e.guests()
	valid := make(map[string]bool, len(req.Valid))
	for _, o := range req.Valid {
		o.Kind, o.Network = vswitch.OwnerContainer, req.Network
		valid[o.PortID()] = true
	}
	stale := make(map[string]vswitch.Port)
	for _, p := range ports {
		// One list of netdevs spares a look at each of those that are there.
		if !valid[p.ID] && (req.Network != "" || !there[p.Netdev] || p.Owner.Kind == vswitch.OwnerVM) && e.stale(ctx, p, req.Network, req.Domains) {
			stale[p.ID] = p
		}
	}
	var lost []string
	for _, n := range netdevs {
		if _, known := stale[n.Name]; !known && !valid[n.Name] && orphan(n, req.Network) {
			lost = append(lost, n.Name)
		}
	}
	gone, err := e.remove(ctx, slices.Sorted(maps.Keys(stale)), removal{
		goes: func(now vswitch.Port) bool { return e.stale(ctx, now, req.Network, req.Domains) },
	})
	for _, id := range gone {
		report.Removed = append(report.Removed, stale[id])
	}
	// Of these there is no record, or none that can be read, unless it was written
	// meanwhile: then the netdev is in use.
	unowned, lostErr := e.remove(ctx, lost, removal{
		goes:  func(vswitch.Port) bool { return false },
		blind: storeErr != nil && req.Network != "",
	})
	if req.Network == "" && storeErr == nil {
		// A verb that died between the two commits of the store left the run file one
		// configuration behind: whoever writes and looks at both brings it up to date.
		storeErr = e.store.Update(func(tx *store.Tx) error {
			_, err := tx.Switches()
			return errors.Join(err, e.expireExpected(tx))
		})
	}
	tidied, segmentErr := e.tidySegments(ctx, netdevs)
	shapers, shaperErr := e.strayShapers(ctx, netdevs)
	report.Netdevs = append(append(unowned, tidied...), shapers...)
	known := errors.Join(storeErr, beyond(lostErr, storeErr))
	return report, fault("gc", "", errors.Join(known, err, beyond(segmentErr, known), beyond(shaperErr, known)))
}

// beyond is err unless that says no more than known did already: a store that cannot
// be read fails each look at it in the same words.
func beyond(err, known error) error {
	if err != nil && known != nil && err.Error() == known.Error() {
		return nil
	}
	return err
}

// stale decides on one port. A runtime knows its own network's attachments.
// Nobody knows all networks': there it takes two proofs, a namespace that is gone
// and a netdev that went with it. Where the path of the namespace leads to another one
// by now, as that of a process whose number was given out again, it is gone too.
func (e *Engine) stale(ctx context.Context, p vswitch.Port, network string, domains *[]string) bool {
	if p.Owner.Kind == vswitch.OwnerVM && network == "" {
		return e.staleVM(ctx, p, domains)
	}
	if p.Owner.Kind != vswitch.OwnerContainer || network != "" && p.Owner.Network != network {
		return false
	}
	if network != "" {
		return true
	}
	if _, err := e.kernel.Netdev(ctx, p.Netdev); !errors.Is(err, vswitch.NotFound) {
		return false
	}
	now, err := e.kernel.NetnsID(p.Owner.Netns)
	if err != nil {
		return errors.Is(err, vswitch.NetnsNotFound)
	}
	return p.NetnsID != 0 && kernel.NetnsID(p.NetnsID) != now
}

// reservedFor is how long a VM's port may wait for its tap before GC takes it for one of a
// start that has failed.
const reservedFor = 5 * time.Minute

// staleVM decides on a VM's port: its tap is gone, and libvirt, where it was asked, does not
// have the VM running.
func (e *Engine) staleVM(ctx context.Context, p vswitch.Port, domains *[]string) bool {
	if !p.Plugged() && e.now().Sub(p.Created).Abs() < reservedFor || domains != nil && slices.Contains(*domains, p.Owner.ID) {
		return false
	}
	return e.goneFrom(ctx, p)
}

// orphan reports whether a netdev looks like a container's port on the network.
// Without a network it takes a second look besides that of the missing record: a
// pair whose other end is up is in use, whatever became of the record.
func orphan(n kernel.Netdev, network string) bool {
	mark := " network="
	if network != "" {
		mark += network + " "
	}
	return strings.HasPrefix(n.Alias, vswitch.AliasPrefix+"port ") && strings.Contains(n.Alias, mark) &&
		(network != "" || !n.Carrier)
}

// guests lists the ports that the store has; the host's are part of its switches.
func (e *Engine) guests() (ports []vswitch.Port, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		ports, err = tx.Ports()
		return err
	})
	return ports, err
}
