package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// elements are the contents of sets: by name of the set, key -> value, as the
// kernel spells them. The value is "" where the set is no map.
type elements map[string]map[string]string

func (e elements) put(set, key, value string) {
	if e[set] == nil {
		e[set] = make(map[string]string)
	}
	e[set][key] = value
}

// encodeRules spells rules as elements of the sets.
func encodeRules(r plan.Rules) elements {
	e := make(elements)
	for dev, families := range r.Masquerade {
		if families.IPv4 {
			e.put(setMasquerade4, nameKey(dev), "")
		}
		if families.IPv6 {
			e.put(setMasquerade6, nameKey(dev), "")
		}
	}
	for group := range r.Quiet {
		e.put(setQuiet, groupKey(group), "")
	}
	for group, mac := range r.Router {
		e.put(setRouter, groupKey(group), string(mac[:]))
	}
	for mac := range r.Host {
		e.put(setHosts, string(mac[:]), "")
	}
	for dev, mac := range r.Guard {
		e.put(setGuarded, nameKey(dev), "")
		e.put(setAllowed, pairKey(dev, mac), "")
	}
	for dev := range r.Apart {
		e.put(setApart, nameKey(dev), "")
	}
	for dev := range r.Priority {
		e.put(setPriority, nameKey(dev), "")
	}
	for at := range r.ApartIn {
		e.put(setApartIn, inletKey(at), "")
	}
	for at := range r.Closed {
		e.put(setClosed, inletKey(at), "")
	}
	return e
}

// decodeRules reads from the elements what scope names.
func decodeRules(scope plan.Rules, e elements) plan.Rules {
	seen := plan.Rules{
		Masquerade: found(scope.Masquerade, func(dev string) (plan.Families, bool) {
			_, v4 := e[setMasquerade4][nameKey(dev)]
			_, v6 := e[setMasquerade6][nameKey(dev)]
			return plan.Families{IPv4: v4, IPv6: v6}, v4 || v6
		}),
		Quiet: found(scope.Quiet, func(group uint32) (bool, bool) {
			_, ok := e[setQuiet][groupKey(group)]
			return true, ok
		}),
		Router: found(scope.Router, func(group uint32) (mac vswitch.MAC, ok bool) {
			v, ok := e[setRouter][groupKey(group)]
			copy(mac[:], v)
			return mac, ok
		}),
		Host: found(scope.Host, func(mac vswitch.MAC) (bool, bool) {
			_, ok := e[setHosts][string(mac[:])]
			return true, ok
		}),
		Apart: found(scope.Apart, func(dev string) (bool, bool) {
			_, ok := e[setApart][nameKey(dev)]
			return true, ok
		}),
		Priority: found(scope.Priority, func(dev string) (bool, bool) {
			_, ok := e[setPriority][nameKey(dev)]
			return true, ok
		}),
		ApartIn: found(scope.ApartIn, func(at plan.Inlet) (bool, bool) {
			_, ok := e[setApartIn][inletKey(at)]
			return true, ok
		}),
		Closed: found(scope.Closed, func(at plan.Inlet) (bool, bool) {
			_, ok := e[setClosed][inletKey(at)]
			return true, ok
		}),
	}
	if len(scope.Guard) > 0 {
		allowed := e.allowed()
		seen.Guard = found(scope.Guard, func(dev string) (mac vswitch.MAC, ok bool) {
			_, guarded := e[setGuarded][nameKey(dev)]
			macs := allowed[nameKey(dev)]
			if guarded && len(macs) == 1 {
				mac = macs[0]
			} // else half a guard, or one with a hole: as good as a wrong one
			return mac, guarded || len(macs) > 0
		})
	}
	return seen
}

// found looks every key of scope up.
func found[K comparable, V any](scope map[K]V, look func(K) (V, bool)) map[K]V {
	var out map[K]V
	for key := range scope {
		if v, ok := look(key); ok {
			if out == nil {
				out = make(map[K]V, len(scope))
			}
			out[key] = v
		}
	}
	return out
}

// allowed lists the addresses of each guarded port, by nameKey.
func (e elements) allowed() map[string][]vswitch.MAC {
	out := make(map[string][]vswitch.MAC)
	for pair := range e[setAllowed] {
		name, mac := pair[:nameLen], vswitch.MAC([]byte(pair[nameLen:nameLen+etherLen]))
		out[name] = append(out[name], mac)
	}
	return out
}

// after is what the sets hold once step is done. Remove goes by what it names,
// whatever value that has by now.
func (e elements) after(step plan.SetRules) elements {
	out := make(elements)
	for set, m := range e {
		out[set] = maps.Clone(m)
	}
	for set, m := range encodeRules(step.Remove) {
		for key := range m {
			delete(out[set], key)
		}
	}
	stale := out.allowed()
	for _, guard := range []map[string]vswitch.MAC{step.Remove.Guard, step.Add.Guard} {
		for dev := range guard {
			for _, mac := range stale[nameKey(dev)] {
				delete(out[setAllowed], pairKey(dev, mac))
			}
		}
	}
	for set, m := range encodeRules(step.Add) {
		for key, value := range m {
			out.put(set, key, value)
		}
	}
	return out
}

// minus lists what e has in the set and other has not, or has with another value.
func (e elements) minus(other elements, set string) []element {
	var out []element
	for _, key := range slices.Sorted(maps.Keys(e[set])) {
		value := e[set][key]
		if had, ok := other[set][key]; ok && had == value {
			continue
		}
		out = append(out, element{key: key, value: value})
	}
	return out
}

// keep takes an element that was read over, unless it does not fit the set: a
// table of our name that somebody else has made.
func (e elements) keep(set ruleSet, key, value []byte) {
	if len(key) == set.key.size() && (set.value == verdicts || len(value) == set.valueSize()) {
		e.put(set.name, string(key), string(value))
	}
}

// setsOf names the sets that hold what rules name.
func setsOf(r plan.Rules) (sets []string) {
	for _, s := range []struct {
		names []string
		used  int
	}{
		{[]string{setMasquerade4, setMasquerade6}, len(r.Masquerade)},
		{[]string{setQuiet}, len(r.Quiet)},
		{[]string{setRouter}, len(r.Router)},
		{[]string{setHosts}, len(r.Host)},
		{[]string{setGuarded, setAllowed}, len(r.Guard)},
		{[]string{setApart}, len(r.Apart)},
		{[]string{setPriority}, len(r.Priority)},
		{[]string{setApartIn}, len(r.ApartIn)},
		{[]string{setClosed}, len(r.Closed)},
	} {
		if s.used > 0 {
			sets = append(sets, s.names...)
		}
	}
	return sets
}

// reportTypes are the elements of the constant set.
func reportTypes() []string {
	return []string{string([]byte{listenerReport}), string([]byte{listenerDone}), string([]byte{listenerReport2})}
}

func nameKey(dev string) string { return string(padded([]byte(dev), nameLen)) }

func pairKey(dev string, mac vswitch.MAC) string {
	return nameKey(dev) + string(padded(mac[:], paddedMAC))
}

func inletKey(at plan.Inlet) string {
	return nameKey(at.Netdev) + string(padded(binary.BigEndian.AppendUint16(nil, uint16(at.VLAN)), paddedVLAN))
}

func groupKey(group uint32) string { return string(hostOrder(group)) }

func padded(b []byte, n int) []byte { return append(bytes.Clone(b), make([]byte, n-len(b))...) }

// validateRules refuses names that no netdev can have before they become keys.
func validateRules(r plan.Rules) error {
	for dev := range r.Masquerade {
		if err := vswitch.ValidateNetdevName(dev); err != nil {
			return fmt.Errorf("masquerade: %w", err)
		}
	}
	for dev := range r.Guard {
		if err := vswitch.ValidateNetdevName(dev); err != nil {
			return fmt.Errorf("guard: %w", err)
		}
	}
	for dev := range r.Apart {
		if err := vswitch.ValidateNetdevName(dev); err != nil {
			return fmt.Errorf("apart: %w", err)
		}
	}
	for dev := range r.Priority {
		if err := vswitch.ValidateNetdevName(dev); err != nil {
			return fmt.Errorf("priority: %w", err)
		}
	}
	for _, at := range slices.Concat(slices.Collect(maps.Keys(r.ApartIn)), slices.Collect(maps.Keys(r.Closed))) {
		if err := vswitch.ValidateNetdevName(at.Netdev); err != nil {
			return fmt.Errorf("VLAN %d: %w", at.VLAN, err)
		}
	}
	return nil
}
