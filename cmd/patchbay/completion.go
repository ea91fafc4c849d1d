package main

import (
	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Completion of names asks the engine. What fails is not shown: a shell's line is
// no place for an error.

func (c *cli) completeSwitches(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.switchNames(cmd, nil, "")
}

func (c *cli) switchNames(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	switches, err := c.open().Switches(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, s := range switches {
		names = append(names, cobra.CompletionWithDesc(s.Name, string(s.Type)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) completePorts(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ports, err := c.open().Ports(cmd.Context(), "")
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, p := range ports {
		names = append(names, cobra.CompletionWithDesc(p.ID, p.Owner.String()+" on "+p.Switch))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// nicNames offers the NICs that may become uplinks.
func (c *cli) nicNames(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	t, err := c.open().Topology(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, n := range t.NICs {
		if n.Master == "" && len(n.Addresses) == 0 {
			names = append(names, n.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) completeTeams(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	teams, err := c.open().Teams(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, t := range teams {
		names = append(names, cobra.CompletionWithDesc(t.Name, string(t.Mode)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// words are the values of a flag that takes one of a few.
func words[T ~string](all []T) []string {
	var out []string
	for _, w := range all {
		out = append(out, string(w))
	}
	return out
}

func noCompletion(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

func switchTypes() []string {
	return words(vswitch.SwitchTypes())
}

// describeCompletion gives cobra's own commands what all of ours have.
func describeCompletion(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		cmd.Example = "  patchbay completion bash > /etc/bash_completion.d/patchbay"
		group(cmd)
		for _, shell := range cmd.Commands() {
			shell.Example = "  patchbay completion " + shell.Name()
		}
	}
}
