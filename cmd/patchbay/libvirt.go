package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/api"
	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/network"
)

func (c *cli) libvirtCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "libvirt",
		Short: "Networks, interfaces and MAC addresses for libvirt's VMs",
		Long: `VMs get on a switch by a libvirt network of it. A VM's interface names the network and,
as its portgroup, one of the switch's port profiles; libvirt's hook and patchbayd make a
port of it with everything that a container's port has. What is printed here is for virsh
and virt-install: docs/libvirt.md has recipes.`,
		Example: `  patchbay libvirt network prod --define
  patchbay libvirt interface prod --domain web01 --portgroup web
  patchbay libvirt mac list`,
		SuggestFor: []string{"virsh", "vm", "virt", "kvm", "qemu"},
	}
	cmd.AddCommand(c.libvirtNetworkCommand(), c.libvirtInterfaceCommand(), c.libvirtMACCommand())
	group(cmd)
	return cmd
}

// xmlResult is what programs get of a definition.
type xmlResult struct {
	Name string `json:"name,omitempty"`
	MAC  string `json:"mac,omitempty"`
	XML  string `json:"xml"`
	// Metadata is an element for the <metadata> of the domain.
	Metadata string `json:"metadata,omitempty"`

	bare string // Metadata as `virsh metadata` takes it
}

func (c *cli) libvirtNetworkCommand() *cobra.Command {
	var name string
	var define, sriov bool
	cmd := &cobra.Command{
		Use:   "network SWITCH",
		Short: "Print, or define, the libvirt network of a switch",
		Long: `Print the libvirt network of a switch: its bridge, a portgroup for each of its port
profiles, and in the metadata what these say. The network is called like the switch
unless --name says otherwise. Printed again after a change of the profiles it is a new
definition of the same network: ports that are there keep what they have.

With --sriov it is the network of the VFs of the switch's uplink instead, for interfaces as
"libvirt interface --sriov" prints them. It is called SWITCH-sriov unless --name says
otherwise, and beside it the switch's own is needed.

--define has libvirt define and start it, now and whenever libvirt starts; patchbayd does
that, which has to run beside libvirt.`,
		Example: `  patchbay libvirt network prod
  patchbay libvirt network prod | virsh net-define /dev/stdin
  patchbay libvirt network prod --define
  patchbay libvirt network wan --sriov --define`,
		SuggestFor:        []string{"net", "net-define", "define"},
		Args:              operands("SWITCH"),
		ValidArgsFunction: c.completeSwitches,
		RunE: func(cmd *cobra.Command, args []string) error {
			client := c.open()
			s, err := client.Switch(cmd.Context(), args[0])
			if err != nil {
				return asked(cmd, err)
			}
			name, text, err := name, "", error(nil)
			if sriov {
				name = cmp.Or(name, network.PoolName(s.Name))
				text, err = pool(cmd.Context(), client, s.Name, name)
			} else {
				name = cmp.Or(name, s.Name)
				text, err = network.Definition(s.Switch, name)
			}
			if err != nil {
				return err
			}
			if !define {
				return c.print(xmlResult{Name: name, XML: text}, func() string { return text })
			}
			defined, err := client.DefineNetwork(cmd.Context(), engine.DefineNetworkRequest{Name: name, XML: text})
			if err != nil {
				return err
			}
			if defined.Stale {
				warn(cmd, []string{fmt.Sprintf("network %s runs as it was before; guests see the change after `virsh net-destroy %s && virsh net-start %[2]s`", name, vswitch.ShellWords(name))})
			}
			return c.say(defined, "network %s of switch %s is defined and runs", name, s.Name)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "`name` of the network; that of the switch if it is left out")
	cmd.Flags().BoolVar(&sriov, "sriov", false, "that of the VFs of the switch's uplink")
	cmd.Flags().BoolVar(&define, "define", false, "have libvirt define and start it")
	completeBy(cmd, "name", noCompletion)
	return cmd
}

// pool is the libvirt network of the VFs of a switch's uplink.
func pool(ctx context.Context, client *api.Client, switchName, name string) (string, error) {
	p, err := client.VFPool(ctx, switchName)
	if err != nil {
		return "", err
	}
	return network.Pool(name, p.PF)
}
