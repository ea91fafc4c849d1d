package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// policyHelp tells what the flags of policyFlags do.
const policyHelp = `Guards drop what the owner sends and count it ("port stats"):

  --dhcp-guard      answers of a DHCP server
  --router-guard    router advertisements and redirects
  --address-guard   ARP and neighbour discovery for addresses that are not the port's
  --storm-limit N   broadcast and multicast beyond N frames a second

--mirror source has each frame that the owner sends or receives copied to the ports of the
same switch that are --mirror destination; docs/mirroring.md tells more.`

// policyFlags are the flags of a port's policy. The function that it returns tells what of
// it was given.
func policyFlags(cmd *cobra.Command) func() vswitch.PolicyChange {
	var p vswitch.Policy
	f := cmd.Flags()
	f.BoolVar(&p.DHCPGuard, "dhcp-guard", false, "drop what a DHCP server would send")
	f.BoolVar(&p.RouterGuard, "router-guard", false, "drop router advertisements and redirects")
	f.BoolVar(&p.AddressGuard, "address-guard", false, "drop ARP and neighbour discovery for addresses that are not the port's")
	f.IntVar(&p.StormLimit, "storm-limit", 0, "broadcast and multicast `frames` a second that pass; 0 for any number")
	f.StringVar((*string)(&p.Mirror), "mirror", "none", "whose frames are copied: source, destination or none")
	complete(cmd, "mirror", vswitch.MirrorModes()...)
	return func() (c vswitch.PolicyChange) {
		given(cmd, "dhcp-guard", &c.DHCPGuard, &p.DHCPGuard)
		given(cmd, "router-guard", &c.RouterGuard, &p.RouterGuard)
		given(cmd, "address-guard", &c.AddressGuard, &p.AddressGuard)
		given(cmd, "storm-limit", &c.StormLimit, &p.StormLimit)
		given(cmd, "mirror", &c.Mirror, &p.Mirror)
		return c
	}
}

// given points into to value if the user gave the flag.
func given[T any](cmd *cobra.Command, flag string, into **T, value *T) {
	if cmd.Flags().Changed(flag) {
		*into = value
	}
}

// policyWords say what a port's policy is, each in a line; none for no policy.
func policyWords(p vswitch.Policy) []string {
	var words []string
	for _, guard := range []struct {
		on    bool
		words string
	}{
		{p.DHCPGuard, "DHCP guard: it answers no DHCP client"},
		{p.RouterGuard, "router guard: it announces no router and redirects nobody"},
		{p.AddressGuard, "address guard: it speaks for its own addresses alone"},
		{p.StormLimit > 0, fmt.Sprintf("storm limit: %d broadcast and multicast frames a second; unknown unicast goes to the uplink alone", p.StormLimit)},
		{p.Mirror == vswitch.MirrorSource, "mirror source: what it sends and receives is copied to the switch's destinations"},
		{p.Mirror == vswitch.MirrorDestination, "mirror destination: it gets copies of what the switch's sources send and receive"},
	} {
		if guard.on {
			words = append(words, guard.words)
		}
	}
	return words
}
