package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// uplink looks at the NIC that an External switch names and refuses what cannot
// carry one, with the reason. A NIC may be that of a switch that is leaving it.
func (e *Engine) uplink(ctx context.Context, s vswitch.Switch, leaving []store.SwitchRecord) (kernel.Netdev, error) {
	nic, err := e.kernel.Netdev(ctx, s.Uplink)
	if errors.Is(err, vswitch.NotFound) {
		return nic, &vswitch.Error{
			Kind: vswitch.UplinkNotFound, Err: fmt.Errorf("there is no NIC %s", s.Uplink),
			Hint: "run `patchbay topology` to see the NICs of this host",
		}
	}
	if err != nil {
		return nic, err
	}
	if nic.Name != s.Uplink { // rules, settings and events know the one name only
		return nic, &vswitch.Error{
			Kind: vswitch.UplinkUnsupported, Err: fmt.Errorf("%s is an alternative name of NIC %s", s.Uplink, nic.Name),
			Hint: "name the NIC " + nic.Name,
		}
	}
	bridges := []string{vswitch.BridgeName(s.Name)}
	for _, r := range leaving {
		bridges = append(bridges, vswitch.BridgeName(r.Name))
	}
	if err := eligible(nic, bridges); err != nil {
		return nic, err
	}
	if err := e.bare(ctx, nic); err != nil {
		return nic, err
	}
	if err := e.macFree(nic); err != nil {
		return nic, err
	}
	if nic.MaxMTU != 0 && s.MTU > nic.MaxMTU {
		return nic, &vswitch.Error{
			Kind: vswitch.Invalid, Err: fmt.Errorf("MTU %d is more than the %d that NIC %s can do", s.MTU, nic.MaxMTU, nic.Name),
			Hint: fmt.Sprintf("use --mtu %d or less", nic.MaxMTU),
		}
	}
	return nic, nil
}

// bare refuses a NIC that other netdevs lie on: in a bridge it hands them no frames any
// more, and a VLAN device takes its VLAN away from the switch.
func (e *Engine) bare(ctx context.Context, nic kernel.Netdev) error {
	if nic.Master != "" {
		return nil
	}
	all, err := e.kernel.Netdevs(ctx)
	for _, n := range all {
		if n.Lower == nic.Name {
			return inUse(nic, fmt.Sprintf("%s %s lies on it", n.Kind, n.Name),
				fmt.Sprintf("remove it with `ip link del %s`, or name another NIC", n.Name))
		}
	}
	return err
}

// macFree refuses a NIC whose address the pool may give to a port: the bridge would
// keep the port's frames for the NIC.
func (e *Engine) macFree(nic kernel.Netdev) error {
	var r vswitch.MACRange
	err := e.store.View(func(tx *store.Tx) (err error) {
		r, _, err = tx.MACRange()
		return err
	})
	if err == nil && r.Contains(nic.MAC) {
		return &vswitch.Error{
			Kind: vswitch.UplinkUnsupported, Err: fmt.Errorf("%s cannot be an uplink: its MAC address %s lies in the MAC pool", nic.Name, nic.MAC),
			Hint: "change the pool with `patchbay mac pool set`, or the address of the NIC",
		}
	}
	return err
}

// eligible applies Hyper-V's and the bridge's rules for uplinks. A NIC may be a port
// of bridges already: of the switch's own, which is being put right again, or of one
// that gives the NIC up.
func eligible(nic kernel.Netdev, bridges []string) error {
	if reason := unsupported(nic); reason != "" && !isTeam(nic) {
		return &vswitch.Error{
			Kind: vswitch.UplinkUnsupported, Err: fmt.Errorf("%s cannot be an uplink: %s", nic.Name, reason),
			Hint: "name an Ethernet NIC; `patchbay topology` shows them",
		}
	}
	switch {
	case strings.HasPrefix(nic.Alias, vswitch.AliasPrefix) && !isTeam(nic):
		return inUse(nic, "it is a port of Patchbay's own", "name a NIC that no switch uses")
	case nic.Master != "" && !slices.Contains(bridges, nic.Master):
		return inUse(nic, fmt.Sprintf("it belongs to %s", nic.Master), fmt.Sprintf("take it out with `ip link set %s nomaster`, or name another NIC", nic.Name))
	}
	return nil
}

func inUse(nic kernel.Netdev, reason, hint string) error {
	return &vswitch.Error{Kind: vswitch.UplinkInUse, Err: fmt.Errorf("NIC %s is in use: %s", nic.Name, reason), Hint: hint}
}

// unsupported says why a netdev can be no uplink at all; "" if it can.
func unsupported(nic kernel.Netdev) string {
	switch nic.Kind {
	case "bond":
		return "it is a bond, not a NIC nor a team of Patchbay's"
	case "bridge", "team", "vlan", "vrf", "macvlan", "macvtap", "ipvlan", "openvswitch":
		return fmt.Sprintf("it is a %s, not a NIC", nic.Kind)
	}
	switch {
	case nic.Loopback:
		return "it is the loopback"
	case !nic.Ethernet:
		return "it does not speak Ethernet"
	case nic.NoBridge:
		return "its driver does not allow bridging (a wireless NIC sends only its own address)"
	}
	return ""
}
