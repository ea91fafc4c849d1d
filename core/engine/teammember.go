package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// memberCheck is what members are measured against.
type memberCheck struct {
	team vswitch.Team
	// other are teams as they will be, if they change too; nil means as they are.
	other    []vswitch.Team
	leaving  []store.SwitchRecord // switches that give their uplinks up
	switches []store.SwitchRecord
	netdevs  []kernel.Netdev
}

// completeTeam refuses members that cannot be, all of them at once, and decides what
// the host adds to the definition: the team's address and MTU, and what its members
// were before. A member that the team has already need not be on the host.
func (e *Engine) completeTeam(ctx context.Context, r, old *store.TeamRecord, c memberCheck) (warnings []string, err error) {
	c.team = r.Team
	err = e.store.View(func(tx *store.Tx) (err error) {
		if c.switches, err = tx.Switches(); err != nil || c.other != nil {
			return err
		}
		teams, err := tx.Teams()
		for _, t := range teams {
			c.other = append(c.other, t.Team)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if c.netdevs, err = e.kernel.Netdevs(ctx); err != nil {
		return nil, err
	}
	var refused []error
	speeds := make(map[int]string)
	r.Down = nil
	for _, m := range r.Members {
		had := old != nil && slices.Contains(old.Members, m)
		if had && slices.Contains(old.Down, m) {
			r.Down = append(r.Down, m)
		}
		nic, err := e.kernel.Netdev(ctx, m)
		if had && errors.Is(err, vswitch.NotFound) {
			continue
		}
		if err == nil && !had {
			err = e.mayJoin(ctx, nic, c)
		}
		if err != nil {
			refused = append(refused, memberFault(m, err))
			continue
		}
		if !had && !nic.Up {
			r.Down = append(r.Down, m)
		}
		r.MAC = cmp.Or(r.MAC, nic.MAC)
		r.MTU = cmp.Or(r.MTU, nic.MTU)
		if nic.Speed > 0 {
			speeds[nic.Speed] = m
		}
	}
	return mixedSpeeds(speeds), errors.Join(refused...)
}

// memberFault makes a NIC that is not there a team's problem.
func memberFault(name string, err error) error {
	if !errors.Is(err, vswitch.NotFound) {
		return err
	}
	return &vswitch.Error{
		Kind: vswitch.UplinkNotFound, Err: fmt.Errorf("there is no NIC %s", name),
		Hint: "run `patchbay topology` to see the NICs of this host",
	}
}

// mixedSpeeds warns of members of which one is slower: flows are not weighed.
func mixedSpeeds(speeds map[int]string) []string {
	if len(speeds) < 2 {
		return nil
	}
	var words []string
	for speed, nic := range speeds {
		words = append(words, fmt.Sprintf("%s has %d Mbit/s", nic, speed))
	}
	slices.Sort(words)
	return []string{"the members are not equally fast: " + strings.Join(words, ", ") + "; a team counts them as equals"}
}

// mayJoin refuses a NIC that cannot be, or is not free to be, a member.
func (e *Engine) mayJoin(ctx context.Context, nic kernel.Netdev, c memberCheck) error {
	if reason := noMember(nic, c.team.Lab); reason != "" {
		return &vswitch.Error{
			Kind: vswitch.TeamMember, Err: fmt.Errorf("%s cannot be a member: %s", nic.Name, reason),
			Hint: "name Ethernet NICs; `patchbay topology` shows them",
		}
	}
	if err := c.free(nic); err != nil {
		return err
	}
	if err := e.macFree(nic); err != nil {
		return err
	}
	return e.unburdened(ctx, nic, c)
}

// noMember says why a netdev can be no member at all; "" if it can.
func noMember(nic kernel.Netdev, lab bool) string {
	switch {
	case isTeam(nic):
		return "it is a team itself"
	case strings.HasPrefix(nic.Alias, vswitch.AliasPrefix):
		return "it is a netdev of Patchbay's own"
	}
	if reason := unsupported(nic); reason != "" {
		return reason
	}
	if nic.Kind != "" && !lab {
		return fmt.Sprintf("it is a %s, without hardware (to try teams out with such, define the team with `lab`)", nic.Kind)
	}
	return ""
}

// free refuses a NIC that serves somebody else.
func (c memberCheck) free(nic kernel.Netdev) error {
	for _, t := range c.other {
		if t.Name != c.team.Name && slices.Contains(t.Members, nic.Name) {
			return inUse(nic, "it is a member of team "+t.Name, fmt.Sprintf("take it out with `patchbay team set %s --members`, or name another NIC", t.Name))
		}
	}
	bridges := []string{c.team.Name}
	if c.other != nil && slices.ContainsFunc(c.netdevs, func(n kernel.Netdev) bool { return n.Name == nic.Master && isTeam(n) }) {
		bridges = append(bridges, nic.Master) // a team that has it no more, or it would have been found above
	}
	for _, s := range c.leaving {
		if s.Uplink == nic.Name {
			bridges = append(bridges, vswitch.BridgeName(s.Name))
		}
	}
	for _, s := range c.switches {
		if s.Uplink == nic.Name && !slices.Contains(bridges, vswitch.BridgeName(s.Name)) {
			return inUse(nic, "it is the uplink of switch "+s.Name,
				fmt.Sprintf("make the team without it, run `patchbay switch set %s --uplink %s`, then add it to the team", s.Name, c.team.Name))
		}
	}
	if nic.Master != "" && !slices.Contains(bridges, nic.Master) {
		return inUse(nic, "it belongs to "+nic.Master, fmt.Sprintf("take it out with `ip link set %s nomaster`, or name another NIC", nic.Name))
	}
	for _, n := range c.netdevs {
		if n.Lower == nic.Name {
			return inUse(nic, fmt.Sprintf("%s %s lies on it", n.Kind, n.Name), fmt.Sprintf("remove it with `ip link del %s`, or name another NIC", n.Name))
		}
	}
	return nil
}

// unburdened refuses a NIC that the host has its addresses on: as a member it hears
// nothing for itself.
func (e *Engine) unburdened(ctx context.Context, nic kernel.Netdev, c memberCheck) error {
	a, err := e.kernel.Addressing(ctx, nic.Name)
	if err != nil || !a.CarriesHost() {
		return err
	}
	return inUse(nic, "the host has addresses or routes on it", fmt.Sprintf(
		"move them to a switch first with `patchbay switch add NAME --uplink %s`; make the team of the other NICs, give it to the switch with `patchbay switch set NAME --uplink %s`, then add %s to the team: connections live through all of it",
		nic.Name, c.team.Name, nic.Name))
}
