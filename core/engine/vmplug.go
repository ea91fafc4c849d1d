package engine

import (
	"context"
	"maps"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file takes the kernel to a VM's port on its tap.

// plugTap takes the kernel to the port as it is to be. The tap may have anything of the port
// that had its name before: rules go by names.
func (e *Engine) plugTap(ctx context.Context, b binding) error {
	if err := e.switchWhole(ctx, b.next); err != nil {
		return err
	}
	desired, had := attachedState(b.next.port, b.next.record, b.next.caps), anyState(b.next)
	var left []plan.Step
	for _, r := range []reservation{b.now, b.former} {
		if !r.known || !r.port.Plugged() {
			continue
		}
		past := attachedState(r.port, r.record, r.caps)
		if r.port.Netdev != b.next.port.Netdev {
			past = plan.Union(past, anyState(r))
		}
		had = plan.Union(had, past)
		if r.port.ID != b.next.port.ID {
			left = append(left, unlimit(r.port)...)
		}
	}
	observed, err := e.kernel.Observe(ctx, plan.Union(desired, had))
	if err != nil {
		return err
	}
	if past := b.now.port; past.Plugged() && past.Netdev != b.next.port.Netdev {
		if place, _ := e.placeOf(ctx, past); place == tapGone { // another VM's tap may have the name
			delete(observed.Ports, past.Netdev)
		}
	}
	steps := append(plan.Diff(withTrunks(desired, observed), observed), left...)
	err = e.kernel.Apply(ctx, steps)
	if lacksGuards(err) {
		if err = e.guard(ctx); err == nil {
			err = e.kernel.Apply(ctx, steps)
		}
	}
	return needsRepair(err)
}

// withTrunks adds the trunks that were observed, as they are but for entries, to what is
// desired: a port that leaves them takes no more than its own.
func withTrunks(desired, observed plan.State) plan.State {
	ports := maps.Clone(desired.Ports)
	for name, p := range observed.Ports {
		if _, wanted := ports[name]; !wanted && vswitch.IsTrunk(name) {
			p.FDB, p.FDBIn = nil, nil
			ports[name] = p
		}
	}
	desired.Ports = ports
	return desired
}

// anyState stands in a scope for whatever a netdev with the port's name may have.
func anyState(r reservation) plan.State {
	name := r.port.Netdev
	s := plan.State{Ports: map[string]plan.Port{name: {Name: name, Limits: anyLimits(r.port)}}}
	if r.caps.BridgeRules {
		s.Rules.Apart = map[string]bool{name: true}
		s.Rules.Guard = map[string]vswitch.MAC{name: r.port.MAC}
		s.Rules.Priority = map[string]bool{name: true}
	}
	if r.caps.GuardRules {
		s.Rules.Guards = map[string]plan.Guards{name: {}}
	}
	if r.caps.ACLRules || r.caps.GuardRules {
		s.Rules.ACLs = map[string]plan.ACL{name: plan.OtherACL}
	}
	return s
}

// switchWhole fails with errNotRealised unless the bridges that a port needs are as they
// should be, and the rules are there.
func (e *Engine) switchWhole(ctx context.Context, r reservation) error {
	if r.caps.BridgeRules { // without them a tap would not be shut until it is bound
		if err := e.kernel.Apply(ctx, []plan.Step{plan.RequireRules{NoNAT: r.record.EffectiveMasquerade().IsZero()}}); err != nil {
			return needsRepair(err)
		}
	}
	return e.bridgesWhole(ctx, r)
}
