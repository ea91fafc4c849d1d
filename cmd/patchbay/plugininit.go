package main

import (
	"errors"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/scaffold"
)

func (c *cli) pluginInitCommand() *cobra.Command {
	o := scaffold.Options{}
	cmd := &cobra.Command{
		Use:   "init NAME",
		Short: "Begin a plugin: write a repository that builds and conforms",
		Long: `Write the beginnings of a plugin into a new directory: a Go module with a provider of
queues (VMQ) for a NIC that is made up, its conformance test, and a Makefile. It builds and
passes patchbay plugin check as it is; TODO marks what is to ask the hardware.`,
		Example: `  patchbay plugin init acme --module example.com/acme/patchbay-plugin-acme
  patchbay plugin init acme --dir ~/src/acme --sdk ~/src/patchbay`,
		SuggestFor:        []string{"new", "create"},
		Args:              operands("NAME"),
		ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Name = args[0]
			if o.Dir == "" {
				o.Dir = sdk.ExecutablePrefix + o.Name
			}
			if o.Module == "" {
				o.Module = "example.com/" + sdk.ExecutablePrefix + o.Name
			}
			if o.SDK = releaseForm.FindString(buildVersion().String()); o.SDK == "" && o.SDKDir == "" {
				return &vswitch.Error{
					Kind: vswitch.Invalid, Op: operation(cmd), Err: errors.New("this build is of no release, whose SDK the plugin could be built with"),
					Hint: "give --sdk DIR, a directory with Patchbay's source",
				}
			}
			written, err := scaffold.Write(o)
			if err != nil {
				return err
			}
			return c.say(written, "Begun in %s: %s\nNext: cd %[1]s && make check", o.Dir, strings.Join(written, ", "))
		},
	}
	cmd.Flags().StringVar(&o.Module, "module", "", "`path` of the Go module; default: example.com/patchbay-plugin-NAME")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "`directory` to write to; default: patchbay-plugin-NAME")
	cmd.Flags().StringVar(&o.SDKDir, "sdk", "", "`directory` with Patchbay's source, to build with instead of a release")
	completeBy(cmd, "module", noCompletion)
	return cmd
}

var releaseForm = regexp.MustCompile(`v[0-9]+\.[0-9]+\.[0-9]+`)
