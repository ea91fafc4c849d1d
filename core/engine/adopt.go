package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// admissible looks at what an adopted netdev is and at who else has a static MAC.
func (e *Engine) admissible(ctx context.Context, r reservation) error {
	if !r.port.Adopted && !r.port.StaticMAC {
		return nil
	}
	netdevs, err := e.kernel.Netdevs(ctx)
	if err != nil {
		return err
	}
	if r.port.Adopted {
		teams, err := e.teamRecords()
		if err != nil {
			return err
		}
		if err := adoptable(netdevs, teams, r); err != nil {
			return err
		}
	}
	if !r.port.StaticMAC {
		return nil
	}
	for _, n := range netdevs {
		holder := n.Name
		if n.MAC != r.port.MAC && !slices.Contains(n.VFs, r.port.MAC) || n.Name == r.port.Netdev {
			continue
		}
		if n.MAC != r.port.MAC {
			holder = "a VF of " + n.Name
		}
		return &vswitch.Error{
			Kind: vswitch.MACDuplicate, Err: fmt.Errorf("MAC address %s belongs to %s of this host", r.port.MAC, holder),
			Hint: "choose another address, or leave it out to get one from the pool",
		}
	}
	return nil
}

// adoptable refuses a netdev that is not there, is ours, or serves somebody else.
func adoptable(netdevs []kernel.Netdev, teams []store.TeamRecord, r reservation) error {
	p, bridge := r.port, vswitch.SegmentName(r.record.Name, r.port.Segment)
	at := slices.IndexFunc(netdevs, func(n kernel.Netdev) bool { return n.Name == p.Netdev })
	if at < 0 {
		return &vswitch.Error{Kind: vswitch.NotFound, Err: fmt.Errorf("netdev %s of the previous result is not on this host", p.Netdev)}
	}
	n := netdevs[at]
	if strings.HasPrefix(n.Alias, vswitch.AliasPrefix) || n.Name == r.record.Uplink {
		return &vswitch.Error{Kind: vswitch.InUse, Err: fmt.Errorf("netdev %s is a part of switch %s", n.Name, p.Switch), Hint: "attach a netdev that another plugin made, or none"}
	}
	for _, t := range teams {
		if slices.Contains(t.Members, n.Name) { // its standby belongs to no netdev
			return &vswitch.Error{Kind: vswitch.InUse, Err: fmt.Errorf("netdev %s is a member of team %s", n.Name, t.Name), Hint: "attach a netdev that another plugin made, or none"}
		}
	}
	if n.Master != "" && n.Master != bridge {
		return &vswitch.Error{Kind: vswitch.InUse, Err: fmt.Errorf("netdev %s belongs to %s", n.Name, n.Master)}
	}
	if reason := unsupported(n); reason != "" {
		return &vswitch.Error{Kind: vswitch.Invalid, Err: fmt.Errorf("netdev %s cannot be attached: %s", n.Name, reason)}
	}
	return nil
}
