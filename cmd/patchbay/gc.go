package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
)

func (c *cli) gcCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "gc",
		Short: "Remove what containers have left behind",
		Long: `Remove the ports of containers whose network namespace is gone, with their addresses,
and netdevs of Patchbay's that no port knows: what a runtime that was killed did not
delete. Ports of living containers are not touched. It goes on after a failure and
reports it at the end.

Runtimes that speak CNI 1.1 do the same for their own network by the verb GC.`,
		Example: `  patchbay gc
  patchbay gc -o json`,
		SuggestFor: []string{"prune", "clean", "cleanup"},
		Args:       operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := c.open().GC(cmd.Context(), engine.GCRequest{})
			if err != nil && len(report.Removed)+len(report.Netdevs) == 0 {
				return err
			}
			if printErr := c.print(report, func() string { return gcText(report, c.terminal) }); printErr != nil {
				return printErr
			}
			return err
		},
	}
}

func gcText(r engine.GCReport, t terminal) string {
	if len(r.Removed)+len(r.Netdevs) == 0 {
		return "nothing to remove\n"
	}
	var b strings.Builder
	if len(r.Removed) > 0 {
		b.WriteString("removed the ports of containers that are gone:\n")
		b.WriteString(portGrid(r.Removed, "", t))
	}
	if len(r.Netdevs) > 0 {
		fmt.Fprintf(&b, "removed netdevs that no port knew: %s\n", strings.Join(r.Netdevs, ", "))
	}
	return b.String()
}
