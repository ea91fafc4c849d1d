package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (c *cli) teamCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "team",
		Short: "Make, change, show and delete teams of NICs",
		Long: `A team is 1 to 32 NICs that are one uplink: name it as the uplink of an external switch,
as one names a NIC. Its mode says how the NICs, its members, share the traffic:

    active-standby  one member carries all, the next in order takes over when it fails;
                    the physical switches need not know
    active-active   each guest on one member; the physical switches need not know;
                    --standby names one that carries nothing while all others have links
    static          by flow; the ports of the physical switch are a static group
    lacp            by flow; the ports of the physical switch speak LACP (IEEE 802.3ad)

No mode that changes the order of a flow's frames, or a guest's MAC address, can be
chosen. By the hash transport-ports, fragments of IP, which have no ports, may leave by
another member than whole datagrams of the same UDP conversation, and overtake them:
--hash ip-addresses keeps them together. The netdev of a team has the team's name.

Teams outlive a reboot. Hyper-V twins: New-, Set-, Get- and Remove-NetLbfoTeam, and
the embedded team of New-VMSwitch -NetAdapterName A,B.`,
		Example: `  patchbay team add team0 --members eth0,eth1
  patchbay switch add wan --uplink team0
  patchbay team show team0`,
		SuggestFor: []string{"bond", "teams", "lbfo", "lag", "trunk"},
	}
	cmd.AddCommand(c.teamAddCommand(), c.teamSetCommand(), c.teamShowCommand(), c.teamListCommand(), c.teamDeleteCommand())
	group(cmd)
	return cmd
}

func (c *cli) teamShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show one team",
		Long: `Show a team's definition, which member carries traffic, the LACP partner, what each
member has counted, and what keeps the team from being whole.

Hyper-V twin: Get-NetLbfoTeam -Name NAME, Get-NetLbfoTeamMember.`,
		Example: `  patchbay team show team0
  patchbay team show team0 -o json | jq .state.active`,
		SuggestFor:        []string{"get", "describe", "info"},
		Args:              operands("NAME"),
		ValidArgsFunction: c.completeTeams,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open().Team(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.print(s, func() string { return teamText(s, c.terminal) })
		},
	}
}

// teamText is a team's sheet with a line for each member.
func teamText(s engine.TeamStatus, t terminal) string {
	var b strings.Builder
	b.WriteString(teamSheet(s).render(t))
	if s.State != nil && len(s.State.Members) > 0 {
		g := grid{heading: []string{"MEMBER", "LINK", "CARRIES", "MBIT/S", "FAILURES", "RX BYTES", "TX BYTES", "MAC"}}
		for _, m := range s.State.Members {
			if m.Held {
				g.add(m.Name, upDown(m.Link), "stands by", number(m.Speed), "", "", "", m.MAC.String())
				continue
			}
			g.add(m.Name, upDown(m.Link), yesNo(m.InUse), number(m.Speed), strconv.Itoa(m.Failures),
				strconv.FormatUint(m.RxBytes, 10), strconv.FormatUint(m.TxBytes, 10), m.MAC.String())
		}
		b.WriteString("\n" + g.render(t))
	}
	return b.String() + degradedLines(s, t)
}

func teamSheet(s engine.TeamStatus) *sheet {
	var t sheet
	t.add("Name", s.Name)
	t.add("Mode", string(s.Mode))
	t.add("Switch", s.Switch)
	t.add("Members", strings.Join(s.Members, ", "))
	for _, f := range [][2]string{
		{"Primary", s.Primary},
		{"Reselect", string(s.Reselect)},
		{"Standby", standbyText(s)},
		{"Hash", s.HashWords()},
		{"LACP rate", string(s.LACPRate)},
	} {
		if f[1] != "" {
			t.add(f[0], f[1])
		}
	}
	if s.MinLinks > 0 {
		t.add("Least links", strconv.Itoa(s.MinLinks))
	}
	t.add("Monitor", fmt.Sprintf("every %d ms", s.Monitor))
	if s.UpDelay > 0 || s.DownDelay > 0 {
		t.add("Delays", fmt.Sprintf("up %d ms, down %d ms", s.UpDelay, s.DownDelay))
	}
	t.add("MAC", s.MAC.String())
	if s.State != nil && s.State.Active != "" {
		t.add("Active", s.State.Active)
	}
	if s.Mode == vswitch.TeamLACP && s.State != nil {
		partner := "none"
		if !s.State.Partner.IsZero() {
			partner = s.State.Partner.String()
		}
		t.add("LACP partner", partner)
	}
	if f := s.LastFailover; f != nil {
		t.add("Last failover", fmt.Sprintf("%s from %s to %s: %s; %d guests announced", f.Time.Format(time.RFC3339),
			orNone(f.From), orNone(f.To), f.Why, f.Announced))
	}
	if s.Notes != "" {
		t.add("Notes", s.Notes)
	}
	return &t
}

// standbyText tells whether the standby carries, and why.
func standbyText(s engine.TeamStatus) string {
	switch {
	case s.Standby == "" || s.State == nil:
		return s.Standby
	case s.StandsIn != "":
		return fmt.Sprintf("%s, stands in: %s", s.Standby, s.StandsIn)
	}
	return s.Standby + ", stands by"
}

func orNone(members []string) string {
	return cmp.Or(strings.Join(members, ", "), "none")
}

func upDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (c *cli) teamListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the teams",
		Long: `List the teams of this host by name. CARRYING are the members that carry traffic now;
STATE is "degraded" while something is not as defined, and "team show" says what.

Hyper-V twin: Get-NetLbfoTeam.`,
		Example: `  patchbay team list
  patchbay team list -o json | jq -r '.[].name'`,
		Args: operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			teams, err := c.open().Teams(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(teams, func() string { return teamGrid(teams, c.terminal) })
		},
	}
}

func teamGrid(teams []engine.TeamStatus, t terminal) string {
	if len(teams) == 0 {
		return "There is no team. To make one: patchbay team add NAME --members NIC,NIC\n"
	}
	g := grid{heading: []string{"NAME", "MODE", "MEMBERS", "CARRYING", "SWITCH", "STATE"}}
	for _, s := range teams {
		state := "whole"
		if len(s.Degraded) > 0 {
			state = "degraded"
		}
		g.add(s.Name, string(s.Mode), strings.Join(s.Members, ","), strings.Join(carrying(s.State), ","), s.Switch, state)
	}
	return g.render(t)
}

func carrying(state *kernel.TeamState) (names []string) {
	if state == nil {
		return nil
	}
	for _, m := range state.Members {
		if m.InUse {
			names = append(names, m.Name)
		}
	}
	return names
}

func (c *cli) teamDeleteCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Aliases: []string{"rm"},
		Short:   "Delete a team",
		Long: `Delete a team; its members become ordinary NICs again. One that is the uplink of a
switch is refused; with --force the switch keeps the team's preferred member as its
uplink.

Hyper-V twin: Remove-NetLbfoTeam.`,
		Example: `  patchbay team delete team0
  patchbay team delete team0 --force`,
		SuggestFor:        []string{"remove", "del", "destroy"},
		Args:              operands("NAME"),
		ValidArgsFunction: c.completeTeams,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.open().DeleteTeam(cmd.Context(), args[0], force); err != nil {
				return err
			}
			return c.say(deletion{Deleted: args[0]}, "team %s deleted", args[0])
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "leave the switch on it one member as its uplink")
	return cmd
}
