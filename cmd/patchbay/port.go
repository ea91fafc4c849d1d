package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/cmd/patchbay/internal/whiteboard"
	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (c *cli) portCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "port",
		Short: "Show, change and delete ports",
		Long: `A port is a slot on a switch and belongs to an owner: a container, a virtual machine or
the host itself. The container runtime attaches and detaches its containers through
the CNI plugin; here one looks at the ports, and removes one that was left behind.

A port is named by its ID, by its owner's id, or by the beginning of either.
Hyper-V twins: Get- and Remove-VMNetworkAdapter, Set-VMNetworkAdapterVlan,
-VMNetworkAdapterAcl.`,
		Example: `  patchbay port list --switch lan
  patchbay port show web-1`,
		SuggestFor: []string{"ports", "interface", "adapter"},
	}
	cmd.AddCommand(c.portListCommand(), c.portShowCommand(), c.portStatsCommand(), c.portSetCommand(), c.portACLCommand(), c.portDeleteCommand())
	group(cmd)
	return cmd
}

func (c *cli) portListCommand() *cobra.Command {
	var sw string
	var offload bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the ports",
		Long: `List the ports of all switches, or of one: per switch the host's first, then the
guests' by owner. ENDPOINT is the netdev that the owner sees; PORT, the port's ID, is
the netdev at the switch's end.

With --offload it lists what the switches' uplinks do for the ports (VFs, hardware queues,
encryption), and why not more.

Hyper-V twin: Get-VMNetworkAdapter -All.`,
		Example: `  patchbay port list
  patchbay port list --offload
  patchbay port list --switch lan -o json`,
		Args: operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if offload {
				return c.listOffloads(cmd, sw)
			}
			ports, err := c.open().Ports(cmd.Context(), sw)
			if err != nil {
				return err
			}
			return c.print(ports, func() string { return portGrid(ports, sw, c.terminal) })
		},
	}
	cmd.Flags().StringVar(&sw, "switch", "", "only the ports of this switch")
	cmd.Flags().BoolVar(&offload, "offload", false, "what the uplinks do for the ports, and why not more")
	completeBy(cmd, "switch", c.switchNames)
	return cmd
}

func portGrid(ports []vswitch.Port, sw string, t terminal) string {
	if len(ports) == 0 && sw != "" {
		return fmt.Sprintf("Switch %s has no port.\n", sw)
	}
	if len(ports) == 0 {
		return "There is no port.\n"
	}
	g := grid{heading: []string{"PORT", "SWITCH", "OWNER", "ENDPOINT", "MAC", "VLAN", "ADDRESSES"}}
	for _, p := range ports {
		var addresses []string
		for _, a := range p.Addresses {
			addresses = append(addresses, a.Prefix.String())
		}
		g.add(p.ID, p.Switch, whiteboard.OwnerName(p.Owner), whiteboard.EndpointName(p), p.MAC.String(), vlanColumn(p), strings.Join(addresses, ","))
	}
	return g.render(t)
}

func (c *cli) portShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show PORT",
		Short: "Show one port, and whether it is as it should be",
		Long: `Show a port with its owner, addresses and routes, and compare it with the kernel: what
is missing there is listed as drift, in the words of ip and bridge. What it has sent and
received, and what its guards have dropped, tells "port stats".

Hyper-V twin: Get-VMNetworkAdapter -Name PORT.`,
		Example: `  patchbay port show web-1
  patchbay port show pbq4x7 -o yaml`,
		SuggestFor:        []string{"get", "describe", "info"},
		Args:              operands("PORT"),
		ValidArgsFunction: c.completePorts,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := c.open().Port(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.print(p, func() string { return portSheet(p).render(c.terminal) })
		},
	}
}

// vmLines are what there is to say of a VM's port alone.
func vmLines(s *sheet, p vswitch.Port) {
	s.add("Domain", p.Owner.ID)
	s.add("Port id", p.Owner.Endpoint)
	if p.VM.Alias != "" {
		s.add("Alias", p.VM.Alias)
	}
	s.add("Tap", cmp.Or(p.Netdev, "none"))
	switch p.VM.Stage {
	case vswitch.VMReserved:
		s.add("Stage", "reserved: libvirt makes the tap when the VM starts")
	case vswitch.VMIncoming:
		s.add("Stage", "incoming: the VM still runs on another host, and nothing draws its traffic here")
	case vswitch.VMReleased:
		s.add("Stage", "released: libvirt has let go of it, and it works until its tap goes")
	}
	switch {
	case p.VM.VFAway != "":
		s.add("VF", p.VM.VFAway+" is away while the VM migrates; its address goes by this port")
	case p.VM.VFTurn == vswitch.VFLeaves:
		s.add("VF", "the VM is letting go of it, to migrate; what is for the VM comes here too")
	case p.VM.VFTurn == vswitch.VFComes:
		s.add("VF", "nobody has heard the VM by it yet; what is for the VM comes here too, for five minutes at most")
	}
	if p.VM.Narrowed != "" {
		s.add("Taken away", p.VM.Narrowed+", by the domain's definition")
	}
}

func portSheet(p engine.PortStatus) *sheet {
	var s sheet
	s.add("Port", p.ID)
	s.add("Switch", p.Switch)
	s.add("Owner", p.Owner.String())
	if p.Owner.Network != "" {
		s.add("Network", p.Owner.Network)
	}
	if p.Owner.Kind == vswitch.OwnerVM {
		vmLines(&s, p.Port)
	} else {
		s.add("Endpoint", p.Owner.Endpoint)
	}
	if p.Owner.Netns != "" {
		s.add("Network namespace", p.Owner.Netns)
	}
	s.add("MAC address", p.MAC.String()+origin(p.StaticMAC))
	if p.MACSpoofing {
		s.add("MAC spoofing", "allowed")
	} else {
		s.add("MAC spoofing", "refused: the port sends from its own address alone")
	}
	s.add("VLAN", p.VLAN.String())
	if p.Isolated {
		s.add("Isolation", "it and other isolated ports do not hear each other")
	}
	if words := policyWords(p.Policy); len(words) > 0 {
		s.each("Policy", words)
	}
	if len(p.Policy.ACL) > 0 {
		s.each("ACL", aclTexts(p.Policy.ACL))
	}
	if p.Policy.Mirror == vswitch.MirrorSource {
		s.add("Copies", copyWords(p))
	}
	if m := p.Minimum; m != nil {
		s.add("Minimum now", minimumWords(*m))
	}
	if len(p.Offload) > 0 {
		s.each("Offload", offloadLines(p.Offload))
	}
	s.each("Addresses", addressWords(p.Addresses))
	if len(p.Routes) > 0 {
		s.each("Routes", routeWords(p.Routes))
	}
	s.add("MTU", fmt.Sprintf("%d bytes", p.MTU))
	if p.Adopted {
		s.add("Switch end", p.Netdev+" (made by somebody else)")
	} else {
		s.add("Switch end", p.Netdev)
	}
	s.add("Attached", p.Created.UTC().Format(time.DateTime)+" UTC")
	if len(p.Drift) == 0 {
		s.add("State", "as it should be")
	} else {
		s.each("Missing", p.Drift)
	}
	return &s
}

// minimumWords say what became of a minimum.
func minimumWords(m engine.MinimumStatus) string {
	words := "none"
	if m.Effective > 0 {
		words = m.Effective.String() + " a second"
	}
	if m.Reason != "" {
		words += ": " + m.Reason
	}
	return words
}

// copyWords say who gets copies of a source's frames.
func copyWords(p engine.PortStatus) string {
	if len(p.MirroredTo) == 0 {
		return "to nobody: no port of the switch is a mirror destination"
	}
	return "to " + strings.Join(p.MirroredTo, ", ")
}

func origin(static bool) string {
	if static {
		return " (static)"
	}
	return " (from the MAC pool)"
}

func addressWords(addresses []vswitch.Address) []string {
	var words []string
	for _, a := range addresses {
		word := a.Prefix.String()
		if a.Gateway.IsValid() {
			word += ", gateway " + a.Gateway.String()
		}
		words = append(words, word)
	}
	return words
}

// routeWords spell routes as `ip route` does.
func routeWords(routes []vswitch.Route) []string {
	var words []string
	for _, r := range routes {
		word := r.Dst.String()
		if r.Gateway.IsValid() {
			word += " via " + r.Gateway.String()
		}
		for _, option := range []struct {
			name  string
			value int
		}{{"mtu", r.MTU}, {"advmss", r.AdvMSS}, {"metric", r.Priority}} {
			if option.value != 0 {
				word += fmt.Sprintf(" %s %d", option.name, option.value)
			}
		}
		if r.Table != nil {
			word += fmt.Sprintf(" table %d", *r.Table)
		}
		if r.Scope != nil {
			word += fmt.Sprintf(" scope %d", *r.Scope)
		}
		words = append(words, word)
	}
	return words
}

func (c *cli) portDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "delete PORT",
		Aliases: []string{"rm"},
		Short:   "Detach an owner",
		Long: `Detach the owner of a port: its endpoint goes, and its addresses return to their pools
after a rest. A container goes on running and loses this network; usually its runtime
does this. For what runtimes have left behind there is "patchbay gc".

Hyper-V twin: Remove-VMNetworkAdapter.`,
		Example:           `  patchbay port delete web-1`,
		SuggestFor:        []string{"remove", "del", "detach"},
		Args:              operands("PORT"),
		ValidArgsFunction: c.completePorts,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.open().DeletePort(cmd.Context(), args[0]); err != nil {
				return err
			}
			return c.say(deletion{Deleted: args[0]}, "port %s deleted", args[0])
		},
	}
}
