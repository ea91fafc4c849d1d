package main

import (
	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/config"
	"github.com/patchbay-net/patchbay/core/engine"
)

func (c *cli) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Write this host's configuration as a file for apply",
		Long: `Write the teams and switches of this host as YAML that "patchbay apply" reads; applied
here, it changes nothing. Defaults stand beside it as comments. The same configuration is
always written as the same bytes. Ports are not in it: they belong to their owners.

With -o json it is the same without comments, and apply reads that too.`,
		Example: `  patchbay export > switches.yaml
  patchbay export | patchbay diff -f -`,
		SuggestFor: []string{"dump", "save", "backup"},
		Args:       operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := c.open().Export(cmd.Context(), engine.ExportRequest{})
			if err != nil {
				return err
			}
			if c.output == jsonFormat {
				return c.print(out.Config, nil)
			}
			_, err = c.stdout.Write(config.Format(out.Config, config.Effective{MACPool: out.MACPool, MTU: out.EffectiveMTU}))
			return err
		},
	}
}
