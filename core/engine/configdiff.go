package engine

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ConfigDiff is what a configuration changes of a host.
type ConfigDiff struct {
	Changes []ConfigChange `json:"changes"`
	// Kept are switches, by name, and teams, as "team NAME", that the configuration does not
	// mention and that stay.
	Kept []string `json:"kept,omitempty"`
	// Commands are the ip, bridge, nft and sysctl commands that the changes equal.
	Commands []string `json:"commands"`
	// Warnings are what the user should know of what the changes do to the host.
	Warnings []string `json:"warnings,omitempty"`
}

// Differs reports that there is something to do.
func (d ConfigDiff) Differs() bool { return len(d.Changes) > 0 }

// Action is what happens to an object.
type Action string

// The actions.
const (
	ActionAdd    Action = "add"
	ActionChange Action = "change"
	ActionDelete Action = "delete"
	ActionRepair Action = "repair" // the records stay, the kernel gets back what it lost
)

// ConfigChange is what happens to one object: a switch, the MAC pool, or, for a
// repair, the kernel.
type ConfigChange struct {
	Object string        `json:"object"`
	Action Action        `json:"action"`
	Fields []FieldChange `json:"fields,omitempty"`
	// Detached counts guests that lose their port, Resized those that get another MTU.
	Detached int `json:"detached,omitempty"`
	Resized  int `json:"resized,omitempty"`
}

// FieldChange is a value before and after; "" where there is none.
type FieldChange struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

// String tells the change in words: "switch lan: MTU 1500 -> 9000".
func (c ConfigChange) String() string {
	var words []string
	for _, f := range c.Fields {
		if c.Action == ActionAdd {
			words = append(words, f.Field+" "+f.New)
		} else {
			words = append(words, fmt.Sprintf("%s %s -> %s", f.Field, orNone(f.Old), orNone(f.New)))
		}
	}
	switch c.Action {
	case ActionAdd:
		return fmt.Sprintf("%s: add (%s)", c.Object, strings.Join(words, ", "))
	case ActionDelete:
		if c.Detached > 0 {
			return fmt.Sprintf("%s: delete, and detach its %d port(s)", c.Object, c.Detached)
		}
		return c.Object + ": delete"
	case ActionRepair:
		return fmt.Sprintf("%s: repair what was lost, in %s step(s)", c.Object, c.Fields[0].Old)
	}
	text := c.Object + ": " + strings.Join(words, ", ")
	if c.Resized > 0 {
		text += fmt.Sprintf(" (and of %d port(s))", c.Resized)
	}
	return text
}

func (c ConfigChange) name() string { return strings.TrimPrefix(c.Object, "switch ") }

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// describe names what of a switch changes; differs is false if nothing does.
func describe(c change) (described ConfigChange, differs bool) {
	switch {
	case c.new == nil:
		return ConfigChange{Object: "switch " + c.old.Name, Action: ActionDelete}, true
	case c.old == nil:
		return ConfigChange{Object: "switch " + c.new.Name, Action: ActionAdd, Fields: fieldsOf(store.SwitchRecord{}, *c.new)}, true
	}
	fields := fieldsOf(*c.old, *c.new)
	return ConfigChange{Object: "switch " + c.new.Name, Action: ActionChange, Fields: fields}, len(fields) > 0
}

// fieldsOf compares what a user may write of a switch; of one that was not, it lists
// what it has.
func fieldsOf(old, new store.SwitchRecord) (fields []FieldChange) {
	added := old.Name == ""
	compare := func(field, was, is string) {
		if was != is {
			fields = append(fields, FieldChange{field, was, is})
		}
	}
	compare("type", string(old.Type), string(new.Type))
	compare("uplink", old.Uplink, new.Uplink)
	if !added || new.HostPort() != (vswitch.Switch{Type: new.Type}).HostPort() {
		compare("host access", yesNo(old.HostPort()), yesNo(new.HostPort()))
	}
	compare("VLAN", number(old.VLAN), number(new.VLAN))
	compare("MTU", number(old.EffectiveMTU), number(new.EffectiveMTU))
	if old.MTU != new.MTU && old.EffectiveMTU == new.EffectiveMTU {
		compare("MTU as defined", number(old.MTU), number(new.MTU))
	}
	compare("gateway", gatewayWords(old.Switch), gatewayWords(new.Switch))
	if !added || !new.Masquerade.IsZero() {
		compare("masquerade", old.Masquerade.String(), new.Masquerade.String())
	}
	for _, policy := range []struct {
		field    string
		old, new vswitch.Policy
	}{{"policy of new ports", old.PortDefaults, new.PortDefaults}, {"policy of the host's port", old.HostPolicy, new.HostPolicy}} {
		if !added || !policy.new.IsZero() {
			was, is := policy.old.String(), policy.new.String()
			if was == is && !policy.old.Equal(policy.new) {
				is += " of other rules"
			}
			compare(policy.field, was, is)
		}
	}
	if !added || new.SRIOV {
		compare("SR-IOV", yesNo(old.SRIOV), yesNo(new.SRIOV))
	}
	if !added || !new.MinBandwidth.IsZero() {
		compare("minimum bandwidth", old.MinBandwidth.String(), new.MinBandwidth.String())
	}
	compareProfiles(old.Switch, new.Switch, compare)
	compare("notes", quotedText(old.Notes), quotedText(new.Notes))
	return fields
}

// compareProfiles compares profiles of the same name.
func compareProfiles(old, new vswitch.Switch, compare func(field, was, is string)) {
	texts := func(s vswitch.Switch) map[string]string {
		by := make(map[string]string)
		for _, f := range s.PortProfiles {
			by[f.Name] = f.String()
		}
		return by
	}
	was, is := texts(old), texts(new)
	names := maps.Clone(was)
	maps.Copy(names, is)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		compare("port profile "+name, was[name], is[name])
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func gatewayWords(s vswitch.Switch) string {
	var words []string
	for _, g := range s.Gateway {
		words = append(words, g.String())
	}
	return strings.Join(words, " and ")
}

func quotedText(s string) string {
	if s == "" {
		return ""
	}
	return strconv.Quote(s)
}
