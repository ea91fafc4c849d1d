package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// aclHelp tells how rules are written.
const aclHelp = `A rule is written as a text:

  ACTION DIRECTION [PROTOCOL] [from ADDRESS [port P]] [to ADDRESS [port P]]
         [weight N [stateful [idle SECONDS]]]

ACTION is allow, deny or meter; DIRECTION is the owner's view: in, out, or both for a rule
each way. ADDRESS is an IP address, a prefix, a MAC address, any (of IP) or any-mac (any
frame). "local" and "remote" stand for the owner's and the other side whatever the
direction; an address alone is the remote one.

Without a weight a rule has one address and no more, and of the rules that match the one
with the longest prefix decides. With a weight it may name PROTOCOL (tcp, udp, icmp,
icmpv6 or a number) and ports of tcp and udp (one, or 8000-8100); the one with the highest
weight that matches decides. What no rule matches passes, and both kinds have to let a
packet pass. A stateful rule lets answers pass too, until nothing has come either way for
so many seconds (3600). A meter counts, and decides nothing.`

func (c *cli) portACLCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "acl",
		Short: "Show and change what passes of what a port sends and gets",
		Long: `Change and show the access control list of a port while it is attached.

` + aclHelp + `

Hyper-V twins: Add-, Get- and Remove-VMNetworkAdapterAcl, and -VMNetworkAdapterExtendedAcl.`,
		Example: `  patchbay port acl add web-1 "allow in tcp to port 443 weight 10" "deny in weight 1"
  patchbay port acl list web-1`,
		SuggestFor: []string{"rule", "firewall", "filter"},
	}
	cmd.AddCommand(c.portACLAddCommand(), c.portACLListCommand(), c.portACLDeleteCommand())
	group(cmd)
	return cmd
}

func (c *cli) portACLAddCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "add PORT RULE...",
		Short: "Add rules to a port's list",
		Long: `Add rules to the list of a port: all of them at once, or none. A rule about the same
packets as another one of its kind and weight is refused (ALREADY_EXISTS), and so is one of
the same weight as another that matches some packets with it (AMBIGUOUS). What the port's
rules have counted begins at zero again; its sessions go on.

` + aclHelp + `

Hyper-V twins: Add-VMNetworkAdapterAcl, Add-VMNetworkAdapterExtendedAcl.`,
		Example: `  patchbay port acl add web-1 "deny out to 10.0.0.0/8" "allow out to 10.1.0.0/16"
  patchbay port acl add web-1 "allow out tcp weight 10 stateful" "deny in weight 1"
  patchbay port acl add web-1 "deny out tcp to port 25 weight 20"
  patchbay port acl add web-1 "meter both remote 0.0.0.0/0"`,
		Args:              atLeast("PORT", "RULE"),
		ValidArgsFunction: c.completePorts,
		RunE: func(cmd *cobra.Command, args []string) error {
			rules, err := aclArguments(args[1:])
			if err != nil {
				return err
			}
			return c.changeACL(cmd, args[0], engine.ACLChange{Add: rules})
		},
	}
}

func (c *cli) portACLDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "delete PORT RULE...",
		Aliases: []string{"rm"},
		Short:   "Delete rules from a port's list",
		Long: `Delete rules from the list of a port: all of them at once, or none. A rule is named by
itself, as "port acl list" writes it.

Hyper-V twins: Remove-VMNetworkAdapterAcl, Remove-VMNetworkAdapterExtendedAcl.`,
		Example:           `  patchbay port acl delete web-1 "deny in weight 1"`,
		SuggestFor:        []string{"remove", "del"},
		Args:              atLeast("PORT", "RULE"),
		ValidArgsFunction: c.completePorts,
		RunE: func(cmd *cobra.Command, args []string) error {
			rules, err := aclArguments(args[1:])
			if err != nil {
				return err
			}
			return c.changeACL(cmd, args[0], engine.ACLChange{Delete: rules})
		},
	}
}

func (c *cli) changeACL(cmd *cobra.Command, port string, change engine.ACLChange) error {
	p, err := c.open().SetPort(cmd.Context(), port, engine.PortChange{ACL: &change})
	if err != nil {
		return err
	}
	return c.say(p, "port %s has %s", p.ID, aclWords(p.Policy.ACL))
}

func aclWords(rules []vswitch.ACLRule) string {
	switch len(rules) {
	case 0:
		return "no ACL"
	case 1:
		return "an ACL of 1 rule"
	}
	return fmt.Sprintf("an ACL of %d rules", len(rules))
}

func (c *cli) portACLListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list PORT",
		Aliases: []string{"ls"},
		Short:   "List a port's rules and what they have matched",
		Long: `List the rules of a port in the order in which a packet meets them: meters, those without
a weight by their prefix, those with one by their weight; and what each has matched since
the list was last changed. Answers to what a stateful rule has allowed are not counted.

Hyper-V twins: Get-VMNetworkAdapterAcl, Get-VMNetworkAdapterExtendedAcl.`,
		Example:           `  patchbay port acl list web-1`,
		SuggestFor:        []string{"show", "get", "counters"},
		Args:              operands("PORT"),
		ValidArgsFunction: c.completePorts,
		RunE: func(cmd *cobra.Command, args []string) error {
			entries, err := c.open().PortACL(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.print(entries, func() string { return aclGrid(entries, c.terminal) })
		},
	}
}

func aclGrid(entries []engine.ACLEntry, t terminal) string {
	if len(entries) == 0 {
		return "The port has no ACL: all passes.\n"
	}
	g := grid{heading: []string{"RULE", "WAY", "PACKETS", "BYTES"}}
	for _, e := range entries {
		if len(e.Hits) == 0 {
			g.add(e.Text, string(e.Rule.Direction), "?", "?")
		}
		for _, h := range e.Hits {
			g.add(e.Text, string(h.Direction), fmt.Sprint(h.Packets), fmt.Sprint(h.Bytes))
		}
	}
	return g.render(t)
}

// atLeast demands the named operands, the last of them once or more.
func atLeast(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return operands(names...)(cmd, args[:min(len(args), len(names))])
	}
}

// aclArguments reads rules that are an argument each, or one in several.
func aclArguments(args []string) (rules []vswitch.ACLRule, err error) {
	if len(args) > 1 && !strings.Contains(args[0], " ") { // without quotes
		args = []string{strings.Join(args, " ")}
	}
	for _, text := range args {
		r, err := vswitch.ParseACLRule(text)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// aclTexts are the rules in the order in which packets meet them.
func aclTexts(rules []vswitch.ACLRule) (texts []string) {
	for _, r := range vswitch.SortACL(rules) {
		texts = append(texts, r.String())
	}
	return texts
}
