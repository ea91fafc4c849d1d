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

// Spread is what keeps the guests of an active/active team from hearing a frame twice,
// or their own again: a table of nftables at the team's members. The physical switches
// know nothing of the team. They send what is for all by every member, and what a guest
// has sent for all comes back by the others.
type Spread struct {
	Team string
	// Members have a chain each, by name.
	Members []string
	// Source is the address from which guests' multicast reports leave. They leave by the
	// designated member: the guest's own would move there with them.
	Source vswitch.MAC
	// Designated is the member that hears broadcast and multicast. Muted are those that do
	// not.
	Designated string
	Muted      []string
	// Altered says that it was observed to be otherwise than Patchbay makes it.
	Altered bool
}

// Own is a source address of the host's own behind a team: a frame that comes in with it
// has come back.
type Own struct {
	Team string
	MAC  vswitch.MAC
	VLAN int // as the wire has it: an id, NoVLAN for no tag, or AnyVLAN
}

// What an Own's VLAN is, if no id.
const (
	NoVLAN  = 0
	AnyVLAN = -1
)

// Query asks one port's guests for the multicast groups that they hear.
type Query struct {
	Netdev string
	VLANs  vswitch.VLANSet // tags; a query without a tag goes in any case
}

// Steps of active/active teams.
type (
	// MakeSpread makes the table, or makes it again, with the own addresses that it has.
	MakeSpread struct{ Spread Spread }
	// SetDesignated lets another member hear what is for all, in one transaction.
	SetDesignated struct{ Spread Spread }
	// DeleteSpread removes the table; one that is not there is fine.
	DeleteSpread struct{ Team string }
	// QueryGroups has guests report the groups that they hear (IGMPv3, MLDv2). It never
	// fails.
	QueryGroups struct {
		Source  vswitch.MAC
		Queries []Query
	}
)

func (MakeSpread) step()    {}
func (SetDesignated) step() {}
func (DeleteSpread) step()  {}
func (QueryGroups) step()   {}

// SpreadTable is the name of a team's table.
func SpreadTable(team string) string { return "patchbay-" + team }

func (s MakeSpread) String() string {
	table := SpreadTable(s.Spread.Team)
	var b strings.Builder
	fmt.Fprintf(&b, "nft 'add table netdev %s", table)
	for _, m := range s.Spread.Members {
		fmt.Fprintf(&b, "; add chain netdev %s in-%s { type filter hook ingress device %q priority -300; }", table, m, m)
	}
	fmt.Fprintf(&b, "; add chain netdev %s out { type filter hook egress device %q priority 0; } # reports leave from %s", table, s.Spread.Team, s.Spread.Source)
	fmt.Fprintf(&b, "; %s'", s.Spread.designation())
	return b.String()
}

func (s SetDesignated) String() string { return "nft '" + s.Spread.designation() + "'" }

func (s Spread) designation() string {
	table := SpreadTable(s.Team)
	words := fmt.Sprintf("flush set netdev %s mute; flush map netdev %s designated", table, table)
	if len(s.Muted) > 0 {
		words += fmt.Sprintf("; add element netdev %s mute { %s }", table, strings.Join(s.Muted, ", "))
	}
	if s.Designated != "" {
		words += fmt.Sprintf("; add element netdev %s designated { %s : %s }", table, s.Team, s.Designated)
	}
	return words
}

func (s DeleteSpread) String() string { return "nft delete table netdev " + SpreadTable(s.Team) }

func (s QueryGroups) String() string {
	return fmt.Sprintf("general query to %d ports", len(s.Queries))
}

// Designate chooses the member that hears what is for all: the one that does, as long as
// it has a link, or else the first that has one. Without any it stays: whatever comes
// back first is chosen then.
func Designate(members []string, hasLink func(member string) bool, now string) string {
	if slices.Contains(members, now) && hasLink(now) {
		return now
	}
	if at := slices.IndexFunc(members, hasLink); at >= 0 {
		return members[at]
	}
	if slices.Contains(members, now) || len(members) == 0 {
		return now
	}
	return members[0]
}

// With is the spread with another designated member.
func (s Spread) With(designated string) Spread {
	s.Designated = designated
	s.Muted = slices.DeleteFunc(slices.Clone(s.Members), func(m string) bool { return m == designated })
	return s
}

// sameTable compares what MakeSpread makes, but for the designated member.
func (s Spread) sameTable(have Spread) bool {
	return !have.Altered && s.Source == have.Source && slices.Equal(s.Members, have.Members)
}

func (s Spread) sameDesignation(have Spread) bool {
	return s.Designated == have.Designated && slices.Equal(s.Muted, have.Muted)
}

// spreads makes the tables once their netdevs are there: a table holds on to them.
func (d *differ) spreads() {
	for _, team := range sorted(d.desired.Spreads) {
		want := d.desired.Spreads[team]
		have, exists := d.observed.Spreads[team]
		switch {
		case !exists || !want.sameTable(have):
			d.add(MakeSpread{Spread: want})
			d.ownLater(team)
		case !want.sameDesignation(have):
			d.add(SetDesignated{Spread: want})
		}
	}
}

// ownLater adds the own addresses that had to wait for their table.
func (d *differ) ownLater(team string) {
	add := filter(missing(d.desired.Rules.Own, d.observed.Rules.Own), func(o Own, _ bool) bool { return o.Team == team })
	if len(add) > 0 {
		d.add(SetRules{Add: Rules{Own: add}})
	}
}

// spreadsGone removes the tables that are not wanted, and their own addresses with them.
func (d *differ) spreadsGone() {
	for _, team := range sorted(d.observed.Spreads) {
		if _, keep := d.desired.Spreads[team]; !keep {
			d.add(DeleteSpread{Team: team})
		}
	}
}

// ownChanges are the own addresses that come and go while their table stays. They go
// before anything else: where a guest has moved to, nobody may have heard it yet.
func (d *differ) ownChanges(want, have map[Own]bool) (add, remove map[Own]bool) {
	add = filter(missing(want, have), func(o Own, _ bool) bool {
		desired, makes := d.desired.Spreads[o.Team]
		observed, there := d.observed.Spreads[o.Team]
		return !makes || there && desired.sameTable(observed)
	})
	remove = filter(absent(have, want), func(o Own, _ bool) bool {
		_, there := d.observed.Spreads[o.Team]
		_, stays := d.desired.Spreads[o.Team]
		return !there || stays
	})
	return add, remove
}

func sortedOwn(m map[Own]bool) []Own {
	return slices.SortedFunc(maps.Keys(m), func(a, b Own) int {
		return cmp.Or(cmp.Compare(a.Team, b.Team), cmp.Compare(a.VLAN, b.VLAN), bytes.Compare(a.MAC[:], b.MAC[:]))
	})
}

// words are the element as `nft` has it.
func (o Own) words() string {
	table := SpreadTable(o.Team)
	switch o.VLAN {
	case NoVLAN:
		return fmt.Sprintf("%s own { %s }", table, o.MAC)
	case AnyVLAN:
		return fmt.Sprintf("%s own_any { %s }", table, o.MAC)
	}
	return fmt.Sprintf("%s own_vlan { %s . %d }", table, o.MAC, o.VLAN)
}
