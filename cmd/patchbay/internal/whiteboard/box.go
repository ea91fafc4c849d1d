package whiteboard

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// line is one line in a box: words at its left and at its right end.
type line struct {
	left, right         string
	leftTone, rightTone tone
}

func (l line) width() int {
	if l.right == "" {
		return length(l.left)
	}
	return length(l.left) + 1 + length(l.right)
}

// padding is what a box adds to its lines: a border and a space at either side.
const padding = 4

func widest(lines []line) int {
	w := 0
	for _, l := range lines {
		w = max(w, l.width())
	}
	return w
}

// fill draws a box with its lines; those that are too long are cut.
func (d *drawing) fill(r rect, p pen, lines []line) {
	d.box(r, p)
	inner := r.w - padding
	for i, l := range lines {
		y := r.y + 1 + i
		if room := inner - length(l.right) - 1; l.right != "" && room >= 1 {
			d.write(r.x+2, y, cut(l.left, room), l.leftTone)
			d.write(r.right()-1-length(l.right), y, l.right, l.rightTone)
			continue
		}
		d.write(r.x+2, y, cut(l.left, inner), l.leftTone)
	}
}

// nicLines describe a NIC: what it is called, whether it is connected, and the
// addresses by which the host or the wire knows it.
func nicLines(name string, nics map[string]kernel.Netdev) []line {
	n, ok := nics[name]
	if !ok {
		return []line{{left: name, leftTone: strong}, {left: "not on this host", leftTone: bad}}
	}
	head := line{left: name, leftTone: strong, right: "link up", rightTone: good}
	switch {
	case !n.Up:
		head.right, head.rightTone = "off", bad
	case !n.Carrier:
		head.right, head.rightTone = "no link", bad
	}
	lines := []line{head, {left: n.MAC.String(), leftTone: faint}}
	for _, a := range n.Addresses {
		lines = append(lines, line{left: a.String()})
	}
	return lines
}

// hostLines describe the host's own port.
func hostLines(p vswitch.Port) []line {
	lines := []line{{left: "host", leftTone: strong, right: p.Owner.Endpoint}}
	for _, a := range p.Addresses {
		lines = append(lines, line{left: a.Prefix.String()})
	}
	return append(lines, line{left: p.MAC.String(), leftTone: faint})
}

// longestName is how many characters of an owner's name are shown.
const longestName = 24

// guestLines describe a guest's port on a switch of that MTU.
func guestLines(p vswitch.Port, mtu int) []line {
	lines := []line{{left: cut(OwnerName(p.Owner), longestName), leftTone: strong, right: EndpointName(p)}}
	for _, a := range p.Addresses {
		lines = append(lines, line{left: a.Prefix.String()})
	}
	if len(p.Addresses) == 0 {
		lines = append(lines, line{left: "no address", leftTone: faint})
	}
	lines = append(lines, line{left: p.MAC.String(), leftTone: faint})
	if p.MTU != 0 && p.MTU != mtu {
		lines = append(lines, line{left: fmt.Sprintf("MTU %d bytes", p.MTU)})
	}
	if words := settingWords(p); words != "" {
		lines = append(lines, line{left: cut(words, longestName)})
	}
	return lines
}

// settingWords says what a port does with VLANs and mirroring, and nothing of one that does
// nothing.
func settingWords(p vswitch.Port) string {
	var words []string
	switch {
	case p.VLAN.Mode == vswitch.Access:
		words = append(words, fmt.Sprintf("VLAN %d", p.VLAN.ID))
	case !p.VLAN.IsZero():
		words = append(words, p.VLAN.String())
	}
	if p.Isolated {
		words = append(words, "isolated port")
	}
	if p.Policy.Mirror != vswitch.MirrorNone {
		words = append(words, "mirror "+string(p.Policy.Mirror))
	}
	return strings.Join(words, ", ")
}

// OwnerName is how a picture and a list name an owner: the host, a machine by
// its name, a container by its id, of which the hash that runtimes give is cut to
// the twelve digits that they show themselves.
func OwnerName(o vswitch.Owner) string {
	const hash, shown = 32, 12
	switch {
	case o.Kind == vswitch.OwnerHost:
		return "host"
	case o.Name != "":
		return o.Name
	case len(o.ID) >= hash && isHex(o.ID):
		return o.ID[:shown]
	}
	return o.ID
}

// EndpointName is the owner's end as lists name it: a VM's by its tap, or by what keeps it
// from having one.
func EndpointName(p vswitch.Port) string {
	switch {
	case p.Owner.Kind != vswitch.OwnerVM:
		return p.Owner.Endpoint
	case p.VM.Stage == vswitch.VMActive:
		return p.Netdev
	}
	return strings.TrimSpace(p.Netdev + " (" + string(p.VM.Stage) + ")")
}

func isHex(s string) bool {
	for _, r := range s {
		if !unicode.Is(unicode.ASCII_Hex_Digit, r) {
			return false
		}
	}
	return true
}

func length(s string) int { return utf8.RuneCountInString(s) }

// cut shortens s to n characters, of which the last then says so.
func cut(s string, n int) string {
	if length(s) <= n {
		return s
	}
	return string([]rune(s)[:max(n-1, 0)]) + "…"
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
