package vswitch

import (
	"errors"
	"fmt"
	"slices"
)

// Validate reports every problem: VLANModeIncomplete for what the mode needs and is not
// there, VLANRange for ids outside 1-4094, Invalid for what belongs to another mode.
func (v PortVLAN) Validate() error {
	if v.Mode != "" && !slices.Contains(VLANModes(), v.Mode) {
		return &Error{
			Kind: Invalid, Object: "vlan", Err: fmt.Errorf("mode %.32q is unknown", string(v.Mode)),
			Hint: "use untagged, access, trunk, isolated, community or promiscuous",
		}
	}
	var errs []error
	private := v.Mode == Isolated || v.Mode == Community
	for _, field := range []struct {
		name   string
		given  bool
		wanted bool
		ids    []int
	}{
		{"id", v.ID != 0, v.Mode == Access, []int{v.ID}},
		{"native", v.Native != 0, v.Mode == Trunk, []int{v.Native}},
		{"allowed", len(v.Allowed) > 0, v.Mode == Trunk, v.Allowed.ends()},
		{"primary", v.Primary != 0, v.Private(), []int{v.Primary}},
		{"secondary", v.Secondary != 0, private, []int{v.Secondary}},
		{"secondaries", len(v.Secondaries) > 0, v.Mode == Promiscuous, v.Secondaries.ends()},
	} {
		switch {
		case field.given && !field.wanted:
			errs = append(errs, &Error{Kind: Invalid, Object: "vlan", Err: fmt.Errorf("%q does not belong to mode %s", field.name, v.modeName())})
		case !field.given && field.wanted:
			errs = append(errs, incomplete("mode %s needs %q; write it like %s", v.Mode, field.name, v.example()))
		case field.wanted:
			errs = append(errs, v.validate(field.ids...))
		}
	}
	if private && v.Primary != 0 && v.Primary == v.Secondary || v.Mode == Promiscuous && v.Secondaries.Contains(v.Primary) {
		errs = append(errs, incomplete("VLAN %d is the primary one and cannot be a secondary one too", v.Primary))
	}
	return errors.Join(errs...)
}

func (v PortVLAN) validate(ids ...int) (err error) {
	for _, id := range ids {
		err = errors.Join(err, checkVLAN(id))
	}
	return err
}

func (v PortVLAN) modeName() VLANMode {
	if v.Mode == "" {
		return Untagged
	}
	return v.Mode
}

func (v VLANSet) ends() (ids []int) {
	for _, s := range v {
		ids = append(ids, s.First, s.Last)
	}
	return ids
}

func incomplete(format string, args ...any) error {
	return &Error{Kind: VLANModeIncomplete, Object: "vlan", Err: fmt.Errorf(format, args...)}
}

// Membership is what VLANs a bridge's port is in: those that leave it with their tags and
// those that leave it without, and the one that frames without a tag come into. The zero
// value is no statement at all.
type Membership struct {
	PVID             int
	Untagged, Tagged VLANSet
}

// IsZero reports whether nothing is said.
func (m Membership) IsZero() bool { return m.PVID == 0 && len(m.Untagged) == 0 && len(m.Tagged) == 0 }

// Equal reports whether both are the same.
func (m Membership) Equal(other Membership) bool {
	return m.PVID == other.PVID && m.Untagged.Equal(other.Untagged) && m.Tagged.Equal(other.Tagged)
}

// All are the VLANs that the port is in.
func (m Membership) All() VLANSet { return m.Untagged.Union(m.Tagged) }

// Membership is what the port is in on a switch whose untagged traffic is in VLAN
// internal. A static forwarding entry belongs into each of them, or frames would flood.
func (v PortVLAN) Membership(internal int) Membership {
	switch v.Mode {
	case Access:
		return Membership{PVID: v.ID, Untagged: VLANs(v.ID)}
	case Trunk:
		return Membership{PVID: v.Native, Untagged: VLANs(v.Native), Tagged: v.Allowed.Minus(VLANs(v.Native))}
	case Isolated, Community:
		return Membership{PVID: v.Secondary, Untagged: VLANs(v.Primary, v.Secondary)}
	case Promiscuous:
		return Membership{PVID: v.Primary, Untagged: v.Secondaries.Union(VLANs(v.Primary))}
	}
	return Membership{PVID: internal, Untagged: VLANs(internal)}
}

// Uses are the VLANs that the port needs its switch to carry: none for an untagged one.
func (v PortVLAN) Uses() VLANSet {
	if v.IsZero() {
		return nil
	}
	return v.Membership(0).All()
}

// CarryVLANs is the membership of what leads away from a bridge, an uplink or a trunk of
// the switch's own: all VLANs that are carried with their tags, the internal one without.
func CarryVLANs(internal int, carried VLANSet) Membership {
	own := VLANs(internal)
	return Membership{PVID: internal, Untagged: own, Tagged: carried.Minus(own)}
}

// InternalVLAN chooses the VLAN of a switch's untagged traffic, which never leaves the
// host as a tag: the present one, or the highest that nobody uses. A present of 0 stands
// for none yet. With all 4094 in use there is none: Conflict.
func InternalVLAN(present int, used VLANSet) (int, error) {
	if present != 0 && !used.Contains(present) {
		return present, nil
	}
	free := VLANSet{{MinVLAN, MaxVLAN}}.Minus(used)
	if len(free) == 0 {
		return 0, &Error{
			Kind: Conflict, Object: "vlan", Err: fmt.Errorf("the ports of the switch would use all VLANs of %d-%d, and its untagged traffic needs one", MinVLAN, MaxVLAN),
			Hint: fmt.Sprintf("leave a VLAN out that nobody uses, for example with a trunk of %d-%d", MinVLAN, MaxVLAN-1),
		}
	}
	return free[len(free)-1].Last, nil
}

// CheckVLANs measures the ports of one switch against each other; host is the VLAN of its
// host port, 0 for none. A secondary VLAN belongs to one primary and is either isolated or
// a community; a primary has one isolated VLAN at most; and nobody is a plain member of a
// secondary VLAN, which would be a hole in it. Each violation is a Conflict.
func CheckVLANs(ports []PortVLAN, host int) error {
	var p problems
	conflict := func(format string, args ...any) {
		p.found(Conflict, "vlan", format, args...).Hint = "choose another VLAN; `patchbay port list` shows those of the ports"
	}
	primary, mode, isolated := make(map[int]int), make(map[int]VLANMode), make(map[int]int)
	for _, v := range ports {
		secondaries := v.Secondaries
		if v.Mode == Isolated || v.Mode == Community {
			secondaries = VLANs(v.Secondary)
			if was, known := mode[v.Secondary]; known && was != v.Mode {
				conflict("secondary VLAN %d would be both isolated and a community", v.Secondary)
			}
			mode[v.Secondary] = v.Mode
		}
		for id := range secondaries.All() {
			if of, known := primary[id]; known && of != v.Primary {
				conflict("secondary VLAN %d would belong to two primary VLANs, %d and %d", id, of, v.Primary)
			}
			primary[id] = v.Primary
		}
		if v.Mode != Isolated {
			continue
		}
		if of, known := isolated[v.Primary]; known && of != v.Secondary {
			conflict("primary VLAN %d would have two isolated VLANs, %d and %d", v.Primary, of, v.Secondary)
		}
		isolated[v.Primary] = v.Secondary
	}
	for _, v := range ports {
		if of, secondary := primary[v.Primary]; secondary && v.Private() {
			conflict("VLAN %d is a secondary VLAN of %d and cannot be a primary one", v.Primary, of)
		}
		if of, secondary := primary[v.plain()]; secondary {
			conflict("VLAN %d is a secondary VLAN of %d: a port in it is isolated or of its community", v.plain(), of)
		}
	}
	if of, secondary := primary[host]; secondary {
		conflict("VLAN %d of the host port is a secondary VLAN of %d", host, of)
	}
	return p.join()
}

// plain is the VLAN in which an owner that knows nothing of VLANs takes part as any other.
func (v PortVLAN) plain() int {
	if v.Mode == Trunk {
		return v.Native
	}
	return v.ID
}
