package whiteboard

import (
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// gap is what lies between two boxes: room for the line to a box of the row
// below, with a space at either side.
const gap = 3

// guests hangs a switch's guests into the area below it: as boxes if they fit
// into two rows, else as a list. The upper line of the area is right below the
// switch.
func (d *drawing) guests(sw engine.TopologySwitch, area rect, p pen) {
	ports := guests(sw)
	if len(ports) == 0 {
		return
	}
	var boxes [][]line
	inner, h := 0, 0
	for _, port := range ports {
		lines := guestLines(port, sw.EffectiveMTU)
		boxes = append(boxes, lines)
		inner, h = max(inner, widest(lines)), max(h, len(lines))
	}
	b := bricks{area: area, w: inner + padding, h: h + 2}
	if len(ports) > b.first()+b.second() {
		d.list(sw, ports, area, p)
		return
	}
	for i, lines := range boxes {
		at, x := b.place(i, len(ports))
		d.down(x, area.y, at.y-1)
		d.fill(at, thin(), lines)
		d.put(x, at.y, '┴', plain)
		d.put(x, area.y-1, p.bottomJoin, p.tone)
	}
}

// bricks places boxes of one size like bricks: the second row hangs below the
// gaps of the first, so that its lines pass between the boxes.
type bricks struct {
	area rect
	w, h int // of a box
}

// first is how many boxes the upper row takes.
func (b bricks) first() int { return max(0, (b.area.w+gap)/(b.w+gap)) }

// second is how many hang below them.
func (b bricks) second() int {
	n := b.first()
	for n > 0 && b.shifted(n-1)+b.w > b.area.w {
		n--
	}
	return n
}

// shifted is the left edge of box i of the lower row: its middle is below the
// gap behind box i of the upper one.
func (b bricks) shifted(i int) int { return i*(b.w+gap) + b.w + gap/2 - b.w/2 }

// place returns the place of box i of n, and the column of its line. Where one
// row is not enough the boxes alternate, so that lines stay in order.
func (b bricks) place(i, n int) (at rect, line int) {
	column, below := i, false
	if n > b.first() {
		column, below = i/2, i%2 == 1
		if upper := 2 * b.second(); i > upper {
			column, below = i-b.second(), false
		}
	}
	at = rect{x: b.area.x + column*(b.w+gap), y: b.area.y + 1, w: b.w, h: b.h}
	if below {
		at.x = b.area.x + b.shifted(column)
		at.y += b.h + 1
	}
	return at, at.x + b.w/2
}

// Of a long list the first few stand for all.
const (
	listedAll  = 12 // a list of up to that many is shown whole
	listedSome = 10 // of a longer one that many
)

// list hangs the guests on one line, in columns.
func (d *drawing) list(sw engine.TopologySwitch, ports []vswitch.Port, area rect, p pen) {
	shown := ports
	if len(ports) > listedAll {
		shown = ports[:listedSome]
	}
	columns := columnsOf(shown, d.width-area.x-3)
	d.put(area.x, area.y-1, p.bottomJoin, p.tone)
	for i, port := range shown {
		x := d.branch(area.x, area.y+i, i == len(ports)-1)
		d.write(x, area.y+i, cut(OwnerName(port.Owner), columns.name), strong)
		x += columns.name + 2
		d.write(x, area.y+i, EndpointName(port), plain)
		x += columns.endpoint + 2
		if columns.mac {
			d.write(x, area.y+i, port.MAC.String(), faint)
			x += len(port.MAC.String()) + 2
		}
		if columns.vlan > 0 {
			d.write(x, area.y+i, cut(settingWords(port), columns.vlan), plain)
			x += columns.vlan + 2
		}
		d.write(x, area.y+i, addressesWithin(port.Addresses, d.width-x), plain)
	}
	if more := len(ports) - len(shown); more > 0 {
		x := d.branch(area.x, area.y+len(shown), true)
		d.write(x, area.y+len(shown), fmt.Sprintf("+ %d more (patchbay port list --switch %s)", more, sw.Name), plain)
	}
}

// branch draws the joint of one line of a list and returns where its words begin.
func (d *drawing) branch(x, y int, last bool) int {
	joint := '├'
	if last {
		joint = '└'
	}
	d.put(x, y, joint, plain)
	d.put(x+1, y, '─', plain)
	return x + 3
}

// listColumns are the widths of a list's columns. The MAC address stays out where it would
// leave no room for an IP address; the VLAN is cut there, and stays out only if little
// would be left of it.
type listColumns struct {
	name, endpoint, vlan int
	mac                  bool
}

func columnsOf(ports []vswitch.Port, width int) listColumns {
	var c listColumns
	address := 0
	for _, port := range ports {
		c.name = max(c.name, length(OwnerName(port.Owner)))
		c.endpoint = max(c.endpoint, length(EndpointName(port)))
		c.vlan = max(c.vlan, length(settingWords(port)))
		for _, a := range port.Addresses {
			n := length(a.Prefix.String())
			if len(port.Addresses) > 1 {
				n += len(" +1") // at least the first with the number of the others
			}
			address = max(address, n)
		}
	}
	c.name = min(c.name, longestName)
	c.vlan = min(c.vlan, longestName)
	rest := width - c.endpoint - 2 - c.name - 2
	if c.vlan = min(c.vlan, rest-2-address); c.vlan < len("VLAN 4094") {
		c.vlan = 0
	} else {
		rest -= c.vlan + 2
	}
	c.mac = rest >= len("00:00:00:00:00:00")+2+address
	return c
}

// addressesWithin lists as many addresses as fit into n columns, and says how
// many do not.
func addressesWithin(addresses []vswitch.Address, n int) string {
	if len(addresses) == 0 {
		return "no address"
	}
	var words []string
	for _, a := range addresses {
		words = append(words, a.Prefix.String())
	}
	for shown := len(words); shown > 0; shown-- {
		s := strings.Join(words[:shown], " ")
		if rest := len(words) - shown; rest > 0 {
			s += fmt.Sprintf(" +%d", rest)
		}
		if length(s) <= n {
			return s
		}
	}
	return cut(words[0], n)
}
