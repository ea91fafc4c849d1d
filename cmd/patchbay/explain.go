package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
)

func (c *cli) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain PORT|SWITCH|TEAM",
		Short: "What a port, switch or team is made of, as ip, bridge and nft",
		Long: `Show the ip, bridge, nft and sysctl commands that would make a switch, a team or a port on an
empty kernel, each group with its reason, and how a packet from there reaches another
guest, the host and the outside. Of a port it tells too what the uplink does for it, and why
not more. It tells what should be; what of it is missing in the kernel, "patchbay port show" and
"patchbay status" tell.

A port is named by its ID, by its owner's id, or by the beginning of either. Where a
switch has the name, it is the switch, and else the team.`,
		Example: `  patchbay explain lan
  patchbay explain web-1
  patchbay explain web-1 -o json | jq -r '.parts[].commands[]'`,
		SuggestFor:        []string{"why", "describe", "trace"},
		Args:              operands("PORT|SWITCH|TEAM"),
		ValidArgsFunction: c.completeSwitchesAndPorts,
		RunE: func(cmd *cobra.Command, args []string) error {
			x, err := c.open().Explain(cmd.Context(), engine.ExplainRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return c.print(x, func() string { return explanationText(x, c.terminal) })
		},
	}
}

func (c *cli) completeSwitchesAndPorts(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	switches, _ := c.switchNames(cmd, args, word)
	ports, directive := c.completePorts(cmd, args, word)
	return append(switches, ports...), directive
}

const offloadWhy = "What the port asks of the switch's uplink, and what that does. Plugins do it, no command; whatever is not done there is done in software."

func explanationText(x engine.Explanation, t terminal) string {
	var b strings.Builder
	for _, p := range x.Parts {
		fmt.Fprintf(&b, "%s\n", t.bold(printable(p.What)))
		for _, line := range wrapped(printable(p.Why), 84) {
			fmt.Fprintf(&b, "  %s\n", line)
		}
		for _, c := range p.Commands {
			fmt.Fprintf(&b, "    %s\n", printable(c))
		}
		b.WriteByte('\n')
	}
	if len(x.Offload) > 0 {
		fmt.Fprintf(&b, "%s\n", t.bold("offload"))
		for _, line := range append(wrapped(offloadWhy, 84), offloadLines(x.Offload)...) {
			fmt.Fprintf(&b, "  %s\n", printable(line))
		}
		b.WriteByte('\n')
	}
	b.WriteString(t.bold("How packets go") + "\n")
	for _, p := range x.Paths {
		fmt.Fprintf(&b, "  %s to %s\n", printable(p.From), printable(p.To))
		if p.Why != "" {
			fmt.Fprintf(&b, "    not at all: %s\n", printable(p.Why))
			continue
		}
		fmt.Fprintf(&b, "    %s\n", printable(strings.Join(p.Via, " > ")))
	}
	return b.String()
}

// wrapped breaks a text into lines of at most width bytes, where it can.
func wrapped(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
