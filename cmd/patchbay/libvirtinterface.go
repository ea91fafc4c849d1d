package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/api"
	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
	"github.com/patchbay-net/patchbay/libvirt-hook/network"
)

// nicFlags say what a VM's interface is to be like.
type nicFlags struct {
	domain, network, vfs, portgroup, alias, model string

	queues   int
	mac      macFlag
	direct   bool
	tap      bool
	sriov    bool
	vlan     string
	address  []string
	isolated bool
	policy   func() vswitch.PolicyChange
}

func (c *cli) libvirtInterfaceCommand() *cobra.Command {
	var n nicFlags
	cmd := &cobra.Command{
		Use:     "interface SWITCH --domain VM",
		Aliases: []string{"nic"},
		Short:   "Hold a MAC address for a VM and print its interface",
		Long: `Print the <interface> of a VM on a switch, with a MAC address that is held for the VM from
then on: the next one of the pool, or --mac. The VM need not be defined yet, and may be
off: nobody else gets the address until "libvirt mac release". Asked again for the same
--alias it has the same address.

The interface is of the libvirt network of the switch, and --portgroup names one of the
switch's port profiles. With --bridge it is on the switch's bridge and needs no libvirt
network; with --tap, Patchbay makes its tap before libvirt looks for it. What such an
interface gets, the switch's own profile says.

With --sriov the VM has a VF of the switch's uplink besides, and two interfaces are printed:
libvirt calls them a team, and the guest sees one NIC. It sends by the VF while it has one,
and by the switch's port while it migrates. Where no VF is free libvirt does not start it.
What the port has and no VF keeps is refused, since the guest could go past it. "libvirt
network --sriov" makes the network that the VFs are of. A mode is written --sriov=require.

--vlan, --isolated and the flags of policy make this interface stricter than its profile,
and never less strict. An address guard has to know the addresses that the guest has:
--address names them. What these flags say goes into the <metadata> of the domain, and the
command that sets it is printed beside.

` + policyHelp,
		Example: `  patchbay libvirt interface prod --domain web01 --portgroup web >nic.xml
  virsh attach-device web01 nic.xml --config
  patchbay libvirt interface wan --domain db01 --alias ua-db --sriov >team.xml
  patchbay libvirt interface prod --domain r1 --alias ua-lan --portgroup trunk --vlan "access 10"`,
		SuggestFor:        []string{"attach", "network-interface", "vnic"},
		Args:              operands("SWITCH"),
		ValidArgsFunction: c.completeSwitches,
		RunE: func(cmd *cobra.Command, args []string) error {
			if n.domain == "" {
				return usageError(cmd, "--domain is missing")
			}
			result, err := n.result(cmd, c.open(), args[0])
			if err != nil {
				return err
			}
			if result.Metadata != "" && c.output == table {
				warn(cmd, []string{n.metadataCommand(result.bare)})
			}
			return c.print(result, func() string { return result.XML })
		},
	}
	f := cmd.Flags()
	n.domainFlags(cmd)
	f.StringVar(&n.portgroup, "portgroup", "", "port `profile` of the switch")
	f.StringVar(&n.network, "network", "", "`name` of the libvirt network; that of the switch if it is left out")
	f.BoolVar(&n.direct, "bridge", false, "put it on the switch's bridge, without a libvirt network")
	f.BoolVar(&n.tap, "tap", false, "give it a tap that Patchbay makes, without a libvirt network")
	f.StringVar(&n.vfs, "sriov-network", "", "`name` of the libvirt network of VFs; SWITCH-sriov if it is left out")
	f.StringVar(&n.model, "model", "virtio", "`model` of the NIC that the guest sees")
	f.IntVar(&n.queues, "queues", 0, "`number` of queues of the NIC; 0 for libvirt's default")
	f.StringVar(&n.vlan, "vlan", "", "a part of the profile's VLANs, as `text` like \"access 10\"")
	f.StringSliceVar(&n.address, "address", nil, "an IP `address` that the guest has, for an address guard and for nobody else; may be repeated")
	f.BoolVar(&n.isolated, "isolated", false, "keep it and other isolated ports apart")
	n.policy = policyFlags(cmd)
	for _, flag := range givenVFFlags() {
		f.Lookup(flag).Hidden = true
	}
	vf := f.Lookup("sriov")
	vf.Usage, vf.NoOptDefVal = "give it a VF of the switch's uplink besides, by libvirt: a `mode`, require or prefer, or off for none", string(vswitch.OffloadPrefer)
	for _, flag := range []string{"portgroup", "network", "sriov-network", "queues", "vlan", "address"} {
		completeBy(cmd, flag, noCompletion)
	}
	complete(cmd, "model", "virtio", "e1000e", "igb", "rtl8139")
	return cmd
}

// domainFlags are those that say whose the address is.
func (n *nicFlags) domainFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&n.domain, "domain", "", "`name` of the VM, which need not be there yet")
	f.StringVar(&n.alias, "alias", "", "the interface's `name` in the VM, ua-...; asked for again it has the same address")
	f.Var(&n.mac, "mac", "`address` to hold instead of one of the pool")
	for _, flag := range []string{"domain", "alias", "mac"} {
		completeBy(cmd, flag, noCompletion)
	}
}

func (n *nicFlags) validate() error {
	var problems []error
	found := func(cause, hint string) {
		problems = append(problems, &vswitch.Error{Kind: vswitch.Invalid, Op: "libvirt interface", Err: errors.New(cause), Hint: hint})
	}
	if n.alias != "" && !strings.HasPrefix(n.alias, domain.UserAlias) {
		found(fmt.Sprintf("libvirt replaces the alias %.64q", n.alias), fmt.Sprintf("begin it with %s: --alias %s%s", domain.UserAlias, domain.UserAlias, n.alias))
	}
	if n.direct && n.network != "" || n.tap && (n.network != "" || n.direct) {
		found("--network, --bridge and --tap exclude each other", "give one of them")
	}
	switch {
	case n.sriov && (n.direct || n.tap):
		found("--sriov needs the libvirt network of the switch", "leave out --bridge and --tap")
	case n.sriov && n.alias == "":
		found("a VF names the interface that it belongs to by its alias, and there is none", "give --alias ua-web")
	case n.sriov && n.model != "virtio":
		found(fmt.Sprintf("guests know how to go on without a VF by a virtio NIC, and not by %.64s", n.model), "leave out --model")
	case n.vfs != "" && !n.sriov:
		found("--sriov-network is of an interface with a VF", "give --sriov too, or leave it out")
	}
	const mostQueues = 256
	if n.queues < 0 || n.queues > mostQueues {
		found(fmt.Sprintf("%d queues are not 0-%d", n.queues, mostQueues), "give it as many as the VM has processors")
	}
	return errors.Join(problems...)
}

// hold holds the address for the VM.
func (n *nicFlags) hold(ctx context.Context, client *api.Client) (vswitch.MACHold, error) {
	return client.HoldMAC(ctx, engine.HoldMACRequest{Domain: vswitch.DomainRef{Name: n.domain}, MAC: n.mac.MAC, NIC: n.alias})
}

func (n *nicFlags) result(cmd *cobra.Command, client *api.Client, switchName string) (xmlResult, error) {
	wish, err := n.wish(cmd, switchName)
	if err = errors.Join(n.validate(), err); err != nil {
		return xmlResult{}, err
	}
	s, err := client.Switch(cmd.Context(), switchName)
	if err != nil {
		return xmlResult{}, asked(cmd, err)
	}
	profile, err := s.Profile(n.portgroup)
	if err != nil {
		return xmlResult{}, err
	}
	port, err := narrowed(s.Switch, profile, wish)
	if err != nil {
		return xmlResult{}, err
	}
	if n.sriov {
		if err := keptByVF(port); err != nil {
			return xmlResult{}, err
		}
		if _, err := client.VFPool(cmd.Context(), s.Name); err != nil {
			return xmlResult{}, err
		}
	}
	wishes := wish != (domain.Wish{})
	if wishes && n.alias == "" {
		return xmlResult{}, usageError(cmd, "the domain's metadata names the interface by its alias, and there is none; give --alias ua-web")
	}
	hold, err := n.hold(cmd.Context(), client)
	if err != nil {
		return xmlResult{}, err
	}
	out := xmlResult{Name: n.alias, MAC: hold.MAC.String()}
	if wishes {
		out.Metadata, out.bare = domain.WriteWish(n.alias, wish), domain.BareWish(n.alias, wish)
	}
	spec := domain.Interface{MAC: hold.MAC, Alias: n.alias, Model: n.model, Queues: n.queues}
	switch {
	case n.tap:
		spec.Tap = vswitch.TapName(n.domain, n.alias)
	case n.direct:
		spec.Bridge = s.Bridge
	default:
		spec.Network, spec.Portgroup = cmp.Or(n.network, s.Name), n.portgroup
	}
	if n.sriov {
		spec.VFs, spec.VLAN = cmp.Or(n.vfs, network.PoolName(s.Name)), port.VLAN.ID
	}
	out.XML, err = spec.Write()
	return out, err
}

// wish is what the interface is to be besides its profile.
func (n *nicFlags) wish(cmd *cobra.Command, switchName string) (w domain.Wish, err error) {
	w.Policy = n.policy()
	given(cmd, "isolated", &w.Isolated, &n.isolated)
	if cmd.Flags().Changed("vlan") {
		var v vswitch.PortVLAN
		if v, err = vswitch.ParsePortVLAN(n.vlan); err == nil {
			w.VLAN = &v
		}
	}
	if err == nil {
		w.Addresses, err = vswitch.ParseAddressList(strings.Join(n.address, " "))
	}
	if n.direct || n.tap {
		w.Profile = n.portgroup
	}
	if n.tap {
		w.Switch = switchName
	}
	return w, errors.Join(err, n.takeSRIOV(cmd, &w))
}

// givenVFFlags are flags of policy that only say something of a VF that Patchbay gives.
func givenVFFlags() []string {
	return []string{"sriov-weight", "sriov-queue-pairs", "sriov-moderation", "sriov-failover"}
}

// takeSRIOV takes out of a wish what is libvirt's to do and not the port's.
func (n *nicFlags) takeSRIOV(cmd *cobra.Command, w *domain.Wish) error {
	of := &w.Policy.Offload.SRIOV
	for _, flag := range givenVFFlags() {
		if cmd.Flags().Changed(flag) {
			return usageError(cmd, "--%s is for VFs that Patchbay gives, and a VM gets its VF from libvirt, as it is; leave it out", flag)
		}
	}
	if of.Mode == nil || *of.Mode == vswitch.OffloadOff {
		return nil
	}
	mode := *of.Mode
	n.sriov, of.Mode = true, nil
	if !slices.Contains(vswitch.OffloadModes(), mode) {
		return usageError(cmd, "--sriov=%.32q is none of %v", string(mode), vswitch.OffloadModes())
	}
	return nil
}

// keptByVF refuses what a guest with a VF from libvirt could go past: libvirt sets its address
// and its VLAN alone.
func keptByVF(p vswitch.Port) error {
	lost := vswitch.SoftwareOnly(p)
	if p.Policy.Bandwidth.Out.Max != 0 {
		lost = append(lost, "bandwidth.out.max")
	}
	if p.MACSpoofing {
		lost = append(lost, "macSpoofing")
	}
	if len(lost) == 0 {
		return nil
	}
	return &vswitch.Error{
		Kind: vswitch.Conflict, Op: "libvirt interface", Field: "sriov", Err: fmt.Errorf("no VF that libvirt gives keeps %s of the port", strings.Join(lost, ", ")),
		Hint: "leave out --sriov, or choose a --portgroup without that: `patchbay switch profile list " + vswitch.ShellWords(p.Switch) + "`",
	}
}

// narrowed is the port that the interface gets. It refuses now what would keep the VM from
// starting.
func narrowed(s vswitch.Switch, f vswitch.PortProfile, wish domain.Wish) (vswitch.Port, error) {
	p := vswitch.Port{Switch: s.Name, Isolated: f.Isolated, MACSpoofing: f.MACSpoofing, Policy: f.Policy.Apply(s.PortDefaults)}
	if f.VLAN != nil {
		p.VLAN = *f.VLAN
	} else if s.VLAN != 0 {
		p.VLAN = vswitch.AccessVLAN(s.VLAN)
	}
	p, err := wish.Apply(p)
	if p.Policy.AddressGuard && wish.Addresses == "" {
		err = errors.Join(err, &vswitch.Error{
			Kind: vswitch.Invalid, Object: "addressGuard", Err: errors.New("no address of the port is known"),
			Hint: "give the addresses that the guest has: --address 10.0.0.5",
		})
	}
	return p, errors.Join(err, p.Policy.Validate())
}

// metadataCommand is how the metadata comes to the domain.
func (n *nicFlags) metadataCommand(element string) string {
	return fmt.Sprintf("before it starts, give the VM what its interface wants (one element for all of them):\n  %s",
		vswitch.ShellWords("virsh", "metadata", n.domain, domain.Namespace, "--config", "--key", "patchbay", "--set", strings.TrimSpace(strings.ReplaceAll(element, "\n", ""))))
}
