package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/api"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// cli is one run of the command: its edges to the world, and what the flags that
// every command has say.
type cli struct {
	open           func() *api.Client // only called by commands that use a verb
	capture        capturer
	stdin          io.Reader
	stdout, stderr io.Writer
	terminal       terminal
	root           bool // the caller is the superuser

	output format
}

// run executes the command line and returns the exit code.
func (c *cli) run(ctx context.Context, args []string) int {
	c.output = table
	root := c.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	return c.report(err, args)
}

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "patchbay",
		Short: "Virtual switches for containers and virtual machines",
		Long: `Patchbay gives this host virtual switches in the manner of Hyper-V: external ones on
a NIC, internal ones shared with the host, private ones for guests alone. Containers
get their ports through the CNI plugin of the same name; this command shows them and
manages the switches.

A switch has ports, and a port has an owner: a container, a virtual machine, or the
host itself. Everything works as root, with no service running.`,
		Example: `  patchbay switch add lan --type internal --gateway 10.0.10.1/24 --masquerade
  patchbay apply -f switches.yaml
  patchbay topology
  patchbay port list --switch lan`,
		Version:       buildVersion().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.SetVersionTemplate("patchbay {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().VarP(&c.output, "output", "o", "how to print: table, json or yaml")
	complete(root, "output", formats()...)
	root.SetHelpCommand(helpCommand())
	root.AddCommand(c.applyCommand(), c.diffCommand(), c.exportCommand(), c.restoreCommand(), c.doctorCommand(), c.explainCommand())
	root.AddCommand(c.switchCommand(), c.teamCommand(), c.portCommand(), c.captureCommand(), c.macCommand(), c.libvirtCommand(), c.gcCommand(), c.statusCommand(),
		c.topologyCommand(), c.versionCommand(), c.docsCommand(), exitCodesTopic())
	group(root)
	root.InitDefaultCompletionCmd()
	describeCompletion(root)
	return root
}

// group completes a command that only holds others: bare it prints its help, and
// a word that names none of them is answered with the nearest.
func group(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// operands demands exactly the named operands.
func operands(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usageError(cmd, "%s is missing", strings.Join(names[len(args):], " and "))
		case len(args) > len(names):
			if last := args[len(args)-1]; isMasqueradeWord(last) && cmd.Flags().Changed("masquerade") {
				return &vswitch.Error{
					Kind: vswitch.Invalid, Op: operation(cmd), Err: fmt.Errorf("%q is one word too many", last),
					Hint: fmt.Sprintf("write --masquerade=%s, with an equals sign", last),
				}
			}
			return usageError(cmd, "%q is one word too many", args[len(names)])
		}
		return nil
	}
}

// atMost takes the named operand, or none.
func atMost(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return operands(name)(cmd, args)
	}
}

// helpCommand is cobra's, with our errors.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND...]",
		Short:   "Explain a command or a topic",
		Long:    "Explain a command, with its flags and examples, or a topic such as exit-codes.",
		Example: "  patchbay help switch add\n  patchbay help exit-codes",
		RunE: func(cmd *cobra.Command, args []string) error {
			at, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(at, strings.Join(rest, " "))
			}
			at.InitDefaultHelpFlag()
			return at.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			at, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, sub := range at.Commands() {
				if !sub.Hidden {
					names = append(names, sub.Name()+"\t"+sub.Short)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}
