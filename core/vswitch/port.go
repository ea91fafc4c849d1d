package vswitch

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// OwnerKind says what a port serves.
type OwnerKind string

// The kinds of owners.
const (
	OwnerContainer OwnerKind = "container"
	OwnerVM        OwnerKind = "vm"
	OwnerHost      OwnerKind = "host"
)

// Owner is who a port serves. For a container the first three fields are CNI's
// attachment: network name, container id and interface name. For a VM they are what
// libvirt knows for good: its domain's UUID is the ID, the port's UUID the Endpoint, and
// there is no network name.
type Owner struct {
	Kind     OwnerKind `json:"kind"`
	Network  string    `json:"network,omitempty"`  // CNI network name
	ID       string    `json:"id"`                 // container id; a domain's UUID; the switch name for the host
	Endpoint string    `json:"endpoint,omitempty"` // name of the netdev that the owner sees; UUID of a VM's port
	Netns    string    `json:"netns,omitempty"`    // path of the owner's network namespace; may be gone
	// Name is what people call a VM: the name of its domain. It is no part of the identity.
	Name string `json:"name,omitempty"`
}

// PortID is the identity of the owner's port and the name of the netdev at its
// switch end. It does not depend on the network namespace, which a container
// runtime may not know any more when it deletes.
func (o Owner) PortID() string {
	if o.Kind == OwnerHost {
		return HostPortSwitchEnd(o.ID)
	}
	return "pb" + shortHash(13, string(o.Kind), o.Network, o.ID, o.Endpoint)
}

// String is how lists show the owner.
func (o Owner) String() string {
	if o.Kind == OwnerHost {
		return "host"
	}
	return string(o.Kind) + " " + cmp.Or(o.Name, o.ID)
}

const maxOwnerID = 253

// isOwnerID accepts what CNI calls a container id: letters, digits, '_', '.' and
// '-', the first a letter or digit.
func isOwnerID(s string) bool {
	return s != "" && len(s) <= maxOwnerID && isAlphanumeric(rune(s[0])) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !isAlphanumeric(r) && !strings.ContainsRune("._-", r) })
}

// Validate bounds what a runtime may call its containers (CNI: container id).
func (o Owner) Validate() error {
	var p problems
	if o.Kind != OwnerContainer && o.Kind != OwnerVM && o.Kind != OwnerHost {
		p.add(Invalid, "owner", "kind %.32q is unknown", string(o.Kind))
	}
	if !isOwnerID(o.ID) {
		p.add(Invalid, "container id", "%.80q: use up to %d letters, digits, '_', '.' or '-'", o.ID, maxOwnerID)
	}
	if o.Kind == OwnerContainer {
		if err := ValidateName(o.Network); err != nil && !isOwnerID(o.Network) {
			p.add(Invalid, "network", "%w", err)
		}
		if err := ValidateNetdevName(o.Endpoint); err != nil {
			p.add(Invalid, "interface", "%w", err)
		} else if o.Endpoint == "all" || o.Endpoint == "default" {
			p.add(Invalid, "interface", "%q means something else to the kernel's settings (net.ipv4.conf)", o.Endpoint)
		}
	}
	if o.Kind == OwnerVM {
		o.validateVM(&p)
	}
	return p.join()
}

// Address is one address of an endpoint.
type Address struct {
	Prefix  netip.Prefix `json:"prefix"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
	// DAD asks the kernel for duplicate address detection. Off, an IPv6 address
	// that we leased is usable at once: nobody else on the switch has it.
	DAD bool `json:"dad,omitempty"`
}

// Port is a slot on a switch together with what its owner got. It is what the
// store keeps and what `patchbay port show` prints.
type Port struct {
	ID     string `json:"id"`
	Switch string `json:"switch"`
	Owner  Owner  `json:"owner"`
	MAC    MAC    `json:"mac"`
	// StaticMAC tells an address that was asked for from one of the MAC pool.
	StaticMAC bool `json:"staticMAC,omitempty"`
	// MACSpoofing lets the owner send from any source address.
	MACSpoofing bool `json:"macSpoofing,omitempty"`
	// VLAN is what the port does with VLANs.
	VLAN PortVLAN `json:"vlan,omitzero"`
	// Isolated ports of a switch do not hear each other, whatever VLAN they are in.
	Isolated bool `json:"isolated,omitempty"`
	MTU      int  `json:"mtu"`
	// Policy is what the owner may do besides.
	Policy Policy `json:"policy,omitzero"`
	// PolicyChanged tells that it was another one, and that the kernel may still have rules
	// of that: a process is changing it, or was killed over the change.
	PolicyChanged bool `json:"policyChanged,omitempty"`
	// Netdev is the switch end: ID for a pair that we made, another name for a
	// netdev that somebody else made and we only attached (Adopted). A VM's port that is
	// reserved has none yet.
	Netdev    string    `json:"netdev"`
	Adopted   bool      `json:"adopted,omitempty"`
	Addresses []Address `json:"addresses,omitempty"`
	Routes    []Route   `json:"routes,omitempty"`
	// Segment is the switch's segment that the port is on; 0 is the root.
	Segment int       `json:"segment,omitempty"`
	Created time.Time `json:"created"`
	// NetnsID tells the owner's network namespace from another one that takes its path
	// later, on this boot; 0 if it is not known.
	NetnsID uint64 `json:"netnsID,omitempty"`
	// VF is the name, in the host's namespace, of the VF that a container has instead of the
	// end of a pair; "" for none. Such a port has no Netdev, unless it has Failover.
	VF string `json:"vf,omitempty"`
	// Failover tells of a container that has a bond, of the end of a pair and of a VF while
	// it has one.
	Failover bool `json:"failover,omitempty"`
	// VM is the rest of what there is to know of a VM's port.
	VM VMPort `json:"vm,omitzero"`
}

// OnVF reports that the port is a VF and nothing else: it has no netdev in the switch.
func (p Port) OnVF() bool { return p.VF != "" && !p.Failover }

// AtRoot reports that the port has to be on its switch's root, and counts apart from others
// there: the switch learns, or at times does not know, where its frames go.
func (p Port) AtRoot() bool { return p.MACSpoofing || p.Failover }

// BondMembers are the names that the end of the pair and the VF of a port with Failover have
// in the owner's namespace. They follow from the id: one owner may have several such ports.
func (p Port) BondMembers() (pair, vf string) {
	id := strings.TrimPrefix(p.ID, "pb")
	return "sw" + id, "vf" + id
}

// Alias is the mark (ifalias) that tells our netdevs from others', readable in
// `ip link`. role is "bridge", "host" or "port"; rest completes it.
func Alias(role, switchName, rest string) string {
	a := fmt.Sprintf("patchbay:%s switch=%s", role, switchName)
	if rest != "" {
		a += " " + rest
	}
	const ifaliasz = 256 // IFALIASZ in linux/if.h
	if len(a) >= ifaliasz {
		a = a[:ifaliasz-1]
	}
	return a
}

// AliasOf reports whether an alias is one of ours for the switch.
func AliasOf(alias, switchName string) bool {
	rest, ours := strings.CutPrefix(alias, AliasPrefix)
	_, rest, _ = strings.Cut(rest, " ")
	return ours && (rest == "switch="+switchName || strings.HasPrefix(rest, "switch="+switchName+" "))
}

// AliasPrefix begins every Alias.
const AliasPrefix = "patchbay:"

// Netdev group of a switch's ports: a fixed 16-bit mark and the switch's number,
// so that one static rule can tell our ports and one request can remove them.
const (
	GroupMark uint32 = 0x5042_0000
	GroupMask uint32 = 0xffff_0000
)

// UplinkGroup is the group of every uplink: that of no switch, since no switch has
// number 0, so that an uplink is never removed with a switch's ports.
const UplinkGroup = GroupMark

// MaxSwitchNumber is the highest number that a switch may have.
const MaxSwitchNumber uint16 = 0x7fff

// Group is the netdev group of the ports of the switch with that number, from 1 to
// MaxSwitchNumber.
func Group(number uint16) uint32 { return GroupMark | uint32(number) }

// DoomedGroup is the netdev group in which netdevs of ours wait to be removed by one
// request. It bears our mark, so that rules for every port of ours still bind, and is
// no switch's. Other netdevs have another one: what a process that was killed left in
// its group is in nobody's way, and nobody's request takes what another is about to.
func DoomedGroup(netdevs ...string) uint32 {
	return GroupMark | uint32(MaxSwitchNumber) + 1 | uint32(binary.BigEndian.Uint16(digest(netdevs...)))
}
