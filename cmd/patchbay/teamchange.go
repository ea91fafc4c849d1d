package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// teamDefinition holds the flags that say what a team is like.
type teamDefinition struct {
	team                           vswitch.Team
	mode, reselect, hash, lacpRate string
}

func (d *teamDefinition) flags(cmd *cobra.Command, c *cli) {
	f := cmd.Flags()
	f.StringVar(&d.mode, "mode", "", "how members share the traffic: active-standby, active-active, static or lacp (default active-standby)")
	f.StringSliceVar(&d.team.Members, "members", nil, "`NICs` of the team, 1 to 32, in order of preference")
	f.StringVar(&d.team.Primary, "primary", "", "`NIC` that an active-standby team prefers, if not the first")
	f.StringVar(&d.reselect, "reselect", "", "when to go back to it: failure, better or always (default failure)")
	f.StringVar(&d.team.Standby, "standby", "", "`NIC` of an active-active team that carries nothing while all others have links")
	f.StringVar(&d.hash, "hash", "", "what spreads flows in modes static and lacp: transport-ports (fragments of IP by addresses), ip-addresses or mac-addresses (default transport-ports)")
	f.IntVar(&d.team.MinLinks, "min-links", 0, "`members` of an lacp team that must have a link (default 1)")
	f.StringVar(&d.lacpRate, "lacp-rate", "", "how often the LACP partner is to speak: fast (1 s) or slow (30 s) (default fast)")
	f.IntVar(&d.team.Monitor, "monitor", 0, "`ms` between looks at the links, 10 to 10000 (default 100)")
	f.IntVar(&d.team.UpDelay, "up-delay", 0, "`ms` that a link must be there before it counts; a multiple of --monitor")
	f.IntVar(&d.team.DownDelay, "down-delay", 0, "`ms` that a link must be away before that counts; a multiple of --monitor")
	f.StringVar(&d.team.Notes, "notes", "", "free `text` for people")
	f.SortFlags = false
	complete(cmd, "mode", words(vswitch.TeamModes())...)
	complete(cmd, "reselect", words(vswitch.Reselects())...)
	complete(cmd, "hash", words(vswitch.TeamHashes())...)
	complete(cmd, "lacp-rate", words(vswitch.LACPRates())...)
	for _, flag := range []string{"members", "primary", "standby"} {
		completeBy(cmd, flag, c.nicNames)
	}
	for _, flag := range []string{"min-links", "monitor", "up-delay", "down-delay", "notes"} {
		completeBy(cmd, flag, noCompletion)
	}
}

// toTeam is the definition of a new team.
func (d *teamDefinition) toTeam(name string) vswitch.Team {
	t := d.team
	t.Name = name
	t.Mode, t.Reselect = vswitch.TeamMode(strings.ToLower(d.mode)), vswitch.Reselect(d.reselect)
	t.Hash, t.LACPRate = vswitch.TeamHash(d.hash), vswitch.LACPRate(d.lacpRate)
	return t
}

// toChange names the fields whose flags were given.
func (d *teamDefinition) toChange(cmd *cobra.Command) engine.TeamChange {
	t := d.toTeam("")
	var c engine.TeamChange
	for flag, take := range map[string]func(){
		"mode":       func() { c.Mode = &t.Mode },
		"members":    func() { c.Members = &t.Members },
		"primary":    func() { c.Primary = &t.Primary },
		"reselect":   func() { c.Reselect = &t.Reselect },
		"standby":    func() { c.Standby = &t.Standby },
		"hash":       func() { c.Hash = &t.Hash },
		"min-links":  func() { c.MinLinks = &t.MinLinks },
		"lacp-rate":  func() { c.LACPRate = &t.LACPRate },
		"monitor":    func() { c.Monitor = &t.Monitor },
		"up-delay":   func() { c.UpDelay = &t.UpDelay },
		"down-delay": func() { c.DownDelay = &t.DownDelay },
		"notes":      func() { c.Notes = &t.Notes },
	} {
		if cmd.Flags().Changed(flag) {
			take()
		}
	}
	return c
}

func (c *cli) teamAddCommand() *cobra.Command {
	var d teamDefinition
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a team",
		Long: `Make a team of NICs. Without --mode the first member carries all traffic and the
others wait in their order. NAME becomes the name of its netdev, 1 to 15 characters.

What the host has on a NIC that becomes a member moves to the team, or to the host port
of the switch on the team. Connections stay up but may pause for seconds, since a member
has to go down first; it is least where "apply" makes team and switch at once.

Adding a team that exists with the same definition changes nothing, repairs what it
has lost, and succeeds; with another definition it is refused: use "team set".

Hyper-V twin: New-NetLbfoTeam NAME -TeamMembers, -TeamingMode, -LoadBalancingAlgorithm,
-LacpTimer.`,
		Example: `  patchbay team add team0 --members eth0,eth1
  patchbay team add team0 --members eth0,eth1,eth2 --primary eth1 --reselect always
  patchbay team add team0 --members eth0,eth1,eth2 --mode active-active --standby eth2
  patchbay team add lag0 --mode lacp --members eth2,eth3 --min-links 2
  patchbay team add lag0 --mode static --members eth2,eth3 --hash ip-addresses`,
		SuggestFor:        []string{"new", "create", "make"},
		Args:              operands("NAME"),
		ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open().AddTeam(cmd.Context(), d.toTeam(args[0]))
			if err != nil {
				return err
			}
			warn(cmd, s.Warnings)
			return c.print(s, func() string {
				return fmt.Sprintf("team %s is there: %s of %s\n", s.Name, s.Mode, strings.Join(s.Members, ", ")) + degradedText(s, c.terminal)
			})
		},
	}
	d.flags(cmd, c)
	cmd.Flags().BoolVar(&d.team.Lab, "lab", false, "let netdevs without hardware, like veth, be members: to try teams out")
	return cmd
}

// degradedText is what a team lacks at once after a verb, which may come by itself.
func degradedText(s engine.TeamStatus, t terminal) string {
	if len(s.Degraded) == 0 {
		return ""
	}
	return degradedLines(s, t) + fmt.Sprintf("  hint: a NIC that has just joined has no link for a moment; look again with `patchbay team show %s`\n", s.Name)
}

func degradedLines(s engine.TeamStatus, t terminal) string {
	var b strings.Builder
	for _, d := range s.Degraded {
		fmt.Fprintf(&b, "%s: %s\n", t.yellow("degraded"), printable(d))
	}
	return b.String()
}

func (c *cli) teamSetCommand() *cobra.Command {
	var d teamDefinition
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change a team while it carries traffic",
		Long: `Change a team in place; what no flag names stays as it is. --members replaces the list:
NICs that come are in the team before those that go leave it. The switch on the team
and its guests stay attached.

Another --mode and another --lacp-rate take the link away for a moment, because Linux
sets them only on a team without members or link. With another mode, the options that
it does not have go back to their defaults.

Hyper-V twin: Set-NetLbfoTeam, Add- and Remove-NetLbfoTeamMember.`,
		Example: `  patchbay team set team0 --members eth0,eth1,eth2
  patchbay team set team0 --primary eth1
  patchbay team set team0 --standby eth2
  patchbay team set team0 --mode lacp --lacp-rate slow
  patchbay team set team0 --monitor 50 --up-delay 200`,
		SuggestFor:        []string{"change", "edit", "update", "modify"},
		Args:              operands("NAME"),
		ValidArgsFunction: c.completeTeams,
		RunE: func(cmd *cobra.Command, args []string) error {
			change := d.toChange(cmd)
			if change == (engine.TeamChange{}) {
				return nothingGiven(cmd, args[0], "--members NIC,NIC")
			}
			return c.setTeam(cmd, args[0], change)
		},
	}
	d.flags(cmd, c)
	return cmd
}

func (c *cli) setTeam(cmd *cobra.Command, name string, change engine.TeamChange) error {
	client := c.open()
	before, err := client.Team(cmd.Context(), name)
	if err != nil {
		return asked(cmd, err)
	}
	after, err := client.SetTeam(cmd.Context(), name, change)
	if err != nil {
		return err
	}
	warn(cmd, after.Warnings)
	return c.print(after, func() string {
		changes := teamDifferences(before, after)
		if len(changes.fields) == 0 {
			return fmt.Sprintf("team %s is as asked already\n", name) + degradedText(after, c.terminal)
		}
		return fmt.Sprintf("team %s changed\n", name) + changes.render(c.terminal) + degradedText(after, c.terminal)
	})
}

// teamDifferences lists what is not as it was, old and new.
func teamDifferences(before, after engine.TeamStatus) *sheet {
	var s sheet
	compare := func(field, old, new string) {
		if old != new {
			s.add("  "+field, shown(old)+" -> "+shown(new))
		}
	}
	compare("mode", string(before.Mode), string(after.Mode))
	compare("members", strings.Join(before.Members, ", "), strings.Join(after.Members, ", "))
	compare("primary", before.Primary, after.Primary)
	compare("reselect", string(before.Reselect), string(after.Reselect))
	compare("standby", before.Standby, after.Standby)
	compare("hash", string(before.Hash), string(after.Hash))
	compare("least links", number(before.MinLinks), number(after.MinLinks))
	compare("LACP rate", string(before.LACPRate), string(after.LACPRate))
	compare("monitor", strconv.Itoa(before.Monitor), strconv.Itoa(after.Monitor))
	compare("up delay", strconv.Itoa(before.UpDelay), strconv.Itoa(after.UpDelay))
	compare("down delay", strconv.Itoa(before.DownDelay), strconv.Itoa(after.DownDelay))
	compare("notes", before.Notes, after.Notes)
	return &s
}
