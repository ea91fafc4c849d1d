package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
)

func (c *cli) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore",
		Short: "Make all switches again, as after a reboot",
		Long: `Make every switch of the configuration that the kernel has not, or has not whole: what
patchbay-restore.service does when the machine starts. Without it a switch comes back
when its first container does. On a host that has everything it changes nothing.

A switch that cannot be made, because its uplink is missing or the kernel cannot do
it, is reported and does not stop the others; then the exit code is 1.`,
		Example: `  patchbay restore
  systemctl enable patchbay-restore.service`,
		SuggestFor: []string{"recover", "repair", "boot"},
		Args:       operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.progress("restoring the switches of this host ...")
			report, err := c.open().Restore(cmd.Context(), engine.RestoreRequest{})
			if err != nil {
				return err
			}
			if err := c.print(report, func() string { return restoreText(report, c.terminal) }); err != nil {
				return err
			}
			if len(report.Failed) > 0 {
				return errNotReady
			}
			return nil
		},
	}
}

func restoreText(r engine.RestoreReport, t terminal) string {
	var b strings.Builder
	if len(r.Teams) > 0 {
		fmt.Fprintf(&b, "teams that are there: %s\n", strings.Join(r.Teams, ", "))
	}
	switch {
	case len(r.Teams) > 0 && len(r.Restored)+len(r.Failed) == 0:
	case len(r.Restored)+len(r.Failed) == 0:
		b.WriteString("there is no switch to restore\n")
	case len(r.Restored) > 0:
		fmt.Fprintf(&b, "%d of %d switches are there: %s\n", len(r.Restored), len(r.Restored)+len(r.Failed), strings.Join(r.Restored, ", "))
	default:
		fmt.Fprintf(&b, "none of %d switches could be restored\n", len(r.Failed))
	}
	for _, p := range r.Failed {
		fmt.Fprintf(&b, "%s\n", t.red(printable(withoutHint(p))))
		if p.Hint != "" {
			fmt.Fprintf(&b, "  hint: %s\n", printable(p.Hint))
		}
	}
	return b.String()
}
