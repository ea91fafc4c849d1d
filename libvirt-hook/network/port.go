package network

import (
	"encoding/xml"
	"errors"
	"fmt"

	"libvirt.org/go/libvirtxml"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/metadata"
)

// Port is a port of a network as libvirt tells of it.
type Port struct {
	// UUID is the one thing that names it in every hook, event and list.
	UUID                 string
	OwnerName, OwnerUUID string
	Group                string
	MAC                  vswitch.MAC
	Isolated             bool
	// TrustsGuest says that the guest may change its address filter.
	TrustsGuest bool
	// Bridge is what it is plugged into; "" for what is no bridge.
	Bridge string

	refused []error
}

// ParsePort reads the definition of a port (`virsh net-port-dumpxml`).
func ParsePort(text []byte) (Port, error) {
	if err := metadata.CheckDepth(text); err != nil {
		return Port{}, err
	}
	var p libvirtxml.NetworkPort
	if err := xml.Unmarshal(text, &p); err != nil {
		return Port{}, &vswitch.Error{Kind: vswitch.Invalid, Object: "networkport", Err: err}
	}
	return port(p)
}

// ParseHook reads what libvirt hands to the network hook: a network, and a port where the
// call is about one.
func ParseHook(text []byte) (Network, *Port, error) {
	var d struct {
		XMLName xml.Name                `xml:"hookData"`
		Network *document               `xml:"network"`
		Port    *libvirtxml.NetworkPort `xml:"networkport"`
	}
	if err := metadata.CheckDepth(text); err != nil {
		return Network{}, nil, err
	}
	if err := xml.Unmarshal(text, &d); err != nil {
		return Network{}, nil, &vswitch.Error{Kind: vswitch.Invalid, Object: "hookData", Err: err}
	}
	if d.Network == nil {
		return Network{}, nil, &vswitch.Error{Kind: vswitch.Invalid, Object: "hookData", Err: errors.New("there is no network in it")}
	}
	n, err := d.Network.network()
	if err != nil || d.Port == nil {
		return n, nil, err
	}
	p, err := port(*d.Port)
	return n, &p, err
}

func port(p libvirtxml.NetworkPort) (Port, error) {
	out := Port{
		UUID: p.UUID, Group: p.Group,
		Isolated:    p.PortOptions != nil && p.PortOptions.Isolated == yes,
		TrustsGuest: p.RXFilters != nil && p.RXFilters.TrustGuest == yes,
	}
	if p.Owner != nil {
		out.OwnerName, out.OwnerUUID = p.Owner.Name, p.Owner.UUID
	}
	if p.MAC != nil {
		mac, err := vswitch.ParseMAC(p.MAC.Address)
		if err != nil {
			return out, err
		}
		out.MAC = mac
	}
	if p.Plug != nil && p.Plug.Bridge != nil {
		out.Bridge = p.Plug.Bridge.Bridge
	}
	what := func(there bool, key, instead string) {
		if there {
			out.refused = append(out.refused, Native("port", key, instead))
		}
	}
	what(p.VLAN != nil, "<vlan>", vlanInstead)
	what(p.Bandwidth != nil, "<bandwidth>", bandwidthInstead)
	what(p.VirtualPort != nil, "<virtualport>", virtualPortInstead)
	return out, nil
}

// Native refuses what libvirt would do by itself to the ports of a switch.
func Native(object, key, instead string) error {
	return &vswitch.Error{
		Kind: vswitch.Conflict, Object: object, Err: fmt.Errorf("libvirt's own %s does not go with a switch of Patchbay", key), Hint: instead,
	}
}

// Validate reports all that no port of a switch can have. spoofing says that its profile
// lets it send from any address.
func (p Port) Validate(spoofing bool) error {
	problems := append([]error(nil), p.refused...)
	if p.Bridge == "" {
		problems = append(problems, &vswitch.Error{
			Kind: vswitch.CapabilityMissing, Err: errors.New("the port is not plugged into a bridge"), Hint: "use a network with forward mode bridge",
		})
	}
	if p.TrustsGuest && !spoofing {
		problems = append(problems, TrustsGuest())
	}
	return errors.Join(problems...)
}

// TrustsGuest refuses to let a guest choose its address which may send from one alone.
func TrustsGuest() error {
	return &vswitch.Error{
		Kind: vswitch.Conflict, Err: errors.New("trustGuestRxFilters lets the guest change its address, and its port is locked to one"),
		Hint: "leave it out, or give the port profile macSpoofing",
	}
}
