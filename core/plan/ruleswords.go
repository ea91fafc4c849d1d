package plan

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// String lists the transaction as `nft` commands.
func (s SetRules) String() string {
	var lines []string
	if s.Add.Base {
		lines = append(lines, "add table bridge patchbay")
	}
	if s.Add.Base && !s.Add.NoNAT {
		lines = append(lines, "add table inet patchbay")
	}
	if s.Add.GuardBase {
		lines = append(lines, "add table bridge patchbay_guards")
	}
	if s.Add.ACLBase {
		lines = append(lines, "add table bridge patchbay_acl")
	}
	if s.Remove.Base {
		lines = append(lines, "delete table bridge patchbay", "delete table inet patchbay")
	}
	if s.Remove.ACLBase {
		lines = append(lines, "delete table bridge patchbay_acl")
	}
	if s.Remove.GuardBase {
		lines = append(lines, "delete table bridge patchbay_guards")
	}
	lines = append(lines, s.Remove.elements("delete")...)
	lines = append(lines, s.Add.elements("add")...)
	return "nft '" + strings.Join(lines, "; ") + "'"
}

func (r Rules) elements(verb string) []string {
	var lines []string
	for _, dev := range sorted(r.Masquerade) {
		f := r.Masquerade[dev]
		if f.IPv4 {
			lines = append(lines, fmt.Sprintf("%s element inet patchbay masquerade4 { %s }", verb, dev))
		}
		if f.IPv6 {
			lines = append(lines, fmt.Sprintf("%s element inet patchbay masquerade6 { %s }", verb, dev))
		}
	}
	for _, group := range sorted(r.Quiet) {
		lines = append(lines, fmt.Sprintf("%s element bridge patchbay quiet { %#x }", verb, group))
	}
	for _, group := range sorted(r.Router) {
		lines = append(lines, fmt.Sprintf("%s element bridge patchbay router { %#x : %s }", verb, group, r.Router[group]))
	}
	for _, mac := range sortedMACs(r.Host) {
		lines = append(lines, fmt.Sprintf("%s element bridge patchbay hosts { %s }", verb, mac))
	}
	for _, dev := range sorted(r.Guard) {
		lines = append(lines, fmt.Sprintf("%s element bridge patchbay guarded { %s } allowed { %s . %s }", verb, dev, dev, r.Guard[dev]))
	}
	for _, dev := range sorted(r.Guards) {
		lines = append(lines, r.Guards[dev].words(verb, dev)...)
	}
	for _, dev := range sorted(r.ACLs) {
		lines = append(lines, r.ACLs[dev].words(verb, dev)...)
	}
	for _, dev := range sorted(r.Apart) {
		lines = append(lines, fmt.Sprintf("%s element bridge patchbay apart { %s }", verb, dev))
	}
	for _, dev := range sorted(r.Priority) {
		lines = append(lines, fmt.Sprintf("%s element bridge patchbay priority { %s }", verb, dev))
	}
	for _, at := range sortedInlets(r.ApartIn) {
		lines = append(lines, fmt.Sprintf("%s element bridge patchbay apart_in { %s . %d }", verb, at.Netdev, at.VLAN))
	}
	for _, at := range sortedInlets(r.Closed) {
		lines = append(lines, fmt.Sprintf("%s element bridge patchbay closed { %s . %d }", verb, at.Netdev, at.VLAN))
	}
	for _, own := range sortedOwn(r.Own) {
		lines = append(lines, fmt.Sprintf("%s element netdev %s", verb, own.words()))
	}
	return lines
}

func sortedInlets(m map[Inlet]bool) []Inlet {
	return slices.SortedFunc(maps.Keys(m), func(a, b Inlet) int {
		return cmp.Or(cmp.Compare(a.Netdev, b.Netdev), cmp.Compare(a.VLAN, b.VLAN))
	})
}

func sortedMACs[V any](m map[vswitch.MAC]V) []vswitch.MAC {
	return slices.SortedFunc(maps.Keys(m), func(a, b vswitch.MAC) int { return bytes.Compare(a[:], b[:]) })
}

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
