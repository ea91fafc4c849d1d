package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/cmd/patchbay/internal/whiteboard"
	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (c *cli) macCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mac",
		Short: "MAC addresses: the pool, and who holds what",
		Long: `Every port has a MAC address: a dynamic one from this host's pool, or a static one that
its owner asked for, which lies outside the pool's range.`,
		Example: `  patchbay mac pool show
  patchbay mac list`,
	}
	pool := &cobra.Command{
		Use:   "pool",
		Short: "The range of dynamic MAC addresses",
		Long: `The pool hands out the dynamic addresses: 256 of them unless the range was changed,
derived from this machine's id so that hosts differ. An address that is released
rests a while before another port gets it; the one that was released first comes first.`,
		Example: `  patchbay mac pool show
  patchbay mac pool set --first 0a:50:42:10:00:00 --last 0a:50:42:10:0f:ff`,
	}
	pool.AddCommand(c.macPoolShowCommand(), c.macPoolSetCommand())
	group(pool)
	cmd.AddCommand(pool, c.macListCommand())
	group(cmd)
	return cmd
}

func (c *cli) macPoolShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show the range and how much of it is in use",
		Long: `Show the pool's range, how many of its addresses are leased, and how many addresses are
held outside it: static ones, and dynamic ones of an earlier range.

Hyper-V twin: Get-VMHost | select MacAddressMinimum, MacAddressMaximum.`,
		Example:    `  patchbay mac pool show`,
		SuggestFor: []string{"get"},
		Args:       operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := c.open().MACPool(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(p, func() string { return poolSheet(p).render(c.terminal) })
		},
	}
}

func poolSheet(p engine.PoolStatus) *sheet {
	var s sheet
	source := "set by hand"
	if p.Default {
		source = "the default of this machine"
	}
	s.add("Range", fmt.Sprintf("%s - %s (%s)", p.First, p.Last, source))
	s.add("Size", fmt.Sprintf("%d addresses", p.Size))
	s.add("In use", poolUse(p))
	s.add("Resting", strconv.Itoa(p.Quarantined))
	s.add("Of an earlier range", strconv.Itoa(p.Outside))
	s.add("Static", strconv.Itoa(p.Static))
	return &s
}

func poolUse(p engine.PoolStatus) string {
	if p.Size == 0 {
		return strconv.Itoa(p.Used)
	}
	return fmt.Sprintf("%d (%d %%)", p.Used, 100*p.Used/p.Size)
}

func (c *cli) macPoolSetCommand() *cobra.Command {
	var first, last macFlag
	cmd := &cobra.Command{
		Use:   "set [--first MAC] [--last MAC]",
		Short: "Change the range",
		Long: `Change the first, the last or both addresses of the range: up to 2^24 addresses under
one prefix of three octets. Ports keep the addresses they have. A range with a static
address in use in it is refused, and names it.

Hyper-V twin: Set-VMHost -MacAddressMinimum -MacAddressMaximum.`,
		Example: `  patchbay mac pool set --first 0a:50:42:10:00:00 --last 0a:50:42:10:0f:ff`,
		Args:    operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if first.IsZero() && last.IsZero() {
				return usageError(cmd, "give --first, --last or both")
			}
			return c.setMACPool(cmd, vswitch.MACRange{First: first.MAC, Last: last.MAC})
		},
	}
	cmd.Flags().Var(&first, "first", "first address of the range, like 0a:50:42:10:00:00")
	cmd.Flags().Var(&last, "last", "last address of the range")
	completeBy(cmd, "first", noCompletion)
	completeBy(cmd, "last", noCompletion)
	return cmd
}

func (c *cli) setMACPool(cmd *cobra.Command, r vswitch.MACRange) error {
	client := c.open()
	before, err := client.MACPool(cmd.Context())
	if err != nil {
		return asked(cmd, err)
	}
	if r.First.IsZero() {
		r.First = before.First
	}
	if r.Last.IsZero() {
		r.Last = before.Last
	}
	after, err := client.SetMACPool(cmd.Context(), r)
	if err != nil {
		return err
	}
	if before.MACRange == after.MACRange && before.Default == after.Default {
		return c.say(after, "MAC pool is as asked already: %s, %d addresses", after.MACRange, after.Size)
	}
	return c.say(after, "MAC pool changed: %s -> %s, %d addresses", before.MACRange, after.MACRange, after.Size)
}

// macFlag is a MAC address as a flag.
type macFlag struct{ vswitch.MAC }

// Set reads any spelling of ParseMAC.
func (m *macFlag) Set(s string) (err error) {
	m.MAC, err = vswitch.ParseMAC(strings.TrimSpace(s))
	return err
}

// Type names the value in usage texts.
func (m *macFlag) Type() string { return "mac" }

func (c *cli) macListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the MAC addresses that are held",
		Long: `List every address that a port holds, in order, with its owner: dynamic ones from the
pool and static ones.

Hyper-V twin: Get-VMNetworkAdapter -All | select MacAddress, DynamicMacAddressEnabled.`,
		Example: `  patchbay mac list`,
		Args:    operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			leases, err := c.open().MACs(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(leases, func() string { return macGrid(leases, c.terminal) })
		},
	}
}

// leaseOwner is the owner with a container's id as short as runtimes show it.
func leaseOwner(l engine.MACLease) string {
	kind, id, ok := strings.Cut(l.Owner, " ")
	if !ok {
		return l.Owner
	}
	return kind + " " + whiteboard.OwnerName(vswitch.Owner{ID: id})
}

func macGrid(leases []engine.MACLease, t terminal) string {
	if len(leases) == 0 {
		return "No MAC address is held.\n"
	}
	g := grid{heading: []string{"MAC", "KIND", "PORT", "SWITCH", "OWNER"}}
	for _, l := range leases {
		kind := "dynamic"
		if l.Static {
			kind = "static"
		}
		g.add(l.MAC.String(), kind, l.Port, l.Switch, leaseOwner(l))
	}
	return g.render(t)
}
