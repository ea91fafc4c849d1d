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
	alone    bool                 // no other team changes
	leaving  []store.SwitchRecord // switches that give their uplinks up
	switches []store.SwitchRecord
	netdevs  []kernel.Netdev
	yes      bool // the user consents to what is taken from the host
}

// completeTeam refuses members that cannot be, all of them at once, and decides what
// the host adds to the definition: the team's address and MTU, and what its members
// were before. A member that the team has already need not be on the host.
func (e *Engine) completeTeam(ctx context.Context, r, old *store.TeamRecord, c memberCheck) (warnings []string, err error) {
	c.team, c.alone = r.Team, c.other == nil
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
	if err := e.keepMAC(ctx, r); err != nil {
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
		var told []string
		if err == nil && !had {
			if err = e.mayJoin(nic, c); err == nil {
				told, err = e.burden(ctx, nic, c)
			}
		}
		warnings = append(warnings, told...)
		if err != nil {
			refused = append(refused, memberFault(m, err))
			continue
		}
		if !had && !nic.Up {
			r.Down = append(r.Down, m)
		}
		if m != r.Standby {
			r.MAC = cmp.Or(r.MAC, nic.MAC)
			r.MTU = cmp.Or(r.MTU, nic.MTU)
		}
		if nic.Speed > 0 {
			speeds[nic.Speed] = m
		}
	}
	if len(refused) == 0 {
		refused = append(refused, e.noteStandby(ctx, r, old))
	}
	return append(warnings, mixedSpeeds(speeds)...), errors.Join(refused...)
}

// keepMAC gives a new team the address of the member that carries the host: neighbours
// need not learn another. The standby keeps its own.
func (e *Engine) keepMAC(ctx context.Context, r *store.TeamRecord) error {
	for _, m := range r.Active() {
		nic, err := e.kernel.Netdev(ctx, m)
		if errors.Is(err, vswitch.NotFound) || !r.MAC.IsZero() {
			continue
		}
		a, err2 := e.kernel.Addressing(ctx, m)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if a.CarriesHost() {
			r.MAC, r.MTU = nic.MAC, nic.MTU
		}
	}
	return nil
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
func (e *Engine) mayJoin(nic kernel.Netdev, c memberCheck) error {
	if reason := noMember(nic, c.team.Lab); reason != "" {
		return &vswitch.Error{
			Kind: vswitch.TeamMember, Err: fmt.Errorf("%s cannot be a member: %s", nic.Name, reason),
			Hint: "name Ethernet NICs; `patchbay topology` shows them",
		}
	}
	if err := c.free(nic); err != nil {
		return err
	}
	return e.macFree(nic)
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
	// A team that has it no more, or it would have been found above, gives it up in the
	// same transaction, or a process was killed before it did.
	former := slices.ContainsFunc(c.netdevs, func(n kernel.Netdev) bool { return n.Name == nic.Master && isTeam(n) })
	if former && nic.Master != c.team.Name {
		if c.alone {
			return inUse(nic, "it is leaving team "+nic.Master+", and whoever did that was killed", "run `patchbay restore`, which ends it, then try again")
		}
		bridges = append(bridges, nic.Master)
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

// burden is what the host has on a NIC that becomes a member: it moves to the port of
// the switch on the team, or to the team. It refuses what takes the host's way out, and
// what a running network manager would take back.
func (e *Engine) burden(ctx context.Context, nic kernel.Netdev, c memberCheck) ([]string, error) {
	a, err := e.kernel.Addressing(ctx, nic.Name)
	if err != nil || !a.CarriesHost() {
		return nil, err
	}
	to := c.team.Name
	for _, s := range c.switches {
		switch {
		case s.Uplink != c.team.Name:
		case s.HostPort():
			to = vswitch.HostPortName(s.Name)
		case a.DefaultRoute() != nil && !c.yes:
			return nil, inUse(nic, fmt.Sprintf("switch %s on the team is closed to the host, which would lose %s", s.Name, loses(a)),
				fmt.Sprintf("open it with `patchbay switch set %s --host-access`, or apply a file with --yes", s.Name))
		}
	}
	warnings, err := e.peace(ctx, nic.Name, to, c.yes)
	return append(passing(a), warnings...), err
}

// noMembersUplink refuses the member of a team as an uplink, also where a process was
// killed before it had become one.
func noMembersUplink(teams []store.TeamRecord, s vswitch.Switch) error {
	for _, t := range teams {
		if s.Uplink != "" && slices.Contains(t.Members, s.Uplink) {
			return inUse(kernel.Netdev{Name: s.Uplink}, "it is a member of team "+t.Name, "name the team, or another NIC")
		}
	}
	return nil
}
