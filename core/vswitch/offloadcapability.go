package vswitch

// Capability is what a NIC can do of one feature. The zero value is that of a NIC that no
// provider serves.
type Capability struct {
	// Missing says why the feature cannot be had at all; "" where it can.
	Missing Reason `json:"missing,omitempty"`
	// Capacity is how many ports the NIC can serve (VMQ, SR-IOV), or how many SAs it holds
	// (IPsec); Unlimited where nobody can tell before it refuses.
	Capacity int `json:"capacity,omitempty"`
	// Foreign is how much of the capacity is taken by others than ports of Patchbay.
	Foreign int `json:"foreign,omitempty"`
	// QueuePairs is the most that one VF can have, 0 for 1; Moderation says that those of
	// VFs can be set. Both are of SR-IOV alone.
	QueuePairs int  `json:"queuePairs,omitempty"`
	Moderation bool `json:"moderation,omitempty"`
	// VMs says why VFs serve containers but not VMs: NoIOMMU or NoACS. Of SR-IOV alone.
	VMs Reason `json:"vms,omitempty"`
}

// Unlimited is the capacity that is not known.
const Unlimited = -1

// free is what there is for ports of Patchbay; many where nobody knows.
func (c Capability) free() int {
	const many = 1<<31 - 1
	if c.Capacity < 0 {
		return many
	}
	return max(0, c.Capacity-max(0, c.Foreign))
}

// Capabilities are those of a NIC, or of a team.
type Capabilities struct {
	VMQ   Capability `json:"vmq,omitzero"`
	SRIOV Capability `json:"sriov,omitzero"`
	IPsec Capability `json:"ipsec,omitzero"`
}

// Of is the capability of one feature.
func (c Capabilities) Of(f Feature) Capability {
	switch f {
	case VMQ:
		return c.VMQ
	case SRIOV:
		return c.SRIOV
	case IPsec:
		return c.IPsec
	}
	return Capability{Missing: NoDriverSupport}
}

// Set replaces the capability of one feature.
func (c *Capabilities) Set(f Feature, to Capability) {
	switch f {
	case VMQ:
		c.VMQ = to
	case SRIOV:
		c.SRIOV = to
	case IPsec:
		c.IPsec = to
	}
}

// OffloadUplink is what decides about offloads besides the ports: what is below the switch.
type OffloadUplink struct {
	// None is a switch without an uplink: Internal or Private.
	None bool `json:"none,omitempty"`
	// SRIOV is what the switch was made with; it never changes.
	SRIOV bool `json:"sriov,omitempty"`
	// Team is the mode of a team, "" for a single NIC. VFLAG says that its NICs share
	// their VFs.
	Team  TeamMode `json:"team,omitempty"`
	VFLAG bool     `json:"vfLag,omitempty"`
	// Capabilities are the NIC's, or TeamCapabilities of the members with a link.
	Capabilities Capabilities `json:"capabilities,omitzero"`
}

// capability is what of the uplink's serves the switch's ports: Missing says why nothing does.
func (u OffloadUplink) capability(f Feature) Capability {
	c := u.Capabilities.Of(f)
	switch {
	case f == SRIOV && !u.SRIOV:
		return Capability{Missing: SwitchWithout}
	case u.None:
		return Capability{Missing: NoUplink}
	case f == SRIOV && u.Team != "" && !u.VFLAG:
		return Capability{Missing: TeamWithoutVFLAG}
	case f == IPsec && u.Team != "" && u.Team != TeamActiveStandby:
		return Capability{Missing: TeamModeUnfit}
	case c == Capability{}:
		return Capability{Missing: NoProvider}
	}
	return c
}

// TeamCapabilities is what a team can do whose members, those with a link, can do these.
// Where each guest's frames come in on one member the members' queues add up; else a port
// needs a queue on every one (Hyper-V: sum-of-queues, min-queues). VFs and SAs are of one
// member or must fit on each.
func TeamCapabilities(mode TeamMode, members []Capabilities) Capabilities {
	var all [3][]Capability
	for _, m := range members {
		all[0], all[1], all[2] = append(all[0], m.VMQ), append(all[1], m.SRIOV), append(all[2], m.IPsec)
	}
	vmq := least(all[0])
	if mode == TeamActiveActive {
		vmq = sum(all[0])
	}
	return Capabilities{VMQ: vmq, SRIOV: least(all[1]), IPsec: least(all[2])}
}

// least is what each of the members can do.
func least(members []Capability) Capability {
	if len(members) == 0 {
		return Capability{}
	}
	c := members[0]
	for _, m := range members[1:] {
		switch {
		case c == (Capability{}) || c.Missing != "":
			return c
		case m == (Capability{}) || m.Missing != "":
			return m
		}
		if m.free() < c.free() {
			c.Capacity, c.Foreign = m.Capacity, m.Foreign
		}
		c.QueuePairs, c.Moderation = min(c.QueuePairs, m.QueuePairs), c.Moderation && m.Moderation
		if c.VMs == "" {
			c.VMs = m.VMs
		}
	}
	return c
}

// sum is what the members that can do it can do together.
func sum(members []Capability) Capability {
	var c Capability
	for _, m := range members {
		switch {
		case m == (Capability{}):
		case m.Missing != "":
			if c == (Capability{}) {
				c = m
			}
		case c.Missing != "":
			c = m
		case c.Capacity < 0 || m.Capacity < 0:
			c = Capability{Capacity: Unlimited}
		default:
			c.Capacity, c.Foreign = c.Capacity+m.Capacity, c.Foreign+m.Foreign
		}
	}
	return c
}
