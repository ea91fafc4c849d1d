package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Mirrors are the ports of a switch whose frames are copied, by netdev.
type Mirrors map[string]Mirror

// Mirror is where the frames go that the owner of a port sends and receives, besides where
// they go anyway: a table of nftables at the port.
type Mirror struct {
	// Destinations are netdevs, sorted: what is sent by them reaches their owners whatever
	// the bridge would let through.
	Destinations []string
	// Held says that a limit holds back what the owner sends: Linux hands it on to that
	// before rules of nftables see it, and filters of tc in front of it make the copies.
	Held bool
	// Altered says that it was observed to be otherwise than Patchbay makes it.
	Altered bool
	// Absent says that the port was observed not to be there: nothing is to be copied.
	Absent bool
}

// Steps of mirroring.
type (
	// MakeMirror makes a port's table, or makes it again. Destinations that are not there are
	// left out, and with a port that is not there is nothing to do.
	MakeMirror struct {
		Bridge, Netdev string
		Destinations   []string
		Held           bool
	}
	// DeleteMirror removes it, and the filters; what is not there is fine.
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
	table := MirrorTable(s.Bridge, s.Netdev)
	var b strings.Builder
	fmt.Fprintf(&b, "nft 'add table netdev %s", table)
	for _, chain := range []string{"ingress", "egress"} {
		fmt.Fprintf(&b, "; add chain netdev %s %s { type filter hook %s device %q priority -300; }", table, chain, chain, s.Netdev)
		for _, d := range s.copiedIn(chain) {
			fmt.Fprintf(&b, "; add rule netdev %s %s dup to %q", table, chain, d)
		}
	}
	b.WriteString("'")
	if s.Held {
		fmt.Fprintf(&b, " && tc qdisc replace dev %s clsact", s.Netdev)
		for _, d := range s.Destinations {
			fmt.Fprintf(&b, " && tc filter add dev %s ingress pref %d u32 match u32 0 0 action mirred egress mirror dev %s continue", s.Netdev, MirrorPreference, d)
		}
	}
	return b.String()
}

// copiedIn are the destinations to which a chain of the table copies.
func (s MakeMirror) copiedIn(chain string) []string {
	if s.Held && chain == "ingress" {
		return nil
	}
	return s.Destinations
}

// MirrorPreference is where among a port's filters those stand that copy: right before the
// one at ShaperPreference.
const MirrorPreference = ShaperPreference - 1

func (s DeleteMirror) String() string {
	return "nft delete table netdev " + MirrorTable(s.Bridge, s.Netdev)
}

func (m Mirror) same(have Mirror) bool {
	return !have.Altered && m.Held == have.Held && slices.Equal(m.Destinations, have.Destinations)
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
				d.add(MakeMirror{Bridge: bridge, Netdev: netdev, Destinations: want.Destinations, Held: want.Held})
			}
		}
	}
}
