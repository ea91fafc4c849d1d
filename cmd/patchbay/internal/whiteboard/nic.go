package whiteboard

import (
	"fmt"

	"github.com/patchbay-net/patchbay/core/kernel"
)

// freeNICs draws the NICs that no switch uses, in rows.
func (d *drawing) freeNICs(free map[string]kernel.Netdev) {
	if len(free) == 0 {
		return
	}
	const most = 9
	names := sortedNames(free)
	more := 0
	if len(names) > most {
		names, more = names[:most-1], len(names)-most+1
	}
	y := d.top()
	d.write(0, y, "NICs that no switch uses", strong)
	y++
	inner, h := 0, 0
	var boxes [][]line
	for _, name := range names {
		lines := d.uplinkLines(name)
		boxes = append(boxes, lines)
		inner, h = max(inner, widest(lines)), max(h, len(lines)+2)
	}
	w := min(inner+padding, d.width)
	perRow := max(1, (d.width+2)/(w+2))
	for i, lines := range boxes {
		d.fill(rect{x: i % perRow * (w + 2), y: y + i/perRow*h, w: w, h: h}, thin(), lines)
	}
	if more > 0 {
		d.write(0, d.height(), fmt.Sprintf("+ %d more (ip link)", more), plain)
	}
}
