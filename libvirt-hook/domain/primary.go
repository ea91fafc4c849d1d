package domain

import (
	"fmt"
	"strconv"

	"libvirt.org/go/libvirtxml"
)

// Primary is the device that the guest of a team goes by while it has it, a VF; libvirt calls
// it transient. When the domain migrates, QEMU has the guest let go of it.
type Primary struct {
	// Alias is what QEMU calls it.
	Alias string
	// Standby is the alias of the interface that the guest goes by otherwise.
	Standby string
	// VF is the PCI address; "" where libvirt has not chosen one yet.
	VF string
}

// hostdev is what matters of libvirtxml's DomainHostdev.
type hostdev struct {
	Source  source                             `xml:"source"`
	Alias   libvirtxml.DomainAlias             `xml:"alias"`
	Teaming *libvirtxml.DomainInterfaceTeaming `xml:"teaming"`
}

// pci is libvirtxml's DomainAddressPCI, for every type of address.
type pci struct {
	Domain   string `xml:"domain,attr"`
	Bus      string `xml:"bus,attr"`
	Slot     string `xml:"slot,attr"`
	Function string `xml:"function,attr"`
}

// String is the address as the kernel writes it, "" for none.
func (p pci) String() string {
	var n [4]uint64
	for i, text := range []string{p.Domain, p.Bus, p.Slot, p.Function} {
		var err error
		if n[i], err = strconv.ParseUint(text, 0, 32); err != nil {
			return ""
		}
	}
	return fmt.Sprintf("%04x:%02x:%02x.%x", n[0], n[1], n[2], n[3])
}

// primaries are those of interfaces, and of devices that are no interfaces to libvirt.
func (d document) primaries() (all []Primary) {
	add := func(t *libvirtxml.DomainInterfaceTeaming, alias string, at pci) {
		if t != nil && t.Type == "transient" {
			all = append(all, Primary{Alias: alias, Standby: t.Persistent, VF: at.String()})
		}
	}
	for _, n := range d.NICs {
		add(n.Teaming, n.Alias.Name, n.Source.Address)
	}
	for _, h := range d.HostDevs {
		add(h.Teaming, h.Alias.Name, h.Source.Address)
	}
	return all
}
