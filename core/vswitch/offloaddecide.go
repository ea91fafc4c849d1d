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
}

// OffloadUsage is what a port has of the uplink as things stand.
type OffloadUsage struct {
	VMQ bool // a queue
	VF  bool
	SAs int // how many SAs there are of the port, in software or not
	// OffloadedSAs is how many of them the NIC holds.
	OffloadedSAs int
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
	// Capacity is that of Capability; Used is without what is Foreign.
	Capacity int `json:"capacity"`
	Foreign  int `json:"foreign,omitempty"`
	Used     int `json:"used"`
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
	vmq := decideQueues(ordered, uplink, usage, sriov)
	ipsec := decideSAs(ordered, uplink, usage)
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

func decideQueues(ports []OffloadPort, uplink OffloadUplink, usage map[string]OffloadUsage, vfs []OffloadDecision) []OffloadDecision {
	decisions, open := undecided(VMQ, ports, uplink)
	for i := range decisions {
		if vfs[i].Effective && decisions[i].Requested != OffloadOff {
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

// decideSAs lets every port keep what the NIC holds for it, and shares the rest.
func decideSAs(ports []OffloadPort, uplink OffloadUplink, usage map[string]OffloadUsage) []OffloadDecision {
	decisions, open := undecided(IPsec, ports, uplink)
	free := uplink.capability(IPsec).free()
	for _, i := range open {
		free -= usage[ports[i].ID].OffloadedSAs
	}
	ranking{
		IPsec, ports,
		func(p OffloadPort) bool { return usage[p.ID].OffloadedSAs > 0 },
		func(OffloadPort) bool { return false },
	}.order(open)
	for _, i := range open {
		d, u, most := &decisions[i], usage[ports[i].ID], ports[i].Policy.Wish(IPsec).Amount
		more := max(0, min(u.SAs, most)-u.OffloadedSAs)
		granted := min(more, max(0, free))
		free -= granted
		d.Amount = u.OffloadedSAs + granted
		switch {
		case u.SAs > d.Amount && granted < more:
			d.Reason, d.Detail = NoFreeSA, fmt.Sprintf("%d of %d SAs", d.Amount, u.SAs)
		case u.SAs > d.Amount:
			d.Reason, d.Detail = LimitReached, fmt.Sprintf("%d of %d SAs", d.Amount, u.SAs)
		}
		d.Effective = d.Amount > 0 || u.SAs == 0
	}
	return decisions
}

// OffloadTotals sums up the decisions on a switch's ports.
func OffloadTotals(decisions []OffloadDecision, uplink OffloadUplink) []OffloadTotal {
	totals := make([]OffloadTotal, 0, len(Features()))
	for _, f := range Features() {
		c := uplink.capability(f)
		t := OffloadTotal{Feature: f, Missing: c.Missing, Capacity: c.Capacity, Foreign: c.Foreign}
		for _, d := range decisions {
			switch {
			case d.Feature != f || !d.Effective || d.Reason == QueuesOfVF:
			case f == IPsec:
				t.Used += d.Amount
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
