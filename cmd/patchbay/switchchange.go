package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (c *cli) switchAddCommand() *cobra.Command {
	var d definition
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a switch",
		Long: `Make a switch. With --uplink it is external; without, --type says whether it is
internal or private. Everything else has a default. --masquerade alone means every
family that has a gateway address.

A NIC that the host itself lives on may be the uplink: its addresses, routes, rules and
neighbours move to the host port, which has the NIC's MAC address, and connections stay
up; "switch delete" gives all of it back. Where the host would lose its default route,
or a network manager is at work on the NIC, it is refused unless --yes says so.

Adding a switch that exists with the same definition changes nothing, repairs what it
has lost, and succeeds; with another definition it is refused: use "switch set".

Ports may be promised a part of the uplink ("port set --min-weight" or "--min-rate"): by
weight, or in bits a second with --min-bandwidth-mode absolute. The mode cannot change. Nor can
--sriov, without which no port gets a VF.

Hyper-V twin: New-VMSwitch NAME -SwitchType | -NetAdapterName, -AllowManagementOS,
-EnableIov, -MinimumBandwidthMode, -Notes; for --gateway New-NetIPAddress, for --masquerade
New-NetNat.`,
		Example: `  patchbay switch add wan --uplink eth1
  patchbay switch add dmz --uplink eth2 --host-access=false
  patchbay switch add lan --type internal --gateway 10.0.10.1/24 --masquerade
  patchbay switch add lan6 --type internal --gateway 10.0.6.1/24 --gateway fd00:6::1/64
  patchbay switch add lab --type private --notes "no way out"
  patchbay switch add wan --uplink eth1 --min-bandwidth-mode absolute
  patchbay switch add wan --uplink eth1 --sriov`,
		SuggestFor:        []string{"new", "create", "make"},
		Args:              operands("NAME"),
		ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.addSwitch(cmd, engine.AddSwitchRequest{Switch: d.toSwitch(cmd, args[0]), Yes: d.yes})
		},
	}
	d.flags(cmd, c)
	return cmd
}

func (c *cli) addSwitch(cmd *cobra.Command, req engine.AddSwitchRequest) error {
	s := req.Switch
	client := c.open()
	_, err := client.Switch(cmd.Context(), s.Name)
	existed := err == nil
	if err != nil && !errors.Is(err, vswitch.NotFound) {
		return asked(cmd, err)
	}
	status, err := client.AddSwitch(cmd.Context(), req)
	if err != nil {
		return err
	}
	warn(cmd, status.Warnings)
	if existed {
		return c.say(status, "switch %s exists already and is as asked", s.Name)
	}
	return c.say(status, "switch %s added: %s", s.Name, summary(status))
}

// warn tells what a user should know beside that it worked.
func warn(cmd *cobra.Command, warnings []string) {
	for _, w := range warnings {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
	}
}

// summary is a switch in a few words.
func summary(s engine.SwitchStatus) string {
	words := []string{string(s.Type)}
	if s.Uplink != "" {
		words = append(words, "uplink "+s.Uplink)
	}
	words = append(words, fmt.Sprintf("MTU %d bytes", s.EffectiveMTU))
	switch {
	case s.HostPortNetdev == "":
		words = append(words, "closed to the host")
	case len(s.Gateway) > 0:
		words = append(words, fmt.Sprintf("host port %s with %s", s.HostPortNetdev, strings.Join(prefixes(s.Gateway), " and ")))
	default:
		words = append(words, "host port "+s.HostPortNetdev)
	}
	if !s.Masquerade.IsZero() {
		words = append(words, "masquerade "+s.Masquerade.String())
	}
	return strings.Join(words, ", ")
}

func (c *cli) switchSetCommand() *cobra.Command {
	var d definition
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change a switch while its ports stay attached",
		Long: `Change what the flags name and nothing else, and print what changed. Ports stay
attached and their traffic flows. It is one transaction: where a part fails, the switch
is what it was.

An --uplink makes the switch external, another --type gives the uplink up. A new type
comes with its own host access unless --host-access says otherwise: the host is on
external and internal switches and not on private ones. --mtu 0 goes back to the
uplink's own MTU, or 1500; containers that have the switch's MTU follow it. --gateway
replaces all gateway addresses; --gateway= removes them.

Hyper-V twin: Set-VMSwitch NAME -SwitchType, -NetAdapterName, -AllowManagementOS,
-DefaultFlowMinimumBandwidthAbsolute, -DefaultFlowMinimumBandwidthWeight, -Notes.`,
		Example: `  patchbay switch set wan --uplink eth2
  patchbay switch set wan --host-access=false
  patchbay switch set lab --type private
  patchbay switch set lan --mtu 9000
  patchbay switch set lan --gateway 10.0.10.1/24 --gateway fd00:10::1/64
  patchbay switch set lan --masquerade=off`,
		SuggestFor:        []string{"change", "edit", "update", "modify"},
		Args:              operands("NAME"),
		ValidArgsFunction: c.completeSwitches,
		RunE: func(cmd *cobra.Command, args []string) error {
			change := d.toChange(cmd)
			if change == (engine.SwitchChange{}) {
				return nothingGiven(cmd, args[0], "--notes TEXT")
			}
			change.Yes = d.yes
			return c.setSwitch(cmd, args[0], change)
		},
	}
	d.flags(cmd, c)
	return cmd
}

func (c *cli) setSwitch(cmd *cobra.Command, name string, change engine.SwitchChange) error {
	client := c.open()
	before, err := client.Switch(cmd.Context(), name)
	if err != nil {
		return asked(cmd, err)
	}
	after, err := client.SetSwitch(cmd.Context(), name, change)
	if err != nil {
		return err
	}
	warn(cmd, after.Warnings)
	return c.print(after, func() string {
		changes := differences(before, after)
		if len(changes.fields) == 0 {
			return fmt.Sprintf("switch %s is as asked already\n", name)
		}
		return fmt.Sprintf("switch %s changed\n", name) + changes.render(c.terminal)
	})
}

// compareProfiles compares what two definitions say of each port profile.
func compareProfiles(before, after vswitch.Switch, compare func(field, old, new string)) {
	said := func(s vswitch.Switch, name string) string {
		for _, f := range s.PortProfiles {
			if f.Name == name {
				return f.String()
			}
		}
		return ""
	}
	for _, f := range before.PortProfiles {
		compare("port profile "+f.Name, f.String(), said(after, f.Name))
	}
	for _, f := range after.PortProfiles {
		if said(before, f.Name) == "" {
			compare("port profile "+f.Name, "", f.String())
		}
	}
}

// differences lists what is not as it was, old and new.
func differences(before, after engine.SwitchStatus) *sheet {
	var s sheet
	compare := func(field, old, new string) {
		if old != new {
			s.add("  "+field, shown(old)+" -> "+shown(new))
		}
	}
	compare("type", string(before.Type), string(after.Type))
	compare("uplink", before.Uplink, after.Uplink)
	compare("host access", hostAccess(before), hostAccess(after))
	compare("VLAN", number(before.VLAN), number(after.VLAN))
	compare("MTU", mtu(before), mtu(after))
	compare("gateway", strings.Join(prefixes(before.Gateway), ", "), strings.Join(prefixes(after.Gateway), ", "))
	compare("masquerade", before.Masquerade.String(), after.Masquerade.String())
	compare("policy of new ports", before.PortDefaults.String(), after.PortDefaults.String())
	compare("policy of the host's port", before.HostPolicy.String(), after.HostPolicy.String())
	compare("SR-IOV", sriovWord(before.SRIOV), sriovWord(after.SRIOV))
	compare("minimum bandwidth", before.MinBandwidth.String(), after.MinBandwidth.String())
	compareProfiles(before.Switch, after.Switch, compare)
	compare("notes", before.Notes, after.Notes)
	return &s
}
