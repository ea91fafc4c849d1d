package engine

import (
	"context"
	"maps"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file takes the kernel to a VM's port on its tap.

// plugTaps takes the kernel to ports as they are to be. A tap may have anything of the port
// that had its name before: rules go by names.
func (e *Engine) plugTaps(ctx context.Context, all []binding) error {
	if err := e.switchesWhole(ctx, all); err != nil {
		return err
	}
	var desired, had plan.State
	var left []plan.Step
	for _, b := range all {
		desired = plan.Union(desired, attachedState(b.next.port, b.next.record, b.next.caps))
		past, ends := b.past()
		had, left = plan.Union(had, past), append(left, ends...)
	}
	observed, err := e.kernel.Observe(ctx, plan.Union(desired, had))
	if err != nil {
		return err
	}
	for _, b := range all {
		if past := b.now.port; past.Plugged() && past.Netdev != b.next.port.Netdev {
			if place, _ := e.placeOf(ctx, past); place == tapGone { // another VM's tap may have the name
				delete(observed.Ports, past.Netdev)
			}
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

// past is what the port, its tap and the tap's former port may have, and what ends another way.
func (b binding) past() (had plan.State, left []plan.Step) {
	had = anyState(b.next)
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
	return had, left
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

// switchesWhole fails with errNotRealised unless the bridges that the ports need are as they
// should be, and the rules are there.
func (e *Engine) switchesWhole(ctx context.Context, all []binding) error {
	whole := map[string]bool{}
	for _, b := range all {
		r := b.next
		name := vswitch.SegmentName(r.record.Name, min(r.port.Segment, 1)) // one of them looks at all
		if whole[name] {
			continue
		}
		whole[name] = true
		if r.caps.BridgeRules { // without them a tap would not be shut until it is bound
			if err := e.kernel.Apply(ctx, []plan.Step{plan.RequireRules{NoNAT: r.record.EffectiveMasquerade().IsZero()}}); err != nil {
				return needsRepair(err)
			}
		}
		if err := e.bridgesWhole(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
