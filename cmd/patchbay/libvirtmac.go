package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (c *cli) libvirtMACCommand() *cobra.Command {
	var n nicFlags
	cmd := &cobra.Command{
		Use:   "mac SWITCH --domain VM",
		Short: "Hold a MAC address for a VM and print it",
		Long: `Hold a MAC address for a VM, the next one of this host's pool or --mac, and print it. The VM
need not be defined yet, and may be off: nobody else gets the address until "libvirt mac
release". No hook can choose an address, so this comes before the VM is defined.

Hyper-V twin: the address that Add-VMNetworkAdapter gives an adapter, for good.`,
		Example: `  patchbay libvirt mac prod --domain web01
  virt-install --network network=prod,mac=$(patchbay libvirt mac prod --domain web01) ...
  patchbay libvirt mac list`,
		Args:              operands("SWITCH"),
		ValidArgsFunction: c.completeSwitches,
		RunE: func(cmd *cobra.Command, args []string) error {
			if n.domain == "" {
				return usageError(cmd, "--domain is missing")
			}
			if err := n.validate(); err != nil {
				return err
			}
			client := c.open()
			if _, err := client.Switch(cmd.Context(), args[0]); err != nil {
				return asked(cmd, err)
			}
			hold, err := n.hold(cmd.Context(), client)
			if err != nil {
				return err
			}
			return c.say(hold, "%s", hold.MAC)
		},
	}
	n.domainFlags(cmd)
	cmd.AddCommand(c.libvirtMACListCommand(), c.libvirtMACReleaseCommand())
	return cmd
}

func (c *cli) libvirtMACListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the MAC addresses of VMs",
		Long: `List the addresses that VMs have: those held for them, running or not, and those of their
ports. "mac list" has containers and the host as well.`,
		Example: `  patchbay libvirt mac list`,
		Args:    operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := c.open().MACs(cmd.Context())
			if err != nil {
				return err
			}
			leases := []engine.MACLease{}
			for _, l := range all {
				if strings.HasPrefix(l.Owner, string(vswitch.OwnerVM)+" ") {
					leases = append(leases, l)
				}
			}
			return c.print(leases, func() string { return macGrid(leases, c.terminal) })
		},
	}
}

func (c *cli) libvirtMACReleaseCommand() *cobra.Command {
	var name string
	var mac macFlag
	cmd := &cobra.Command{
		Use:   "release --domain VM | --mac MAC",
		Short: "End the holds of a VM's MAC addresses, or of one",
		Long: `Let the pool have a VM's addresses again, or one of them. A VM that runs keeps them as
long as it does. patchbayd does it by itself when a VM is undefined.`,
		Example: `  patchbay libvirt mac release --domain web01
  patchbay libvirt mac release --mac 0a:50:42:10:00:00`,
		SuggestFor: []string{"delete", "remove", "free"},
		Args:       operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" && mac.IsZero() {
				return usageError(cmd, "give --domain, --mac or both")
			}
			released, err := c.open().ReleaseMAC(cmd.Context(), engine.ReleaseMACRequest{MAC: mac.MAC, Domain: vswitch.DomainRef{Name: name}})
			if err != nil {
				return err
			}
			return c.print(released, func() string {
				var b strings.Builder
				for _, h := range released {
					fmt.Fprintf(&b, "%s of %s released\n", h.MAC, h.Domain)
				}
				if len(released) == 0 {
					return "nothing was held\n"
				}
				return b.String()
			})
		},
	}
	cmd.Flags().StringVar(&name, "domain", "", "`name` of the VM")
	cmd.Flags().Var(&mac, "mac", "the `address`")
	completeBy(cmd, "domain", noCompletion)
	completeBy(cmd, "mac", noCompletion)
	return cmd
}
