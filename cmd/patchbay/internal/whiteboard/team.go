package whiteboard

import (
	"slices"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
)

// uplinkLines describe a NIC, or a team and below it its members.
func (d *drawing) uplinkLines(name string) []line {
	lines := nicLines(name, d.nics)
	team, is := d.teams[name]
	if !is {
		return lines
	}
	lines = append(lines, line{left: "team, " + string(team.Mode)})
	for _, m := range team.Members {
		lines = append(lines, memberLine(m, team))
	}
	return lines
}

// memberLine says of a member whether it carries traffic, and if not, why.
func memberLine(name string, team engine.TeamStatus) line {
	l := line{left: "  " + name, right: "not in it", rightTone: bad}
	if team.State == nil {
		return l
	}
	at := slices.IndexFunc(team.State.Members, func(m kernel.MemberState) bool { return m.Name == name })
	if at < 0 {
		return l
	}
	switch m := team.State.Members[at]; {
	case !m.Up:
		l.right = "off"
	case !m.Link:
		l.right = "no link"
	case m.InUse && name == team.Standby:
		l.right, l.rightTone = "stands in", good
	case m.InUse:
		l.right, l.rightTone = "carries", good
	default:
		l.right, l.rightTone = "stands by", plain
	}
	return l
}
