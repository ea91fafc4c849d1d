package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// policyHelp tells what the flags of policyFlags do.
const policyHelp = `Guards drop what the owner sends and count it ("port stats"):

  --dhcp-guard      answers of a DHCP server
  --router-guard    router advertisements and redirects
  --address-guard   ARP and neighbour discovery for addresses that are not the port's
  --storm-limit N   broadcast and multicast beyond N frames a second

The priority of tagged frames is reset to 0, unless --ieee-priority-tag lets it pass.

Limits hold back whole frames, in bits a second like 10M, 1.5G or 800k; 0 is no limit:

  --max-in RATE     what the owner receives
  --max-out RATE    what it sends
  --burst BITS      what passes at once after a pause, both ways; 0 for what 10 ms of the
                    limit are

A minimum is what the owner can send by the switch's uplink whatever others send; by weight
or in bits a second, as "switch show" says, and 0 is none:

  --min-weight N    its part, as the weights of all are to each other: 1-100
  --min-rate RATE   bits a second

--mirror source has each frame that the owner sends or receives copied to the ports of the
same switch that are --mirror destination; docs/mirroring.md tells more.

Of the switch's uplink a port may have a hardware queue (VMQ), a virtual function (SR-IOV)
and encryption of its security associations (IPsec). Each is require, prefer or off; where
there is less than ports ask for, those with more weight have it, and "port show" tells why
the others have not:

  --vmq MODE, --vmq-weight N        prefer with weight 100, unless said otherwise; 0 is off
  --sriov MODE, --sriov-weight N    off, unless said otherwise
  --ipsec MODE, --ipsec-max-sas N   prefer with up to 512 SAs; 0 is off`

// policyFlags are the flags of a port's policy. The function that it returns tells what of
// it was given.
func policyFlags(cmd *cobra.Command) func() vswitch.PolicyChange {
	var p vswitch.Policy
	var maxIn, maxOut, burst, minRate vswitch.Bits
	var minWeight int
	f := cmd.Flags()
	f.BoolVar(&p.DHCPGuard, "dhcp-guard", false, "drop what a DHCP server would send")
	f.BoolVar(&p.RouterGuard, "router-guard", false, "drop router advertisements and redirects")
	f.BoolVar(&p.AddressGuard, "address-guard", false, "drop ARP and neighbour discovery for addresses that are not the port's")
	f.IntVar(&p.StormLimit, "storm-limit", 0, "broadcast and multicast `frames` a second that pass; 0 for any number")
	f.BoolVar(&p.IEEEPriorityTag, "ieee-priority-tag", false, "let the priority pass that the owner's tags have")
	f.Var((*bitsFlag)(&maxIn), "max-in", "bits a second that the owner receives at the most, a `rate` like 10M; 0 for no limit")
	f.Var((*bitsFlag)(&maxOut), "max-out", "bits a second that it sends at the most, a `rate` like 10M; 0 for no limit")
	f.Var((*bitsFlag)(&burst), "burst", "`bits` that pass at once after a pause; 0 for what 10 ms of the limit are")
	f.Var((*bitsFlag)(&minRate), "min-rate", "bits a second that it can send by the uplink at the least, a `rate` like 100M; 0 for none")
	f.IntVar(&minWeight, "min-weight", 0, "its `weight` among those who send by the uplink, 1-100; 0 for none")
	f.StringVar((*string)(&p.Mirror), "mirror", "none", "whose frames are copied: source, destination or none")
	complete(cmd, "mirror", vswitch.MirrorModes()...)
	offload := offloadFlags(cmd)
	return func() (c vswitch.PolicyChange) {
		c.Offload = offload()
		given(cmd, "max-in", &c.Bandwidth.In.Max, &maxIn)
		given(cmd, "max-out", &c.Bandwidth.Out.Max, &maxOut)
		given(cmd, "min-rate", &c.Bandwidth.Min.Rate, &minRate)
		given(cmd, "min-weight", &c.Bandwidth.Min.Weight, &minWeight)
		given(cmd, "dhcp-guard", &c.DHCPGuard, &p.DHCPGuard)
		given(cmd, "router-guard", &c.RouterGuard, &p.RouterGuard)
		given(cmd, "address-guard", &c.AddressGuard, &p.AddressGuard)
		given(cmd, "storm-limit", &c.StormLimit, &p.StormLimit)
		given(cmd, "ieee-priority-tag", &c.IEEEPriorityTag, &p.IEEEPriorityTag)
		if cmd.Flags().Changed("burst") {
			c.Bandwidth.Burst = &burst
		}
		given(cmd, "mirror", &c.Mirror, &p.Mirror)
		return c
	}
}

// bitsFlag reads a number of bits from the command line.
type bitsFlag vswitch.Bits

func (b *bitsFlag) String() string { return vswitch.Bits(*b).String() }
func (b *bitsFlag) Type() string   { return "bits" }
func (b *bitsFlag) Set(text string) (err error) {
	n, err := vswitch.ParseBits(text)
	*b = bitsFlag(n)
	return err
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
	limits := p.Bandwidth
	limits.Min = vswitch.Minimum{}
	for _, guard := range []struct {
		on    bool
		words string
	}{
		{p.DHCPGuard, "DHCP guard: it answers no DHCP client"},
		{p.RouterGuard, "router guard: it announces no router and redirects nobody"},
		{p.AddressGuard, "address guard: it speaks for its own addresses alone"},
		{p.Bandwidth.IsLimited(), "bandwidth " + limits.String() + ": more is held back, and dropped if it waits longer than 50 ms"},
		{!p.Bandwidth.Min.IsZero(), "minimum of bandwidth " + p.Bandwidth.Min.String() + ": so much it can send by the uplink, whatever others send"},
		{p.StormLimit > 0, fmt.Sprintf("storm limit: %d broadcast and multicast frames a second; unknown unicast goes to the uplink alone", p.StormLimit)},
		{p.IEEEPriorityTag, "IEEE priority tag: the priority of its tags passes"},
		{p.Mirror == vswitch.MirrorSource, "mirror source: what it sends and receives is copied to the switch's destinations"},
		{p.Mirror == vswitch.MirrorDestination, "mirror destination: it gets copies of what the switch's sources send and receive"},
		{p.Offload != vswitch.OffloadPolicy{}, "offload " + p.Offload.String()},
	} {
		if guard.on {
			words = append(words, guard.words)
		}
	}
	return words
}

func (c *cli) switchPortsCommand() *cobra.Command {
	var policy func() vswitch.PolicyChange
	var rules []string
	cmd := &cobra.Command{
		Use:   "ports NAME",
		Short: "Set the policy that new ports of a switch get",
		Long: `Set the policy of a switch's new ports. A port whose request says otherwise gets what that
says, and ports that are there keep what they have: "port set" changes those.

` + policyHelp + `

The rules of --acl are written as "patchbay port acl add --help" tells.

The policy of the host's own port is set by "port set" of that port. Hyper-V has no twin:
there each adapter is set by itself.`,
		Example: `  patchbay switch ports prod --dhcp-guard --router-guard
  patchbay switch ports prod --storm-limit 1000
  patchbay switch ports prod --dhcp-guard=false
  patchbay switch ports prod --acl "allow out to 10.0.0.0/8" --acl "deny out any"
  patchbay switch ports prod --acl none`,
		SuggestFor:        []string{"defaults", "policy", "port-defaults"},
		Args:              operands("NAME"),
		ValidArgsFunction: c.completeSwitches,
		RunE: func(cmd *cobra.Command, args []string) error {
			change := policy()
			if cmd.Flags().Changed("acl") {
				list, err := defaultACL(rules)
				if err != nil {
					return err
				}
				change.ACL = &list
			}
			if change.IsZero() {
				return &vswitch.Error{
					Kind: vswitch.Invalid, Op: operation(cmd), Object: args[0], Err: errors.New("nothing to change is given"),
					Hint: fmt.Sprintf("name what new ports get, as in `patchbay switch ports %s --dhcp-guard`; `--help` lists the flags", args[0]),
				}
			}
			return c.setSwitch(cmd, args[0], engine.SwitchChange{PortDefaults: &change})
		},
	}
	policy = policyFlags(cmd)
	cmd.Flags().StringArrayVar(&rules, "acl", nil, "a `rule` of the ACL of new ports, once for each; the list takes the place of the one before. \"none\" is no list")
	return cmd
}

// defaultACL reads the rules that new ports get; "none" alone is none.
func defaultACL(texts []string) ([]vswitch.ACLRule, error) {
	rules := []vswitch.ACLRule{}
	if len(texts) == 1 && texts[0] == "none" {
		return rules, nil
	}
	for _, text := range texts {
		r, err := vswitch.ParseACLRule(text)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}
