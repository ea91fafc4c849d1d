package engine

import (
	"context"
	"fmt"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// aclRulesSymbols are what the rules of ACLs take.
const aclRulesSymbols = "CONFIG_NF_TABLES_BRIDGE in Linux 5.7 or later"

// aclRules are a port's list under its netdev, if it has one.
func aclRules(p vswitch.Port) map[string]plan.ACL {
	if len(p.Policy.ACL) == 0 || !p.Plugged() {
		return nil
	}
	return map[string]plan.ACL{p.Netdev: plan.ACLOf(p.Policy.ACL)}
}

// admitACL refuses a list that the kernel cannot have.
func admitACL(tx *store.Tx, p vswitch.Port) error {
	if len(p.Policy.ACL) == 0 {
		return nil
	}
	var caps kernel.Capabilities
	known, err := tx.Fact(capabilitiesFact, &caps)
	if err != nil || !known || caps.ACLRules {
		return err // what was never tried, the kernel tells itself
	}
	return missing("ACLs on ports", aclRulesSymbols, "leave the ACL out")
}

// ACLChange is what of a port's list comes and goes. What is to go goes first.
type ACLChange struct {
	Add    []vswitch.ACLRule `json:"add,omitempty"`
	Delete []vswitch.ACLRule `json:"delete,omitempty"`
}

// apply returns the list with the change made. It fails with NotFound of a rule that is to
// go and is not there, and as vswitch.AddACL does.
func (c *ACLChange) apply(rules []vswitch.ACLRule) (_ []vswitch.ACLRule, err error) {
	if c == nil {
		return rules, nil
	}
	for _, r := range c.Delete {
		if rules, err = vswitch.DeleteACL(rules, r); err != nil {
			return nil, err
		}
	}
	for _, r := range c.Add {
		if rules, err = vswitch.AddACL(rules, r); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

// ACLEntry is a rule of a port with what it has matched, once for each direction; no Hits
// where the kernel has not the list that the port is to have.
type ACLEntry struct {
	Text string           `json:"text"`
	Rule vswitch.ACLRule  `json:"rule"`
	Hits []kernel.ACLHits `json:"hits,omitempty"`
}

// PortACL lists a port's rules in the order in which packets meet them, with what they
// have matched. The port is named as in Port. PowerShell twins: Get-VMNetworkAdapterAcl,
// Get-VMNetworkAdapterExtendedAcl.
func (e *Engine) PortACL(ctx context.Context, name string) ([]ACLEntry, error) {
	entries, err := e.portACL(ctx, name)
	return entries, fault("port acl list", "port "+name, err)
}

func (e *Engine) portACL(ctx context.Context, name string) ([]ACLEntry, error) {
	entries := []ACLEntry{}
	p, err := e.findPort(name)
	if err != nil || len(p.Policy.ACL) == 0 {
		return entries, err
	}
	var hits map[string][]kernel.ACLHits
	if p.Plugged() {
		if hits, err = e.kernel.ACLHits(ctx, p.Netdev, plan.ACLOf(p.Policy.ACL)); err != nil {
			return nil, fmt.Errorf("read what the rules have matched: %w", err)
		}
	}
	for _, r := range vswitch.SortACL(p.Policy.ACL) {
		entries = append(entries, ACLEntry{Text: r.String(), Rule: r, Hits: hits[r.String()]})
	}
	return entries, nil
}
