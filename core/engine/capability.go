package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// capabilitiesFact is where the store keeps what the kernel can do until reboot.
const capabilitiesFact = "capabilities"

// capabilities finds out once a boot what the kernel can do.
func (e *Engine) capabilities(ctx context.Context) (kernel.Capabilities, error) {
	var caps kernel.Capabilities
	var known bool
	err := e.store.View(func(tx *store.Tx) (err error) {
		known, err = tx.Fact(capabilitiesFact, &caps)
		return err
	})
	if err != nil || known {
		return caps, err
	}
	return e.probe(ctx)
}

func (e *Engine) probe(ctx context.Context) (kernel.Capabilities, error) {
	caps, err := e.kernel.Capabilities(ctx)
	if err != nil {
		return caps, err
	}
	err = e.store.Update(func(tx *store.Tx) error { return tx.PutFact(capabilitiesFact, caps) })
	if errors.Is(err, vswitch.StoreUnavailable) {
		err = nil // what cannot be kept is found out again
	}
	return caps, err
}

// capabilitiesFor returns what the kernel can do if that is enough for the switch.
// What it could not do may have been loaded since: it is tried again.
func (e *Engine) capabilitiesFor(ctx context.Context, s vswitch.Switch) (kernel.Capabilities, error) {
	caps, err := e.capabilities(ctx)
	if err != nil || supported(s, caps) == nil {
		return caps, err
	}
	if caps, err = e.probe(ctx); err != nil {
		return caps, err
	}
	return caps, supported(s, caps)
}

// capabilitiesToDefine is capabilitiesFor of a switch that becomes s, with what its new ports
// are to get. Where that stays as it was it is no reason against the switch: it may be that
// another kernel was booted since, and each new port is refused by itself.
func (e *Engine) capabilitiesToDefine(ctx context.Context, was, s vswitch.Switch) (kernel.Capabilities, error) {
	caps, err := e.capabilitiesFor(ctx, s)
	if err != nil || s.PortDefaults.Equal(was.PortDefaults) || supportedPolicy(s.PortDefaults, caps, "portDefaults") == nil {
		return caps, err
	}
	if caps, err = e.probe(ctx); err != nil {
		return caps, err
	}
	return caps, supportedPolicy(s.PortDefaults, caps, "portDefaults")
}

// supportedPolicy refuses what this kernel cannot do of a policy that is the switch's own.
func supportedPolicy(p vswitch.Policy, caps kernel.Capabilities, where string) error {
	switch {
	case guards(vswitch.Port{Policy: p}) != (plan.Guards{}) && !caps.GuardRules:
		return missing("guards on ports", guardRulesSymbols, "leave them out of "+where)
	case len(p.ACL) > 0 && !caps.ACLRules:
		return missing("ACLs on ports", aclRulesSymbols, "leave the list out of "+where)
	case limits(vswitch.Port{Policy: p}).Any() && !caps.Limits:
		return missing("limits of bandwidth", kernel.LimitSymbols, "leave the limit out of "+where)
	case !p.Bandwidth.Min.IsZero() && !caps.Shares:
		return missing(sharesUplink, kernel.ShareSymbols, "leave the minimum out of "+where)
	case p.Mirror != vswitch.MirrorNone && !caps.Mirroring:
		return missing("port mirroring", kernel.MirrorSymbols, "leave `mirror` out of "+where)
	}
	return nil
}

// supported refuses a switch that this kernel cannot make as it is defined.
func supported(s vswitch.Switch, caps kernel.Capabilities) error {
	switch {
	case s.VLAN != 0 && !caps.VLANFiltering:
		return missing("VLANs on switches", "CONFIG_BRIDGE_VLAN_FILTERING", "leave the VLAN out")
	case s.Type == vswitch.Private && !caps.BridgeRules:
		return missing("a switch that is closed to the host", "CONFIG_NF_TABLES_BRIDGE", "use an internal switch")
	case !s.Masquerade.IsZero() && (!caps.NAT || !caps.BridgeRules):
		return missing("masquerade", "CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT, CONFIG_NFT_MASQ or CONFIG_NF_TABLES_BRIDGE", "leave masquerade off and route the subnet instead")
	case !caps.PortLocked && !caps.BridgeRules:
		return missing("binding ports to their MAC address", "bridge port locking (Linux 5.18) or CONFIG_NF_TABLES_BRIDGE", "use a newer kernel")
	}
	return supportedPolicy(s.HostPolicy, caps, "the host's policy")
}

func missing(what, symbol, hint string) error {
	return &vswitch.Error{Kind: vswitch.CapabilityMissing, Err: fmt.Errorf("this kernel cannot do %s: it lacks %s", what, symbol), Hint: hint}
}

// mayHave finds out again what the kernel can do where a port was refused for want of it: a
// module may have been loaded since, or an earlier version of Patchbay did not ask.
func (e *Engine) mayHave(ctx context.Context, refusal error) bool {
	if vswitch.KindOf(refusal) != vswitch.CapabilityMissing {
		return false
	}
	_, err := e.probe(ctx)
	return err == nil
}
