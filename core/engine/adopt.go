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

// admissible looks at what an adopted netdev is and at who else has a static MAC.
func (e *Engine) admissible(ctx context.Context, r reservation) error {
	if r.port.Adopted {
		netdevs, err := e.kernel.Netdevs(ctx)
		if err != nil {
			return err
		}
		teams, err := e.teamRecords()
		if err != nil {
			return err
		}
		if err := adoptable(netdevs, teams, r); err != nil {
			return err
		}
	}
	if !r.port.StaticMAC || r.known { // its VF may have it by now
		return nil
	}
	return e.addressOfNobody(ctx, r.port.MAC, "choose another address, or leave it out to get one from the pool", func(n kernel.Netdev) (holder string) {
		switch {
		case n.Name == r.port.Netdev:
			return ""
		case n.MAC != r.port.MAC && slices.Contains(n.VFs, r.port.MAC):
			return "a VF of " + n.Name
		}
		return holderByItself(n, r.port.MAC)
	})
}

func holderByItself(n kernel.Netdev, mac vswitch.MAC) string {
	if n.MAC != mac {
		return ""
	}
	return n.Name
}

// addressOfNobody refuses an address that is the host's: of a netdev that is in no bridge, of an
// uplink or of a team's member. What is in a bridge besides is a guest, whose address the store
// has, or the host's end of one.
func (e *Engine) addressOfNobody(ctx context.Context, mac vswitch.MAC, hint string, holder func(kernel.Netdev) string) error {
	netdevs, err := e.kernel.FreeNetdevs(ctx)
	if err != nil {
		return err
	}
	lower, err := e.lowerNetdevs()
	if err != nil {
		return err
	}
	for _, name := range lower {
		n, err := e.kernel.Netdev(ctx, name)
		if errors.Is(err, vswitch.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		netdevs = append(netdevs, n)
	}
	for _, n := range netdevs {
		if whose := holder(n); whose != "" {
			return &vswitch.Error{Kind: vswitch.MACDuplicate, Err: fmt.Errorf("MAC address %s belongs to %s of this host", mac, whose), Hint: hint}
		}
	}
	return nil
}

// lowerNetdevs names the uplinks and the members of teams.
func (e *Engine) lowerNetdevs() (names []string, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		records, err := tx.Switches()
		if err != nil {
			return err
		}
		teams, err := tx.Teams()
		names = nil
		for _, r := range records {
			if r.Uplink != "" {
				names = append(names, r.Uplink)
			}
		}
		for _, t := range teams {
			names = append(names, t.Members...)
		}
		return err
	})
	return names, err
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
