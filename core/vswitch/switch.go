package vswitch

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"
)

// SwitchType is what a switch connects. PowerShell twin: New-VMSwitch -SwitchType.
type SwitchType string

// The types of a switch.
const (
	External SwitchType = "external" // guests and an uplink, optionally the host
	Internal SwitchType = "internal" // guests and the host
	Private  SwitchType = "private"  // guests only; closed to the host
)

// SwitchTypes lists the types in the order in which help texts name them.
func SwitchTypes() []SwitchType { return []SwitchType{External, Internal, Private} }

// Limits of what a user may write. Names become parts of netdev aliases and of
// store keys; notes are for people.
const (
	MaxNameLength  = 63
	MaxNotesLength = 1024
	MinMTU         = 68    // RFC 791
	MinIPv6MTU     = 1280  // RFC 8200
	MaxMTU         = 65535 // what a veth pair takes
	DefaultMTU     = 1500
	maxGateways    = 16
)

// Switch is a virtual switch as its user defines it: the same words in the CLI,
// in YAML and in a CNI configuration. PowerShell twin: New-VMSwitch.
type Switch struct {
	Name string `json:"name"`
	// Type may be left out where Uplink implies External.
	Type SwitchType `json:"type,omitempty"`
	// Uplink is the NIC of an External switch; no other type has one.
	Uplink string `json:"uplink,omitempty"`
	// HostAccess gives the host a port of its own (AllowManagementOS). Nil means
	// the type's default: true on External and Internal, false on Private.
	HostAccess *bool `json:"hostAccess,omitempty"`
	// VLAN is the 802.1Q id (1-4094) of the host port and the default of new
	// ports; 0 means none. Not on Private, nor where the host has no port.
	VLAN int `json:"vlan,omitempty"`
	// MTU in bytes of every end on the switch; 0 means the uplink's, else 1500.
	MTU int `json:"mtu,omitempty"`
	// Gateway lists the host port's addresses on an Internal switch.
	Gateway []netip.Prefix `json:"gateway,omitempty"`
	// Masquerade hides guests behind the host's own addresses (NAT) when they
	// leave the switch through the host; needs a gateway of the family.
	Masquerade Masquerade `json:"masquerade,omitzero"`
	// PortDefaults is the policy of a new port whose request does not say otherwise.
	PortDefaults Policy `json:"portDefaults,omitzero"`
	// PortProfiles are what ports get that name one, in order of their names.
	PortProfiles []PortProfile `json:"portProfiles,omitempty"`
	// HostPolicy is that of the host's own port.
	HostPolicy Policy `json:"hostPolicy,omitzero"`
	// SRIOV lets ports have VFs of the uplink. It cannot change. PowerShell twin: -EnableIov.
	SRIOV bool `json:"sriov,omitempty"`
	// MinBandwidth is how the ports share the uplink when it is not enough for all.
	MinBandwidth SharedUplink `json:"minBandwidth,omitzero"`
	// Notes are free text for people.
	Notes string `json:"notes,omitempty"`
}

// Normalized returns the switch with every default filled in, so that two
// definitions that mean the same compare equal. It does not validate.
func (s Switch) Normalized() Switch {
	if s.Type == "" && s.Uplink != "" {
		s.Type = External
	}
	if s.HostAccess == nil {
		access := s.Type != Private
		s.HostAccess = &access
	}
	s.Gateway = slices.SortedFunc(slices.Values(s.Gateway), netip.Prefix.Compare)
	s.MinBandwidth.Mode = s.MinBandwidth.Mode.plain()
	s.PortProfiles = normalizedProfiles(s.PortProfiles)
	s.PortDefaults.Mirror, s.HostPolicy.Mirror = s.PortDefaults.Mirror.plain(), s.HostPolicy.Mirror.plain()
	return s
}

// GatewayFamilies reports the families of which the switch has a gateway.
func (s Switch) GatewayFamilies() (ipv4, ipv6 bool) {
	for _, g := range s.Gateway {
		ipv4, ipv6 = ipv4 || g.Addr().Is4(), ipv6 || g.Addr().Is6()
	}
	return ipv4, ipv6
}

// EffectiveMasquerade is Masquerade for the families that have a gateway.
func (s Switch) EffectiveMasquerade() Masquerade {
	ipv4, ipv6 := s.GatewayFamilies()
	return Masquerade{IPv4: s.Masquerade.IPv4 && ipv4, IPv6: s.Masquerade.IPv6 && ipv6}
}

// HostPort reports whether the host has a port on the switch.
func (s Switch) HostPort() bool {
	if s.HostAccess == nil {
		return s.Type != Private
	}
	return *s.HostAccess
}

// GatewayFor returns the gateway address whose subnet holds addr.
func (s Switch) GatewayFor(addr netip.Addr) (netip.Addr, bool) {
	for _, g := range s.Gateway {
		if g.Contains(addr) {
			return g.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// Validate reports every problem of the definition, each an Error. It knows
// nothing of the host: whether the uplink exists is the engine's to find out.
func (s Switch) Validate() error {
	given := s
	s = s.Normalized()
	s.Gateway, s.PortProfiles = given.Gateway, given.PortProfiles // in the order of the definition, for Error.Field
	object := "switch " + s.Name
	var p problems
	if err := ValidateName(s.Name); err != nil {
		p.found(Invalid, "switch", "%w", err).in("name")
	}
	s.validateType(&p, object)
	s.validateVLAN(&p, object)
	s.validateMTU(&p, object)
	s.validateGateway(&p, object)
	s.MinBandwidth.validate(&p, object)
	s.validatePolicies(&p, object)
	if s.SRIOV && s.Type != External {
		p.found(Invalid, object, "VFs are of an uplink, and only an external switch has one; leave sriov out").in("sriov")
	}
	s.validateProfiles(&p, object)
	if n := utf8.RuneCountInString(s.Notes); n > MaxNotesLength {
		p.found(Invalid, object, "notes have %d characters, the limit is %d", n, MaxNotesLength).in("notes")
	}
	return p.join()
}

func (s Switch) validateType(p *problems, object string) {
	switch s.Type {
	case External:
		if s.Uplink == "" {
			p.found(Invalid, object, "an external switch needs an uplink; name a NIC, or make the switch internal or private").in("type")
		} else if err := ValidateNetdevName(s.Uplink); err != nil {
			p.found(Invalid, object, "uplink: %w", err).in("uplink")
		}
	case Internal:
		if !s.HostPort() {
			p.found(Invalid, object, "an internal switch is shared with the host; for guests only make it private").in("hostAccess")
		}
	case Private:
		if s.HostPort() {
			p.found(Invalid, object, "a private switch is closed to the host; for host access make it internal").in("hostAccess")
		}
	case "":
		p.found(Invalid, object, "a switch needs a type (internal or private) or an uplink, which makes it external").in("type")
	default:
		p.found(Invalid, object, "type %.32q is unknown; use external, internal or private", string(s.Type)).in("type")
	}
	if s.Uplink != "" && (s.Type == Internal || s.Type == Private) {
		p.found(Invalid, object, "uplink %s makes a switch external, but its type is given as %s; give one or the other", s.Uplink, s.Type).in("uplink")
	}
}

func (s Switch) validateVLAN(p *problems, object string) {
	if s.VLAN == 0 {
		return
	}
	if s.VLAN < 0 || s.VLAN > MaxVLAN {
		p.found(VLANRange, object, "VLAN %d is outside 1-4094", s.VLAN).in("vlan")
	}
	if s.Type == Private {
		p.found(VLANNotApplicable, object, "a switch's VLAN is that of its host port, and a private switch has none; set the VLAN on ports").in("vlan")
	} else if !s.HostPort() {
		p.found(VLANNotApplicable, object, "a switch's VLAN is that of its host port, and host access is off; set the VLAN on ports").in("vlan")
	}
}

func (s Switch) validateMTU(p *problems, object string) {
	if s.MTU == 0 {
		return
	}
	if s.MTU < MinMTU || s.MTU > MaxMTU {
		p.found(Invalid, object, "MTU %d is outside %d-%d", s.MTU, MinMTU, MaxMTU).in("mtu")
	}
	for _, g := range s.Gateway {
		if g.Addr().Is6() && s.MTU < MinIPv6MTU {
			p.found(Invalid, object, "MTU %d is below IPv6's minimum of %d, and gateway %s is IPv6", s.MTU, MinIPv6MTU, g).in("mtu")
		}
	}
}

func (s Switch) validateGateway(p *problems, object string) {
	if len(s.Gateway) > 0 && s.Type != Internal {
		p.found(Invalid, object, "gateway addresses belong to an internal switch; on an external one the gateway is the network's own router, a private one has none").in("gateway")
	}
	if len(s.Gateway) > maxGateways {
		p.found(Invalid, object, "%d gateway addresses, the limit is %d", len(s.Gateway), maxGateways).in("gateway")
	}
	for i, g := range s.Gateway {
		if err := validateHostAddress(g); err != nil {
			p.found(Invalid, object, "gateway %s: %w", g, err).in(fmt.Sprintf("gateway[%d]", i))
			continue
		}
		for _, other := range s.Gateway[:i] {
			if other.Overlaps(g) {
				p.found(Invalid, object, "gateways %s and %s share a subnet", other, g).in(fmt.Sprintf("gateway[%d]", i))
			}
		}
	}
	switch s.Masquerade {
	case Masquerade{}:
	case Masquerade{IPv4: true, IPv6: true}: // every family that has a gateway
		if len(s.Gateway) == 0 {
			p.found(Invalid, object, "masquerade needs a gateway address on the switch").in("masquerade")
		}
	default:
		if s.EffectiveMasquerade() != s.Masquerade {
			p.found(Invalid, object, "masquerade %s needs a gateway address of that family on the switch", s.Masquerade).in("masquerade")
		}
	}
}

func (s Switch) validatePolicies(p *problems, object string) {
	p.within("portDefaults", s.PortDefaults.Validate())
	p.within("hostPolicy", s.HostPolicy.Validate())
	p.within("portDefaults", s.PortDefaults.Bandwidth.Min.ValidateIn(s.MinBandwidth.Mode))
	p.within("hostPolicy", s.HostPolicy.Bandwidth.Min.ValidateIn(s.MinBandwidth.Mode))
	if !s.HostPolicy.Offload.SRIOV.off() {
		p.found(Invalid, object, "the host has the NIC itself; VFs are for guests").in("hostPolicy.offload.sriov")
	}
	switch {
	case s.HostPolicy.IsZero():
	case !s.HostPort():
		p.found(Invalid, object, "the host has no port here for a policy; set that of guests' ports").in("hostPolicy")
	case s.HostPolicy.AddressGuard && len(s.Gateway) == 0:
		p.found(Invalid, object, "an address guard needs a port whose addresses Patchbay knows: the host's are its own affair but for gateways").in("hostPolicy.addressGuard")
	}
}

// validateHostAddress demands an address that a host can hold in its subnet.
func validateHostAddress(p netip.Prefix) error {
	a := p.Addr()
	switch {
	case !p.IsValid() || a.Is4In6() || a.Zone() != "":
		return fmt.Errorf("write an address with its prefix length, like 10.0.0.1/24")
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
		return fmt.Errorf("not an address that a host can have")
	case p.Bits() == 0:
		return fmt.Errorf("a subnet of all addresses would be the host's default route; write its real length")
	case a == p.Masked().Addr() && p.Bits() < a.BitLen()-1:
		return fmt.Errorf("this is the network's own address; use one inside it, like %s/%d", a.Next(), p.Bits())
	case a.Is4() && p.Bits() < 31 && a == lastOf(p):
		return fmt.Errorf("this is the network's broadcast address")
	}
	return nil
}

// ValidateName accepts what may name a switch or a network: 1 to 63 letters,
// digits, '.', '_' and '-', the first a letter or digit.
func ValidateName(name string) error {
	const rule = "use 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit"
	if name == "" {
		return fmt.Errorf("the name is empty; %s", rule)
	}
	if len(name) > MaxNameLength || !isAlphanumeric(rune(name[0])) || strings.ContainsFunc(name, func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune("._-", r)
	}) {
		return fmt.Errorf("name %.80q cannot be used; %s", name, rule)
	}
	return nil
}

// ValidateNetdevName accepts what Linux accepts as a netdev's name: 1 to 15
// bytes, no '/', ':' or white space, not "." or ".." (dev_valid_name), nor '%',
// which Linux takes for a pattern like eth%d.
func ValidateNetdevName(name string) error {
	if name == "" || len(name) > 15 || name == "." || name == ".." || strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r == '/' || r == ':' || r == '%' || r >= 0x7f
	}) {
		return fmt.Errorf("%.32q is not a netdev name: 1 to 15 visible characters without '/', ':' and '%%'", name)
	}
	return nil
}

func isAlphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}
