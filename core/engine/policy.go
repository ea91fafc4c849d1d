package engine

import (
	"context"
	"errors"
	"maps"
	"net/netip"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file says what a port's policy means, and admits it.

// guardRulesSymbols are what the rules of guards take.
const guardRulesSymbols = "CONFIG_NF_TABLES_BRIDGE and CONFIG_NFT_LIMIT in Linux 5.11 or later"

// guards are what is kept from leaving a port.
func guards(p vswitch.Port) plan.Guards {
	g := plan.Guards{DHCP: p.Policy.DHCPGuard, Router: p.Policy.RouterGuard, Storm: p.Policy.StormLimit}
	if p.Policy.AddressGuard {
		var own []netip.Addr
		for _, a := range p.Addresses {
			if own = append(own, a.Prefix.Addr()); a.Prefix.Addr().Is4() {
				own = append(own, netip.IPv4Unspecified()) // whoever asks whether his own is free has none yet (RFC 5227)
			}
		}
		g.Bound = plan.BindAddresses(p.MAC, own...)
	}
	return g
}

// guardRules are a port's guards under its netdev, if it has any.
func guardRules(p vswitch.Port) map[string]plan.Guards {
	g := guards(p)
	if g == (plan.Guards{}) || !p.Plugged() {
		return nil
	}
	return map[string]plan.Guards{p.Netdev: g}
}

// earlierRules are those that the kernel may have of a port's earlier policy, to be looked
// for or removed, where the policy of now has none in their place.
func earlierRules(p vswitch.Port) (s plan.State) {
	if !p.PolicyChanged || !p.Plugged() {
		return s
	}
	if guards(p) == (plan.Guards{}) {
		s.Rules.Guards = map[string]plan.Guards{p.Netdev: {}}
	}
	if len(p.Policy.ACL) == 0 {
		s.Rules.ACLs = map[string]plan.ACL{p.Netdev: plan.OtherACL}
	}
	if !limits(p).Any() {
		s.Ports = map[string]plan.Port{p.Netdev: {Name: p.Netdev, Limits: anyLimits(p)}}
	}
	return s
}

// admitPolicy refuses what the port, or the kernel, cannot have.
func admitPolicy(tx *store.Tx, was store.Realised, p vswitch.Port) error {
	if err := p.Policy.Validate(); err != nil {
		return err
	}
	if err := p.Policy.ValidateFor(p); err != nil {
		return err
	}
	if err := errors.Join(admitACL(tx, p), admitBandwidth(tx, p), admitMirror(tx, p)); err != nil {
		return err
	}
	if guards(p) == (plan.Guards{}) || was.HasGuards {
		return nil
	}
	var caps kernel.Capabilities
	if _, err := tx.Fact(capabilitiesFact, &caps); err != nil {
		return err
	}
	if caps.GuardRules {
		return errNotRealised // it was made before
	}
	return missing("guards on ports", guardRulesSymbols, "leave the guards out")
}

// lacksGuards reports that an attempt failed for want of the table of guards or ACLs.
func lacksGuards(err error) bool {
	var failed *kernel.StepError
	if !errors.As(err, &failed) || !errors.Is(err, vswitch.Drifted) {
		return false
	}
	rules, ok := failed.Step.(plan.SetRules)
	return ok && len(rules.Add.Guards)+len(rules.Add.ACLs) > 0
}

// guard makes the tables of guards and ACLs with those of all ports. It is what the first
// port with one needs, and the next one after somebody has flushed the ruleset.
func (e *Engine) guard(ctx context.Context) error {
	rules := plan.Rules{Guards: make(map[string]plan.Guards), ACLs: make(map[string]plan.ACL)}
	err := e.store.View(func(tx *store.Tx) error {
		records, err := tx.Switches()
		if err != nil {
			return err
		}
		ports, err := tx.Ports()
		for _, r := range records {
			if r.HostPort() {
				ports = append(ports, hostPort(r))
			}
		}
		for _, p := range ports {
			maps.Copy(rules.Guards, guardRules(p))
			maps.Copy(rules.ACLs, aclRules(p))
		}
		rules.GuardBase, rules.ACLBase = len(rules.Guards) > 0, len(rules.ACLs) > 0
		return err
	})
	if err != nil {
		return err
	}
	return e.kernel.Apply(ctx, []plan.Step{plan.SetRules{Add: rules}})
}
