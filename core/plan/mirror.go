package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Mirrors are the ports of a switch whose frames are copied, by netdev.
type Mirrors map[string]Mirror

// Mirror is where the frames go that the owner of a port sends and receives, besides where
// they go anyway: filters of tc at the port, and a table of nftables without rules, whose
// name tells that there are some.
type Mirror struct {
	// Destinations are netdevs, sorted: what is sent by them reaches their owners whatever
	// the bridge would let through.
	Destinations []string
	// Altered says that it was observed to be otherwise than Patchbay makes it.
	Altered bool
	// Absent says that the port was observed not to be there: nothing is to be copied.
	Absent bool
}

// Steps of mirroring.
type (
	// MakeMirror makes a port's table and filters, or makes them again. Destinations that are not there are
	// left out, and with a port that is not there is nothing to do.
	MakeMirror struct {
		Bridge, Netdev string
		Destinations   []string
	}
	// DeleteMirror removes it; what is not there is fine.
	DeleteMirror struct{ Bridge, Netdev string }
)

func (MakeMirror) step()   {}
func (DeleteMirror) step() {}

// MirrorTable is the name of a port's table. No netdev has a slash in its name, so that it
// tells what it is of.
func MirrorTable(bridge, netdev string) string { return MirrorTables(bridge) + netdev }

// MirrorTables is how the names of the tables of a switch begin.
// Those of all switches begin with MirrorTables("").
func MirrorTables(bridge string) string {
	if bridge == "" {
		return mirrorTables
	}
	return mirrorTables + bridge + "/"
}

const mirrorTables = "patchbay_mirror/"

func (s MakeMirror) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "nft add table bridge %s && tc qdisc replace dev %s clsact", MirrorTable(s.Bridge, s.Netdev), s.Netdev)
	copies := func(way string, preference int) {
		for _, d := range s.Destinations {
			fmt.Fprintf(&b, " && tc filter add dev %s %s pref %d u32 match u32 0 0 action mirred egress mirror dev %s continue", s.Netdev, way, preference, d)
		}
	}
	copies("ingress", MirrorsIncoming)
	copies("egress", MirrorsOutgoing)
	return b.String()
}

// Where among a port's filters those stand that copy: right before the one at
// ShaperPreference, which hands on what comes in. They differ, since Linux shows filters of
// both ways as one list where they have one preference.
const (
	MirrorsIncoming = ShaperPreference - 1
	MirrorsOutgoing = ShaperPreference - 2
)

func (s DeleteMirror) String() string {
	return fmt.Sprintf("tc filter del dev %[1]s ingress pref %[2]d; tc filter del dev %[1]s egress pref %[3]d; nft delete table bridge %[4]s",
		s.Netdev, MirrorsIncoming, MirrorsOutgoing, MirrorTable(s.Bridge, s.Netdev))
}

func (m Mirror) same(have Mirror) bool {
	return !have.Altered && slices.Equal(m.Destinations, have.Destinations)
}

// mirrors makes the tables when the ports are there, and removes those of ports that are
// gone: nobody can copy anything then.
func (d *differ) mirrors() {
	for _, bridge := range sorted(d.observed.Mirrors) {
		for _, netdev := range sorted(d.observed.Mirrors[bridge]) {
			have := d.observed.Mirrors[bridge][netdev]
			if _, keep := d.desired.Mirrors[bridge][netdev]; !keep && (!have.Absent || have.Altered) {
				d.add(DeleteMirror{Bridge: bridge, Netdev: netdev})
			}
		}
	}
	for _, bridge := range sorted(d.desired.Mirrors) {
		for _, netdev := range sorted(d.desired.Mirrors[bridge]) {
			want := d.desired.Mirrors[bridge][netdev]
			if have, exists := d.observed.Mirrors[bridge][netdev]; !exists || !have.Absent && !want.same(have) {
				d.add(MakeMirror{Bridge: bridge, Netdev: netdev, Destinations: want.Destinations})
			}
		}
	}
}
