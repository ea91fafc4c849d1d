package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/host"
)

func (c *cli) pluginCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Vendors' plugins: what there is, and tools for who writes one",
		Long: `A plugin makes a vendor's NICs do work for ports: VFs (SR-IOV), hardware queues (VMQ),
encryption (IPsec). It is a program named patchbay-plugin-NAME in
/usr/local/lib/patchbay/plugins or /usr/lib/patchbay/plugins, or in the directories that
PATCHBAY_PLUGIN_DIRS names. It must belong to root, and nobody else may be able to write
to it. Where there is /etc/patchbay/plugins.sha256, in sha256sum's form, a plugin must be
on that list with its checksum.

docs/writing-a-plugin.md is for who writes one.`,
		Example: `  patchbay plugin list
  patchbay plugin init acme --module example.com/acme/patchbay-plugin-acme
  patchbay plugin check ./patchbay-plugin-acme`,
	}
	cmd.AddCommand(c.pluginListCommand(), c.pluginCheckCommand(), c.pluginRunCommand(), c.pluginInitCommand())
	group(cmd)
	return cmd
}

// installed is a plugin as lists show it.
type installed struct {
	host.Executable
	Description *sdk.Description `json:"description,omitempty"`
	Problem     *failure         `json:"problem,omitempty"`
}

func (c *cli) pluginListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the plugins that are installed, and what is wrong with them",
		Long: `List the plugins that are installed: each is started for a moment and asks nothing of
its hardware. One that may not be started, or does not start, is listed with the reason.`,
		Example:    "  patchbay plugin list\n  patchbay plugin list -o json",
		SuggestFor: []string{"ls", "show", "status"},
		Args:       operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := host.Find(host.Dirs(os.Getenv)...)
			if err != nil {
				return err
			}
			sums, err := host.ReadChecksums(host.ChecksumFile)
			if err != nil {
				return err
			}
			list := make([]installed, len(found))
			err = withRunDir(func(dir string) error {
				var all sync.WaitGroup
				for i, e := range found {
					all.Go(func() {
						list[i] = look(cmd.Context(), host.Options{Executable: e, Checksums: sums, RunDir: dir, Log: slog.New(slog.DiscardHandler)})
					})
				}
				all.Wait()
				return nil
			})
			if err != nil {
				return err
			}
			return c.print(list, func() string { return c.pluginTable(list) })
		},
	}
}

// look starts a plugin and asks who it is.
func look(ctx context.Context, o host.Options) installed {
	p := host.Open(o)
	defer p.Close()
	in := installed{Executable: o.Executable}
	if d, err := p.Describe(ctx); err != nil {
		in.Problem = &failuresOf(err, "")[0]
	} else {
		in.Description = &d
	}
	return in
}

func (c *cli) pluginTable(list []installed) string {
	if len(list) == 0 {
		return fmt.Sprintf("No plugin is installed in %s.\n", strings.Join(host.Dirs(os.Getenv), " or "))
	}
	g := grid{heading: []string{"NAME", "VERSION", "VENDOR", "FEATURES", "PATH"}}
	var problems strings.Builder
	for _, in := range list {
		d := in.Description
		if d == nil {
			g.add(in.Name, "", "", "", in.Path)
			fmt.Fprintf(&problems, "\n%s: %s\n", in.Name, in.Problem.Message)
			if in.Problem.Hint != "" {
				fmt.Fprintf(&problems, "  hint: %s\n", in.Problem.Hint)
			}
			continue
		}
		var features []string
		for _, f := range d.Features {
			features = append(features, string(f))
		}
		g.add(in.Name, d.Version, d.Vendor, strings.Join(features, ","), in.Path)
	}
	return g.render(c.terminal) + printableLines(problems.String())
}

// printableLines is text of a plugin's, of which only the line ends are left of what
// controls a terminal.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = printable(l)
	}
	return strings.Join(lines, "\n")
}

// withRunDir lends a directory for sockets, of which nothing stays.
func withRunDir(use func(dir string) error) error {
	dir, err := os.MkdirTemp("", "patchbay")
	if err != nil {
		return &vswitch.Error{Kind: vswitch.StoreUnavailable, Err: err, Hint: "set TMPDIR to a directory that can be written"}
	}
	return errors.Join(use(dir), os.RemoveAll(dir))
}

// namedPlugin is the executable that an operand means: a path, for which the user vouches, or
// the name of one that is installed and may be started.
func namedPlugin(operand string) (host.Executable, error) {
	if strings.ContainsRune(operand, '/') || strings.HasPrefix(operand, sdk.ExecutablePrefix) {
		return host.ExecutableAt(operand)
	}
	found, err := host.Find(host.Dirs(os.Getenv)...)
	if err != nil {
		return host.Executable{}, err
	}
	for _, e := range found {
		if e.Name != operand {
			continue
		}
		sums, err := host.ReadChecksums(host.ChecksumFile)
		if err != nil {
			return e, err
		}
		return e, e.Verify(sums)
	}
	return host.Executable{}, &vswitch.Error{
		Kind: vswitch.NotFound, Object: "plugin " + operand, Err: errors.New("it is not installed"),
		Hint: "run `patchbay plugin list`, or give the path of its program",
	}
}

// completePlugins offers the names of those that are installed, and files.
func completePlugins(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found, _ := host.Find(host.Dirs(os.Getenv)...) // what cannot be read cannot be offered
	var names []string
	for _, e := range found {
		names = append(names, e.Name)
	}
	return names, cobra.ShellCompDirectiveDefault
}
