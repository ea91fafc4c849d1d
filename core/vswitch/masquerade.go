package vswitch

import (
	"encoding/json"
	"fmt"
)

// Masquerade says for which families guests leave a switch under the host's
// address. In JSON and YAML it is true (every family that has a gateway),
// false, "ipv4" or "ipv6". PowerShell twin: New-NetNat.
type Masquerade struct{ IPv4, IPv6 bool }

// IsZero reports whether no family is masqueraded; it makes omitzero work.
func (m Masquerade) IsZero() bool { return m == Masquerade{} }

// String is how the CLI spells it: "off", "ipv4", "ipv6" or "on".
func (m Masquerade) String() string {
	switch m {
	case Masquerade{}:
		return "off"
	case Masquerade{IPv4: true}:
		return "ipv4"
	case Masquerade{IPv6: true}:
		return "ipv6"
	}
	return "on"
}

// ParseMasquerade reads what String writes, and true and false.
func ParseMasquerade(s string) (Masquerade, error) {
	switch s {
	case "off", "false", "":
		return Masquerade{}, nil
	case "ipv4":
		return Masquerade{IPv4: true}, nil
	case "ipv6":
		return Masquerade{IPv6: true}, nil
	case "on", "true":
		return Masquerade{IPv4: true, IPv6: true}, nil
	}
	return Masquerade{}, &Error{Kind: Invalid, Err: fmt.Errorf("masquerade %.32q is unknown", s), Hint: "use on, off, ipv4 or ipv6"}
}

// MarshalJSON writes true, false, "ipv4" or "ipv6".
func (m Masquerade) MarshalJSON() ([]byte, error) {
	if m.IPv4 == m.IPv6 {
		return json.Marshal(m.IPv4)
	}
	return json.Marshal(m.String())
}

// UnmarshalJSON reads a boolean or one of ParseMasquerade's words.
func (m *Masquerade) UnmarshalJSON(data []byte) error {
	var on bool
	if json.Unmarshal(data, &on) == nil {
		*m = Masquerade{IPv4: on, IPv6: on}
		return nil
	}
	var word string
	if err := json.Unmarshal(data, &word); err != nil {
		return fmt.Errorf("masquerade is true, false, \"ipv4\" or \"ipv6\"")
	}
	parsed, err := ParseMasquerade(word)
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}
