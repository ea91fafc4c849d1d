package vswitch

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// OffloadPort is a port as far as offloads go.
type OffloadPort struct {
	ID     string
	Owner  OwnerKind
	Policy OffloadPolicy
	// Software is what SoftwareOnly says of the port.
	Software []string
	// Failover says that the port has a software path beside its VF, so that the VF can be
	// taken from it while it is in use.
	Failover bool
	// Settled says that the port works without a VF and can get none while it is attached.
	Settled bool
	// Refused says that a plugin has not given the VF when it was asked for it. Until it does,
	// the port is decided about as one that goes by the switch.
	Refused bool
}

// OffloadUsage is what a port has of the uplink as things stand.
type OffloadUsage struct {
	VMQ bool // a queue
	VF  bool
	SAs int // that the NIC holds
}

// OffloadDecision is what a port is to have of a feature, and why not more.
type OffloadDecision struct {
	Port      string      `json:"port"`
	Feature   Feature     `json:"feature"`
	Requested OffloadMode `json:"requested"`
	Effective bool        `json:"effective"`
	// Reason is why not; of a feature that is in effect, why not as it was asked for.
	Reason Reason `json:"reason,omitempty"`
	// Detail names what the reason is about.
	Detail string `json:"detail,omitempty"`
	// Amount is how many SAs the NIC may hold, or how many queue pairs the VF is to have.
	Amount int `json:"amount,omitempty"`
}

// OffloadTotal is how much of a feature the uplink of a switch has, and what its ports hold.
type OffloadTotal struct {
	Feature Feature `json:"feature"`
	Missing Reason  `json:"missing,omitempty"`
	// NIC is who has it: of a team, the member that carries all.
	NIC string `json:"nic,omitempty"`
	// Capacity is that of Capability; Used is without what is Foreign.
	Capacity int `json:"capacity"`
	Foreign  int `json:"foreign,omitempty"`
	Used     int `json:"used"`
	// Allowed is how many SAs the NIC may hold for all ports together, as far as they go. Of
	// IPsec.
	Allowed int `json:"allowed,omitempty"`
}

// Decide says for each of a switch's ports and each feature whether it is to be in effect,
// in the order of the ports' ids and of Features. It is pure: the same arguments in any
// order make the same decisions, and with the decisions carried out it decides the same
// again.
//
// Where there is less than is asked for, ports that require a feature come first, then
// those with more weight, then those that have it already, then the lesser id. A port that
// requires what it has keeps it, and so does one with a VF in use that nothing can replace.
func Decide(ports []OffloadPort, uplink OffloadUplink, usage map[string]OffloadUsage) []OffloadDecision {
	ordered := slices.SortedFunc(slices.Values(ports), func(a, b OffloadPort) int { return cmp.Compare(a.ID, b.ID) })
	sriov := decideVFs(ordered, uplink, usage)
	byVF := make([]bool, len(ordered))
	for i, p := range ordered {
		byVF[i] = sriov[i].Effective && (usage[p.ID].VF || !p.Refused)
	}
	vmq := decideQueues(ordered, uplink, usage, byVF)
	ipsec := decideSAs(ordered, uplink, usage, byVF)
	decisions := make([]OffloadDecision, 0, len(Features())*len(ordered))
	for i := range ordered {
		decisions = append(decisions, sriov[i], vmq[i], ipsec[i])
	}
	return decisions
}

// undecided are the decisions on a feature as far as the port alone and the uplink alone
// make them, and the ports (by index) that contend for the rest.
func undecided(f Feature, ports []OffloadPort, uplink OffloadUplink) (decisions []OffloadDecision, open []int) {
	missing := uplink.capability(f).Missing
	for i, p := range ports {
		d := OffloadDecision{Port: p.ID, Feature: f, Requested: p.Policy.Wish(f).Mode, Reason: missing}
		if d.Requested == OffloadOff {
			d.Reason = NotAsked
		}
		if d.Reason == "" {
			open = append(open, i)
		}
		decisions = append(decisions, d)
	}
	return decisions, open
}

// ranking puts contenders in the order in which they are served.
type ranking struct {
	feature Feature
	ports   []OffloadPort
	has     func(OffloadPort) bool
	fixed   func(OffloadPort) bool // what it has cannot be taken from it
}

func (r ranking) order(open []int) {
	first := func(a, b bool) int { // true before false
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	slices.SortFunc(open, func(x, y int) int {
		a, b := r.ports[x], r.ports[y]
		wa, wb := a.Policy.Wish(r.feature), b.Policy.Wish(r.feature)
		keeps := func(p OffloadPort, w Wish) bool { return r.has(p) && (w.Mode == OffloadRequire || r.fixed(p)) }
		return cmp.Or(
			first(keeps(a, wa), keeps(b, wb)),
			first(wa.Mode == OffloadRequire, wb.Mode == OffloadRequire),
			cmp.Compare(wb.Amount, wa.Amount),
			first(r.has(a), r.has(b)),
			cmp.Compare(a.ID, b.ID),
		)
	})
}

func decideVFs(ports []OffloadPort, uplink OffloadUplink, usage map[string]OffloadUsage) []OffloadDecision {
	decisions, open := undecided(SRIOV, ports, uplink)
	capability := uplink.capability(SRIOV)
	open = slices.DeleteFunc(open, func(i int) bool {
		switch {
		case ports[i].Owner == OwnerVM && capability.VMs != "":
			decisions[i].Reason = capability.VMs
		case ports[i].Owner == OwnerVM:
			decisions[i].Reason = VFOfLibvirt
		case len(ports[i].Software) > 0:
			decisions[i].Reason, decisions[i].Detail = NeedsSoftwarePath, strings.Join(ports[i].Software, ", ")
		}
		return decisions[i].Reason != ""
	})
	ranking{
		SRIOV, ports,
		func(p OffloadPort) bool { return usage[p.ID].VF },
		func(p OffloadPort) bool { return !p.Failover },
	}.order(open)
	free := capability.free()
	for _, i := range open {
		switch {
		case free <= 0:
			decisions[i].Reason = NoFreeVF
			continue
		case ports[i].Settled && !usage[ports[i].ID].VF:
			decisions[i].Reason = AttachedWithout
			continue
		}
		free--
		decisions[i].Effective = true
		shapeVF(&decisions[i], ports[i].Policy.SRIOV, capability)
	}
	return decisions
}

// shapeVF says what the VF gets of what was asked for it.
func shapeVF(d *OffloadDecision, asked SRIOVPolicy, c Capability) {
	pairs := asked.QueuePairs.Or(DefaultQueuePairs)
	d.Amount = min(pairs, max(1, c.QueuePairs))
	switch {
	case d.Amount < pairs:
		d.Reason, d.Detail = LimitReached, fmt.Sprintf("%d queue pairs of %d", d.Amount, pairs)
	case asked.Moderation != "" && asked.Moderation != ModerationDefault && !c.Moderation:
		d.Reason, d.Detail = ModerationFixed, string(asked.Moderation)
	}
}

func decideQueues(ports []OffloadPort, uplink OffloadUplink, usage map[string]OffloadUsage, byVF []bool) []OffloadDecision {
	decisions, open := undecided(VMQ, ports, uplink)
	for i := range decisions {
		if byVF[i] && decisions[i].Requested != OffloadOff {
			decisions[i].Effective, decisions[i].Reason = true, QueuesOfVF
		}
	}
	open = slices.DeleteFunc(open, func(i int) bool { return decisions[i].Effective })
	ranking{
		VMQ, ports,
		func(p OffloadPort) bool { return usage[p.ID].VMQ },
		func(OffloadPort) bool { return false },
	}.order(open)
	free := uplink.capability(VMQ).free()
	for n, i := range open {
		if decisions[i].Effective = n < free; !decisions[i].Effective {
			decisions[i].Reason = NoFreeFilter
		}
	}
	return decisions
}

// decideSAs says how many SAs the NIC may hold for each port. Which SAs those are is the
// plugin's to say, who came first: what the NIC holds is not taken from it for another port.
//
// The kernel has a device encrypt what is sent by that very device in the namespace of the SA:
// no plugin can do it for a container that has but the end of a pair, nor for a VM.
func decideSAs(ports []OffloadPort, uplink OffloadUplink, usage map[string]OffloadUsage, byVF []bool) []OffloadDecision {
	decisions, open := undecided(IPsec, ports, uplink)
	free := uplink.capability(IPsec).free()
	for _, i := range open {
		d, p := &decisions[i], ports[i]
		switch {
		case p.Owner == OwnerVM:
			d.Reason, d.Detail = NeedsSoftwarePath, "a VM's SAs are in the VM, where its own kernel gives them to its VF"
		case p.Owner == OwnerContainer && !byVF[i]:
			d.Reason, d.Detail = NeedsSoftwarePath, "the container has no VF, and its packets pass the switch"
		case free == 0 && usage[p.ID].SAs == 0:
			d.Reason = NoFreeSA
		default:
			d.Effective, d.Amount = true, p.Policy.Wish(IPsec).Amount
		}
	}
	return decisions
}

// OffloadTotals sums up the decisions on a switch's ports, and what they have.
func OffloadTotals(decisions []OffloadDecision, uplink OffloadUplink, usage map[string]OffloadUsage) []OffloadTotal {
	totals := make([]OffloadTotal, 0, len(Features()))
	for _, f := range Features() {
		c := uplink.capability(f)
		t := OffloadTotal{Feature: f, Missing: c.Missing, Capacity: c.Capacity, Foreign: c.Foreign}
		for _, d := range decisions {
			switch {
			case d.Feature != f || !d.Effective || d.Reason == QueuesOfVF:
			case f == IPsec:
				t.Used, t.Allowed = t.Used+usage[d.Port].SAs, t.Allowed+d.Amount
			default:
				t.Used++
			}
		}
		totals = append(totals, t)
	}
	return totals
}

// Unmet is an error for each decision that denies what a port requires; nil without any.
// An attach fails with those of its port.
func Unmet(decisions []OffloadDecision) error {
	var errs []error
	for _, d := range decisions {
		if d.Requested != OffloadRequire || d.Effective {
			continue
		}
		cause, hint := d.Reason.Words()
		if d.Detail != "" {
			cause += ": " + d.Detail
		}
		errs = append(errs, &Error{Kind: CapabilityMissing, Object: "port " + d.Port, Err: fmt.Errorf("%s is required: %s", d.Feature, cause), Hint: hint})
	}
	return errors.Join(errs...)
}
