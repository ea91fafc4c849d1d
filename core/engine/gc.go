package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
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
	ports, storeErr := e.guests()
	errs := []error{storeErr}
	valid := make(map[string]bool, len(req.Valid))
	for _, o := range req.Valid {
		o.Kind, o.Network = vswitch.OwnerContainer, req.Network
		valid[o.PortID()] = true
	}
	for _, p := range ports {
		if valid[p.ID] || !e.stale(ctx, p, req.Network) {
			continue
		}
		gone, err := e.detachIf(ctx, p.Owner, func(now vswitch.Port) bool { return e.stale(ctx, now, req.Network) })
		if err != nil {
			errs = append(errs, fmt.Errorf("port %s: %w", p.ID, err))
		}
		if gone {
			report.Removed = append(report.Removed, p)
		}
	}
	for _, n := range netdevs {
		if valid[n.Name] || !orphan(n, req.Network) {
			continue
		}
		removed, err := e.removeOrphan(ctx, n.Name, storeErr != nil && req.Network != "")
		if errs = append(errs, err); removed {
			report.Netdevs = append(report.Netdevs, n.Name)
		}
	}
	removed, err := e.tidySegments(ctx, netdevs)
	report.Netdevs = append(report.Netdevs, removed...)
	return report, fault("gc", "", errors.Join(append(errs, err)...))
}

// stale decides on one port. A runtime knows its own network's attachments.
// Nobody knows all networks': there it takes two proofs, a namespace that is gone
// and a netdev that went with it.
func (e *Engine) stale(ctx context.Context, p vswitch.Port, network string) bool {
	if p.Owner.Kind != vswitch.OwnerContainer || network != "" && p.Owner.Network != network {
		return false
	}
	if network != "" {
		return true
	}
	_, err := e.kernel.Netdev(ctx, p.Netdev)
	return errors.Is(err, vswitch.NotFound) && errors.Is(e.kernel.CheckNetns(p.Owner.Netns), vswitch.NetnsNotFound)
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

// removeOrphan removes a port's netdev unless there is a record of it after all.
func (e *Engine) removeOrphan(ctx context.Context, netdev string, unreadable bool) (removed bool, err error) {
	unlock, err := e.store.LockPort(netdev)
	if err != nil {
		return false, err
	}
	defer unlock()
	err = e.store.View(func(tx *store.Tx) error {
		_, err := tx.Port(netdev)
		return err
	})
	if !errors.Is(err, vswitch.NotFound) && !unreadable {
		return false, err
	}
	err = e.kernel.Apply(ctx, []plan.Step{plan.DeleteNetdev{Name: netdev}})
	return err == nil, err
}

// guests lists the ports that the store has; the host's are part of its switches.
func (e *Engine) guests() (ports []vswitch.Port, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		ports, err = tx.Ports()
		return err
	})
	return ports, err
}
