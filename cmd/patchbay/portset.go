package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (c *cli) portSetCommand() *cobra.Command {
	var vlan string
	var isolated bool
	var policy func() vswitch.PolicyChange
	cmd := &cobra.Command{
		Use:   "set PORT",
		Short: "Change the VLAN, guards, limits and mirroring of a port",
		Long: `Change a port while it is attached. PORT is its ID or that of its owner, a container's
say, or the beginning of either. --vlan takes one of

  10, "access 10"             one VLAN, whose tag the owner does not see
  "trunk 10-19,30 native 1"   these VLANs with their tags, and untagged frames in VLAN 1
  "isolated 100 101"          private VLAN 100: it talks to promiscuous ports and the
                              uplink alone, in secondary VLAN 101
  "community 100 102"         as well to ports of the same secondary VLAN
  "promiscuous 100 101-103"   to all ports of these secondary VLANs
  untagged                    the switch's untagged traffic

The uplink is in exactly the VLANs that ports use. Of --isolated ports none hears another,
whatever VLAN they are in. The VLAN of the host's own port is that of its switch: "switch
set --vlan".

` + policyHelp + `

Hyper-V twins: Set-VMNetworkAdapterVlan, Set-VMNetworkAdapter.`,
		Example: `  patchbay port set web-1 --vlan 10
  patchbay port set router-1 --vlan "trunk 10-19,30 native 1"
  patchbay port set tenant-7 --vlan "isolated 100 101"
  patchbay port set web-1 --vlan untagged --isolated
  patchbay port set web-1 --dhcp-guard --router-guard --storm-limit 1000
  patchbay port set web-1 --dhcp-guard=false
  patchbay port set web-1 --max-in 100M --max-out 20M
  patchbay port set web-1 --min-weight 50
  patchbay port set web-1 --vmq-weight 50 --ipsec-max-sas 0
  patchbay port set web-1 --vmq require`,
		SuggestFor:        []string{"change", "edit", "vlan"},
		Args:              operands("PORT"),
		ValidArgsFunction: c.completePorts,
		RunE: func(cmd *cobra.Command, args []string) error {
			var change engine.PortChange
			if cmd.Flags().Changed("vlan") {
				v, err := vswitch.ParsePortVLAN(vlan)
				if err != nil {
					return err
				}
				change.VLAN = &v
			}
			if cmd.Flags().Changed("isolated") {
				change.Isolated = &isolated
			}
			change.Policy = policy()
			if change == (engine.PortChange{}) {
				return nothingGiven(cmd, args[0], "--vlan 10")
			}
			p, err := c.open().SetPort(cmd.Context(), args[0], change)
			if err != nil {
				return err
			}
			words := settingWords(p.Port)
			if p.Policy.Mirror == vswitch.MirrorSource {
				words += ", copied " + copyWords(p)
			}
			if m := p.Minimum; m != nil && m.Reason != "" {
				warn(cmd, []string{"the minimum is not kept as asked: " + m.Reason})
			}
			return c.say(p, "port %s is %s", p.ID, words)
		},
	}
	cmd.Flags().StringVar(&vlan, "vlan", "", "what the port does with VLANs: an `id`, or one of the texts above")
	policy = policyFlags(cmd)
	cmd.Flags().BoolVar(&isolated, "isolated", false, "keep it and other isolated ports apart")
	return cmd
}

func settingWords(p vswitch.Port) string {
	words := p.VLAN.String()
	if p.Isolated {
		words += ", isolated"
	}
	for _, w := range policyWords(p.Policy) {
		name, _, _ := strings.Cut(w, ":")
		words += ", " + name
	}
	return words
}

// vlanColumn is short: an id for an access port, nothing for an untagged one.
func vlanColumn(p vswitch.Port) string {
	switch {
	case p.VLAN.Mode == vswitch.Access:
		return strconv.Itoa(p.VLAN.ID)
	case p.VLAN.IsZero():
		return ""
	}
	return p.VLAN.String()
}
