package vswitch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// VLANMode says what a port does with VLANs. PowerShell twin: the switches of
// Set-VMNetworkAdapterVlan.
type VLANMode string

// The modes of a port.
const (
	Untagged    VLANMode = "untagged"    // the switch's untagged traffic
	Access      VLANMode = "access"      // one VLAN, whose tag the owner does not see
	Trunk       VLANMode = "trunk"       // some VLANs with their tags, and one without
	Isolated    VLANMode = "isolated"    // private VLAN: talks to promiscuous ports and the uplink alone
	Community   VLANMode = "community"   // private VLAN: to its own community as well
	Promiscuous VLANMode = "promiscuous" // private VLAN: to all ports of its secondary VLANs
)

// VLANModes lists the modes in the order in which help texts name them.
func VLANModes() []VLANMode {
	return []VLANMode{Untagged, Access, Trunk, Isolated, Community, Promiscuous}
}

// PortVLAN is what a port does with VLANs: a mode and what belongs to it, nothing else.
// The zero value is Untagged. In JSON it is the object, an id for access, or the text of
// String. PowerShell twin: Set-VMNetworkAdapterVlan.
type PortVLAN struct {
	Mode VLANMode `json:"mode,omitempty"`
	// ID is the VLAN of an access port, 1-4094 as all ids here.
	ID int `json:"id,omitempty"`
	// Native is a trunk's PVID (Hyper-V: native VLAN): that of frames without a tag. It
	// belongs to the trunk whether Allowed, the VLANs that pass with their tags, names it
	// or not.
	Native  int     `json:"native,omitempty"`
	Allowed VLANSet `json:"allowed,omitempty"`
	// Primary is the private VLAN, Secondary that of an isolated or a community port, and
	// Secondaries those that a promiscuous port talks to.
	Primary     int     `json:"primary,omitempty"`
	Secondary   int     `json:"secondary,omitempty"`
	Secondaries VLANSet `json:"secondaries,omitempty"`
}

// AccessVLAN is an access port's.
func AccessVLAN(id int) PortVLAN { return PortVLAN{Mode: Access, ID: id} }

// IsZero reports whether the port is untagged.
func (v PortVLAN) IsZero() bool { return v.Mode == "" || v.Mode == Untagged }

// Private reports whether the port is of a private VLAN.
func (v PortVLAN) Private() bool {
	return v.Mode == Isolated || v.Mode == Community || v.Mode == Promiscuous
}

// Equal reports whether two ports do the same.
func (v PortVLAN) Equal(other PortVLAN) bool { return v.String() == other.String() }

// String is the mode and what belongs to it, as ParsePortVLAN reads it: "untagged",
// "access 10", "trunk 1-100,200 native 5", "isolated 100 101", "community 100 102",
// "promiscuous 100 101-103".
func (v PortVLAN) String() string {
	switch v.Mode {
	case Access:
		return fmt.Sprintf("access %d", v.ID)
	case Trunk:
		return fmt.Sprintf("trunk %s native %d", v.Allowed, v.Native)
	case Isolated, Community:
		return fmt.Sprintf("%s %d %d", v.Mode, v.Primary, v.Secondary)
	case Promiscuous:
		return fmt.Sprintf("promiscuous %d %s", v.Primary, v.Secondaries)
	case "", Untagged:
		return string(Untagged)
	}
	return string(v.Mode)
}

// ParsePortVLAN reads what String writes, and an id alone for an access port. It checks
// what it reads as Validate does.
func ParsePortVLAN(text string) (v PortVLAN, err error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return v, incomplete("no mode is given")
	}
	if id, err := strconv.Atoi(words[0]); err == nil && len(words) == 1 {
		v = AccessVLAN(id)
		return v, v.validate(id)
	}
	v.Mode, words = VLANMode(words[0]), words[1:]
	switch v.Mode {
	case Untagged:
		v.Mode = ""
	case Access:
		words, err = take(words, &v.ID)
	case Trunk:
		if words, err = takeSet(words, &v.Allowed); err == nil && len(words) > 0 && words[0] == "native" {
			words, err = take(words[1:], &v.Native)
		}
	case Isolated, Community:
		if words, err = take(words, &v.Primary); err == nil {
			words, err = take(words, &v.Secondary)
		}
	case Promiscuous:
		if words, err = take(words, &v.Primary); err == nil {
			words, err = takeSet(words, &v.Secondaries)
		}
	}
	if err != nil {
		return PortVLAN{}, err
	}
	if err := v.Validate(); err != nil {
		return PortVLAN{}, err
	}
	if len(words) > 0 {
		return PortVLAN{}, &Error{Kind: Invalid, Object: "vlan", Err: fmt.Errorf("%.32q is too much for mode %s", words[0], v.Mode), Hint: "write it like " + v.example()}
	}
	return v, nil
}

// take reads an id off words; that it is missing is for Validate to tell.
func take(words []string, id *int) (rest []string, err error) {
	if len(words) == 0 {
		return nil, nil
	}
	*id, err = parseVLAN(words[0])
	return words[1:], err
}

func takeSet(words []string, set *VLANSet) (rest []string, err error) {
	if len(words) == 0 || words[0] == "native" {
		return words, nil
	}
	*set, err = ParseVLANSet(words[0])
	return words[1:], err
}

// example is how the mode is written.
func (v PortVLAN) example() string {
	switch v.Mode {
	case Access:
		return `"access 10"`
	case Trunk:
		return `"trunk 10-20,30 native 1"`
	case Isolated, Community:
		return fmt.Sprintf(`"%s 100 101" (primary, secondary)`, v.Mode)
	case Promiscuous:
		return `"promiscuous 100 101-103" (primary, secondaries)`
	}
	return `"untagged"`
}

// UnmarshalJSON reads the object, an id, or the text. An unknown key is Invalid; whether
// what is there fits together is for Validate.
func (v *PortVLAN) UnmarshalJSON(data []byte) (err error) {
	data = bytes.TrimSpace(data)
	*v = PortVLAN{}
	switch {
	case len(data) > 0 && data[0] == '{':
		type object PortVLAN
		return UnmarshalStrict(data, (*object)(v))
	case len(data) > 0 && data[0] == '"':
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		*v, err = ParsePortVLAN(text)
		return err
	case string(data) == "null":
		return nil
	}
	var id int
	if err := json.Unmarshal(data, &id); err != nil {
		return &Error{Kind: Invalid, Object: "vlan", Err: fmt.Errorf("%.32s is neither an id, nor a mode", data), Hint: `write an id, a text like "trunk 10-20 native 1", or an object with "mode"`}
	}
	if id != 0 { // 0 is the reference bridge plugin's way to say none
		*v = AccessVLAN(id)
	}
	return nil
}
