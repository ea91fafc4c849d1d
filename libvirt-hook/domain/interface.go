package domain

import (
	"encoding/xml"

	"libvirt.org/go/libvirtxml"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Interface is a network interface to be defined: one of a libvirt network, on a bridge, or
// with a tap that is there when the domain starts.
type Interface struct {
	MAC                vswitch.MAC
	Network, Portgroup string
	Bridge             string
	Tap                string
	Alias              string
	Model              string
	Queues             int // 0: libvirt's default
	// VFs is the libvirt network that gives it a VF besides, which the guest sends by while it
	// has one; "" for none. It needs an alias then, and Network. VLAN is what the VF is in.
	VFs  string
	VLAN int
}

// Write is the interface as virsh and a domain take it.
func (i Interface) Write() (string, error) {
	n := libvirtxml.DomainInterface{
		MAC:    &libvirtxml.DomainInterfaceMAC{Address: i.MAC.String()},
		Source: &libvirtxml.DomainInterfaceSource{},
		Model:  &libvirtxml.DomainInterfaceModel{Type: i.Model},
	}
	switch {
	case i.Tap != "":
		n.Source.Ethernet = &libvirtxml.DomainInterfaceSourceEthernet{}
		n.Target = &libvirtxml.DomainInterfaceTarget{Dev: i.Tap, Managed: no}
	case i.Bridge != "":
		n.Source.Bridge = &libvirtxml.DomainInterfaceSourceBridge{Bridge: i.Bridge}
	default:
		n.Source.Network = &libvirtxml.DomainInterfaceSourceNetwork{Network: i.Network, PortGroup: i.Portgroup}
	}
	if i.Alias != "" {
		n.Alias = &libvirtxml.DomainAlias{Name: i.Alias}
	}
	if i.Queues > 0 {
		n.Driver = &libvirtxml.DomainInterfaceDriver{Queues: uint(i.Queues)}
	}
	all := []libvirtxml.DomainInterface{n}
	if i.VFs != "" {
		all[0].Teaming = &libvirtxml.DomainInterfaceTeaming{Type: "persistent"}
		all = append(all, i.vf())
	}
	text, err := xml.MarshalIndent(all, "", "  ")
	return string(text) + "\n", err
}

// vf is the interface's VF. Of what it is like libvirt sets the address and the VLAN, and
// takes it away while the guest is on its way to another host.
func (i Interface) vf() libvirtxml.DomainInterface {
	n := libvirtxml.DomainInterface{
		MAC:     &libvirtxml.DomainInterfaceMAC{Address: i.MAC.String()},
		Source:  &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: i.VFs}},
		Teaming: &libvirtxml.DomainInterfaceTeaming{Type: "transient", Persistent: i.Alias},
		Alias:   &libvirtxml.DomainAlias{Name: i.Alias + "-vf"},
	}
	if i.VLAN != 0 {
		n.VLan = &libvirtxml.DomainInterfaceVLan{Tags: []libvirtxml.DomainInterfaceVLanTag{{ID: uint(i.VLAN)}}}
	}
	return n
}
