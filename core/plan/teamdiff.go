package plan

import (
	"maps"
	"slices"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file plans what is to be done about bonds.

// bonds makes and changes bonds, and gives them the members that nobody needs any
// more. A NIC that is a bridge's port, or that the host is to leave, joins later, when
// that has been seen to: see lateMembers.
func (d *differ) bonds() {
	for _, name := range sorted(d.desired.Bonds) {
		want := d.desired.Bonds[name]
		have, exists := d.observed.Bonds[name]
		switch {
		case !exists:
			d.add(CreateBond{Bond: want})
			have = Bond{Name: name}
		case !sameBond(want, have):
			left := d.emptied(want, have)
			d.setBond(want, have, len(left.Members) < len(have.Members))
			have = left
		}
		d.bonded(want, have)
	}
}

// setBond gives a bond its settings. It names the address only where the bond has another
// one, as it has when it has lost all its members: even if it is told the one that it has,
// the bridge that it is a port of takes that for its own.
func (d *differ) setBond(want, have Bond, emptied bool) {
	down := restarts(want.Options, have.Options)
	step := SetBond{Bond: want, Was: have.Options, Down: down}
	if !emptied && want.MAC == have.MAC {
		step.Bond.MAC = vswitch.MAC{}
	}
	d.add(step)
	if !step.Bond.MAC.IsZero() {
		d.repoint(want.MAC)
	}
	if down {
		d.forgets(want.Name)
	}
}

// forgets is what the host loses with a bond that goes down: all but its IPv4 addresses
// and rules. It is carried there again.
func (d *differ) forgets(bond string) {
	have, there := d.observed.Hosts[bond]
	if !there {
		return
	}
	hosts := maps.Clone(d.observed.Hosts)
	have.Items = slices.DeleteFunc(slices.Clone(have.Items), func(i Item) bool {
		return i.Kind != ItemRule && (i.Kind != ItemAddress || i.Prefix.Addr().Is6())
	})
	hosts[bond] = have
	d.observed.Hosts = hosts
}

// outOfBond takes a NIC that the host goes to out of a bond that it is to leave.
func (d *differ) outOfBond(nic string) {
	bond := d.bondOf(nic)
	if bond == "" || d.desired.Bonds[bond].at(nic) >= 0 {
		return
	}
	d.leave(bond, Member{Name: nic, Released: Released{Up: true}})
}

// bonded brings a bond's members to what is wanted, as far as that can be now: what
// comes is there before anything goes.
func (d *differ) bonded(want, have Bond) {
	late := false
	for _, m := range want.Members {
		at := have.at(m.Name)
		switch {
		case at < 0 && d.busy(m.Name):
			late = true
		case at < 0:
			d.join(want.Name, m)
		case have.Members[at].Prio != m.Prio:
			d.add(SetMember{Bond: want.Name, Member: m})
		}
	}
	if late {
		d.late = append(d.late, want.Name)
		return
	}
	d.settleBond(want, have)
}

// settleBond ends the change of a bond that has all its members.
func (d *differ) settleBond(want, have Bond) {
	// The kernel remembers the primary by its name, also while that is no member.
	remembers := want.Options.Mode == modeStandby && want.Options.Primary == "" &&
		slices.ContainsFunc(want.Members, func(m Member) bool { return have.at(m.Name) < 0 })
	if want.Options.Primary != have.Options.Primary || remembers {
		d.add(SetPrimary{Bond: want.Name, Member: want.Options.Primary})
	}
	for _, m := range have.Members {
		if want.at(m.Name) < 0 && !want.holds(m.Name) {
			d.leave(want.Name, m)
		}
	}
	if len(want.Members) == 0 && len(have.Members) > 0 {
		have.Options = want.Options // by now
		d.setBond(want, have, true)
	}
}

// emptied takes a bond's members out where the kernel sets no mode while it has any,
// and returns what is left.
func (d *differ) emptied(want, have Bond) Bond {
	if want.Options.Mode == have.Options.Mode {
		return have
	}
	for _, m := range have.Members {
		d.leave(want.Name, m)
	}
	have.Members, have.Options.Primary = nil, ""
	return have
}

// leave takes a NIC out of a bond, unless it has gone to another one by now.
func (d *differ) leave(bond string, m Member) {
	if !d.left[m.Name] {
		d.left[m.Name] = true
		d.add(RemoveMember{Bond: bond, Member: m})
	}
}

// lateMembers puts the NICs into their bonds that had to be left by others before.
func (d *differ) lateMembers() {
	for _, name := range d.late {
		want, have := d.desired.Bonds[name], d.observed.Bonds[name]
		if want.Options.Mode != have.Options.Mode {
			have.Members, have.Options.Primary = nil, ""
		}
		if len(have.Members) > 0 && !slices.ContainsFunc(have.Members, func(m Member) bool { return !d.left[m.Name] }) {
			d.setBond(want, Bond{Options: want.Options}, true) // all have left for elsewhere, and the address with them
		}
		for _, m := range want.Members {
			if have.at(m.Name) < 0 && d.busy(m.Name) {
				d.join(name, m)
			}
		}
		d.settleBond(want, have)
		d.announceOver(want)
	}
}

// announceOver tells the network again where the host is that lives on a bond or on the
// switch that it is the uplink of. A NIC that was up beside the one of the host may have
// answered for it, with an address that it has not any more as a member.
func (d *differ) announceOver(b Bond) {
	d.announce(b.Name)
	bridge := d.desired.Ports[b.Name].Bridge
	for _, name := range sorted(d.desired.Ports) {
		if p := d.desired.Ports[name]; bridge != "" && p.Bridge == bridge && p.Endpoint != nil && p.Endpoint.Netns == "" {
			d.announce(p.Endpoint.Name)
		}
	}
}

// join puts a NIC into a bond, by way of its going down.
func (d *differ) join(bond string, m Member) {
	if other := d.bondOf(m.Name); other != "" && other != bond {
		d.leave(other, Member{Name: m.Name})
	}
	d.add(TakeDown{Name: m.Name})
	d.add(AddMember{Bond: bond, Member: m})
}

// bondOf is the bond that a NIC was observed in.
func (d *differ) bondOf(nic string) string {
	for name, b := range d.observed.Bonds {
		if b.at(nic) >= 0 {
			return name
		}
	}
	return ""
}

// busy reports that a NIC is to be left by a bridge or by the host before it can become
// a member of a bond, or that it is the member of another one that keeps going.
func (d *differ) busy(nic string) bool {
	if p, there := d.observed.Ports[nic]; there && p.Bridge != "" {
		return true
	}
	for _, i := range d.observed.Hosts[nic].Items {
		if !i.Passing {
			return true
		}
	}
	return false
}

// bondsGone removes bonds that are not wanted, once nothing is on them.
func (d *differ) bondsGone() {
	for _, name := range sorted(d.observed.Bonds) {
		if _, keep := d.desired.Bonds[name]; keep {
			continue
		}
		have := d.observed.Bonds[name]
		for _, m := range have.Members {
			d.leave(name, m)
		}
		d.add(DeleteBond{Name: name})
	}
}

// sameBond compares what SetBond sets.
func sameBond(want, have Bond) bool {
	have.Options.Primary = want.Options.Primary
	return want.MAC == have.MAC && want.Alias == have.Alias && want.Up == have.Up &&
		want.LinkLocal == have.LinkLocal && want.Options == have.Options
}

// restarts reports that the kernel takes the change only from a bond that is down.
func restarts(want, have BondOptions) bool {
	return want.Mode != have.Mode || want.LACPSlow != have.LACPSlow
}

// bonding reports whether a name is that of a bond that is to be or was.
func (d *differ) bonding(name string) bool {
	_, want := d.desired.Bonds[name]
	_, have := d.observed.Bonds[name]
	return want || have
}
