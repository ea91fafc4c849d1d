package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file says what a switch is measured against before it is made: what exists
// under its name, the other switches, the host's netdevs.

// CanAttach fails with what an Attach to the switch would fail with for the
// switch's sake: it is missing, disagrees with define, or its uplink is not fit.
// It changes nothing.
func (e *Engine) CanAttach(ctx context.Context, name string, define *vswitch.Switch) error {
	return fault("attach", "switch "+name, e.canAttach(ctx, name, define))
}

func (e *Engine) canAttach(ctx context.Context, name string, define *vswitch.Switch) error {
	want := vswitch.Switch{Name: name}
	r, err := e.record(name)
	switch {
	case err == nil && define != nil:
		err = agrees(*define, r)
		want = r.Switch
	case err == nil:
		want = r.Switch
	case errors.Is(err, vswitch.NotFound) && define != nil:
		want = *define
		if err = define.Validate(); err == nil {
			err = e.namesFree(ctx, name)
		}
	}
	if err != nil {
		return err
	}
	if _, err := e.capabilitiesFor(ctx, want); err != nil {
		return err
	}
	if want.Uplink != "" {
		if _, err := e.uplink(ctx, want, nil); err != nil {
			return err
		}
	}
	asked := errors.New("asked, and nothing to write")
	err = e.store.Update(func(tx *store.Tx) error { // that it can be written is a part of the question
		others, err := tx.Switches()
		if err := errors.Join(err, uplinkFree(others, want), subnetsFree(others, want)); err != nil {
			return err
		}
		return asked
	})
	if errors.Is(err, asked) {
		return nil
	}
	return err
}

// agrees compares a definition with what exists: what it says must be so, what
// it leaves out may be anything.
func agrees(want vswitch.Switch, have store.SwitchRecord) error {
	var differ []string
	check := func(field string, same bool, w, h any) {
		if !same {
			differ = append(differ, fmt.Sprintf("%s is %v, not %v", field, h, w))
		}
	}
	check("type", want.Type == "" || want.Type == have.Type, want.Type, have.Type)
	check("uplink", want.Uplink == "" || want.Uplink == have.Uplink, want.Uplink, cmp.Or(have.Uplink, "none"))
	check("hostAccess", want.HostAccess == nil || *want.HostAccess == have.HostPort(), want.HostPort(), have.HostPort())
	check("vlan", want.VLAN == 0 || want.VLAN == have.VLAN, want.VLAN, have.VLAN)
	check("mtu", want.MTU == 0 || want.MTU == have.EffectiveMTU, want.MTU, have.EffectiveMTU)
	check("gateway", len(want.Gateway) == 0 || slices.Equal(want.Normalized().Gateway, have.Normalized().Gateway), want.Gateway, have.Gateway)
	check("masquerade", want.Masquerade.IsZero() || masqueradesAs(want, have), want.Masquerade, have.Masquerade)
	check("sriov", !want.SRIOV || have.SRIOV, want.SRIOV, have.SRIOV)
	check("minBandwidth", want.MinBandwidth.IsZero() || want.Normalized().MinBandwidth == have.MinBandwidth, want.MinBandwidth, have.MinBandwidth)
	check("portDefaults", want.PortDefaults.IsZero() || want.PortDefaults.Equal(have.PortDefaults), want.PortDefaults, have.PortDefaults)
	check("portProfiles", len(want.PortProfiles) == 0 || vswitch.SameProfiles(want.Normalized().PortProfiles, have.PortProfiles), want.PortProfiles, have.PortProfiles)
	check("hostPolicy", want.HostPolicy.IsZero() || want.HostPolicy.Equal(have.HostPolicy), want.HostPolicy, have.HostPolicy)
	if len(differ) == 0 {
		return nil
	}
	return &vswitch.Error{
		Kind: vswitch.Conflict, Err: fmt.Errorf("exists with another definition: %s", strings.Join(differ, "; ")),
		Hint: fmt.Sprintf("compare with `patchbay switch show %s`; change it with `patchbay switch set %s`", have.Name, have.Name),
	}
}

// masqueradesAs compares masquerade for the families that there are: "on" is
// "ipv4" where there is no IPv6 gateway.
func masqueradesAs(want vswitch.Switch, have store.SwitchRecord) bool {
	if len(want.Gateway) == 0 {
		want.Gateway = have.Gateway
	}
	return want.EffectiveMasquerade() == have.EffectiveMasquerade()
}

// uplinkFree refuses a NIC that is the uplink of another of the switches.
func uplinkFree(switches []store.SwitchRecord, s vswitch.Switch) error {
	for _, r := range switches {
		if s.Uplink != "" && r.Uplink == s.Uplink && r.Name != s.Name {
			return &vswitch.Error{
				Kind: vswitch.UplinkInUse, Err: fmt.Errorf("NIC %s is the uplink of switch %s", s.Uplink, r.Name),
				Hint: fmt.Sprintf("name another NIC, or run `patchbay switch delete %s`", r.Name),
			}
		}
	}
	return nil
}

// subnetsFree refuses a gateway whose subnet is another switch's: the host could
// route to one of them alone.
func subnetsFree(switches []store.SwitchRecord, s vswitch.Switch) error {
	for _, r := range switches {
		for _, theirs := range r.Gateway {
			for _, ours := range s.Gateway {
				if r.Name != s.Name && ours.Overlaps(theirs) {
					return &vswitch.Error{
						Kind: vswitch.Conflict, Err: fmt.Errorf("gateway %s overlaps %s of switch %s", ours, theirs, r.Name),
						Hint: "choose another subnet",
					}
				}
			}
		}
	}
	return nil
}

// namesFree refuses a switch whose netdevs' names somebody else has: another
// switch with a name that is cut to the same, or a stranger.
func (e *Engine) namesFree(ctx context.Context, name string) error {
	return e.netdevsFree(ctx, name, vswitch.BridgeName(name), vswitch.HostPortName(name), vswitch.HostPortSwitchEnd(name))
}

// netdevsFree refuses names for a switch's netdevs that are somebody else's.
func (e *Engine) netdevsFree(ctx context.Context, name string, netdevs ...string) error {
	for _, netdev := range netdevs {
		n, err := e.kernel.Netdev(ctx, netdev)
		if errors.Is(err, vswitch.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if !vswitch.AliasOf(n.Alias, name) {
			return &vswitch.Error{
				Kind: vswitch.AlreadyExists, Err: fmt.Errorf("netdev %s, which the switch needs, is there and somebody else's", netdev),
				Hint: fmt.Sprintf("choose another name for the switch, or rename the netdev: `ip link set %s name NEW`", netdev),
			}
		}
	}
	return nil
}
