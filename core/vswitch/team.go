package vswitch

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// TeamMode is how the members of a team share the traffic. There is none that sends
// the frames of one flow by two members, nor one that changes a guest's MAC address.
type TeamMode string

// The modes of a team. The physical switches know nothing of the first two; the other
// two need a group of ports on one of them.
const (
	TeamActiveStandby TeamMode = "active-standby" // one member carries all, the next takes over
	TeamActiveActive  TeamMode = "active-active"  // each guest on one member (Hyper-V: HyperVPort)
	TeamStatic        TeamMode = "static"         // by flow, to a group without a protocol
	TeamLACP          TeamMode = "lacp"           // by flow, to a group that speaks IEEE 802.3ad
)

// TeamModes lists the modes in the order in which help texts name them.
func TeamModes() []TeamMode {
	return []TeamMode{TeamActiveStandby, TeamActiveActive, TeamStatic, TeamLACP}
}

// Grouped reports that the physical switch has to take part.
func (m TeamMode) Grouped() bool { return m == TeamStatic || m == TeamLACP }

// TeamHash is what of a flow decides which member carries it.
// PowerShell twin: -LoadBalancingAlgorithm.
type TeamHash string

// The hashes. Fragments of IP have no transport ports: they go by addresses.
const (
	HashTransportPorts TeamHash = "transport-ports"
	HashIPAddresses    TeamHash = "ip-addresses"
	HashMACAddresses   TeamHash = "mac-addresses"
)

// TeamHashes lists the hashes, the default first.
func TeamHashes() []TeamHash {
	return []TeamHash{HashTransportPorts, HashIPAddresses, HashMACAddresses}
}

// HashWords is what of a flow decides which member carries it, whole: fragments too. It is
// "" in the modes that have no hash.
func (t Team) HashWords() string {
	hash := t.Normalized().Hash
	if hash == HashTransportPorts {
		return string(hash) + "; fragments, which have none, by ip-addresses"
	}
	return string(hash)
}

// Reselect is when an active/standby team goes back to a member that it prefers.
type Reselect string

// The policies. Each change of member is a gap for guests: the default makes fewest.
const (
	ReselectFailure Reselect = "failure" // only when the active one fails
	ReselectBetter  Reselect = "better"  // when the other is faster
	ReselectAlways  Reselect = "always"  // as soon as it has a link
)

// Reselects lists the policies, the default first.
func Reselects() []Reselect { return []Reselect{ReselectFailure, ReselectBetter, ReselectAlways} }

// LACPRate is how often LACP partners are to tell that they are alive.
type LACPRate string

// The rates: a partner is taken for lost after three times that long.
const (
	LACPFast LACPRate = "fast" // every second
	LACPSlow LACPRate = "slow" // every 30 seconds
)

// LACPRates lists the rates, the default first.
func LACPRates() []LACPRate { return []LACPRate{LACPFast, LACPSlow} }

// Limits of a team.
const (
	MaxTeamMembers     = 32
	DefaultMonitor     = 100   // milliseconds
	minMonitor         = 10    // below it a busy host takes its own delay for a failure
	maxMonitor         = 10000 // beyond it nobody could call it monitoring
	maxTeamDelay       = 600000
	teamOptionsUnknown = "%s %.32q is unknown; use %s"
)

// Team is NICs that are one uplink: the name of a team is that of its netdev.
// PowerShell twin: New-NetLbfoTeam, New-VMSwitch -NetAdapterName A,B.
type Team struct {
	Name string   `json:"name"`
	Mode TeamMode `json:"mode,omitempty"` // default active-standby
	// Members are 1 to 32 Ethernet NICs, in the order in which an active/standby team
	// prefers them.
	Members []string `json:"members"`
	// Primary is the member that an active/standby team prefers, if not the first one.
	Primary string `json:"primary,omitempty"`
	// Reselect is when an active/standby team goes back to it; default failure.
	Reselect Reselect `json:"reselect,omitempty"`
	// Standby is the one member of an active/active team that carries nothing while all
	// others have a link.
	Standby string `json:"standby,omitempty"`
	// Hash spreads flows in the modes static and lacp; default transport-ports.
	Hash TeamHash `json:"hash,omitempty"`
	// MinLinks is how many members of an lacp team must have a link before it has one
	// itself, 1 (0 means 1) to the number of members.
	MinLinks int `json:"minLinks,omitempty"`
	// LACPRate is what the partner of an lacp team is asked for; default fast.
	LACPRate LACPRate `json:"lacpRate,omitempty"`
	// Monitor is the time between looks at the members' links, in milliseconds, 10 to
	// 10000; 0 means 100. UpDelay and DownDelay are how long a link must be there, or
	// away, before that counts: multiples of Monitor.
	Monitor   int `json:"monitor,omitempty"`
	UpDelay   int `json:"upDelay,omitempty"`
	DownDelay int `json:"downDelay,omitempty"`
	// Lab lets netdevs without hardware, like the ends of a veth pair, be members: to try
	// a team out.
	Lab bool `json:"lab,omitempty"`
	// Notes are free text for people.
	Notes string `json:"notes,omitempty"`
}

// Normalized returns the team with every default filled in, so that two definitions
// that mean the same compare equal. It does not validate.
func (t Team) Normalized() Team {
	t.Mode = cmp.Or(t.Mode, TeamActiveStandby)
	t.Monitor = cmp.Or(t.Monitor, DefaultMonitor)
	t.Members = slices.Clone(t.Members)
	switch t.Mode {
	case TeamActiveStandby:
		t.Reselect = cmp.Or(t.Reselect, ReselectFailure)
		if t.Primary == "" && len(t.Members) > 0 {
			t.Primary = t.Members[0]
		}
	case TeamLACP:
		t.LACPRate = cmp.Or(t.LACPRate, LACPFast)
		t.MinLinks = cmp.Or(t.MinLinks, 1)
	}
	if t.Mode.Grouped() {
		t.Hash = cmp.Or(t.Hash, HashTransportPorts)
	}
	return t
}

// Bare returns the team as one would define it: without what is a default anyway.
func (t Team) Bare() Team {
	t = t.Normalized()
	drop := func(is bool, field *string) {
		if is {
			*field = ""
		}
	}
	drop(t.Mode == TeamActiveStandby, (*string)(&t.Mode))
	drop(len(t.Members) > 0 && t.Primary == t.Members[0], &t.Primary)
	drop(t.Reselect == ReselectFailure, (*string)(&t.Reselect))
	drop(t.Hash == HashTransportPorts, (*string)(&t.Hash))
	drop(t.LACPRate == LACPFast, (*string)(&t.LACPRate))
	if t.Monitor == DefaultMonitor {
		t.Monitor = 0
	}
	if t.MinLinks == 1 {
		t.MinLinks = 0
	}
	return t
}

// Active lists the members that are to carry traffic or may take over at once: all
// but an active/active team's standby.
func (t Team) Active() []string {
	return slices.DeleteFunc(slices.Clone(t.Members), func(m string) bool { return m == t.Standby })
}

// Preference lists the members, the preferred one first and the standby last.
func (t Team) Preference() []string {
	order := t.Active()
	if t.Standby != "" {
		order = append(order, t.Standby)
	}
	if at := slices.Index(order, t.Primary); at > 0 {
		order = slices.Insert(slices.Delete(order, at, at+1), 0, t.Primary)
	}
	return order
}

// Validate reports every problem of the definition, each an Error. It knows nothing of
// the host: whether the members exist and can be members is the engine's to find out.
func (t Team) Validate() error {
	object := "team " + t.Name
	var p problems
	if err := validateTeamName(t.Name); err != nil {
		p.found(Invalid, "team", "%w", err).in("name")
	}
	t.validateMode(&p, object)
	t.validateMembers(&p, object)
	t.validateStandby(&p, object)
	t.validateOptions(&p, object)
	t.validateTimes(&p, object)
	if n := len([]rune(t.Notes)); n > MaxNotesLength {
		p.found(Invalid, object, "notes have %d characters, the limit is %d", n, MaxNotesLength).in("notes")
	}
	return p.join()
}

// validateTeamName accepts a netdev's name that none of our own can have and that
// commands and files take as it is.
func validateTeamName(name string) error {
	if len(name) > maxNetdevName {
		return fmt.Errorf("name %.80q is too long: it becomes a netdev's, of 1 to %d characters", name, maxNetdevName)
	}
	if err := ValidateName(name); err != nil {
		return err
	}
	if err := ValidateNetdevName(name); err != nil {
		return err
	}
	if strings.HasPrefix(name, "pb") || name == "lo" || name == "all" || name == "default" {
		return fmt.Errorf("name %q is kept for netdevs of Patchbay's or of Linux itself; choose another one", name)
	}
	return nil
}

func (t Team) validateMode(p *problems, object string) {
	switch t.Mode {
	case "", TeamActiveStandby, TeamActiveActive, TeamStatic, TeamLACP:
	case "balance-rr", "balance-tlb", "balance-alb", "broadcast":
		p.found(TeamOption, object, "mode %s is not for the uplink of a switch: it changes the order of a flow's frames or its guests' MAC addresses; use %s",
			t.Mode, wordList(TeamModes())).in("mode")
	default:
		p.found(Invalid, object, teamOptionsUnknown, "mode", string(t.Mode), wordList(TeamModes())).in("mode")
	}
}

func (t Team) validateMembers(p *problems, object string) {
	if n := len(t.Members); n < 1 || n > MaxTeamMembers {
		p.found(TeamMembers, object, "%d members; a team has 1 to %d", n, MaxTeamMembers).in("members")
		return
	}
	for i, m := range t.Members {
		field := fmt.Sprintf("members[%d]", i)
		switch err := ValidateNetdevName(m); {
		case err != nil:
			p.found(TeamMembers, object, "member: %w", err).in(field)
		case m == t.Name:
			p.found(TeamMembers, object, "it cannot be its own member").in(field)
		case slices.Contains(t.Members[:i], m):
			p.found(TeamMembers, object, "member %s is named twice", m).in(field)
		}
	}
}

func (t Team) validateStandby(p *problems, object string) {
	switch {
	case t.Standby == "":
	case t.Mode != TeamActiveActive:
		hint := "list it last among the members, which take over in their order"
		if t.Mode.Grouped() {
			hint = "with the physical switch in the group all members are active"
		}
		p.found(TeamStandby, object, "a standby member is for mode active-active; %s", hint).in("standby")
	case strings.ContainsAny(t.Standby, ", "):
		p.found(TeamStandby, object, "standby %.32q is more than one member; a team has one at most", t.Standby).in("standby")
	case !slices.Contains(t.Members, t.Standby):
		p.found(TeamStandby, object, "standby %.32q is not among its members", t.Standby).in("standby")
	case len(t.Members) == 1:
		p.found(TeamStandby, object, "its only member cannot be its standby").in("standby")
	}
}

func (t Team) validateOptions(p *problems, object string) {
	mode := cmp.Or(t.Mode, TeamActiveStandby)
	refuse := func(given, applies bool, field, where string) {
		if given && !applies {
			p.found(TeamOption, object, "%s is for mode %s, and its mode is %s", field, where, mode).in(field)
		}
	}
	refuse(t.Primary != "", mode == TeamActiveStandby, "primary", "active-standby")
	refuse(t.Reselect != "", mode == TeamActiveStandby, "reselect", "active-standby")
	refuse(t.Hash != "", mode.Grouped(), "hash", "static or lacp")
	refuse(t.MinLinks != 0, mode == TeamLACP, "minLinks", "lacp")
	refuse(t.LACPRate != "", mode == TeamLACP, "lacpRate", "lacp")
	if t.Primary != "" && !slices.Contains(t.Members, t.Primary) {
		p.found(TeamOption, object, "primary %.32q is not among its members", t.Primary).in("primary")
	}
	if t.MinLinks < 0 || t.MinLinks > len(t.Members) {
		p.found(TeamOption, object, "minLinks %d is outside 1-%d, the number of its members", t.MinLinks, len(t.Members)).in("minLinks")
	}
	unknown(p, object, "reselect", t.Reselect, Reselects())
	unknown(p, object, "hash", t.Hash, TeamHashes())
	unknown(p, object, "lacpRate", t.LACPRate, LACPRates())
}

func (t Team) validateTimes(p *problems, object string) {
	monitor := cmp.Or(t.Monitor, DefaultMonitor)
	if monitor < minMonitor || monitor > maxMonitor {
		p.found(TeamOption, object, "monitor %d is outside %d-%d milliseconds", t.Monitor, minMonitor, maxMonitor).in("monitor")
		return
	}
	for _, delay := range []struct {
		field string
		value int
	}{{"upDelay", t.UpDelay}, {"downDelay", t.DownDelay}} {
		switch {
		case delay.value < 0 || delay.value > maxTeamDelay:
			p.found(TeamOption, object, "%s %d is outside 0-%d milliseconds", delay.field, delay.value, maxTeamDelay).in(delay.field)
		case delay.value%monitor != 0:
			p.found(TeamOption, object, "%s %d is no multiple of monitor, which is %d; use %d", delay.field, delay.value, monitor, (delay.value/monitor+1)*monitor).in(delay.field)
		}
	}
}

// unknown refuses a word that is not among those of its kind.
func unknown[T ~string](p *problems, object, field string, word T, known []T) {
	if word != "" && !slices.Contains(known, word) {
		p.found(TeamOption, object, teamOptionsUnknown, field, string(word), wordList(known)).in(field)
	}
}

// wordList is "a, b or c".
func wordList[T ~string](words []T) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}
