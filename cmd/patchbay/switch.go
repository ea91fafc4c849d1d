package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (c *cli) switchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "switch",
		Aliases: []string{"sw"},
		Short:   "Make, change, show and delete switches",
		Long: `A switch connects its ports as a physical one would, and its type says with what else:

    external   guests and a NIC of this host, the uplink, by which they reach the
               network outside; the host shares it unless --host-access=false
    internal   guests and the host; with a gateway address and masquerade guests
               reach the outside through the host
    private    guests alone; not even the host can listen

Switches outlive a reboot. Hyper-V twins: New-, Set-, Get- and Remove-VMSwitch.`,
		Example: `  patchbay switch add wan --uplink eth1
  patchbay switch list`,
		SuggestFor: []string{"network", "bridge", "vswitch", "switches"},
	}
	cmd.AddCommand(c.switchAddCommand(), c.switchSetCommand(), c.switchPortsCommand(), c.switchProfileCommand(), c.switchShowCommand(), c.switchListCommand(), c.switchDeleteCommand())
	group(cmd)
	return cmd
}

func (c *cli) switchShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show one switch",
		Long: `Show a switch's definition with what became of it: the MTU where none was given, the
bridge netdev that it is made of, and the netdev by which the host reaches it.

Hyper-V twin: Get-VMSwitch -Name NAME.`,
		Example: `  patchbay switch show lan
  patchbay switch show lan -o yaml`,
		SuggestFor:        []string{"get", "describe", "info"},
		Args:              operands("NAME"),
		ValidArgsFunction: c.completeSwitches,
		RunE: func(cmd *cobra.Command, args []string) error {
			client := c.open()
			s, err := client.Switch(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if s.Type == vswitch.External {
				of, err := client.Offloads(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				s.Offload = of[0].Totals
			}
			return c.print(s, func() string { return switchSheet(s).render(c.terminal) })
		},
	}
}

func switchSheet(s engine.SwitchStatus) *sheet {
	var t sheet
	t.add("Name", s.Name)
	t.add("Type", string(s.Type))
	if s.Type == vswitch.External {
		t.add("Uplink", s.Uplink)
	}
	t.add("Host access", hostAccess(s))
	if s.VLAN != 0 {
		t.add("VLAN", strconv.Itoa(s.VLAN))
	}
	t.add("MTU", mtu(s))
	if s.Type == vswitch.Internal {
		t.each("Gateway", prefixes(s.Gateway))
		t.add("Masquerade", s.Masquerade.String())
	}
	t.add("Ports", strconv.Itoa(s.Ports))
	t.add("Bridge", fmt.Sprintf("%s (%s)", s.Bridge, s.BridgeMAC))
	if s.Segments > 0 {
		t.add("Segments", fmt.Sprintf("%d bridges", s.Segments))
	}
	if s.Type == vswitch.External {
		t.add("SR-IOV", sriovWord(s.SRIOV))
		var has []string
		for _, o := range s.Offload {
			has = append(has, totalWords(o))
		}
		if len(has) > 0 {
			t.each("Offload", has)
		}
	}
	if s.Type == vswitch.External || !s.MinBandwidth.IsZero() {
		t.add("Minimum bandwidth", s.MinBandwidth.String())
	}
	if words := policyWords(s.PortDefaults); len(words) > 0 {
		t.each("Policy of new ports", words)
	}
	if len(s.PortDefaults.ACL) > 0 {
		t.each("ACL of new ports", aclTexts(s.PortDefaults.ACL))
	}
	var profiles []string
	for _, f := range s.PortProfiles {
		profiles = append(profiles, f.Name+": "+f.String())
	}
	if len(profiles) > 0 {
		t.each("Port profiles", profiles)
	}
	if words := policyWords(s.HostPolicy); len(words) > 0 {
		t.each("Policy of the host's port", words)
	}
	if len(s.HostPolicy.ACL) > 0 {
		t.each("ACL of the host's port", aclTexts(s.HostPolicy.ACL))
	}
	if s.Notes != "" {
		t.add("Notes", s.Notes)
	}
	return &t
}

func hostAccess(s engine.SwitchStatus) string {
	if s.HostPortNetdev == "" {
		return "no"
	}
	return "yes, as netdev " + s.HostPortNetdev
}

func mtu(s engine.SwitchStatus) string {
	if s.MTU == 0 && s.Type == vswitch.External {
		return fmt.Sprintf("%d bytes (the uplink's)", s.EffectiveMTU)
	}
	return fmt.Sprintf("%d bytes", s.EffectiveMTU)
}

func prefixes(all []netip.Prefix) []string {
	var words []string
	for _, p := range all {
		words = append(words, p.String())
	}
	return words
}

func (c *cli) switchListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the switches",
		Long: `List the switches of this host by name. NAT is the switch's masquerade: whether guests
leave through the host under its address. MTU is in bytes; PORTS counts guests' ports.

Hyper-V twin: Get-VMSwitch.`,
		Example: `  patchbay switch list
  patchbay switch list -o json | jq -r '.[].name'`,
		Args: operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switches, err := c.open().Switches(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(switches, func() string { return switchGrid(switches, c.terminal) })
		},
	}
}

func switchGrid(switches []engine.SwitchStatus, t terminal) string {
	if len(switches) == 0 {
		return "There is no switch. To make one: patchbay switch add NAME --type internal\n"
	}
	g := grid{heading: []string{"NAME", "TYPE", "UPLINK", "HOST", "VLAN", "MTU", "PORTS", "NAT", "GATEWAY"}}
	for _, s := range switches {
		vlan, nat := "", ""
		if s.VLAN != 0 {
			vlan = strconv.Itoa(s.VLAN)
		}
		if !s.Masquerade.IsZero() {
			nat = s.Masquerade.String()
		}
		g.add(s.Name, string(s.Type), s.Uplink, s.HostPortNetdev, vlan, strconv.Itoa(s.EffectiveMTU),
			strconv.Itoa(s.Ports), nat, strings.Join(prefixes(s.Gateway), ","))
	}
	return g.render(t)
}

// deletion is what programs get from a verb that leaves nothing to print.
type deletion struct {
	Deleted  string   `json:"deleted"`
	Warnings []string `json:"warnings,omitempty"`
}

func (c *cli) switchDeleteCommand() *cobra.Command {
	var req engine.DeleteSwitchRequest
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Aliases: []string{"rm"},
		Short:   "Delete a switch",
		Long: `Delete a switch with its host port; its uplink becomes an ordinary NIC again. A switch
that guests are attached to is refused, naming them, unless --force detaches
them: they keep running and lose this network. Nothing is asked back.

Hyper-V twin: Remove-VMSwitch NAME [-Force].`,
		Example: `  patchbay switch delete lab
  patchbay switch delete lab --force`,
		SuggestFor:        []string{"remove", "del", "destroy"},
		Args:              operands("NAME"),
		ValidArgsFunction: c.completeSwitches,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Name = args[0]
			report, err := c.open().DeleteSwitch(cmd.Context(), req)
			if err != nil {
				return err
			}
			warn(cmd, report.Warnings)
			return c.say(deletion{Deleted: req.Name, Warnings: report.Warnings}, "switch %s deleted", req.Name)
		},
	}
	cmd.Flags().BoolVar(&req.Force, "force", false, "detach the guests that are on the switch")
	return cmd
}
