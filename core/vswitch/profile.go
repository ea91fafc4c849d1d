package vswitch

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// PortProfile is what a kind of port gets, under a name: a user declares it once with the
// switch, and a VM's network interface names it (libvirt: portgroup). What it leaves out is
// the switch's default. System Center's twin: a port profile with its classification.
type PortProfile struct {
	Name string `json:"name"`
	// Default makes it the profile of an interface that names none; one of a switch's may.
	Default bool `json:"default,omitempty"`
	// VLAN is what a port does with VLANs; nil: as the switch has it.
	VLAN *PortVLAN `json:"vlan,omitempty"`
	// Isolated ports of a switch do not hear each other.
	Isolated bool `json:"isolated,omitempty"`
	// MACSpoofing lets the owner send from any source address.
	MACSpoofing bool `json:"macSpoofing,omitempty"`
	// Policy is what differs from the policy that the switch gives its ports.
	Policy PolicyChange `json:"policy,omitzero"`
}

// MaxPortProfiles bounds the profiles of a switch.
const MaxPortProfiles = 256

// Equal reports whether two profiles give the same.
func (f PortProfile) Equal(other PortProfile) bool {
	return f.text() == other.text()
}

// text is all that the profile says, the same for what means the same.
func (f PortProfile) text() string {
	return f.Name + " " + f.String()
}

// String tells what the profile says besides its name: "default, vlan access 10, dhcpGuard".
func (f PortProfile) String() string {
	var words []string
	for _, flag := range []struct {
		on   bool
		word string
	}{{f.Default, "default"}, {f.Isolated, "isolated"}, {f.MACSpoofing, "macSpoofing"}} {
		if flag.on {
			words = append(words, flag.word)
		}
	}
	if f.VLAN != nil {
		words = append(words, "vlan "+f.VLAN.String())
	}
	words = append(words, givenWords(reflect.ValueOf(f.Policy))...)
	if len(words) == 0 {
		return "nothing of its own"
	}
	return strings.Join(words, ", ")
}

// givenWords tells each field that is given by its key: "bandwidth.in.max 10M".
func givenWords(v reflect.Value) (words []string) {
	for i := range v.NumField() {
		key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		field := v.Field(i)
		if field.Kind() == reflect.Pointer {
			if field.IsNil() {
				continue
			}
			field = field.Elem()
		} else if field.IsZero() {
			continue
		}
		switch value := field.Interface().(type) {
		case []ACLRule:
			texts := make([]string, len(value))
			for i, r := range value {
				texts[i] = r.String()
			}
			words = append(words, fmt.Sprintf("%s [%s]", key, strings.Join(texts, "; ")))
		default:
			if field.Kind() == reflect.Struct {
				for _, word := range givenWords(field) {
					words = append(words, key+"."+word)
				}
				continue
			}
			words = append(words, fmt.Sprintf("%s %v", key, value))
		}
	}
	return words
}

// Validate reports every problem of the profile, each an Error.
func (f PortProfile) Validate() error {
	var p problems
	if err := ValidateName(f.Name); err != nil {
		p.found(Invalid, "profile", "%w", err).in("name")
	}
	if f.VLAN != nil {
		p.within("vlan", f.VLAN.Validate())
	}
	p.within("policy", f.Policy.Apply(Policy{}).Validate())
	return p.join()
}

// validateProfiles demands names of their own, and one default at most.
func (s Switch) validateProfiles(p *problems, object string) {
	if n := len(s.PortProfiles); n > MaxPortProfiles {
		p.found(Invalid, object, "%d port profiles, the limit is %d", n, MaxPortProfiles).in("portProfiles")
		return
	}
	names, standard := make(map[string]bool), ""
	for i, f := range s.PortProfiles {
		path := fmt.Sprintf("portProfiles[%d]", i)
		p.within(path, f.Validate())
		p.within(path+".policy", f.Policy.Apply(Policy{}).Bandwidth.Min.ValidateIn(s.MinBandwidth.Mode))
		if names[f.Name] && f.Name != "" {
			p.found(AlreadyExists, object, "port profile %s is defined twice", f.Name).in(path + ".name")
		}
		names[f.Name] = true
		switch {
		case f.Default && standard != "":
			p.found(Conflict, object, "port profiles %s and %s are both the default", standard, f.Name).in(path + ".default")
		case f.Default:
			standard = f.Name
		}
	}
}

// normalizedProfiles are in order of their names, as a set has none.
func normalizedProfiles(all []PortProfile) []PortProfile {
	return slices.SortedFunc(slices.Values(all), func(a, b PortProfile) int { return strings.Compare(a.Name, b.Name) })
}

// SameProfiles reports whether two lists give the same.
func SameProfiles(a, b []PortProfile) bool { return slices.EqualFunc(a, b, PortProfile.Equal) }

// Profile is the port profile of that name; "" is the default one, and an empty profile
// where no profile is the default. A name that the switch does not have is NotFound.
func (s Switch) Profile(name string) (PortProfile, error) {
	known := make([]string, 0, len(s.PortProfiles))
	for _, f := range s.PortProfiles {
		if f.Name == name || name == "" && f.Default {
			return f, nil
		}
		known = append(known, f.Name)
	}
	if name == "" {
		return PortProfile{}, nil
	}
	hint := fmt.Sprintf("add it with `patchbay switch profile set %s %s`", s.Name, name)
	if near := Nearest(name, known); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return PortProfile{}, &Error{
		Kind: NotFound, Object: "switch " + s.Name, Err: fmt.Errorf("there is no port profile %.64q", name), Hint: hint,
	}
}
