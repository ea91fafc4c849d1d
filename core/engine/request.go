package engine

import (
	"net/netip"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// AttachRequest asks for a port for an owner. Attaching what is attached with the
// same request returns the same port.
type AttachRequest struct {
	Owner vswitch.Owner `json:"owner"`
	// Switch names an existing switch; Define, if not nil, defines it on first use
	// and must agree with what exists.
	Switch string          `json:"switch"`
	Define *vswitch.Switch `json:"define,omitempty"`

	MAC         vswitch.MAC `json:"mac,omitzero"`  // zero: from the pool
	MTU         int         `json:"mtu,omitempty"` // 0: the switch's
	MACSpoofing bool        `json:"macSpoofing,omitempty"`
	// VLAN is what the port does with VLANs; nil: the switch's default, which is an access
	// port in the VLAN of the switch, or an untagged one.
	VLAN *vswitch.PortVLAN `json:"vlan,omitempty"`
	// Isolated keeps the port and other isolated ones of the switch apart.
	Isolated bool `json:"isolated,omitempty"`

	// Policy is what differs from the policy that the switch gives its ports.
	Policy vswitch.PolicyChange `json:"policy,omitzero"`

	// Ranges are served by our IPAM, one address from each set.
	Ranges []vswitch.IPRangeSet `json:"ranges,omitempty"`
	// Requested addresses are taken instead of the next free one of their set.
	Requested []netip.Addr `json:"requested,omitempty"`
	// Addresses come from another IPAM and are configured as they are.
	Addresses []vswitch.Address `json:"addresses,omitempty"`
	// Routes without a gateway go by the gateway of the family's first address.
	Routes []vswitch.Route `json:"routes,omitempty"`
	// DAD leaves duplicate address detection on for addresses of our IPAM.
	DAD bool `json:"dad,omitempty"`

	// Netdev, if given, is a host-side netdev of somebody else (a tap) to attach
	// instead of a veth pair.
	Netdev string `json:"netdev,omitempty"`
}

// Attachment is what Attach hands back.
type Attachment struct {
	Port   vswitch.Port `json:"port"`
	Switch SwitchStatus `json:"switch"`
	// HostMAC is the address of the switch end's netdev, which guests never see.
	HostMAC vswitch.MAC `json:"hostMAC"`
}

// SwitchStatus is a switch with what the engine knows of it.
type SwitchStatus struct {
	vswitch.Switch
	// EffectiveMTU is MTU, or what it became where the definition leaves it out.
	EffectiveMTU int         `json:"effectiveMTU"`
	Bridge       string      `json:"bridge"`
	BridgeMAC    vswitch.MAC `json:"bridgeMAC"`
	// HostPortNetdev is the netdev by which the host reaches the switch, or "".
	HostPortNetdev string `json:"hostPort,omitempty"`
	Ports          int    `json:"ports"`
	// Segments is the number of bridges that the switch has grown to; 0 for one.
	Segments int `json:"segments,omitempty"`
	// Offload is what the uplink has of each feature, and what ports hold of it.
	Offload []vswitch.OffloadTotal `json:"offload,omitempty"`
	// Warnings are what the user should know of what the verb has done.
	Warnings []string `json:"warnings,omitempty"`
}

// AddSwitchRequest is a switch's definition with consent to what it takes from the host.
type AddSwitchRequest struct {
	Switch vswitch.Switch `json:"switch"`
	// Yes consents that the host loses its way out, where the switch leaves it none, and
	// that the switch takes a NIC from a network manager that is running.
	Yes bool `json:"yes,omitempty"`
}

// DeleteSwitchRequest names a switch that is to go.
type DeleteSwitchRequest struct {
	Name string `json:"name"`
	// Force detaches the guests that are attached to it.
	Force bool `json:"force,omitempty"`
}

// DeleteSwitchReport tells what came of the host's things on the uplink.
type DeleteSwitchReport struct {
	// Warnings are what the user should know of what the verb has done.
	Warnings []string `json:"warnings,omitempty"`
}

// SwitchChange is what `switch set` changes; nil fields stay as they are.
type SwitchChange struct {
	Type       *vswitch.SwitchType `json:"type,omitempty"`
	Uplink     *string             `json:"uplink,omitempty"`
	HostAccess *bool               `json:"hostAccess,omitempty"`
	VLAN       *int                `json:"vlan,omitempty"`
	MTU        *int                `json:"mtu,omitempty"`
	Gateway    *[]netip.Prefix     `json:"gateway,omitempty"`
	Masquerade *vswitch.Masquerade `json:"masquerade,omitempty"`
	Notes      *string             `json:"notes,omitempty"`
	// SRIOV cannot change, and is refused unless it is what it is.
	SRIOV *bool `json:"sriov,omitempty"`
	// BandwidthMode cannot change, and is refused unless it is what it is.
	BandwidthMode     *vswitch.BandwidthMode `json:"bandwidthMode,omitempty"`
	DefaultFlow       *vswitch.Bits          `json:"defaultFlow,omitempty"`
	DefaultFlowWeight *int                   `json:"defaultFlowWeight,omitempty"`
	// PortDefaults changes what new ports get, HostPolicy the policy of the host's port.
	PortDefaults *vswitch.PolicyChange `json:"portDefaults,omitempty"`
	HostPolicy   *vswitch.PolicyChange `json:"hostPolicy,omitempty"`
	// PortProfiles takes the place of the whole list.
	PortProfiles *[]vswitch.PortProfile `json:"portProfiles,omitempty"`
	// Yes consents to what the change takes from the host: its way out, or the peace with
	// whoever manages the NIC.
	Yes bool `json:"yes,omitempty"`
}

// PortStatus is a port with what the kernel shows of it: Drift is what would
// have to be done to bring it back, in words; empty when all is as it should be.
type PortStatus struct {
	vswitch.Port
	Drift []string `json:"drift,omitempty"`
	// MirroredTo are the netdevs that get copies of a mirror source's frames.
	MirroredTo []string `json:"mirroredTo,omitempty"`
	// Minimum is what became of a minimum of bandwidth; nil without one.
	Minimum *MinimumStatus `json:"minimum,omitempty"`
	// Offload is what the port has of the switch's uplink, and why not more.
	Offload []vswitch.OffloadStatus `json:"offload,omitempty"`
}

// PoolStatus describes the MAC pool.
type PoolStatus struct {
	vswitch.MACRange
	Size        int  `json:"size"`
	Used        int  `json:"used"`        // leased dynamic addresses inside the range
	Outside     int  `json:"outside"`     // leased dynamic addresses of an earlier range
	Static      int  `json:"static"`      // static addresses in use
	Quarantined int  `json:"quarantined"` // released and resting
	Default     bool `json:"default"`     // the range was never changed
}

// MACLease is one address held, for `mac list`.
type MACLease struct {
	MAC    vswitch.MAC `json:"mac"`
	Static bool        `json:"static"`
	Port   string      `json:"port"`
	Switch string      `json:"switch"`
	Owner  string      `json:"owner"`
	// Held says that it is held for a VM, running or not, until it is released. Port and
	// Switch are then those of the VM that runs with it.
	Held bool   `json:"held,omitempty"`
	NIC  string `json:"nic,omitempty"`
	// Domain is the VM that it is held for, and Driver libvirt's that has defined it.
	Domain vswitch.DomainRef `json:"domain,omitzero"`
	Driver string            `json:"driver,omitempty"`
}

// GCRequest says whose attachments are still valid: those of Network that are not
// in Valid are detached. An empty Network collects ports of every network whose
// namespace is gone.
type GCRequest struct {
	Network string          `json:"network,omitempty"`
	Valid   []vswitch.Owner `json:"valid,omitempty"` // ID and Endpoint matter
	// Domains are the UUIDs of the VMs that libvirt has running: their ports stay. Nil says that
	// nobody could ask, and a tap that is gone has to do.
	Domains *[]string `json:"domains,omitempty"`
}

// GCReport tells what was removed.
type GCReport struct {
	Removed []vswitch.Port `json:"removed"`
	Netdevs []string       `json:"netdevs,omitempty"` // ours, known to no record
}

// Status is the host at a glance.
type Status struct {
	Ready        bool                `json:"ready"`
	Problems     []Problem           `json:"problems,omitempty"`
	Switches     int                 `json:"switches"`
	Ports        int                 `json:"ports"`
	Pool         PoolStatus          `json:"macPool"`
	Capabilities kernel.Capabilities `json:"capabilities"`
	Teams        []TeamStatus        `json:"teams,omitempty"`
	// Offload is what the uplinks have, without their ports.
	Offload []SwitchOffload `json:"offload,omitempty"`
	// Daemon tells of patchbayd; nil where none carried the verb out.
	Daemon *DaemonStatus `json:"daemon,omitempty"`
}

// Problem is something that a user should know of, with what to do about it.
type Problem struct {
	Kind    vswitch.Kind `json:"kind"`
	Message string       `json:"message"`
	Hint    string       `json:"hint,omitempty"`
	// Blocks says that no Attach can succeed until this is mended.
	Blocks bool `json:"blocks,omitempty"`
}

// Topology is what the picture of `patchbay topology` is drawn from.
type Topology struct {
	NICs     []kernel.Netdev  `json:"nics"` // uplinks, free physical NICs, teams and their members
	Switches []TopologySwitch `json:"switches"`
	Teams    []TeamStatus     `json:"teams,omitempty"`
}

// TopologySwitch is a switch with its ports, the host's first.
type TopologySwitch struct {
	SwitchStatus
	Attached []vswitch.Port `json:"attached"`
}

// Check is what CNI CHECK asks: the steps that would repair the port.
type Check struct {
	Port  vswitch.Port `json:"port"`
	Steps plan.Steps   `json:"steps,omitempty"`
}
