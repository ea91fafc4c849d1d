package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// definition holds the flags that say what a switch is like.
type definition struct {
	kind       string
	uplink     string
	hostAccess bool
	vlan, mtu  int
	gateway    gateways
	masquerade masquerade
	notes      string
	sriov      bool
	shared     vswitch.SharedUplink
	yes        bool
}

func (d *definition) flags(cmd *cobra.Command, c *cli) {
	f := cmd.Flags()
	f.StringVar(&d.kind, "type", "", "`kind` of switch: external, internal or private")
	f.StringVar(&d.uplink, "uplink", "", "`NIC` of an external switch")
	f.BoolVar(&d.hostAccess, "host-access", true, "give the host a port of its own on an external switch")
	f.IntVar(&d.vlan, "vlan", 0, "802.1Q `id` of the host port and of new ports, 1-4094; 0: none")
	f.IntVar(&d.mtu, "mtu", 0, "largest packet in `bytes`; 0: the uplink's, or 1500")
	f.Var(&d.gateway, "gateway", "host's `address/length` on an internal switch; can be repeated")
	f.Var(&d.masquerade, "masquerade", "hide guests behind the host's address (NAT): on, off, ipv4 or ipv6")
	f.Lookup("masquerade").NoOptDefVal = "on"
	f.BoolVar(&d.sriov, "sriov", false, "let ports have virtual functions (VFs) of the uplink; fixed")
	f.StringVar((*string)(&d.shared.Mode), "min-bandwidth-mode", "", "`mode` in which ports are promised a part of the uplink: weight (the default), absolute or none; fixed")
	f.Var((*bitsFlag)(&d.shared.DefaultFlow), "default-flow-rate", "bits a second for all without a minimum, a `rate` like 100M; 0: a tenth of the link")
	f.IntVar(&d.shared.DefaultFlowWeight, "default-flow-weight", 0, "`weight` of all without a minimum, 1-100; 0: 1")
	f.StringVar(&d.notes, "notes", "", "free `text` for people")
	f.BoolVar(&d.yes, "yes", false, "take the NIC even if the host loses its way out, or a network manager its NIC")
	f.SortFlags = false
	complete(cmd, "type", switchTypes()...)
	complete(cmd, "masquerade", masqueradeWords()...)
	complete(cmd, "min-bandwidth-mode", vswitch.BandwidthModes()...)
	completeBy(cmd, "uplink", c.nicNames)
	for _, flag := range []string{"vlan", "mtu", "gateway", "default-flow-rate", "default-flow-weight", "notes"} {
		completeBy(cmd, flag, noCompletion)
	}
}

// toSwitch is the definition of a new switch.
func (d *definition) toSwitch(cmd *cobra.Command, name string) vswitch.Switch {
	s := vswitch.Switch{
		Name: name, Type: vswitch.SwitchType(strings.ToLower(d.kind)), Uplink: d.uplink,
		VLAN: d.vlan, MTU: d.mtu, Gateway: d.gateway, Masquerade: d.masquerade.Masquerade, MinBandwidth: d.shared, SRIOV: d.sriov, Notes: d.notes,
	}
	if cmd.Flags().Changed("host-access") {
		s.HostAccess = &d.hostAccess
	}
	return s
}

// toChange names the fields whose flags were given.
func (d *definition) toChange(cmd *cobra.Command) engine.SwitchChange {
	var c engine.SwitchChange
	given := cmd.Flags().Changed
	if given("type") {
		t := vswitch.SwitchType(strings.ToLower(d.kind))
		c.Type = &t
	}
	if given("uplink") {
		c.Uplink = &d.uplink
	}
	if given("host-access") {
		c.HostAccess = &d.hostAccess
	}
	if given("vlan") {
		c.VLAN = &d.vlan
	}
	if given("mtu") {
		c.MTU = &d.mtu
	}
	if given("gateway") {
		c.Gateway = (*[]netip.Prefix)(&d.gateway)
	}
	if given("masquerade") {
		c.Masquerade = &d.masquerade.Masquerade
	}
	if given("sriov") {
		c.SRIOV = &d.sriov
	}
	if given("min-bandwidth-mode") {
		c.BandwidthMode = &d.shared.Mode
	}
	if given("default-flow-rate") {
		c.DefaultFlow = &d.shared.DefaultFlow
	}
	if given("default-flow-weight") {
		c.DefaultFlowWeight = &d.shared.DefaultFlowWeight
	}
	if given("notes") {
		c.Notes = &d.notes
	}
	return c
}

// gateways is a flag that collects addresses; the empty one empties it.
type gateways []netip.Prefix

// String lists the addresses.
func (g *gateways) String() string { return strings.Join(prefixes(*g), ",") }

// Set adds one address, or several between commas.
func (g *gateways) Set(s string) error {
	if s == "" {
		*g = nil
		return nil
	}
	for _, word := range strings.Split(s, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(word))
		if err != nil {
			return &vswitch.Error{
				Kind: vswitch.Invalid, Err: fmt.Errorf("%.64q is not an address with its prefix length", word),
				Hint: "write it like 10.0.10.1/24 or fd00:10::1/64",
			}
		}
		*g = append(*g, p)
	}
	return nil
}

// Type names the value in usage texts.
func (g *gateways) Type() string { return "address/length" }

// masquerade is vswitch.Masquerade as a flag.
type masquerade struct{ vswitch.Masquerade }

// String is empty for off, so that help texts do not call it a default.
func (m *masquerade) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Masquerade.String()
}

// Set reads one of masqueradeWords.
func (m *masquerade) Set(s string) (err error) {
	m.Masquerade, err = vswitch.ParseMasquerade(s)
	return err
}

// Type names the value in usage texts.
func (m *masquerade) Type() string { return "families" }

func masqueradeWords() []string { return []string{"on", "off", "ipv4", "ipv6"} }

func isMasqueradeWord(s string) bool {
	_, err := vswitch.ParseMasquerade(s)
	return err == nil && s != ""
}
