package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (c *cli) switchProfileCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "profile",
		Aliases: []string{"profiles"},
		Short:   "Port profiles of a switch, which VMs name",
		Long: `A port profile is what a kind of port gets, under a name: VLAN, isolation, guards, limits.
A VM's network interface names one by its portgroup; containers say what they want
themselves. "patchbay libvirt network" makes a libvirt network of a switch with its
profiles. Ports that are there keep what they have.

System Center's twin: port profiles and port classifications.`,
		Example: `  patchbay switch profile set prod web --vlan 10 --dhcp-guard --router-guard --default
  patchbay switch profile list prod`,
		SuggestFor: []string{"portgroup", "portgroups"},
	}
	cmd.AddCommand(c.profileSetCommand(), c.profileListCommand(), c.profileDeleteCommand())
	group(cmd)
	return cmd
}

func (c *cli) profileListCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "list SWITCH",
		Aliases:           []string{"ls"},
		Short:             "List the port profiles of a switch",
		Long:              `List a switch's port profiles with what they say besides its defaults.`,
		Example:           `  patchbay switch profile list prod`,
		Args:              operands("SWITCH"),
		ValidArgsFunction: c.completeSwitches,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open().Switch(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			profiles := append([]vswitch.PortProfile{}, s.PortProfiles...)
			return c.print(profiles, func() string { return profileGrid(s.Switch, c.terminal) })
		},
	}
}

func profileGrid(s vswitch.Switch, t terminal) string {
	if len(s.PortProfiles) == 0 {
		return fmt.Sprintf("Switch %s has no port profile. To add one: patchbay switch profile set %s NAME\n", s.Name, s.Name)
	}
	g := grid{heading: []string{"PROFILE", "SAYS"}}
	for _, f := range s.PortProfiles {
		g.add(f.Name, f.String())
	}
	return g.render(t)
}

func (c *cli) profileSetCommand() *cobra.Command {
	var f vswitch.PortProfile
	var vlan string
	var rules []string
	var policy func() vswitch.PolicyChange
	cmd := &cobra.Command{
		Use:   "set SWITCH PROFILE",
		Short: "Add a port profile, or change one",
		Long: `Add a port profile to a switch, or change what the flags name of one that it has. What a
profile does not say is the switch's default. --vlan takes the same texts as "port set".

` + policyHelp,
		Example: `  patchbay switch profile set prod web --vlan 10 --dhcp-guard --router-guard --default
  patchbay switch profile set prod router --vlan "trunk 10-19,30 native 1" --mac-spoofing
  patchbay switch profile set prod tenant --isolated --max-in 100M --max-out 20M
  patchbay switch profile set prod web --acl "deny out tcp to any port 25 weight 10"`,
		SuggestFor:        []string{"add", "create", "new", "change"},
		Args:              operands("SWITCH", "PROFILE"),
		ValidArgsFunction: c.completeSwitches,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.changeProfiles(cmd, args[0], func(all []vswitch.PortProfile) ([]vswitch.PortProfile, error) {
				i := slices.IndexFunc(all, func(f vswitch.PortProfile) bool { return f.Name == args[1] })
				if i < 0 {
					i, all = len(all), append(all, vswitch.PortProfile{Name: args[1]})
				}
				flags := cmd.Flags().Changed
				if flags("vlan") {
					v, err := vswitch.ParsePortVLAN(vlan)
					if err != nil {
						return nil, err
					}
					all[i].VLAN = &v
				}
				if flags("acl") {
					acl, err := aclArguments(rules)
					if err != nil {
						return nil, err
					}
					all[i].Policy.ACL = &acl
				}
				set(flags("isolated"), &all[i].Isolated, f.Isolated)
				set(flags("mac-spoofing"), &all[i].MACSpoofing, f.MACSpoofing)
				all[i].Policy = all[i].Policy.With(policy())
				if flags("default") {
					for k := range all {
						all[k].Default = f.Default && k == i
					}
				}
				return all, nil
			})
		},
	}
	policy = policyFlags(cmd)
	cmd.Flags().StringVar(&vlan, "vlan", "", "what its ports do with VLANs: an `id`, or a text like \"trunk 10-20 native 1\"")
	cmd.Flags().BoolVar(&f.Isolated, "isolated", false, "keep its ports and other isolated ones apart")
	cmd.Flags().BoolVar(&f.MACSpoofing, "mac-spoofing", false, "let owners send from any address")
	cmd.Flags().StringArrayVar(&rules, "acl", nil, "a `rule` of what passes, as \"port acl add\" takes it; can be repeated")
	cmd.Flags().BoolVar(&f.Default, "default", false, "make it the profile of interfaces that name none")
	return cmd
}

func set[T any](given bool, field *T, to T) {
	if given {
		*field = to
	}
}

func (c *cli) profileDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "delete SWITCH PROFILE",
		Aliases: []string{"rm"},
		Short:   "Delete a port profile",
		Long: `Delete a port profile of a switch. Ports that have it keep what they have; libvirt's
network has it until "patchbay libvirt network --define" defines it anew.`,
		Example:           `  patchbay switch profile delete prod web`,
		SuggestFor:        []string{"remove"},
		Args:              operands("SWITCH", "PROFILE"),
		ValidArgsFunction: c.completeSwitches,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.changeProfiles(cmd, args[0], func(all []vswitch.PortProfile) ([]vswitch.PortProfile, error) {
				if _, err := (vswitch.Switch{Name: args[0], PortProfiles: all}).Profile(args[1]); err != nil {
					return nil, asked(cmd, err)
				}
				return slices.DeleteFunc(all, func(f vswitch.PortProfile) bool { return f.Name == args[1] }), nil
			})
		},
	}
}

// changeProfiles changes the list of a switch's profiles.
func (c *cli) changeProfiles(cmd *cobra.Command, name string, change func([]vswitch.PortProfile) ([]vswitch.PortProfile, error)) error {
	s, err := c.open().Switch(cmd.Context(), name)
	if err != nil {
		return asked(cmd, err)
	}
	profiles, err := change(slices.Clone(s.PortProfiles))
	if err != nil {
		return err
	}
	return c.setSwitch(cmd, name, engine.SwitchChange{PortProfiles: &profiles})
}
