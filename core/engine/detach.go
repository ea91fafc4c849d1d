package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Detach removes an owner's port: its netdevs and rules, then its record and
// leases, which rest a while before they are given to others. It needs neither
// the owner's namespace nor a record, and detaching what is not there succeeds.
// Where the store cannot be read, the netdev, whose name follows from the owner,
// is removed all the same and the store's error returned.
// PowerShell twin: Remove-VMNetworkAdapter.
func (e *Engine) Detach(ctx context.Context, owner vswitch.Owner) error {
	if err := owner.Validate(); err != nil {
		return fault("detach", owner.String(), err)
	}
	return fault("detach", owner.String(), e.detach(ctx, owner))
}

func (e *Engine) detach(ctx context.Context, owner vswitch.Owner) error {
	id := owner.PortID()
	unlock, lockErr := e.store.LockPort(id)
	if lockErr == nil {
		defer unlock()
	}
	var r reservation
	viewErr := e.store.View(func(tx *store.Tx) (err error) {
		if r.port, err = tx.Port(id); err != nil {
			return err
		}
		r.known = true
		// Of its switch only the name matters now.
		r.record.Name = r.port.Switch
		realised, found, err := tx.Realised(r.port.Switch)
		if r.caps.PortLocked = realised.LocksPorts; found || err != nil {
			return err
		}
		_, err = tx.Fact(capabilitiesFact, &r.caps)
		return err
	})
	if errors.Is(viewErr, vswitch.NotFound) {
		viewErr = nil
	}
	if err := e.withdraw(ctx, id, r); err != nil {
		return errors.Join(err, viewErr, lockErr)
	}
	if err := errors.Join(viewErr, lockErr); err != nil || !r.known {
		return err
	}
	return e.store.Update(func(tx *store.Tx) error { return tx.DeletePort(id) })
}

// withdraw takes a port out of the kernel, known or not. A netdev of ours goes
// without a look, for speed; at somebody else's we look first, since its owner
// may have moved it elsewhere meanwhile.
func (e *Engine) withdraw(ctx context.Context, id string, r reservation) error {
	if !r.known {
		return e.kernel.Apply(ctx, []plan.Step{plan.DeleteNetdev{Name: id}})
	}
	had := attachedState(r.port, r.record, r.caps)
	if r.port.Adopted {
		seen, err := e.kernel.Observe(ctx, had)
		if err != nil {
			return err
		}
		if seen.Ports[r.port.Netdev].Bridge != vswitch.BridgeName(r.record.Name) {
			delete(seen.Ports, r.port.Netdev)
		}
		had = seen
	}
	return e.kernel.Apply(ctx, plan.Diff(plan.State{}, had))
}

// DeletePort detaches the owner of a port that is named as in `port show`. The
// host's port goes with `switch set --host-access=false`.
func (e *Engine) DeletePort(ctx context.Context, name string) error {
	p, err := e.findPort(name)
	if err != nil {
		return fault("port delete", "port "+name, err)
	}
	if p.Owner.Kind == vswitch.OwnerHost {
		return fault("port delete", "port "+name, &vswitch.Error{
			Kind: vswitch.InUse, Err: fmt.Errorf("this is the host's own port"),
			Hint: fmt.Sprintf("run `patchbay switch set %s --host-access=false`, or delete the switch", p.Switch),
		})
	}
	return fault("port delete", "port "+name, e.detach(ctx, p.Owner))
}

// GC detaches what is not valid any more and goes on after errors, which it
// returns joined with the report of what it did remove. See GCRequest.
func (e *Engine) GC(ctx context.Context, req GCRequest) (GCReport, error) {
	report := GCReport{Removed: []vswitch.Port{}}
	// Netdevs first: a netdev that is seen has had its record for longer.
	netdevs, err := e.kernel.Netdevs(ctx)
	if err != nil {
		return report, fault("gc", "", err)
	}
	ports, err := e.guests()
	if err != nil {
		return report, fault("gc", "", err)
	}
	valid := make(map[string]bool, len(req.Valid))
	for _, o := range req.Valid {
		o.Kind, o.Network = vswitch.OwnerContainer, req.Network
		valid[o.PortID()] = true
	}
	known := make(map[string]bool, len(ports))
	exists := make(map[string]bool, len(netdevs))
	for _, n := range netdevs {
		exists[n.Name] = true
	}
	var errs []error
	for _, p := range ports {
		known[p.ID] = true
		if !e.stale(p, req, valid[p.ID], exists[p.Netdev]) {
			continue
		}
		if err := e.detach(ctx, p.Owner); err != nil {
			errs = append(errs, fmt.Errorf("port %s: %w", p.ID, err))
			continue
		}
		report.Removed = append(report.Removed, p)
	}
	for _, n := range netdevs {
		if known[n.Name] || valid[n.Name] || !markedFor(n.Alias, req.Network) {
			continue
		}
		if err := e.kernel.Apply(ctx, []plan.Step{plan.DeleteNetdev{Name: n.Name}}); err != nil {
			errs = append(errs, err)
			continue
		}
		report.Netdevs = append(report.Netdevs, n.Name)
	}
	return report, fault("gc", "", errors.Join(errs...))
}

// markedFor reports whether an alias is that of a container's port on the
// network, or on any if network is empty.
func markedFor(alias, network string) bool {
	mark := " network="
	if network != "" {
		mark += network + " "
	}
	return strings.HasPrefix(alias, vswitch.AliasPrefix+"port ") && strings.Contains(alias, mark)
}

// stale decides on one port. A runtime knows its own network's attachments.
// Nobody knows all networks': there it takes two proofs, a namespace that is
// gone and a netdev that went with it.
func (e *Engine) stale(p vswitch.Port, req GCRequest, valid, exists bool) bool {
	if p.Owner.Kind != vswitch.OwnerContainer {
		return false
	}
	if req.Network != "" {
		return p.Owner.Network == req.Network && !valid
	}
	return !exists && errors.Is(e.kernel.CheckNetns(p.Owner.Netns), vswitch.NetnsNotFound)
}

// guests lists the ports that the store has; the host's are part of its switches.
func (e *Engine) guests() (ports []vswitch.Port, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		ports, err = tx.Ports()
		return err
	})
	return ports, err
}
