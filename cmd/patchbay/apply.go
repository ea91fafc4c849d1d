package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
)

// errDiffers ends `diff` where there is something to change; what, is its result.
var errDiffers = errors.New("the host differs")

// configVerb are the flags that apply and diff share.
type configVerb struct {
	files                      configFiles
	prune, force, yes, explain bool
}

func (v *configVerb) flags(cmd *cobra.Command) {
	v.files.flag(cmd)
	f := cmd.Flags()
	f.BoolVar(&v.prune, "prune", false, "delete switches and teams that the file does not mention")
	f.BoolVar(&v.force, "force", false, "detach the guests of switches that are deleted")
	f.BoolVar(&v.yes, "yes", false, "take NICs even if the host loses its way out, or a network manager its NIC")
	f.BoolVar(&v.explain, "explain", false, "print the changes as ip, bridge, nft and sysctl commands too")
	f.SortFlags = false
}

func (c *cli) applyCommand() *cobra.Command {
	var v configVerb
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make this host what a file says",
		Long: `Make, change and delete teams and switches until the host is what the file says, in one
transaction: if any part fails, everything is what it was. What is as it should be
already is not touched, and what the kernel has lost is repaired, so apply may run as
often as one likes.

The file is YAML: "version: 1", "switches", a list whose fields are the flags of
"switch add" (hostAccess for --host-access), and optionally "teams", with the flags of
"team add", and "macPool" with first and last. A field that is left out has its default,
whatever the switch or team has now. Several files and documents make one configuration.
"patchbay export" writes such a file.

What the file does not mention stays and is listed, unless --prune deletes it. A switch
with guests is deleted only with --force, which detaches them last; if any part fails
they stay attached.`,
		Example: `  patchbay apply -f examples/internal.yaml
  patchbay apply -f switches.yaml --prune --explain
  patchbay export | sed s/eth1/eth2/ | patchbay apply -f -`,
		SuggestFor: []string{"up", "sync", "load", "import"},
		Args:       operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := c.compare(cmd, v, func(ctx context.Context, req engine.ApplyRequest) (engine.ConfigDiff, error) {
				return c.open().Apply(ctx, req)
			})
			if err != nil {
				return err
			}
			return c.print(d, func() string { return diffText(d, v.explain, c.terminal) + appliedText(d) })
		},
	}
	v.flags(cmd)
	return cmd
}

func (c *cli) diffCommand() *cobra.Command {
	var v configVerb
	cmd := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Show what apply would change",
		Long: `Compare this host with a file and print what "patchbay apply" would change: + is added,
~ changed, - deleted. With --explain it prints the ip, bridge, nft and sysctl commands
too. It changes nothing.

The exit code is 0 if the host is what the file says and 3 if it differs.`,
		Example: `  patchbay diff -f switches.yaml
  patchbay diff -f switches.yaml --prune --explain
  patchbay export | patchbay diff -f - && echo "as exported"`,
		SuggestFor: []string{"plan", "compare", "dry-run"},
		Args:       operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := c.compare(cmd, v, func(ctx context.Context, req engine.ApplyRequest) (engine.ConfigDiff, error) {
				return c.open().DiffConfig(ctx, req)
			})
			if err != nil {
				return err
			}
			text := func() string {
				if !d.Differs() {
					return diffText(d, v.explain, c.terminal) + "nothing to change\n"
				}
				return diffText(d, v.explain, c.terminal)
			}
			if err := c.print(d, text); err != nil {
				return err
			}
			if d.Differs() {
				return errDiffers
			}
			return nil
		},
	}
	v.flags(cmd)
	return cmd
}

func (c *cli) compare(cmd *cobra.Command, v configVerb, verb func(context.Context, engine.ApplyRequest) (engine.ConfigDiff, error)) (engine.ConfigDiff, error) {
	wanted, err := c.read(cmd, v.files)
	if err != nil {
		return engine.ConfigDiff{}, err
	}
	c.progress("%d switches in the file; looking at the host ...", len(wanted.Switches))
	d, err := verb(cmd.Context(), engine.ApplyRequest{Config: wanted, Prune: v.prune, Force: v.force, Yes: v.yes})
	if err == nil {
		warn(cmd, d.Warnings)
	}
	return d, err
}

// progress tells somebody who waits at a terminal what goes on.
func (c *cli) progress(line string, args ...any) {
	if c.terminal.columns > 0 && c.output == table {
		fmt.Fprintf(c.stderr, line+"\n", args...) //nolint:errcheck // only for show
	}
}

func diffText(d engine.ConfigDiff, explain bool, t terminal) string {
	var b strings.Builder
	for _, change := range d.Changes {
		line := printable(change.String())
		switch change.Action {
		case engine.ActionAdd:
			line = t.green("+ " + line)
		case engine.ActionDelete:
			line = t.red("- " + line)
		default:
			line = t.yellow("~ " + line)
		}
		b.WriteString(line + "\n")
	}
	if explain && len(d.Commands) > 0 {
		b.WriteString(t.bold("which equals") + "\n")
		for _, command := range d.Commands {
			b.WriteString("    " + printable(command) + "\n")
		}
	}
	if len(d.Kept) > 0 {
		fmt.Fprintf(&b, "kept, since the file does not mention them: %s\n", strings.Join(d.Kept, ", "))
	}
	return b.String()
}

func appliedText(d engine.ConfigDiff) string {
	switch n := len(d.Changes); n {
	case 0:
		return "nothing to change: the host is what the file says\n"
	case 1:
		return "1 change applied\n"
	default:
		return fmt.Sprintf("%d changes applied\n", n)
	}
}
