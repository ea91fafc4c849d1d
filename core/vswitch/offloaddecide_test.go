package vswitch_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// nic can do everything, for n ports or SAs.
func nic(n int) vswitch.OffloadUplink {
	one := vswitch.Capability{Capacity: n}
	return vswitch.OffloadUplink{SRIOV: true, Capabilities: vswitch.Capabilities{VMQ: one, SRIOV: one, IPsec: one}}
}

func host(id string, p vswitch.OffloadPolicy) vswitch.OffloadPort {
	return vswitch.OffloadPort{ID: id, Owner: vswitch.OwnerHost, Policy: p}
}

func container(id string, p vswitch.OffloadPolicy) vswitch.OffloadPort {
	return vswitch.OffloadPort{ID: id, Owner: vswitch.OwnerContainer, Policy: p}
}

func wantsVF(weight int) vswitch.OffloadPolicy {
	return vswitch.OffloadPolicy{SRIOV: vswitch.SRIOVPolicy{Weight: number(weight)}}
}

func wantsQueue(weight int) vswitch.OffloadPolicy {
	return vswitch.OffloadPolicy{VMQ: vswitch.VMQPolicy{Weight: number(weight)}}
}

func requires(f vswitch.Feature) (p vswitch.OffloadPolicy) {
	switch f {
	case vswitch.VMQ:
		p.VMQ.Mode = vswitch.OffloadRequire
	case vswitch.SRIOV:
		p.SRIOV.Mode = vswitch.OffloadRequire
	case vswitch.IPsec:
		p.IPsec.Mode = vswitch.OffloadRequire
	}
	return p
}

// words are the decisions on one feature: "a yes, b NO_FREE_VF, c yes 4 LIMIT_REACHED (4 queue pairs of 8)".
func words(decisions []vswitch.OffloadDecision, f vswitch.Feature) string {
	var all []string
	for _, d := range decisions {
		if d.Feature != f {
			continue
		}
		text := d.Port
		if d.Effective {
			text += " yes"
		}
		if d.Amount != 0 {
			text += fmt.Sprintf(" %d", d.Amount)
		}
		if d.Reason != "" {
			text += " " + string(d.Reason)
		}
		if d.Detail != "" {
			text += " (" + d.Detail + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

func TestDecide(t *testing.T) {
	vm := vswitch.OffloadPort{ID: "a", Owner: vswitch.OwnerVM, Policy: wantsVF(1)}
	with := func(u vswitch.OffloadUplink, change func(*vswitch.OffloadUplink)) vswitch.OffloadUplink {
		change(&u)
		return u
	}
	software := container("a", wantsVF(1))
	software.Software = []string{"acl", "mirror"}
	failover := func(p vswitch.OffloadPort) vswitch.OffloadPort { p.Failover = true; return p }
	refused := container("a", wantsVF(1))
	refused.Refused = true
	holdsVF := map[string]vswitch.OffloadUsage{"a": {VF: true}}
	for name, c := range map[string]struct {
		ports   []vswitch.OffloadPort
		uplink  vswitch.OffloadUplink
		usage   map[string]vswitch.OffloadUsage
		feature vswitch.Feature
		want    string
	}{
		"a VF for each":                      {ports: []vswitch.OffloadPort{container("b", wantsVF(1)), container("a", wantsVF(1))}, uplink: nic(2), feature: vswitch.SRIOV, want: "a yes 1, b yes 1"},
		"by weight":                          {ports: []vswitch.OffloadPort{container("a", wantsVF(1)), container("b", wantsVF(3)), container("c", wantsVF(2))}, uplink: nic(2), feature: vswitch.SRIOV, want: "a NO_FREE_VF, b yes 1, c yes 1"},
		"the lesser id of equals":            {ports: []vswitch.OffloadPort{container("b", wantsVF(1)), container("a", wantsVF(1))}, uplink: nic(1), feature: vswitch.SRIOV, want: "a yes 1, b NO_FREE_VF"},
		"required before any weight":         {ports: []vswitch.OffloadPort{container("a", wantsVF(100)), container("b", requires(vswitch.SRIOV))}, uplink: nic(1), feature: vswitch.SRIOV, want: "a NO_FREE_VF, b yes 1"},
		"a VF in use stays":                  {ports: []vswitch.OffloadPort{container("a", wantsVF(1)), container("b", requires(vswitch.SRIOV))}, uplink: nic(1), usage: holdsVF, feature: vswitch.SRIOV, want: "a yes 1, b NO_FREE_VF"},
		"a VF with a standby goes":           {ports: []vswitch.OffloadPort{failover(container("a", wantsVF(1))), container("b", wantsVF(2))}, uplink: nic(1), usage: holdsVF, feature: vswitch.SRIOV, want: "a NO_FREE_VF, b yes 1"},
		"and stays among equals":             {ports: []vswitch.OffloadPort{failover(container("b", wantsVF(1))), container("a", wantsVF(1))}, uplink: nic(1), usage: map[string]vswitch.OffloadUsage{"b": {VF: true}}, feature: vswitch.SRIOV, want: "a NO_FREE_VF, b yes 1"},
		"what is required and had stays":     {ports: []vswitch.OffloadPort{failover(container("a", requires(vswitch.SRIOV))), container("b", requires(vswitch.SRIOV))}, uplink: nic(1), usage: holdsVF, feature: vswitch.SRIOV, want: "a yes 1, b NO_FREE_VF"},
		"a refused VF is asked for again":    {ports: []vswitch.OffloadPort{refused}, uplink: nic(1), feature: vswitch.SRIOV, want: "a yes 1"},
		"a queue while it is refused":        {ports: []vswitch.OffloadPort{refused}, uplink: nic(1), feature: vswitch.VMQ, want: "a yes"},
		"and no SAs":                         {ports: []vswitch.OffloadPort{refused}, uplink: nic(1), feature: vswitch.IPsec, want: "a NEEDS_SOFTWARE_PATH (the container has no VF, and its packets pass the switch)"},
		"queues of the VF that stays":        {ports: []vswitch.OffloadPort{refused}, uplink: nic(1), usage: holdsVF, feature: vswitch.VMQ, want: "a yes QUEUES_OF_VF"},
		"not asked":                          {ports: []vswitch.OffloadPort{container("a", vswitch.OffloadPolicy{})}, uplink: nic(1), feature: vswitch.SRIOV, want: "a NOT_ASKED"},
		"a switch made without":              {ports: []vswitch.OffloadPort{container("a", wantsVF(1))}, uplink: with(nic(1), func(u *vswitch.OffloadUplink) { u.SRIOV = false }), feature: vswitch.SRIOV, want: "a SWITCH_WITHOUT"},
		"a closed switch":                    {ports: []vswitch.OffloadPort{container("a", wantsQueue(1))}, uplink: vswitch.OffloadUplink{None: true}, feature: vswitch.VMQ, want: "a NO_UPLINK"},
		"a NIC without a plugin":             {ports: []vswitch.OffloadPort{container("a", wantsQueue(1))}, feature: vswitch.VMQ, want: "a NO_PROVIDER"},
		"a team":                             {ports: []vswitch.OffloadPort{container("a", wantsVF(1))}, uplink: with(nic(1), func(u *vswitch.OffloadUplink) { u.Team = vswitch.TeamLACP }), feature: vswitch.SRIOV, want: "a TEAM_WITHOUT_VF_LAG"},
		"a team with VF LAG":                 {ports: []vswitch.OffloadPort{container("a", wantsVF(1))}, uplink: with(nic(1), func(u *vswitch.OffloadUplink) { u.Team, u.VFLAG = vswitch.TeamLACP, true }), feature: vswitch.SRIOV, want: "a yes 1"},
		"SAs on a team":                      {ports: []vswitch.OffloadPort{host("a", vswitch.OffloadPolicy{})}, uplink: with(nic(1), func(u *vswitch.OffloadUplink) { u.Team = vswitch.TeamActiveActive }), feature: vswitch.IPsec, want: "a TEAM_MODE"},
		"SAs on a team with a standby":       {ports: []vswitch.OffloadPort{host("a", vswitch.OffloadPolicy{})}, uplink: with(nic(1), func(u *vswitch.OffloadUplink) { u.Team = vswitch.TeamActiveStandby }), feature: vswitch.IPsec, want: "a yes 512"},
		"what the driver says":               {ports: []vswitch.OffloadPort{container("a", wantsVF(1))}, uplink: with(nic(1), func(u *vswitch.OffloadUplink) { u.Capabilities.SRIOV = vswitch.Capability{Missing: vswitch.NoVFMemory} }), feature: vswitch.SRIOV, want: "a NO_VF_MEMORY"},
		"a VM without an IOMMU":              {ports: []vswitch.OffloadPort{vm}, uplink: with(nic(1), func(u *vswitch.OffloadUplink) { u.Capabilities.SRIOV.VMs = vswitch.NoIOMMU }), feature: vswitch.SRIOV, want: "a NO_IOMMU"},
		"a container does not need it":       {ports: []vswitch.OffloadPort{container("a", wantsVF(1))}, uplink: with(nic(1), func(u *vswitch.OffloadUplink) { u.Capabilities.SRIOV.VMs = vswitch.NoIOMMU }), feature: vswitch.SRIOV, want: "a yes 1"},
		"software alone":                     {ports: []vswitch.OffloadPort{software}, uplink: nic(1), feature: vswitch.SRIOV, want: "a NEEDS_SOFTWARE_PATH (acl, mirror)"},
		"others hold VFs":                    {ports: []vswitch.OffloadPort{container("a", wantsVF(1))}, uplink: with(nic(2), func(u *vswitch.OffloadUplink) { u.Capabilities.SRIOV.Foreign = 2 }), feature: vswitch.SRIOV, want: "a NO_FREE_VF"},
		"more queue pairs than there are":    {ports: []vswitch.OffloadPort{container("a", vswitch.OffloadPolicy{SRIOV: vswitch.SRIOVPolicy{Weight: number(1), QueuePairs: number(8)}})}, uplink: with(nic(1), func(u *vswitch.OffloadUplink) { u.Capabilities.SRIOV.QueuePairs = 4 }), feature: vswitch.SRIOV, want: "a yes 4 LIMIT_REACHED (4 queue pairs of 8)"},
		"moderation that there is not":       {ports: []vswitch.OffloadPort{container("a", vswitch.OffloadPolicy{SRIOV: vswitch.SRIOVPolicy{Weight: number(1), Moderation: vswitch.ModerationLow}})}, uplink: nic(1), feature: vswitch.SRIOV, want: "a yes 1 MODERATION_FIXED (low)"},
		"a port with a VF spends no queue":   {ports: []vswitch.OffloadPort{container("a", wantsVF(1)), container("b", vswitch.OffloadPolicy{})}, uplink: nic(1), feature: vswitch.VMQ, want: "a yes QUEUES_OF_VF, b yes"},
		"queues by weight, whoever has them": {ports: []vswitch.OffloadPort{container("a", wantsQueue(1)), container("b", wantsQueue(2))}, uplink: nic(1), usage: map[string]vswitch.OffloadUsage{"a": {VMQ: true}}, feature: vswitch.VMQ, want: "a NO_FREE_FILTER, b yes"},
		"queues of a team":                   {ports: []vswitch.OffloadPort{container("a", wantsQueue(1))}, uplink: with(nic(1), func(u *vswitch.OffloadUplink) { u.Team = vswitch.TeamStatic }), feature: vswitch.VMQ, want: "a yes"},
		"SAs of a host":                      {ports: []vswitch.OffloadPort{host("a", vswitch.OffloadPolicy{IPsec: vswitch.IPsecPolicy{MaxSAs: number(2)}}), host("b", vswitch.OffloadPolicy{})}, uplink: nic(33), feature: vswitch.IPsec, want: "a yes 2, b yes 512"},
		"SAs of a container with a VF":       {ports: []vswitch.OffloadPort{container("a", wantsVF(1))}, uplink: nic(1), feature: vswitch.IPsec, want: "a yes 512"},
		"SAs of a container with a pair":     {ports: []vswitch.OffloadPort{container("a", vswitch.OffloadPolicy{})}, uplink: nic(1), feature: vswitch.IPsec, want: "a NEEDS_SOFTWARE_PATH (the container has no VF, and its packets pass the switch)"},
		"SAs of a VM":                        {ports: []vswitch.OffloadPort{vm}, uplink: nic(1), feature: vswitch.IPsec, want: "a NEEDS_SOFTWARE_PATH (a VM's SAs are in the VM, where its own kernel gives them to its VF)"},
		"no SAs":                             {ports: []vswitch.OffloadPort{host("a", vswitch.OffloadPolicy{IPsec: vswitch.IPsecPolicy{MaxSAs: number(0)}})}, uplink: nic(33), usage: map[string]vswitch.OffloadUsage{"a": {SAs: 5}}, feature: vswitch.IPsec, want: "a NOT_ASKED"},
		"others hold all SAs":                {ports: []vswitch.OffloadPort{host("a", vswitch.OffloadPolicy{}), host("b", vswitch.OffloadPolicy{})}, uplink: with(nic(2), func(u *vswitch.OffloadUplink) { u.Capabilities.IPsec.Foreign = 2 }), usage: map[string]vswitch.OffloadUsage{"b": {SAs: 1}}, feature: vswitch.IPsec, want: "a NO_FREE_SA, b yes 512"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := words(vswitch.Decide(c.ports, c.uplink, c.usage), c.feature); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

func TestUnmetNamesWhatIsRequired(t *testing.T) {
	software := container("a", requires(vswitch.SRIOV))
	software.Software = []string{"acl"}
	decisions := vswitch.Decide([]vswitch.OffloadPort{software, container("b", requires(vswitch.VMQ))}, nic(1), nil)
	err := vswitch.Unmet(decisions)
	if !errors.Is(err, vswitch.CapabilityMissing) || err.Error() != "port a: sriov is required: it needs the software path: acl; leave out what is named, or use mode prefer" {
		t.Error(err)
	}
	if err := vswitch.Unmet(vswitch.Decide([]vswitch.OffloadPort{container("a", wantsVF(1))}, vswitch.OffloadUplink{}, nil)); err != nil {
		t.Errorf("what is preferred is never an error: %v", err)
	}
}

func TestOffloadTotals(t *testing.T) {
	ports := []vswitch.OffloadPort{container("a", wantsVF(1)), container("b", wantsVF(2)), container("c", wantsQueue(0))}
	uplink := nic(1)
	uplink.Capabilities.IPsec = vswitch.Capability{Capacity: 33, Foreign: 3}
	usage := map[string]vswitch.OffloadUsage{"b": {SAs: 2}}
	got := vswitch.OffloadTotals(vswitch.Decide(ports, uplink, usage), uplink, usage)
	want := []vswitch.OffloadTotal{
		{Feature: vswitch.SRIOV, Capacity: 1, Used: 1},
		{Feature: vswitch.VMQ, Capacity: 1, Used: 1},
		{Feature: vswitch.IPsec, Capacity: 33, Foreign: 3, Used: 2, Allowed: 512},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTeamCapabilities(t *testing.T) {
	member := func(queues, sas int) vswitch.Capabilities {
		return vswitch.Capabilities{VMQ: vswitch.Capability{Capacity: queues}, IPsec: vswitch.Capability{Capacity: sas}}
	}
	without := vswitch.Capabilities{VMQ: vswitch.Capability{Missing: vswitch.NoDriverSupport}}
	for name, c := range map[string]struct {
		mode    vswitch.TeamMode
		members []vswitch.Capabilities
		vmq     vswitch.Capability
		ipsec   vswitch.Capability
	}{
		"no member has a link":      {mode: vswitch.TeamActiveActive},
		"queues add up":             {vswitch.TeamActiveActive, []vswitch.Capabilities{member(4, 33), member(8, 20)}, vswitch.Capability{Capacity: 12}, vswitch.Capability{Capacity: 20}},
		"a queue on each":           {vswitch.TeamLACP, []vswitch.Capabilities{member(4, 33), member(8, 20)}, vswitch.Capability{Capacity: 4}, vswitch.Capability{Capacity: 20}},
		"one cannot":                {vswitch.TeamStatic, []vswitch.Capabilities{member(4, 33), without}, vswitch.Capability{Missing: vswitch.NoDriverSupport}, vswitch.Capability{}},
		"the others can":            {vswitch.TeamActiveActive, []vswitch.Capabilities{without, member(4, 33)}, vswitch.Capability{Capacity: 4}, vswitch.Capability{}},
		"nobody knows of one":       {vswitch.TeamActiveStandby, []vswitch.Capabilities{member(4, vswitch.Unlimited), member(8, 20)}, vswitch.Capability{Capacity: 4}, vswitch.Capability{Capacity: 20}},
		"nobody knows of one's sum": {vswitch.TeamActiveActive, []vswitch.Capabilities{member(vswitch.Unlimited, 1), member(8, 1)}, vswitch.Capability{Capacity: vswitch.Unlimited}, vswitch.Capability{Capacity: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			got := vswitch.TeamCapabilities(c.mode, c.members)
			if diff := cmp.Diff(vswitch.Capabilities{VMQ: c.vmq, IPsec: c.ipsec}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// scene is a switch with ports that want something of an uplink.
type scene struct {
	ports  []vswitch.OffloadPort
	uplink vswitch.OffloadUplink
	usage  map[string]vswitch.OffloadUsage
}

// newScene makes a scene of bytes; any bytes do.
func newScene(data []byte) scene {
	at := 0
	next := func(n int) int { // 0 to n-1
		if at >= len(data) {
			return 0
		}
		at++
		return int(data[at-1]) % n
	}
	flag := func() bool { return next(2) == 1 }
	capability := func() vswitch.Capability {
		c := vswitch.Capability{Capacity: next(6) - 1, Foreign: next(3), QueuePairs: next(4), Moderation: flag()}
		if next(8) == 1 {
			c = vswitch.Capability{Missing: vswitch.NoDriverSupport}
		}
		return c
	}
	s := scene{usage: map[string]vswitch.OffloadUsage{}}
	s.uplink = vswitch.OffloadUplink{None: next(16) == 1, SRIOV: next(4) != 1, VFLAG: flag()}
	if next(4) == 1 {
		s.uplink.Team = vswitch.TeamModes()[next(4)]
	}
	s.uplink.Capabilities = vswitch.Capabilities{VMQ: capability(), SRIOV: capability(), IPsec: capability()}
	for i := range next(9) {
		p := vswitch.OffloadPort{ID: fmt.Sprintf("p%d", i), Owner: vswitch.OwnerContainer, Failover: flag()}
		if next(4) == 1 {
			p.Owner = vswitch.OwnerHost
		}
		p.Policy.VMQ.Weight, p.Policy.SRIOV.Weight, p.Policy.IPsec.MaxSAs = number(next(4)), number(next(4)), number(next(4))
		if next(4) == 1 {
			p.Policy.VMQ, p.Policy.SRIOV.Mode = vswitch.VMQPolicy{Mode: vswitch.OffloadRequire}, vswitch.OffloadRequire
			p.Policy.SRIOV.Weight = number(1 + next(3))
		}
		if next(6) == 1 {
			p.Software = []string{"acl"}
		}
		p.Refused = next(4) == 1
		s.ports = append(s.ports, p)
		s.usage[p.ID] = vswitch.OffloadUsage{VMQ: flag(), VF: flag(), SAs: next(3)}
	}
	return s
}

func (s scene) decide() []vswitch.OffloadDecision {
	return vswitch.Decide(s.ports, s.uplink, s.usage)
}

// carriedOut is the scene when the decisions are carried out.
func (s scene) carriedOut(decisions []vswitch.OffloadDecision) scene {
	usage, refused := map[string]vswitch.OffloadUsage{}, map[string]bool{}
	for _, p := range s.ports {
		refused[p.ID] = p.Refused && !s.usage[p.ID].VF
	}
	for _, d := range decisions {
		u := usage[d.Port]
		switch d.Feature {
		case vswitch.VMQ:
			u.VMQ = d.Effective && d.Reason != vswitch.QueuesOfVF
		case vswitch.SRIOV:
			u.VF = d.Effective && !refused[d.Port]
		case vswitch.IPsec:
			if d.Effective {
				u.SAs = s.usage[d.Port].SAs
			}
		}
		usage[d.Port] = u
	}
	s.usage = usage
	return s
}

// spent says that a VF or a queue was denied for want of capacity.
func spent(r vswitch.Reason) bool {
	return r == vswitch.NoFreeVF || r == vswitch.NoFreeFilter
}

func checkDecisions(t *testing.T, s scene) {
	t.Helper()
	decisions := s.decide()
	if want := len(s.ports) * len(vswitch.Features()); len(decisions) != want {
		t.Fatalf("%d decisions of %d", len(decisions), want)
	}
	for _, d := range decisions {
		switch {
		case d.Effective && d.Requested == vswitch.OffloadOff:
			t.Errorf("%+v: in effect, and off", d)
		case !d.Effective && d.Reason == "":
			t.Errorf("%+v: neither in effect nor a reason", d)
		case d.Reason != "" && !slices.Contains(vswitch.Reasons(), d.Reason):
			t.Errorf("%+v: a reason of its own", d)
		}
	}
	shuffled := s
	shuffled.ports = slices.Clone(s.ports)
	slices.Reverse(shuffled.ports)
	if diff := cmp.Diff(decisions, shuffled.decide()); diff != "" {
		t.Errorf("another order of ports decides otherwise:\n%s", diff)
	}
	if diff := cmp.Diff(decisions, s.carriedOut(decisions).decide()); diff != "" {
		t.Errorf("carried out, it is decided otherwise:\n%s", diff)
	}
	checkCapacity(t, s, decisions)
	checkContention(t, s, decisions)
	checkMore(t, s, decisions)
}

// checkCapacity demands that no more is given than there is, and that nothing is left over
// where somebody was denied.
func checkCapacity(t *testing.T, s scene, decisions []vswitch.OffloadDecision) {
	t.Helper()
	for _, total := range vswitch.OffloadTotals(decisions, s.uplink, s.usage) {
		if total.Missing != "" || total.Capacity < 0 || total.Feature == vswitch.IPsec { // SAs are as they are
			continue
		}
		free := max(0, total.Capacity-total.Foreign)
		if total.Used > free {
			t.Errorf("%s: %d used of %d", total.Feature, total.Used, free)
		}
		for _, d := range decisions {
			if d.Feature == total.Feature && spent(d.Reason) && total.Used < free {
				t.Errorf("%+v, and %d of %d are used", d, total.Used, free)
			}
		}
	}
}

// checkContention demands that who is denied a VF or a queue has no better claim than
// anybody who is given one.
func checkContention(t *testing.T, s scene, decisions []vswitch.OffloadDecision) {
	t.Helper()
	ports := map[string]vswitch.OffloadPort{}
	for _, p := range s.ports {
		ports[p.ID] = p
	}
	for _, lost := range decisions {
		for _, won := range decisions {
			if lost.Feature != won.Feature || !spent(lost.Reason) || !won.Effective || won.Reason == vswitch.QueuesOfVF {
				continue
			}
			had := s.usage[won.Port].VMQ
			kept := won.Requested == vswitch.OffloadRequire
			if won.Feature == vswitch.SRIOV {
				had = s.usage[won.Port].VF
				kept = kept || !ports[won.Port].Failover
			}
			better := lost.Requested == vswitch.OffloadRequire && won.Requested != vswitch.OffloadRequire
			same := lost.Requested == won.Requested
			heavier := ports[lost.Port].Policy.Wish(lost.Feature).Amount > ports[won.Port].Policy.Wish(won.Feature).Amount
			if (better || same && heavier) && (!had || !kept) {
				t.Errorf("%+v lost to %+v", lost, won)
			}
		}
	}
}

// checkMore demands that nobody loses a VF or a queue because there are more of them, and
// nobody loses one by asking with more weight.
func checkMore(t *testing.T, s scene, decisions []vswitch.OffloadDecision) {
	t.Helper()
	rich := s
	for _, c := range []*vswitch.Capability{&rich.uplink.Capabilities.SRIOV, &rich.uplink.Capabilities.VMQ} {
		if c.Missing == "" && c.Capacity > 0 {
			c.Capacity++
		}
	}
	for i, d := range rich.decide() {
		if decisions[i].Effective && !d.Effective {
			t.Errorf("with more capacity %+v became %+v", decisions[i], d)
		}
	}
	for i, p := range s.ports {
		eager := s
		eager.ports = slices.Clone(s.ports)
		if p.Policy.SRIOV.Weight.Or(0) > 0 {
			eager.ports[i].Policy.SRIOV.Weight = number(100)
		}
		for j, d := range eager.decide() {
			if d.Port == p.ID && d.Feature == vswitch.SRIOV && decisions[j].Effective && !d.Effective {
				t.Errorf("with more weight %+v became %+v", decisions[j], d)
			}
		}
	}
}

func TestDecideHoldsItsPromises(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for range 5000 {
		data := make([]byte, 40+random.IntN(100))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		if checkDecisions(t, newScene(data)); t.Failed() {
			t.Fatalf("scene of %q", data)
		}
	}
}

func FuzzDecide(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("a switch with some ports that want more than its uplink has of anything"))
	f.Fuzz(func(t *testing.T, data []byte) { checkDecisions(t, newScene(data)) })
}
