package engine

import "github.com/patchbay-net/patchbay/core/vswitch"

// This file has what is asked for VMs: see docs/adr/0014-vm-ports.md for who asks when.

// ReservePortRequest asks for a VM's port before its tap exists. Owner is of kind vm, with
// the domain's UUID as ID, the libvirt port's as Endpoint, and the domain's name as Name.
type ReservePortRequest struct {
	Owner  vswitch.Owner `json:"owner"`
	Switch string        `json:"switch"`
	MAC    vswitch.MAC   `json:"mac"`           // the VM's; libvirt has chosen it
	MTU    int           `json:"mtu,omitempty"` // 0: the switch's

	MACSpoofing bool `json:"macSpoofing,omitempty"`
	// VLAN is what the port does with VLANs; nil: the switch's default.
	VLAN     *vswitch.PortVLAN `json:"vlan,omitempty"`
	Isolated bool              `json:"isolated,omitempty"`
	// Policy is what differs from the policy that the switch gives its ports.
	Policy vswitch.PolicyChange `json:"policy,omitzero"`
}

// BindPortRequest says which tap a reserved port has.
type BindPortRequest struct {
	Owner  vswitch.Owner `json:"owner"`  // as in ReservePortRequest; the name may be left out
	Netdev string        `json:"netdev"` // the tap, on the host
	// Pair says that Netdev is the end of a pair that a container is about to get: the other
	// end, which is in the switch's bridge, becomes the port's.
	Pair  bool   `json:"pair,omitempty"`
	Alias string `json:"alias,omitempty"`
	// Team says that the VM has a VF with the port's address besides, and goes by that: nothing
	// points to the port but while TakeVF has taken it away. Nil leaves that as it is, for who cannot tell.
	Team *bool `json:"team,omitempty"`
	// Addresses are those that the domain's definition says the NIC has: nobody else gets them,
	// and with an address guard the port speaks for them alone. Empty leaves them as they are.
	Addresses vswitch.AddressList `json:"addresses,omitempty"`
	// Override is what the domain's definition takes away from what the port was granted.
	Override vswitch.Narrowing `json:"override,omitzero"`
}

// ExpectDomainRequest announces a VM that is about to come from another host.
type ExpectDomainRequest struct {
	Domain vswitch.DomainRef `json:"domain"` // with its ID
	// State is what the other host has exported, if it has.
	State *DomainState `json:"state,omitempty"`
}

// HoldMACRequest asks for a MAC address for a VM that is, or is about to be, defined.
type HoldMACRequest struct {
	Domain vswitch.DomainRef `json:"domain"`
	// MAC is the address; zero: the next one of the pool.
	MAC vswitch.MAC `json:"mac,omitzero"`
	// NIC tells the VM's addresses apart, as an alias ("ua-web") does: asked for again, the
	// same NIC gets the same address. Empty: each call without MAC gets a new one.
	NIC string `json:"nic,omitempty"`
	// Driver is the URI of libvirt's driver that has the VM, where it is defined.
	Driver string `json:"driver,omitempty"`
}

// ReleaseMACRequest says which addresses are held no more: one, or all of a VM.
type ReleaseMACRequest struct {
	MAC    vswitch.MAC       `json:"mac,omitzero"`
	Domain vswitch.DomainRef `json:"domain,omitzero"`
}
