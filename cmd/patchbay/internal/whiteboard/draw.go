package whiteboard

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Style is what the terminal can show.
type Style struct {
	Columns int  // lines are at most that long
	ASCII   bool // no line-drawing characters
	Color   bool
}

// Columns of a drawing: below the first it is cut at the right, beyond the last
// the eye loses the connection between left and right.
const (
	minColumns = 64
	maxColumns = 140
)

// Draw returns the picture, lines ended by newlines.
func Draw(t engine.Topology, s Style) string {
	d := &drawing{nics: make(map[string]kernel.Netdev), teams: make(map[string]engine.TeamStatus), width: min(max(s.Columns, minColumns), maxColumns)}
	free := make(map[string]kernel.Netdev)
	for _, n := range t.NICs {
		d.nics[n.Name], free[n.Name] = n, n
	}
	for _, team := range t.Teams {
		d.teams[team.Name] = team
		for _, m := range team.Members {
			delete(free, m) // it is drawn with its team
		}
	}
	switches := slices.Clone(t.Switches)
	slices.SortStableFunc(switches, func(a, b engine.TopologySwitch) int {
		return cmp.Or(typeOrder(a.Type)-typeOrder(b.Type), strings.Compare(a.Name, b.Name))
	})
	d.left = d.leftWidth(switches)
	for _, sw := range switches {
		delete(free, sw.Uplink)
	}
	for _, sw := range switches {
		d.drawSwitch(sw)
	}
	if len(switches) == 0 {
		d.invitation(free)
	}
	d.freeNICs(free)
	return d.render(s)
}

func typeOrder(t vswitch.SwitchType) int { return slices.Index(vswitch.SwitchTypes(), t) }

// drawing is a canvas with what all of its parts share.
type drawing struct {
	canvas
	nics  map[string]kernel.Netdev
	teams map[string]engine.TeamStatus
	width int // of the whole
	left  int // of the column of NICs and host boxes
}

// top is the row at which the next part begins, one below the last.
func (d *drawing) top() int {
	if d.height() == 0 {
		return 0
	}
	return d.height() + 1
}

// invitation stands where there is no switch: how to make the first one.
func (d *drawing) invitation(free map[string]kernel.Netdev) {
	y := d.top()
	d.write(0, y, "No switch on this host yet. To make one:", strong)
	lines := []string{
		"patchbay switch add lan --type internal --gateway 10.0.10.1/24 --masquerade",
		"patchbay switch add lab --type private",
	}
	for _, name := range sortedNames(free) {
		if n := free[name]; len(n.Addresses) == 0 && n.Master == "" {
			lines = append(lines, fmt.Sprintf("patchbay switch add wan --uplink %s", name))
			break
		}
	}
	for i, line := range lines {
		d.write(2, y+1+i, line, plain)
	}
}
