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
	text, err := xml.MarshalIndent(&n, "", "  ")
	return string(text) + "\n", err
}
