package network

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/metadata"
)

// Namespace is that of our element in a network's metadata.
const Namespace = "https://patchbay.net/xmlns/libvirt/network/1.0"

// Network is what matters of a libvirt network.
type Network struct {
	Name, UUID string
	// Switch is the one that the metadata names; "" where there is none of ours.
	Switch   string
	Profiles []vswitch.PortProfile
	// Bridge is the netdev that guests are plugged into, Mode how libvirt forwards.
	Bridge, Mode string

	groups  []portgroup
	refused []error // what of it we do not serve
}

type document struct {
	XMLName             xml.Name                       `xml:"network"`
	Name                string                         `xml:"name"`
	UUID                string                         `xml:"uuid"`
	TrustGuestRxFilters string                         `xml:"trustGuestRxFilters,attr"`
	Metadata            libvirtxml.NetworkMetadata     `xml:"metadata"`
	Forward             libvirtxml.NetworkForward      `xml:"forward"`
	Bridge              libvirtxml.NetworkBridge       `xml:"bridge"`
	VLAN                *libvirtxml.NetworkVLAN        `xml:"vlan"`
	Bandwidth           *libvirtxml.NetworkBandwidth   `xml:"bandwidth"`
	VirtualPort         *libvirtxml.NetworkVirtualPort `xml:"virtualport"`
	Groups              []portgroup                    `xml:"portgroup"`
}

type portgroup struct {
	libvirtxml.NetworkPortGroup
	Bandwidth *libvirtxml.NetworkBandwidth `xml:"bandwidth"`
}

// Parse reads the definition of a network. What our element in its metadata says wrong is
// an error; what else of it we cannot serve, Validate tells.
func Parse(text []byte) (Network, error) {
	if err := metadata.CheckDepth(text); err != nil {
		return Network{}, err
	}
	var d document
	if err := xml.Unmarshal(text, &d); err != nil {
		return Network{}, &vswitch.Error{Kind: vswitch.Invalid, Object: "network", Err: err}
	}
	return d.network()
}

func (d document) network() (Network, error) {
	n := Network{Name: d.Name, UUID: d.UUID, Bridge: d.Bridge.Name, Mode: d.Forward.Mode, groups: d.Groups}
	e, err := metadata.Find(d.Metadata.XML, elementName())
	if err != nil {
		return n, n.fault(err)
	}
	if e != nil {
		var m switchElement
		if err := errors.Join(e.Decode(&m), m.validate()); err != nil {
			return n, n.fault(err)
		}
		n.Switch, n.Profiles = m.Name, m.Profiles
	}
	n.refused = d.refuse()
	return n, nil
}

// switchElement is our element.
type switchElement struct {
	Name     string                `json:"name"`
	Profiles []vswitch.PortProfile `json:"portProfile"`
}

func elementName() xml.Name { return xml.Name{Space: Namespace, Local: "switch"} }

func (m switchElement) validate() error {
	s := vswitch.Switch{Name: m.Name, Type: vswitch.Internal, PortProfiles: m.Profiles}
	var problems []error
	for _, f := range m.Profiles {
		if min := f.Policy.Bandwidth.Min; min.Rate != nil && *min.Rate > 0 { // the switch's mode is not in the network
			s.MinBandwidth.Mode = vswitch.BandwidthAbsolute
		}
		if f.Default {
			problems = append(problems, &vswitch.Error{
				Kind: vswitch.Invalid, Object: "portProfile " + f.Name, Err: errors.New("default is said by the portgroup"),
				Hint: fmt.Sprintf("write <portgroup name='%s' default='yes'/>", f.Name),
			})
		}
	}
	return errors.Join(errors.Join(problems...), s.Validate())
}

// refuse lists what libvirt would do besides to the ports of a bridge of ours.
func (d document) refuse() (all []error) {
	what := func(there bool, place, key, instead string) {
		if there {
			all = append(all, Native(place, key, instead))
		}
	}
	what(d.VLAN != nil, "network "+d.Name, "<vlan>", vlanInstead)
	what(d.Bandwidth != nil, "network "+d.Name, "<bandwidth>", bandwidthInstead)
	what(d.VirtualPort != nil, "network "+d.Name, "<virtualport>", virtualPortInstead)
	for _, g := range d.Groups {
		what(g.VLAN != nil, "portgroup "+g.Name, "<vlan>", vlanInstead)
		what(g.Bandwidth != nil, "portgroup "+g.Name, "<bandwidth>", bandwidthInstead)
		what(g.VirtualPort != nil, "portgroup "+g.Name, "<virtualport>", virtualPortInstead)
	}
	return all
}

// What to write instead of what libvirt would do by itself.
const (
	vlanInstead        = "give the port profile a vlan: `patchbay switch profile set SWITCH PROFILE --vlan 10`"
	bandwidthInstead   = "give the port profile limits: `patchbay switch profile set SWITCH PROFILE --max-in 100M`"
	virtualPortInstead = "leave it out: the bridge is Linux's"
)

// Ours reports whether the network is that of a switch.
func (n Network) Ours() bool { return n.Switch != "" }

// Validate reports all that keeps the network from being that of its switch.
func (n Network) Validate() error {
	problems := append([]error(nil), n.refused...)
	found := func(format string, args ...any) {
		problems = append(problems, &vswitch.Error{
			Kind: vswitch.Invalid, Err: fmt.Errorf(format, args...), Hint: fmt.Sprintf("compare with `patchbay libvirt network %s`", vswitch.ShellWords(n.Switch)),
		})
	}
	if n.Mode != "bridge" {
		found("forward mode is %q, not bridge: libvirt would make a bridge of its own", n.Mode)
	} else if want := vswitch.BridgeName(n.Switch); n.Bridge != want {
		found("bridge is %q, and that of switch %s is %s", n.Bridge, n.Switch, want)
	}
	for _, f := range n.Profiles {
		if !n.hasGroup(f.Name) {
			found("port profile %s has no portgroup of that name", f.Name)
		}
	}
	for _, g := range n.groups {
		if _, err := n.profileOf(g.Name); err != nil {
			found("portgroup %s has no port profile in the metadata", g.Name)
		}
	}
	return n.fault(errors.Join(problems...))
}

func (n Network) hasGroup(name string) bool {
	for _, g := range n.groups {
		if g.Name == name {
			return true
		}
	}
	return false
}

// Profile is what a port of that portgroup gets; "" is what libvirt takes for it then, the
// default portgroup, or none. A portgroup without a profile is NotFound: its ports would get
// less than its name promises.
func (n Network) Profile(group string) (vswitch.PortProfile, error) {
	if group == "" {
		for _, g := range n.groups {
			if g.Default == yes {
				group = g.Name
			}
		}
	}
	if group == "" {
		return vswitch.PortProfile{}, nil
	}
	return n.profileOf(group)
}

func (n Network) profileOf(group string) (vswitch.PortProfile, error) {
	for _, f := range n.Profiles {
		if f.Name == group {
			return f, nil
		}
	}
	return vswitch.PortProfile{}, &vswitch.Error{
		Kind: vswitch.NotFound, Object: "network " + n.Name, Err: fmt.Errorf("portgroup %.64q has no port profile in the network's metadata", group),
		Hint: fmt.Sprintf("add it with `patchbay switch profile set %s %s`, then run `patchbay libvirt network %[1]s --define`", vswitch.ShellWords(n.Switch), vswitch.ShellWords(group)),
	}
}

func (n Network) fault(err error) error {
	if err == nil {
		return nil
	}
	return &vswitch.Error{Kind: vswitch.KindOf(err), Op: "libvirt network", Object: n.Name, Err: err}
}

const yes = "yes"

// Pool is a libvirt network of the VFs of a NIC, one for each interface of it. It is none of a
// switch: a guest that has a VF there has its port by another interface.
func Pool(name, pf string) (string, error) {
	n := libvirtxml.Network{
		Name: name, UUID: uuidOf(name),
		Forward: &libvirtxml.NetworkForward{Mode: "hostdev", Managed: yes, PFs: []libvirtxml.NetworkForwardPF{{Dev: pf}}},
	}
	text, err := n.Marshal()
	return text + "\n", err
}

// PoolName is what the network of the VFs of a switch's uplink is called unless a user says
// otherwise.
func PoolName(switchName string) string { return switchName + "-sriov" }

// Definition is the libvirt network of a switch under that name, as `virsh net-define`
// takes it.
func Definition(s vswitch.Switch, name string) (string, error) {
	n := libvirtxml.Network{
		Name: name, UUID: uuidOf(name),
		Forward: &libvirtxml.NetworkForward{Mode: "bridge"},
		Bridge:  &libvirtxml.NetworkBridge{Name: vswitch.BridgeName(s.Name)},
	}
	m := switchElement{Name: s.Name}
	for _, f := range s.PortProfiles {
		g := libvirtxml.NetworkPortGroup{Name: f.Name}
		if f.Default {
			g.Default = yes
		}
		n.PortGroups = append(n.PortGroups, g)
		f.Default = false
		m.Profiles = append(m.Profiles, f)
	}
	var b strings.Builder
	b.WriteString("\n")
	metadata.Encode(&b, "    ", metadata.Name{Prefix: "patchbay", Local: "switch", Space: Namespace}, m)
	n.Metadata = &libvirtxml.NetworkMetadata{XML: b.String() + "  "}
	text, err := n.Marshal()
	return text + "\n", err
}
