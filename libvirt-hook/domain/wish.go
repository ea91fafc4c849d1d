package domain

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/metadata"
)

// UserAlias begins the aliases that libvirt keeps as users write them.
const UserAlias = "ua-"

// portsElement is our element.
type portsElement struct {
	Ports []portElement `json:"port"`
}

// portElement is what it says of one interface.
type portElement struct {
	Alias       string               `json:"alias,omitempty"`
	MAC         vswitch.MAC          `json:"mac,omitzero"`
	Switch      string               `json:"switch,omitempty"`
	Profile     string               `json:"profile,omitempty"`
	Addresses   vswitch.AddressList  `json:"addresses,omitempty"`
	VLAN        *vswitch.PortVLAN    `json:"vlan,omitempty"`
	Isolated    *bool                `json:"isolated,omitempty"`
	MACSpoofing *bool                `json:"macSpoofing,omitempty"`
	Policy      vswitch.PolicyChange `json:"policy,omitzero"`
}

func elementName() xml.Name { return xml.Name{Space: Namespace, Local: "ports"} }

// WriteWish writes the element of a domain's metadata that says that of one interface.
func WriteWish(alias string, w Wish) string {
	return writeWish(metadata.Name{Prefix: "patchbay", Local: elementName().Local, Space: Namespace}, alias, w)
}

// BareWish is WriteWish for libvirt to set (`virsh metadata`), which declares the namespace by
// itself.
func BareWish(alias string, w Wish) string {
	return writeWish(metadata.Name{Local: elementName().Local}, alias, w)
}

func writeWish(name metadata.Name, alias string, w Wish) string {
	var b strings.Builder
	metadata.Encode(&b, "", name, portsElement{[]portElement{{
		Alias: alias, Switch: w.Switch, Profile: w.Profile, Addresses: w.Addresses,
		VLAN: w.VLAN, Isolated: w.Isolated, MACSpoofing: w.MACSpoofing, Policy: w.Policy,
	}}})
	return b.String()
}

// readWishes gives each interface what the element says of it.
func (d *Domain) readWishes(e *metadata.Element) error {
	var all portsElement
	if err := e.Decode(&all); err != nil {
		return err
	}
	var problems []error
	for _, p := range all.Ports {
		n, err := d.meant(p)
		if err == nil && n.Wish != nil {
			err = p.problem(vswitch.AlreadyExists, "is said of one interface twice", "write one element for each interface")
		}
		if err == nil {
			err = p.validate(*n)
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		n.Wish = &Wish{p.Switch, p.Profile, p.Addresses, vswitch.Narrowing{VLAN: p.VLAN, Isolated: p.Isolated, MACSpoofing: p.MACSpoofing, Policy: p.Policy}}
	}
	return errors.Join(problems...)
}

// meant is the interface that an element names.
func (d *Domain) meant(p portElement) (*NIC, error) {
	switch {
	case p.Alias == "" && p.MAC.IsZero():
		return nil, p.problem(vswitch.Invalid, "names no interface", "give it the alias of one, like ua-web")
	case p.Alias != "" && !strings.HasPrefix(p.Alias, UserAlias):
		return nil, p.problem(vswitch.Invalid, fmt.Sprintf("alias %.64q does not begin with %s, so libvirt replaces it", p.Alias, UserAlias),
			fmt.Sprintf("call the interface %s%s", UserAlias, p.Alias))
	}
	var found []*NIC
	for i := range d.NICs {
		n := &d.NICs[i]
		if (p.Alias == "" || n.Alias == p.Alias) && (p.MAC.IsZero() || n.MAC == p.MAC) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, p.problem(vswitch.NotFound, "the domain has no such interface", fmt.Sprintf("it has %s", d.names()))
	}
	return nil, p.problem(vswitch.Conflict, fmt.Sprintf("%d interfaces are meant", len(found)), "name one by its alias")
}

func (d *Domain) names() string {
	var words []string
	for _, n := range d.NICs {
		if strings.HasPrefix(n.Alias, UserAlias) {
			words = append(words, n.Alias)
		} else {
			words = append(words, n.MAC.String())
		}
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

func (p portElement) validate(n NIC) error {
	switch {
	case n.Network != "" && (p.Switch != "" || p.Profile != ""):
		return p.problem(vswitch.Conflict, "switch and profile of an interface of a network are the network's",
			fmt.Sprintf("write <source network='%s' portgroup='...'/>", n.Network))
	case n.Type == TypeEthernet && p.Switch == "":
		return p.problem(vswitch.Invalid, "an interface of type ethernet needs a switch", "write switch='prod'")
	case n.Type == TypeBridge && n.Network == "" && p.Switch != "" && n.Bridge != vswitch.BridgeName(p.Switch):
		return p.problem(vswitch.Conflict, fmt.Sprintf("the interface is on bridge %s, not on that of switch %s", n.Bridge, p.Switch),
			fmt.Sprintf("write <source bridge='%s'/>", vswitch.BridgeName(p.Switch)))
	}
	return nil
}

// The types of interfaces that can be on a switch.
const (
	TypeNetwork  = "network"
	TypeBridge   = "bridge"
	TypeEthernet = "ethernet"
)

func (p portElement) problem(kind vswitch.Kind, cause, hint string) error {
	name := p.Alias
	if name == "" {
		name = p.MAC.String()
	}
	return &vswitch.Error{Kind: kind, Object: fmt.Sprintf("port %.64s", name), Err: errors.New(cause), Hint: hint}
}
