package plan

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// This file plans where what the host has goes when a switch takes the netdevs that
// the host lives on, changes, or goes.

// Home is a switch as far as the host may live on it.
type Home struct {
	// Uplink is the netdev by which the switch reaches the network: a NIC, or a team; ""
	// if it has none. Members are the netdevs below it that the host may have lived on.
	Uplink  string
	Members []string
	// Team is the netdev of the team that the members are of and that goes with the
	// home, which is the first of them then; "" otherwise.
	Team string
	// Port is the host port, or "" if the switch has none.
	Port string
	// Carries tells that what the host has on the uplink and its members belongs to the
	// switch: on Port, or kept for the host while there is none.
	Carries bool
	// Gateway are the addresses of the switch's own on Port, which are not the host's.
	Gateway []netip.Prefix
}

// netdevs are the uplink and what lies below it.
func (h Home) netdevs() []string {
	if h.Uplink == "" {
		return nil
	}
	all := append([]string{h.Uplink}, h.Members...)
	if h.Team != "" {
		all = append(all, h.Team)
	}
	return all
}

// Passage is a switch on its way from one home of the host to another.
type Passage struct {
	Switch string
	// Was is what the switch was or, where a process was killed over a change, may have
	// become, the former first. Is is what it becomes, the zero Home if it goes.
	Was []Home
	Is  Home
	// Heir is the switch that has the uplink after Is has given it up, with the host port
	// Port; "" if none has.
	Heir, HeirPort string
	// Note is what was noted when the host came.
	Note HostNote
	// Restarts tells that the port may go down and come up again on the way, and lose what
	// it has.
	Restarts bool
}

// Journey is what a passage does to the host.
type Journey struct {
	// Desired is what netdevs are to have, and Had what may be of it on those that the
	// host leaves, both by netdev.
	Desired, Had map[string]Addressing
	// Before is to be noted before anything is done, and After when all is done, for the
	// switch; Heir for the one that takes over.
	Before, After, Heir HostNote
	// inherited tells that another switch takes over.
	inherited bool
}

// Concerned reports whether the host has anything to do with the passage at all.
func (p Passage) Concerned() bool {
	return p.Is.Carries || slices.ContainsFunc(p.Was, func(h Home) bool { return h.Carries })
}

// Netdevs are those that have to be looked at before the passage can be planned. One
// that does not exist is left out of what Plan is told.
func (p Passage) Netdevs() []string {
	var all []string
	for _, h := range append(slices.Clone(p.Was), p.Is) {
		all = append(all, append(h.netdevs(), h.Port)...)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(n string) bool { return n == "" })
}

// Plan decides where what the host has goes, from what it has on each netdev now.
// moves is false if it stays where it is, or there is nothing.
func (p Passage) Plan(there map[string]Addressing) (j Journey, moves bool) {
	w := walk{Passage: p, there: there, before: p.Note}
	if !w.route() {
		return Journey{}, false
	}
	w.pack()
	if len(w.before.Items) == 0 && len(w.before.Left) == 0 {
		return Journey{}, false
	}
	j = Journey{Desired: w.desired(), Had: w.had(), Before: w.before}
	after := w.after
	if w.to == w.uplink {
		after = HostNote{}
	}
	if w.heir() {
		j.inherited = true
		j.Heir, after = HostNote{Left: after.Left, Port: after.Port, Origin: after.Origin}, HostNote{}
	}
	j.After = after
	return j, true
}

// Undo is the journey back after one that failed: each of the netdevs is to have what was
// there, and nothing of what was on its way, which note tells.
func Undo(netdevs []string, there map[string]Addressing, note HostNote) Journey {
	j := Journey{Desired: make(map[string]Addressing), Had: make(map[string]Addressing), Before: note}
	all := Addressing{Items: note.Items}
	for _, a := range there {
		all = all.With(Addressing{Items: a.Items})
	}
	for _, netdev := range netdevs {
		if netdev == "" {
			continue
		}
		a := there[netdev]
		a.Items = slices.DeleteFunc(slices.Clone(a.Items), func(i Item) bool { return i.Kind == ItemResidue })
		j.Desired[netdev], j.Had[netdev] = a, Addressing{Items: all.Items}
	}
	return j
}

// walk is a passage while it is planned.
type walk struct {
	Passage
	there   map[string]Addressing
	to      string   // the netdev that is to have what the host has; "" while none has
	uplink  string   // of which the netdevs are that the host lives on without us
	netdevs []string // those
	sources []string // netdevs that the host leaves
	port    string   // the host port of the switch, as it is or was
	before  HostNote
	after   HostNote
}

// route finds where the host goes from and to; false if it stays.
func (w *walk) route() bool {
	last := Home{}
	carried := false
	for _, h := range w.Was {
		carried = carried || h.Carries
		if last.Uplink == "" {
			last = h
		}
		if w.port == "" {
			w.port = h.Port
		}
	}
	place := last
	switch {
	case w.Is.Uplink != "":
		if !w.Is.Carries {
			return false
		}
		place, w.to = w.Is, w.Is.Port
		if w.Is.Port != "" {
			w.port = w.Is.Port
		}
	case last.Uplink == "" || !carried:
		return false
	case w.HeirPort != "":
		w.to = w.HeirPort
	default:
		for _, n := range append([]string{last.Uplink}, last.Members...) {
			if _, exists := w.there[n]; exists && w.to == "" {
				w.to = n // if none is there all were unplugged: there is nobody to give it to
			}
		}
	}
	w.uplink, w.netdevs = place.Uplink, place.netdevs()
	if w.Is.Uplink == "" && !w.heir() && w.to != "" {
		w.uplink = w.to
	}
	w.sources = slices.Clone(w.netdevs)
	if carried && w.port != "" {
		w.sources = append(w.sources, w.port)
	}
	w.sources = slices.DeleteFunc(w.sources, func(s string) bool { return s == w.to })
	return true
}

func (w *walk) heir() bool { return w.HeirPort != "" && w.to == w.HeirPort }

// renewed tells that the host stays on the port, which gets the address of another
// uplink.
func (w *walk) renewed() bool {
	return w.to == w.port && slices.ContainsFunc(w.Was, func(h Home) bool { return h.Carries && h.Uplink != w.Is.Uplink })
}

// pack collects what the host has on the sources, and on the port if that gets another
// uplink, and completes the notes.
func (w *walk) pack() {
	w.before = w.before.since(w.there, w.netdevs)
	for _, n := range w.netdevs {
		if settings, noted := w.before.Left[n]; noted {
			w.after = w.after.leaving(n, settings)
		}
	}
	w.former()
	what := Addressing{Items: w.before.Items}
	sources := w.sources
	if w.renewed() || w.Restarts && w.to == w.port {
		sources = append(slices.Clone(sources), w.port)
	}
	for _, source := range sources {
		a, exists := w.there[source]
		if !exists {
			continue
		}
		if source == w.port && w.to != w.port && w.before.Port == nil { // if it has to be made again
			w.before.Port = transferable(a.Settings)
		}
		if slices.Contains(w.netdevs, source) {
			if a.CarriesHost() {
				w.learn(source, a)
			} else {
				a.Items = nil
			}
		}
		what = Addressing{Items: slices.DeleteFunc(slices.Clone(a.Items), w.own)}.With(what)
	}
	w.before.Items = what.Items
	w.after.Origin = w.before.Origin
	if w.to == "" {
		w.after.Items, w.after.Port = what.Items, w.before.Port
	}
}

// own reports that an item is a gateway address of the switch, and not the host's.
func (w *walk) own(i Item) bool {
	return i.Kind == ItemAddress && slices.ContainsFunc(w.Was, func(h Home) bool { return slices.Contains(h.Gateway, i.Prefix) })
}

// former notes the settings of a host port that is there before the host comes to it.
func (w *walk) former() {
	if a, exists := w.there[w.port]; exists && w.to == w.port && w.to != "" && len(w.before.Left) == 0 {
		w.before.Former = transferable(a.Settings)
	}
	w.after.Former = w.before.Former
}

// learn notes the settings of a netdev that the host is about to leave. The first one's
// go along to the host port.
func (w *walk) learn(netdev string, a Addressing) {
	if _, noted := w.before.Left[netdev]; noted {
		return
	}
	settings := make(map[string]string)
	for _, name := range []string{rpFilter, addrGenMode} {
		if value, there := a.Settings[name]; there {
			settings[name] = value
		}
	}
	w.after = w.after.leaving(netdev, settings)
	if len(w.before.Left) == 0 {
		w.before.Port = transferable(a.Settings)
		w.before.Origin = cmp.Or(w.before.Origin, netdev)
	}
	w.before = w.before.leaving(netdev, settings)
}

// transferable are the settings that go along with the host: not how a netdev gets its
// link-local address, which moves as it is.
func transferable(settings map[string]string) map[string]string {
	settings = maps.Clone(settings)
	delete(settings, addrGenMode)
	return settings
}

// had is what the netdevs that the host leaves may have of it.
func (w *walk) had() map[string]Addressing {
	items := w.before.Items
	if w.to == "" { // nexthop objects stay on their NIC: there is nothing that they could go to
		items = slices.DeleteFunc(slices.Clone(items), func(i Item) bool { return i.Kind == ItemNexthop })
	}
	had := make(map[string]Addressing)
	for _, source := range w.sources {
		had[source] = Addressing{Items: items}
	}
	return had
}

// desired is what the netdevs are to have.
func (w *walk) desired() map[string]Addressing {
	desired := make(map[string]Addressing)
	for _, source := range w.sources {
		desired[source] = Addressing{}
		if source == w.port {
			desired[source] = Addressing{Settings: w.before.Former}
		}
	}
	if w.to != "" {
		a := Addressing{Items: w.before.Items}
		if w.to == w.port || w.heir() {
			a.Settings = w.before.Port
		}
		desired[w.to] = a
	}
	give := func(netdev string, settings map[string]string) {
		a := desired[netdev]
		a.Settings = maps.Clone(settings)
		desired[netdev] = a
	}
	for netdev, settings := range w.before.Left {
		if !slices.Contains(w.netdevs, netdev) || w.to == w.uplink {
			give(netdev, settings)
		}
	}
	if w.to == w.uplink {
		return desired
	}
	for netdev, settings := range w.after.Left {
		give(netdev, settings)
		if _, there := settings[addrGenMode]; there {
			desired[netdev].Settings[addrGenMode] = addrGenNone
		}
	}
	return desired
}

const (
	addrGenMode = "ipv6/addr_gen_mode"
	// addrGenNone keeps the kernel from giving a netdev the link-local address again that
	// has moved to the host port.
	addrGenNone = "1"
)

// JoinJourneys puts what the journeys of one transaction desire and had into its states.
// A switch that takes over from another one may have settings of its own to have back.
func JoinJourneys(journeys []Journey, desired, had *State) {
	for _, inherited := range []bool{false, true} {
		for _, j := range journeys {
			if j.inherited == inherited {
				desired.Hosts, had.Hosts = mergeHosts(desired.Hosts, j.Desired), mergeHosts(had.Hosts, j.Had)
			}
		}
	}
}
