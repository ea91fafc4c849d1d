package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Sharing is how ports share what leaves by a netdev, when that is not enough for all.
type Sharing struct {
	// Absolute says that the numbers are bits a second; otherwise they are weights.
	Absolute bool
	// Ports has those of ports, by their MAC address. Without any nothing is shared.
	Ports map[vswitch.MAC]uint64
	// Default is the number of all others together; 0 of bits is a tenth of the link.
	Default uint64

	// Link is how many bits a second the netdev was observed to carry; 0 if nobody knows.
	Link uint64
	// Tree is what was observed of its classes; nil without any of ours. Of what is desired it
	// follows from the rest.
	Tree *Tree
	// Queue is what was observed of a root queue that somebody has given the netdev, like
	// "fq 8001:"; "" for none, or one of the kernel's own.
	Queue string
}

// Tree are the classes of a netdev's traffic. One whose Rate is 0 is not as Patchbay makes it.
type Tree struct {
	Rate    uint64 // of all together, in bytes a second
	Default Class
	Classes map[vswitch.MAC]Class
}

// Class is what a port sends by the netdev: so many bytes a second whatever others send, and
// of what those leave so many bytes in turn, as far as Ceil.
type Class struct {
	ID         uint16
	Rate, Ceil uint64
	Quantum    uint64
}

// Numbers in a Tree: its handle, the classes that are no port's, and those that are.
const (
	ShareHandle  = 0x5043
	RootClass    = 0x1
	DefaultClass = 0x2
	firstClass   = 0x10
	lastClass    = 0xfff
)

// MaxShares is how many ports of a netdev can be told apart.
const MaxShares = lastClass - firstClass + 1

// The least in turn is what the kernel may send as one packet; a turn of more than the most
// would keep all others waiting for long.
const (
	minQuantum = 66_000
	maxQuantum = 1000 * minQuantum
	minRate    = 125 // bytes a second
)

// ShareTable is the number of the table in which filters are found by the last byte of the
// address that a frame is from.
const ShareTable = 1

// ShareFilter is the number of a port's filter.
func ShareFilter(mac vswitch.MAC, c Class) uint32 {
	return ShareBucket(mac) | uint32(c.ID)
}

// ShareBucket is where in the table it is.
func ShareBucket(mac vswitch.MAC) uint32 { return ShareTable<<20 | uint32(mac[5])<<12 }

// On returns the classes by which a link of so many bits a second is shared; nil for none.
// Ports keep the class that they had.
func (s Sharing) On(link uint64, had *Tree) *Tree {
	if len(s.Ports) == 0 || link == 0 {
		return nil
	}
	others := s.others(link)
	total, least := others, others
	for _, n := range s.Ports {
		total, least = total+n, min(least, n)
	}
	scale := float64(link) / float64(total)
	if s.Absolute {
		scale = min(1, scale) // what is left is for whoever takes it
	}
	class := func(id uint16, n uint64) Class {
		return Class{
			ID: id, Rate: max(minRate, uint64(float64(n)*scale/8)), Ceil: link / 8,
			Quantum: min(maxQuantum, uint64(float64(n)/float64(max(1, least))*minQuantum)),
		}
	}
	t := &Tree{Rate: link / 8, Default: class(DefaultClass, others), Classes: make(map[vswitch.MAC]Class, len(s.Ports))}
	ids := idsOf(s.Ports, had)
	for mac, n := range s.Ports {
		if id := ids[mac]; id != 0 {
			t.Classes[mac] = class(id, n)
		}
	}
	return t
}

// idsOf gives each port the number that it had, or the lowest free one. Those of ports that
// go are not free before they are gone.
func idsOf(ports map[vswitch.MAC]uint64, had *Tree) map[vswitch.MAC]uint16 {
	ids, taken := make(map[vswitch.MAC]uint16, len(ports)), make(map[uint16]bool)
	if had != nil {
		for mac, c := range had.Classes {
			ids[mac], taken[c.ID] = c.ID, true
		}
	}
	next := uint16(firstClass)
	for _, mac := range sortedMACs(ports) {
		if ids[mac] != 0 {
			continue
		}
		for taken[next] && next <= lastClass {
			next++
		}
		if next > lastClass {
			break // the default flow's
		}
		ids[mac] = next
		next++
	}
	return ids
}

// Steps of shares.
type (
	// MakeShares gives a netdev its classes, in the place of whatever it has for a root queue.
	MakeShares struct {
		Netdev   string
		Tree     Tree
		Replaces string // the Queue that was there
	}
	// SetShares changes classes: New ones and those that are Gone with their filters. Rate and
	// Default are always those that are wanted.
	SetShares struct {
		Netdev             string
		Rate               uint64
		Default            Class
		New, Changed, Gone map[vswitch.MAC]Class
	}
	// DeleteShares takes the classes away: the kernel gives the netdev the queue of one that
	// nobody has given any. A netdev that is not there is fine.
	DeleteShares struct{ Netdev string }
)

func (MakeShares) step()   {}
func (SetShares) step()    {}
func (DeleteShares) step() {}

func (s MakeShares) String() string {
	tc := []string{fmt.Sprintf("tc qdisc replace dev %s root handle %x: htb default %x", s.Netdev, ShareHandle, DefaultClass)}
	tc = append(tc, trunkWords("add", s.Netdev, s.Tree.Rate, s.Tree.Default)...)
	tc = append(tc,
		fmt.Sprintf("tc filter add dev %s parent %x: protocol all pref 1 handle %x: u32 divisor 256", s.Netdev, ShareHandle, ShareTable),
		fmt.Sprintf("tc filter add dev %s parent %x: protocol all pref 1 u32 match u32 0 0 link %x: hashkey mask 0x00ff0000 at -4", s.Netdev, ShareHandle, ShareTable))
	for _, mac := range sortedMACs(s.Tree.Classes) {
		tc = append(tc, s.Tree.Classes[mac].words("add", s.Netdev), filterWords(s.Netdev, mac, s.Tree.Classes[mac]))
	}
	return strings.Join(tc, " && ")
}

func (s SetShares) String() string {
	tc := trunkWords("change", s.Netdev, s.Rate, s.Default)
	for _, mac := range sortedMACs(s.Gone) {
		tc = append(tc,
			fmt.Sprintf("tc filter del dev %s parent %x: protocol all pref 1 handle %s u32", s.Netdev, ShareHandle, filterHandle(mac, s.Gone[mac])),
			fmt.Sprintf("tc class del dev %s classid %x:%x", s.Netdev, ShareHandle, s.Gone[mac].ID))
	}
	for _, mac := range sortedMACs(s.Changed) {
		tc = append(tc, s.Changed[mac].words("change", s.Netdev))
	}
	for _, mac := range sortedMACs(s.New) {
		tc = append(tc, s.New[mac].words("add", s.Netdev), filterWords(s.Netdev, mac, s.New[mac]))
	}
	return strings.Join(tc, " && ")
}

func (s DeleteShares) String() string { return fmt.Sprintf("tc qdisc del dev %s root", s.Netdev) }

// trunkWords are what all classes come from, and the one of the default flow.
func trunkWords(verb, dev string, rate uint64, others Class) []string {
	return []string{
		fmt.Sprintf("tc class %s dev %s parent %x: classid %x:%x htb rate %dbit", verb, dev, ShareHandle, ShareHandle, RootClass, rate*8),
		others.words(verb, dev),
	}
}

func (c Class) words(verb, dev string) string {
	return fmt.Sprintf("tc class %s dev %s parent %x:%x classid %x:%x htb rate %dbit ceil %dbit quantum %d",
		verb, dev, ShareHandle, RootClass, ShareHandle, c.ID, c.Rate*8, c.Ceil*8, c.Quantum)
}

func filterHandle(mac vswitch.MAC, c Class) string {
	return fmt.Sprintf("%x:%x:%x", ShareTable, mac[5], c.ID)
}

func filterWords(dev string, mac vswitch.MAC, c Class) string {
	return fmt.Sprintf("tc filter add dev %s parent %x: protocol all pref 1 handle ::%x u32 ht %x:%x: match u32 0x%x 0xffffffff at -8 match u32 0x%x0000 0xffff0000 at -4 flowid %x:%x",
		dev, ShareHandle, c.ID, ShareTable, mac[5], mac[:4], mac[4:], ShareHandle, c.ID)
}

// shares brings netdevs to their classes. What these are depends on how fast the netdev was
// observed to be: one that nobody knows, as of a NIC without a link, is taken for what it was.
func (d *differ) shares() {
	for _, netdev := range sorted(merge(d.desired.Shares, d.observed.Shares)) {
		have := d.observed.Shares[netdev]
		link := have.Link
		if have.Tree != nil {
			link = cmp.Or(link, have.Tree.Rate*8)
		}
		want := d.desired.Shares[netdev].Tree
		if want == nil {
			want = d.desired.Shares[netdev].On(link, have.Tree)
		}
		switch {
		case want == nil && have.Tree != nil:
			d.add(DeleteShares{Netdev: netdev})
		case want == nil:
		case have.Tree == nil || have.Tree.Rate == 0:
			d.add(MakeShares{Netdev: netdev, Tree: *want, Replaces: have.Queue})
		default:
			if s, differs := have.Tree.to(*want); differs {
				s.Netdev = netdev
				d.add(s)
			}
		}
	}
}

// to are the changes from one tree to another.
func (t Tree) to(want Tree) (s SetShares, differs bool) {
	s = SetShares{Rate: want.Rate, Default: want.Default}
	s.New, s.Changed, s.Gone = make(map[vswitch.MAC]Class), make(map[vswitch.MAC]Class), make(map[vswitch.MAC]Class)
	for mac, c := range want.Classes {
		switch had, there := t.Classes[mac]; {
		case !there:
			s.New[mac] = c
		case had != c:
			s.Changed[mac] = c
		}
	}
	for mac, c := range t.Classes {
		if _, stays := want.Classes[mac]; !stays {
			s.Gone[mac] = c
		}
	}
	return s, t.Rate != want.Rate || t.Default != want.Default || len(s.New)+len(s.Changed)+len(s.Gone) > 0
}

// Shared is the state with what is wanted of a team wanted of each of its members instead:
// it is there that frames wait for each other. The teams are those in bonds.
func (s State) Shared(bonds ...map[string]Bond) State {
	shares := make(map[string]Sharing, len(s.Shares))
	for netdev, of := range s.Shares {
		members := 0
		for _, in := range bonds {
			for _, m := range slices.Concat(in[netdev].Members, in[netdev].Held) {
				shares[m.Name] = of
				members++
			}
		}
		if members == 0 {
			shares[netdev] = of
		}
	}
	s.Shares = shares
	return s
}

// Promised is how many bits a second of a link are promised in all; by weight all that it has.
func (s Sharing) Promised(link uint64) uint64 {
	if !s.Absolute {
		return link
	}
	total := s.others(link)
	for _, n := range s.Ports {
		total += n
	}
	return total
}

// others is what the default flow has.
func (s Sharing) others(link uint64) uint64 {
	if s.Absolute && s.Default == 0 {
		return link / vswitch.DefaultFlowPart
	}
	return s.Default
}
