package main

import (
	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/cmd/patchbay/internal/whiteboard"
)

func (c *cli) topologyCommand() *cobra.Command {
	var ascii bool
	cmd := &cobra.Command{
		Use:   "topology",
		Short: "Draw the NICs, switches and ports",
		Long: `Draw what is connected to what, as on a whiteboard. On the left what a switch is
connected to: its NIC, the host, and by NAT the world outside. Each switch is a wide
box, and its guests hang below it. A private switch has broken lines and nothing on
its left. A long list of guests is cut; "patchbay port list" has them all.

The picture fits the terminal's width, 100 columns elsewhere. It is drawn in ASCII
with --ascii or where the locale is not UTF-8.`,
		Example: `  patchbay topology
  patchbay topology --ascii
  patchbay topology -o json`,
		SuggestFor: []string{"draw", "map", "graph", "picture"},
		Args:       operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := c.open().Topology(cmd.Context())
			if err != nil {
				return err
			}
			style := whiteboard.Style{
				Columns: c.terminal.columns, ASCII: ascii || !c.terminal.unicode, Color: c.terminal.color,
			}
			if style.Columns == 0 {
				style.Columns = 100
			}
			return c.print(t, func() string { return whiteboard.Draw(t, style) })
		},
	}
	cmd.Flags().BoolVar(&ascii, "ascii", false, "draw with ASCII characters alone")
	return cmd
}
