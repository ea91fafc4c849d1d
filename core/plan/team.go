package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Bond is a team's netdev. As an uplink it is a Port of that name besides, which says
// what bridge it is in, and with what MTU.
type Bond struct {
	Name  string
	MAC   vswitch.MAC // so that it does not change with the members
	MTU   int         // at birth; later that of the port
	Alias string
	Up    bool
	// Options are what it does with its members.
	Options BondOptions
	// LinkLocal is an IPv6 link-local address of its own, which nobody asked for.
	LinkLocal bool
	Members   []Member // by preference
	// Held are NICs that stand by beside the bond: out of it and of everybody's hands, and
	// up, so that it is known whether they have a link.
	Held []Member
}

// BondOptions are the settings of a bond, in the words of `ip link`. What a mode does
// not have is zero.
type BondOptions struct {
	Mode      string
	Hash      string // xmit_hash_policy
	Monitor   int    // miimon, milliseconds
	UpDelay   int
	DownDelay int
	Primary   string
	Reselect  string // primary_reselect
	MinLinks  int
	LACPSlow  bool
}

// Member is a NIC in a bond.
type Member struct {
	Name string
	// Prio orders those that may take over: the highest first. Kernels before Linux 6.0
	// have none, and are observed to have what is wanted.
	Prio int
	// Released says how the NIC is to be when it leaves.
	Released Released
}

// Released is what a NIC was before it became a member; the bond keeps its MTU and MAC.
type Released struct{ Up bool }

// Steps of bonds.
type (
	// CreateBond makes a bond without members and brings it up.
	CreateBond struct{ Bond Bond }
	// SetBond gives a bond those settings that it has otherwise; a zero MAC address is the
	// one that it has. Down says that they can only be set while it is down; it comes up
	// again.
	SetBond struct {
		Bond Bond
		Was  BondOptions
		Down bool
	}
	// SetPrimary names the member that the bond prefers; "" for none.
	SetPrimary struct{ Bond, Member string }
	// DeleteBond removes a bond, whose members go back to what they were; one that is
	// not there is fine, and one that is not ours stays.
	DeleteBond struct{ Name string }
	// TakeDown takes a NIC down, as it has to be to become a member. It loses its routes
	// and its IPv6 addresses.
	TakeDown struct{ Name string }
	// AddMember puts a NIC that is down into a bond, which brings it up.
	AddMember struct {
		Bond   string
		Member Member
	}
	// SetMember gives a member its place in the order.
	SetMember struct {
		Bond   string
		Member Member
	}
	// RemoveMember takes a NIC out of its bond and brings it up if it was. One that is
	// gone, or not in the bond, is fine. With the last one the bond loses its MAC address:
	// the kernel makes another up.
	RemoveMember struct {
		Bond   string
		Member Member
	}
	// AnnounceMACs tells the network behind a netdev that guests are reached by it: of
	// each MAC address in each of its VLANs (RARP), and of each address by ARP or by a
	// neighbour advertisement. It never fails.
	AnnounceMACs struct {
		Netdev string
		Guests []Guest
	}
)

func (CreateBond) step()   {}
func (SetBond) step()      {}
func (SetPrimary) step()   {}
func (DeleteBond) step()   {}
func (TakeDown) step()     {}
func (AddMember) step()    {}
func (SetMember) step()    {}
func (RemoveMember) step() {}
func (AnnounceMACs) step() {}

// words are the options that differ from was.
func (o BondOptions) words(was BondOptions) string {
	var words []string
	option := func(differs bool, format string, value any) {
		if differs {
			words = append(words, fmt.Sprintf(format, value))
		}
	}
	option(o.Mode != was.Mode, "mode %s", o.Mode)
	option(o.Monitor != was.Monitor, "miimon %d", o.Monitor)
	option(o.UpDelay != was.UpDelay, "updelay %d", o.UpDelay)
	option(o.DownDelay != was.DownDelay, "downdelay %d", o.DownDelay)
	option(o.Hash != was.Hash && o.Hash != "", "xmit_hash_policy %s", o.Hash)
	option(o.Reselect != was.Reselect && o.Reselect != "", "primary_reselect %s", o.Reselect)
	option(o.MinLinks != was.MinLinks, "min_links %d", o.MinLinks)
	rate := "fast"
	if o.LACPSlow {
		rate = "slow"
	}
	option(o.Mode == modeLACP && (was.Mode != o.Mode || was.LACPSlow != o.LACPSlow), "lacp_rate %s", rate)
	return strings.Join(words, " ")
}

const (
	modeLACP    = "802.3ad"
	modeStandby = "active-backup"
)

func (s CreateBond) String() string {
	b := s.Bond
	return fmt.Sprintf("ip link add %s address %s mtu %d type bond %s && ip link set %s alias %q addrgenmode none up",
		b.Name, b.MAC, b.MTU, b.Options.words(BondOptions{}), b.Name, b.Alias)
}

func (s SetBond) String() string {
	b := s.Bond
	set := "ip link set " + b.Name
	if !b.MAC.IsZero() {
		set += " address " + b.MAC.String()
	}
	set += fmt.Sprintf(" alias %q addrgenmode none", b.Alias)
	if words := s.Words(); words != "" {
		set += " type bond " + words
	}
	if s.Down {
		set = fmt.Sprintf("ip link set %s down && %s", b.Name, set)
	}
	return fmt.Sprintf("%s && ip link set %s up", set, b.Name)
}

// Words are the options that the step changes, in those of `ip link`.
func (s SetBond) Words() string { return s.Bond.Options.words(s.Was) }

func (s SetPrimary) String() string {
	return fmt.Sprintf("ip link set %s type bond primary %q", s.Bond, s.Member)
}
func (s DeleteBond) String() string { return "ip link del " + s.Name }
func (s TakeDown) String() string   { return "ip link set " + s.Name + " down" }

func (s AddMember) String() string {
	return fmt.Sprintf("ip link set %s master %s%s", s.Member.Name, s.Bond, prioWords(s.Member))
}

func (s SetMember) String() string {
	return fmt.Sprintf("ip link set %s type bond_slave prio %d", s.Member.Name, s.Member.Prio)
}

func (s RemoveMember) String() string {
	return fmt.Sprintf("ip link set %s nomaster %s", s.Member.Name, upWord(s.Member.Released.Up))
}

func (s AnnounceMACs) String() string {
	return fmt.Sprintf("rarp -i %s of %d guests", s.Netdev, len(s.Guests))
}

func prioWords(m Member) string {
	if m.Prio == 0 {
		return ""
	}
	return fmt.Sprintf(" && ip link set %s type bond_slave prio %d", m.Name, m.Prio)
}

func (b Bond) at(member string) int {
	return slices.IndexFunc(b.Members, func(m Member) bool { return m.Name == member })
}

// mergeBonds is merge; of a bond that both name the members of both are in it, and what
// both hold.
func mergeBonds(a, b map[string]Bond) map[string]Bond {
	u := merge(a, b)
	for name, bond := range u {
		if other, both := b[name]; both {
			by := func(m Member) string { return m.Name }
			bond.Members, bond.Held = appendNew(bond.Members, other.Members, by), appendNew(bond.Held, other.Held, by)
			u[name] = bond
		}
	}
	return u
}
