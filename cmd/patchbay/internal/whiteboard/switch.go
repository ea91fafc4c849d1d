package whiteboard

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

const (
	wire      = 5                    // columns between the left boxes and the switches
	closedOff = "closed to the host" // what stands on the left of a private switch
	outside   = "outside world"
)

// leftWidth is that of the boxes on the left, the same for all switches.
func (d *drawing) leftWidth(switches []engine.TopologySwitch) int {
	inner := len("00:00:00:00:00:00")
	for _, sw := range switches {
		if sw.Uplink != "" {
			inner = max(inner, widest(d.uplinkLines(sw.Uplink)))
		}
		if host, ok := hostPort(sw); ok {
			inner = max(inner, widest(hostLines(host)))
		}
	}
	return min(inner+padding, d.width/2)
}

func hostPort(sw engine.TopologySwitch) (vswitch.Port, bool) {
	for _, p := range sw.Attached {
		if p.Owner.Kind == vswitch.OwnerHost {
			return p, true
		}
	}
	return vswitch.Port{}, false
}

func guests(sw engine.TopologySwitch) []vswitch.Port {
	var ports []vswitch.Port
	for _, p := range sw.Attached {
		if p.Owner.Kind != vswitch.OwnerHost {
			ports = append(ports, p)
		}
	}
	return ports
}

// drawSwitch draws a switch and all that is connected to it.
func (d *drawing) drawSwitch(sw engine.TopologySwitch) {
	p := heavy()
	if sw.Type == vswitch.Private {
		p = broken()
	}
	body := switchLines(sw)
	at := rect{x: d.left + wire, y: d.top(), h: 2 + len(body)}
	at.w = d.width - at.x

	host, hasHost := hostPort(sw)
	beside := rect{x: 0, y: at.y, w: d.left} // the box at the switch's level
	hostBelow := false
	switch {
	case sw.Uplink != "":
		beside.h = 2 + len(d.uplinkLines(sw.Uplink))
		d.fill(beside, thin(), d.uplinkLines(sw.Uplink))
		hostBelow = hasHost
	case !sw.Masquerade.IsZero() && hasHost:
		beside.h = 3
		d.fill(beside, dotted(), []line{{left: outside, leftTone: cloud}})
		hostBelow = true
	case hasHost:
		beside.h = 2 + len(hostLines(host))
		d.fill(beside, thin(), hostLines(host))
	}
	at.h = max(at.h, min(beside.h, 6))
	d.fill(at, p, body)
	d.title(at, sw, p)
	d.wireLeft(sw, beside, at, p)

	x := at.x + 2
	if hostBelow {
		d.hostBelow(sw, host, beside, at, p)
		x += 3
	}
	d.guests(sw, rect{x: x, y: at.bottom() + 1, w: d.width - x}, p)
}

// title writes the switch's name and type into its upper line.
func (d *drawing) title(at rect, sw engine.TopologySwitch, p pen) {
	word := typeWord(sw.Type)
	right := at.right() - 2 - len(word) - 1
	name := cut(sw.Name, right-at.x-6)
	d.write(at.x+2, at.y, " "+name+" ", strong)
	d.write(right, at.y, " "+word+" ", p.tone)
}

func typeWord(t vswitch.SwitchType) string {
	if t == "" {
		return "?"
	}
	return strings.ToUpper(string(t[:1])) + string(t[1:])
}

// switchLines are what is written into a switch.
func switchLines(sw engine.TopologySwitch) []line {
	facts := []string{fmt.Sprintf("MTU %d bytes", sw.EffectiveMTU)}
	if sw.VLAN != 0 {
		facts = append(facts, fmt.Sprintf("VLAN %d", sw.VLAN))
	}
	facts = append(facts, counted(len(sw.Attached), "port"))
	lines := []line{{left: strings.Join(facts, ", ")}}
	if _, ok := hostPort(sw); !ok && sw.Type == vswitch.External {
		lines = append(lines, line{left: "closed to the host"})
	}
	if sw.Notes != "" && drawable(sw.Notes) {
		lines = append(lines, line{left: sw.Notes, leftTone: faint})
	}
	return lines
}

func counted(n int, noun string) string {
	switch n {
	case 0:
		return "no " + noun + "s"
	case 1:
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// drawable reports whether every character of a text takes one column.
func drawable(text string) bool {
	const hebrew = 0x0590 // scripts before it are alphabets written left to right
	for _, r := range text {
		if r >= hebrew || !unicode.IsPrint(r) || unicode.Is(unicode.Mn, r) {
			return false
		}
	}
	return true
}

// wireLeft connects the box at the switch's level with it, or shows that nothing is.
func (d *drawing) wireLeft(sw engine.TopologySwitch, beside, at rect, p pen) {
	y := at.y + 1
	switch {
	case sw.Type == vswitch.Private:
		x := d.write(max(0, d.left-length(closedOff)-1), y, closedOff, faint) + 1
		d.write(x, y, strings.Repeat("╌", max(0, at.x-3-x))+"╳", faint)
	case beside.h > 0 && (sw.Uplink != "" || sw.Masquerade.IsZero()):
		d.across(beside.right()+1, at.x-1, y)
		d.put(beside.right(), y, thin().rightJoin, plain)
		d.put(at.x, y, p.leftJoin, p.tone)
	}
}

// hostBelow draws the host under what is beside the switch, and its line to it.
func (d *drawing) hostBelow(sw engine.TopologySwitch, host vswitch.Port, beside, at rect, p pen) {
	lines := hostLines(host)
	r := rect{x: 0, y: max(beside.bottom(), at.bottom()) + 2, w: d.left, h: 2 + len(lines)}
	d.fill(r, thin(), lines)
	x, y := at.x+2, r.y+1
	d.across(r.right()+1, x-1, y)
	d.put(r.right(), y, thin().rightJoin, plain)
	d.put(x, y, '┘', plain)
	d.down(x, at.bottom()+1, y-1)
	d.put(x, at.bottom(), p.bottomJoin, p.tone)
	if sw.Uplink == "" {
		d.natWire(sw.Masquerade, beside, r)
	}
}

// natWire connects the world outside with the host.
func (d *drawing) natWire(m vswitch.Masquerade, cloud, host rect) {
	x := cloud.x + 4
	d.put(x, cloud.bottom(), dotted().bottomJoin, dotted().tone)
	d.down(x, cloud.bottom()+1, host.y-1)
	d.put(x, host.y, '┴', plain)
	words := map[vswitch.Masquerade]string{
		{IPv4: true}: "NAT, IPv4", {IPv6: true}: "NAT, IPv6", {IPv4: true, IPv6: true}: "NAT",
	}
	d.write(x+2, cloud.bottom()+1, words[m], plain)
}
