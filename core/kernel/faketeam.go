package kernel

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// fakeBond is what a bond has beyond a netdev.
type fakeBond struct {
	options plan.BondOptions
	active  *fakeLink
	joined  int // members so far
}

// fakeMember is what a netdev has as a bond's member.
type fakeMember struct {
	turn     int // the order of joining
	prio     int
	failures int
	hadLink  bool
	mac      vswitch.MAC // its own, and its own MTU, for when it leaves
	mtu      int
}

func (f *Fake) carryOutForTeam(step plan.Step) error {
	switch s := step.(type) {
	case plan.CreateBond:
		return f.createBond(s.Bond)
	case plan.SetBond:
		return f.setBond(s)
	case plan.SetPrimary:
		return f.setPrimary(s)
	case plan.DeleteBond:
		f.deleteOurs([]string{s.Name})
		return nil
	case plan.TakeDown:
		link, err := f.host.link(s.Name)
		if err == nil && link.Up {
			link.down()
		}
		return err
	case plan.AddMember:
		return f.addMember(s)
	case plan.SetMember:
		link, err := f.host.link(s.Member.Name)
		if err == nil && !link.isMember() {
			err = fmt.Errorf("%s is in no bond: %w", link.Name, syscall.EINVAL)
		}
		if err == nil {
			link.member.prio = s.Member.Prio
		}
		return err
	case plan.RemoveMember:
		if link := f.host.links[s.Member.Name]; link != nil && (link.master == nil || link.master.Name == s.Bond) {
			link.release()
			link.Up = link.Up || s.Member.Released.Up
		}
		return nil
	case plan.HoldMember:
		link, err := f.host.link(s.Member.Name)
		if err == nil {
			link.release()
			link.Up = true
		}
		return err
	}
	return f.carryOutForTwin(step)
}

func (l *fakeLink) isMember() bool { return l.master != nil && l.master.Kind == "bond" }

func (f *Fake) createBond(b plan.Bond) error {
	if !f.caps.Bonding {
		return refused(vswitch.CapabilityMissing, syscall.EOPNOTSUPP, "no CONFIG_BONDING")
	}
	if err := f.host.nameFree(b.Name); err != nil {
		return err
	}
	link := f.host.add(Netdev{Name: b.Name, Kind: "bond", MAC: b.MAC, MTU: b.MTU, MaxMTU: vswitch.MaxMTU, Ethernet: true})
	link.Alias, link.Up, link.noLinkLocal = b.Alias, true, true
	link.bond.options = b.Options
	link.bond.options.Primary = ""
	return nil
}

// setBond refuses what Linux does: a mode while there are members, and a mode or a rate
// of LACP while the bond is up.
func (f *Fake) setBond(s plan.SetBond) error {
	link, err := f.theBond(s.Bond.Name)
	if err != nil {
		return err
	}
	want, have := s.Bond.Options, link.bond.options
	switch {
	case want.Mode != have.Mode && len(link.ports()) > 0:
		return fmt.Errorf("bond %s has members: %w", link.Name, syscall.ENOTEMPTY)
	case (want.Mode != have.Mode || want.LACPSlow != have.LACPSlow) && link.Up && !s.Down:
		return fmt.Errorf("bond %s is up: %w", link.Name, syscall.EPERM)
	}
	if s.Down {
		link.down()
	}
	if !s.Bond.MAC.IsZero() {
		link.setMAC(s.Bond.MAC)
	}
	want.Primary = have.Primary
	link.Alias, link.Up, link.noLinkLocal = s.Bond.Alias, true, true
	link.bond.options = want
	return nil
}

func (f *Fake) theBond(name string) (*fakeLink, error) {
	link, err := f.host.link(name)
	if err == nil && link.Kind != "bond" {
		err = fmt.Errorf("%s is no bond: %w", name, syscall.EOPNOTSUPP)
	}
	return link, err
}

func (f *Fake) setPrimary(s plan.SetPrimary) error {
	link, err := f.theBond(s.Bond)
	if err != nil {
		return err
	}
	if link.bond.options.Mode != "active-backup" && s.Member != "" {
		return fmt.Errorf("bond %s has no primary: %w", s.Bond, syscall.EACCES)
	}
	if s.Member == "" {
		link.bond.options.Primary = ""
		return nil
	}
	member, err := f.host.link(s.Member)
	if err != nil {
		return err
	}
	link.bond.options.Primary = s.Member
	if member.master == link && member.hasCarrier() {
		link.bond.active = member // as Linux does when it is named
	}
	return nil
}

// addMember is bond_enslave: a netdev that is up is refused, and one that joins comes up
// with the bond's address and without IPv6.
func (f *Fake) addMember(s plan.AddMember) error {
	bond, err := f.theBond(s.Bond)
	if err != nil {
		return err
	}
	link, err := f.host.link(s.Member.Name)
	if err != nil || link.master == bond {
		return err
	}
	return link.join(bond, s.Member.Prio)
}

func (l *fakeLink) join(bond *fakeLink, prio int) error {
	switch {
	case l.master != nil:
		return fmt.Errorf("%s has master %s: %w", l.Name, l.master.Name, syscall.EBUSY)
	case l.Up:
		return fmt.Errorf("%s cannot be enslaved while it is up: %w", l.Name, syscall.EPERM)
	case l.Loopback, !l.Ethernet, l.Kind == "bridge":
		return fmt.Errorf("%s cannot be a bond's member: %w", l.Name, syscall.EINVAL)
	}
	bond.bond.joined++
	l.member = fakeMember{turn: bond.bond.joined, prio: prio, mac: l.MAC, mtu: l.MTU}
	l.master, l.MAC, l.MTU, l.Up = bond, bond.MAC, bond.MTU, true
	l.member.hadLink = l.hasCarrier()
	l.flushIPv6()
	return nil
}

// leaveBond gives a member back what it had; it is down. A bond without members has an
// address that Linux makes up.
func (l *fakeLink) leaveBond() {
	bond := l.master
	l.MAC, l.MTU, l.Up, l.member = l.member.mac, l.member.mtu, false, fakeMember{}
	if bond.bond.active == l {
		bond.bond.active = nil
	}
	if bond.bond.options.Primary == l.Name {
		bond.bond.options.Primary = ""
	}
	if l.master = nil; len(bond.ports()) == 0 {
		bond.setMAC(vswitch.DerivedMAC(bond.Name, "without members"))
	}
}

// elect lets every bond look at its members' links, as its monitor does.
func (f *Fake) elect() {
	f.loseChains()
	f.host.elect()
	for _, ns := range f.netns {
		ns.elect()
	}
}

func (ns *fakeNetns) elect() {
	for _, bond := range ns.links {
		if bond.Kind != "bond" {
			continue
		}
		var best *fakeLink
		for _, m := range bond.membersInOrder() {
			link := m.hasCarrier()
			if m.member.hadLink && !link {
				m.member.failures++
			}
			if m.member.hadLink = link; link && (best == nil || m.member.prio > best.member.prio || m.Name == bond.bond.options.Primary) {
				best = m
			}
		}
		b := &bond.bond
		if b.options.Mode != "active-backup" {
			b.active = nil
			continue
		}
		if b.active == nil || b.active.master != bond || !b.active.hasCarrier() || b.options.Reselect == "always" {
			b.active = best
		}
	}
}

func (l *fakeLink) membersInOrder() []*fakeLink {
	return slices.SortedFunc(slices.Values(l.ports()), func(a, b *fakeLink) int { return cmp.Compare(a.member.turn, b.member.turn) })
}

// SetCarrier plugs a NIC's cable in or out.
func (f *Fake) SetCarrier(name string, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	if link := f.host.links[name]; link != nil {
		link.Carrier = on
	}
}

// heard is an address in a VLAN, as the network outside has heard of it.
type heard struct {
	mac  vswitch.MAC
	vlan int
}

// announceMACs goes nowhere without a link, as frames do.
func (f *Fake) announceMACs(s plan.AnnounceMACs) {
	link := f.host.links[s.Netdev]
	if link == nil || !link.Up || !link.hasCarrier() {
		return
	}
	if f.heard == nil {
		f.heard = make(map[heard]string)
	}
	for _, g := range s.Guests {
		for _, vlan := range g.VLANs {
			f.heard[heard{g.MAC, vlan}] = s.Netdev
		}
	}
}

// Heard returns the netdev by which the network outside was last told of an address in
// a VLAN (0: without a tag), or "".
func (f *Fake) Heard(mac vswitch.MAC, vlan int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.heard[heard{mac, vlan}]
}

// ForgetHeard has the network outside forget whom it was told of.
func (f *Fake) ForgetHeard() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.heard)
}

// SetLACPPartner gives the physical switch another system address; zero is one that does
// not speak LACP.
func (f *Fake) SetLACPPartner(mac vswitch.MAC) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lacp = mac
}

// Team is Kernel's.
func (f *Fake) Team(ctx context.Context, name string) (TeamState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.answers(ctx); err != nil {
		return TeamState{}, err
	}
	bond, err := f.theBond(name)
	if err != nil {
		return TeamState{}, &vswitch.Error{Kind: vswitch.NotFound, Object: "team " + name, Err: err}
	}
	t := TeamState{Up: bond.Up}
	if bond.bond.active != nil {
		t.Active = bond.bond.active.Name
	}
	if bond.bond.options.Mode == "802.3ad" && bond.hasCarrier() {
		t.Partner = f.lacp
	}
	for _, m := range bond.membersInOrder() {
		s := MemberState{Name: m.Name, MAC: m.member.mac, Up: m.Up, Link: m.hasCarrier(), Failures: m.member.failures, Speed: m.Speed}
		s.InUse = s.Link && (bond.bond.options.Mode != "active-backup" || bond.bond.active == m)
		t.Members = append(t.Members, s)
	}
	return t, nil
}

func (f *Fake) observeBond(link *fakeLink, scope plan.Bond) plan.Bond {
	b := plan.Bond{Name: link.Name, MAC: link.MAC, MTU: link.MTU, Alias: link.Alias, Up: link.Up, Options: link.bond.options, LinkLocal: !link.noLinkLocal}
	for _, m := range link.membersInOrder() {
		member := plan.Member{Name: m.Name, Prio: m.member.prio}
		for _, wanted := range slices.Concat(scope.Held, scope.Members) {
			if wanted.Name == m.Name {
				member.Released = wanted.Released
			}
		}
		b.Members = append(b.Members, member)
	}
	for _, wanted := range scope.Held {
		if nic := f.host.links[wanted.Name]; nic != nil && nic.Up && nic.master == nil {
			b.Held = append(b.Held, wanted)
		}
	}
	return b
}

// bondWords are the options and the active member of a bond.
func (l *fakeLink) bondWords() string {
	words := strings.TrimPrefix(plan.SetBond{Bond: plan.Bond{Options: l.bond.options}}.Words(), " ")
	if p := l.bond.options.Primary; p != "" {
		words += " primary " + p
	}
	if a := l.bond.active; a != nil {
		words += " active " + a.Name
	}
	return words
}
