package domain

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/metadata"
)

// Namespace is that of our element in a domain's metadata.
const Namespace = "https://patchbay.net/xmlns/libvirt/domain/1.0"

// Domain is what matters of a domain.
type Domain struct {
	Name, UUID string
	// Type is libvirt's: "kvm", "qemu", "lxc", ...
	Type string
	NICs []NIC
	// Primaries are the devices that guests of teams go by while they have them.
	Primaries []Primary
	// State is what another host says of the ports, as JSON; nil for nothing.
	State []byte
}

// NIC is a network interface of a domain.
type NIC struct {
	// Type is libvirt's: "network", "bridge", "ethernet", ... An interface of a network is of
	// type "bridge" too, once it is plugged into one that is not libvirt's own.
	Type  string
	Alias string // "" where libvirt has not given it one yet
	MAC   vswitch.MAC
	// Network and Portgroup are of an interface of a network, PortID of one that is plugged.
	Network, Portgroup, PortID string
	// Bridge is what it is plugged into.
	Bridge string
	// Netdev is the host's end: "" until there is one. Premade says that libvirt expects to
	// find it, and neither makes nor removes it.
	Netdev  string
	Premade bool
	Queues  int
	// Guest is the name of a container's end, GuestEnd the one that it has before the container
	// gets it.
	Guest, GuestEnd string
	Isolated        bool
	// TrustsGuest says that the guest may change its address filter, Filtered that libvirt
	// filters its frames.
	TrustsGuest, Filtered bool
	// Team says that the guest goes by a Primary while it has one.
	Team bool
	// Wish is what our metadata says of the interface; nil for nothing.
	Wish *Wish

	native []string // what libvirt would do to it by itself
}

// Wish is what a domain's metadata says of an interface.
type Wish struct {
	// Switch and Profile are for an interface of no libvirt network: the switch that it is
	// on, and one of the switch's own port profiles.
	Switch, Profile string
	// Addresses are those that the guest has.
	Addresses vswitch.AddressList
	vswitch.Narrowing
}

type document struct {
	XMLName  xml.Name                  `xml:"domain"`
	Type     string                    `xml:"type,attr"`
	Name     string                    `xml:"name"`
	UUID     string                    `xml:"uuid"`
	Metadata libvirtxml.DomainMetadata `xml:"metadata"`
	NICs     []nic                     `xml:"devices>interface"`
	HostDevs []hostdev                 `xml:"devices>hostdev"`
}

type nic struct {
	Type                string                                `xml:"type,attr"`
	TrustGuestRxFilters string                                `xml:"trustGuestRxFilters,attr"`
	MAC                 libvirtxml.DomainInterfaceMAC         `xml:"mac"`
	Source              source                                `xml:"source"`
	Target              libvirtxml.DomainInterfaceTarget      `xml:"target"`
	Guest               libvirtxml.DomainInterfaceGuest       `xml:"guest"`
	Driver              driver                                `xml:"driver"`
	Alias               libvirtxml.DomainAlias                `xml:"alias"`
	PortOptions         libvirtxml.DomainInterfacePortOptions `xml:"port"`
	FilterRef           *struct{}                             `xml:"filterref"`
	VLAN                *struct{}                             `xml:"vlan"`
	Bandwidth           *struct{}                             `xml:"bandwidth"`
	VirtualPort         *struct{}                             `xml:"virtualport"`
	Teaming             *libvirtxml.DomainInterfaceTeaming    `xml:"teaming"`
}

// driver is what matters of libvirtxml's DomainInterfaceDriver.
type driver struct {
	Queues string `xml:"queues,attr"`
}

// source is libvirtxml's DomainInterfaceSourceNetwork, for every type of interface.
type source struct {
	Network   string `xml:"network,attr"`
	PortGroup string `xml:"portgroup,attr"`
	PortID    string `xml:"portid,attr"`
	Bridge    string `xml:"bridge,attr"`
	Address   pci    `xml:"address"` // of a device that libvirt gives the guest
}

// ParseID reads who a domain is and nothing else, so that it can be released whatever it
// has become.
func ParseID(text []byte) (name, uuid string, err error) {
	d, err := read(text)
	return d.Name, d.UUID, err
}

func read(text []byte) (d document, err error) {
	if err := metadata.CheckDepth(text); err != nil {
		return d, err
	}
	err = xml.Unmarshal(text, &d)
	if err == nil && !isUUID(d.UUID) {
		err = fmt.Errorf("uuid %.64q is none", d.UUID)
	}
	if err != nil {
		return d, &vswitch.Error{Kind: vswitch.Invalid, Object: "domain", Err: err}
	}
	return d, nil
}

func isUUID(s string) bool {
	const length = 36
	return len(s) == length && strings.Trim(s, "0123456789abcdefABCDEF-") == ""
}

// Parse reads a domain. What our metadata says wrong is an error: each problem with its
// place, and an interface that it names and the domain does not have.
func Parse(text []byte) (Domain, error) {
	doc, err := read(text)
	if err != nil {
		return Domain{}, err
	}
	d := Domain{Name: doc.Name, UUID: doc.UUID, Type: doc.Type}
	var problems []error
	for i, n := range doc.NICs {
		out, err := n.nic()
		if err != nil {
			problems = append(problems, fmt.Errorf("interface %d: %w", i+1, err))
		}
		d.NICs = append(d.NICs, out)
	}
	d.Primaries = doc.primaries()
	for _, p := range d.Primaries {
		if i := slices.IndexFunc(d.NICs, func(n NIC) bool { return n.Alias == p.Standby }); i >= 0 {
			d.NICs[i].Team = true
		}
	}
	e, err := metadata.Find(doc.Metadata.XML, elementName())
	if err == nil && e != nil {
		err = d.readWishes(e)
	}
	state, stateErr := readState(doc.Metadata.XML)
	d.State = state
	if err = errors.Join(append(problems, err, stateErr)...); err != nil {
		return d, &vswitch.Error{Kind: vswitch.KindOf(err), Op: "libvirt domain", Object: d.Name, Err: err}
	}
	return d, nil
}

func (n nic) nic() (NIC, error) {
	out := NIC{
		Type: n.Type, Alias: n.Alias.Name, Network: n.Source.Network, Portgroup: n.Source.PortGroup,
		PortID: n.Source.PortID, Bridge: n.Source.Bridge, Netdev: n.Target.Dev, Premade: n.Target.Managed == no,
		Guest: n.Guest.Dev, GuestEnd: n.Guest.Actual, Isolated: n.PortOptions.Isolated == yes,
		TrustsGuest: n.TrustGuestRxFilters == yes, Filtered: n.FilterRef != nil,
	}
	for _, native := range []struct {
		there bool
		key   string
	}{{n.VLAN != nil, "<vlan>"}, {n.Bandwidth != nil, "<bandwidth>"}, {n.VirtualPort != nil, "<virtualport>"}} {
		if native.there {
			out.native = append(out.native, native.key)
		}
	}
	out.Queues, _ = strconv.Atoi(n.Driver.Queues) // libvirt has looked at it
	var err error
	if n.MAC.Address != "" {
		out.MAC, err = vswitch.ParseMAC(n.MAC.Address)
	}
	return out, err
}

const (
	yes = "yes"
	no  = "no"
)
