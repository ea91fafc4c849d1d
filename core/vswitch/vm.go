package vswitch

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// VMPort is what a VM's port has that a container's has not. A VM is what libvirt calls a
// domain; its taps are libvirt's to make and to remove.
type VMPort struct {
	Stage VMStage `json:"stage,omitempty"`
	// Alias is the device's name in the domain's definition, "ua-..." where a user chose it.
	Alias string `json:"alias,omitempty"`
	// Index is that of the netdev: the tap of another VM may have its name later.
	Index int `json:"index,omitempty"`
	// Narrowed is the Narrowing that has been applied, as JSON; "" for none.
	Narrowed string `json:"narrowed,omitempty"`
	// Before is what the VM's port counted on the hosts that the VM came from.
	Before VMCounts `json:"before,omitzero"`
	// Team says that the VM has a VF with the port's address, which the guest goes by while it
	// has it: what it hears by the port then it drops.
	Team bool `json:"team,omitempty"`
	// VFAway is the PCI address of the VF that the VM goes by otherwise, while it migrates: the
	// guest has let go of it, and what is for the VM comes by this port.
	VFAway string `json:"vfAway,omitempty"`
	// VFTurn is what happens to the VF meanwhile.
	VFTurn VFTurn `json:"vfTurn,omitempty"`
}

// VFTurn is what happens to the VF of a VM that migrates.
type VFTurn string

// The turns. Of a VF that leaves or comes nobody can tell whether the guest has it: what is for
// the VM comes by the VF and to the port.
const (
	// VFLeaves is a VF that the guest was asked to let go of.
	VFLeaves VFTurn = "leaves"
	// VFComes is one that libvirt or QEMU has given, and whose driver the guest may not have yet.
	VFComes VFTurn = "comes"
	// VFGone is one that is away and does not come back: the VM has migrated, as QEMU has told.
	VFGone VFTurn = "gone"
)

// VMStage is how far a VM's port has come.
type VMStage string

// The stages.
const (
	// VMActive is the port of a VM that runs here, or is about to.
	VMActive VMStage = ""
	// VMReserved is a port without a tap so far.
	VMReserved VMStage = "reserved"
	// VMIncoming is a port whose VM still runs on another host: it is complete but for what
	// would draw the VM's traffic here.
	VMIncoming VMStage = "incoming"
	// VMReleased is a port that libvirt has let go of while its tap was still there. It works
	// until the tap goes.
	VMReleased VMStage = "released"
)

// VMCounts are what a port has counted in the owner's view; see engine.PortStats.
type VMCounts struct {
	InPackets  uint64 `json:"inPackets,omitempty"`
	InBytes    uint64 `json:"inBytes,omitempty"`
	OutPackets uint64 `json:"outPackets,omitempty"`
	OutBytes   uint64 `json:"outBytes,omitempty"`
}

// DomainRef names a VM: by the UUID of its domain, by the domain's name, or both. Where
// only the name is known so far the UUID may follow.
type DomainRef struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

// IsZero reports whether no VM is named.
func (d DomainRef) IsZero() bool { return d == DomainRef{} }

// Is reports whether both name one VM: by their UUIDs, or where one has none by their names.
func (d DomainRef) Is(other DomainRef) bool {
	if d.ID != "" && other.ID != "" {
		return d.ID == other.ID
	}
	return d.Name != "" && d.Name == other.Name
}

// String is how lists show a VM.
func (d DomainRef) String() string { return "vm " + cmp.Or(d.Name, d.ID) }

// Validate bounds what may name a VM: an ID, a name, or both.
func (d DomainRef) Validate() error {
	if d.IsZero() {
		return &Error{Kind: Invalid, Object: "domain", Err: fmt.Errorf("no VM is named"), Hint: "name it by the domain's UUID or name"}
	}
	if d.ID != "" && !isOwnerID(d.ID) {
		return &Error{Kind: Invalid, Object: "domain", Err: fmt.Errorf("%.80q is not the UUID of a domain", d.ID), Hint: "write it as `virsh domuuid` shows it"}
	}
	if d.Name == "" {
		return nil
	}
	return ValidateVMName(d.Name)
}

// Domain is the VM that a port serves.
func (o Owner) Domain() DomainRef { return DomainRef{ID: o.ID, Name: o.Name} }

// MACHold is a MAC address that is held for a VM, running or not, until it is released.
type MACHold struct {
	MAC    MAC       `json:"mac"`
	Domain DomainRef `json:"domain"`
	// NIC tells the VM's addresses apart, as an alias does.
	NIC string `json:"nic,omitempty"`
	// Driver is libvirt's whose VM it is, by its URI; "" before the VM is defined.
	Driver  string    `json:"driver,omitempty"`
	Static  bool      `json:"static,omitempty"` // asked for, not from the pool
	Created time.Time `json:"created"`
}

// Speaks reports whether the owner is here, so that what is for its address comes to the
// port.
func (p Port) Speaks() bool { return p.VM.Stage != VMReserved && p.VM.Stage != VMIncoming }

// GoesByVF reports whether what is for a VM has to come by its VF, so that nothing points to the
// port.
func (p Port) GoesByVF() bool { return p.VM.Team && p.VM.VFAway == "" && p.VM.VFTurn == "" }

// Plugged reports whether the port has a netdev.
func (p Port) Plugged() bool { return p.Netdev != "" }

// TapMAC is the address that libvirt gives the tap of a guest with this one: the host's end
// must not have the guest's own.
func (m MAC) TapMAC() MAC {
	m[0] = 0xfe
	return m
}

// Bounds of what libvirt tells of a VM.
const (
	maxVMName  = 253
	maxVMAlias = 253
)

// ValidateVMName bounds the name of a domain: any text that fits a line.
func ValidateVMName(name string) error {
	if name == "" || len(name) > maxVMName || !printable(name) {
		return &Error{Kind: Invalid, Object: "domain", Err: fmt.Errorf("%.80q: a name is 1 to %d printable characters", name, maxVMName), Hint: "give the domain's name as `virsh list --all` shows it"}
	}
	return nil
}

// ValidateVMAlias bounds the alias of a device; "" is fine.
func ValidateVMAlias(alias string) error {
	if len(alias) > maxVMAlias || !printable(alias) {
		return &Error{Kind: Invalid, Object: "alias", Err: fmt.Errorf("%.80q: an alias is up to %d printable characters", alias, maxVMAlias)}
	}
	return nil
}

// ValidateDriver bounds the URI of a driver of libvirt's; "" is fine.
func ValidateDriver(uri string) error {
	if len(uri) > maxVMAlias || !printable(uri) {
		return &Error{Kind: Invalid, Object: "driver", Err: fmt.Errorf("%.80q: the URI of a driver is up to %d printable characters", uri, maxVMAlias), Hint: "write it as `virsh uri` shows it"}
	}
	return nil
}

func printable(s string) bool {
	return strings.ToValidUTF8(s, "\x00") == s && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// validateVM bounds what libvirt may say of a port's owner.
func (o Owner) validateVM(p *problems) {
	if o.Endpoint != "" && !isOwnerID(o.Endpoint) {
		p.add(Invalid, "port id", "%.80q: use the UUID of the libvirt port, or the alias of the device", o.Endpoint)
	}
	if o.Network != "" {
		p.add(Invalid, "network", "%.80q: a VM's port has none", o.Network)
	}
	if o.Name != "" {
		if err := ValidateVMName(o.Name); err != nil {
			p.add(Invalid, "domain", "%w", err)
		}
	}
}
