package engine

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file decides what a switch's uplink does for its ports. What is decided is carried
// out by the arbiter; an attachment that cannot do without, carries out its own part.

// fixedSRIOV is the error of a change of SR-IOV.
func fixedSRIOV(s vswitch.Switch) error {
	e := &vswitch.Error{
		Kind: vswitch.Immutable, Object: "switch " + s.Name, Field: "sriov", Err: errors.New("it was made without SR-IOV, which cannot change"),
		Hint: "delete the switch and make it again with --sriov",
	}
	if s.SRIOV {
		e.Err, e.Hint = errors.New("it was made with SR-IOV, which cannot change"), "keep it: ports without a wish for a VF do not use it"
	}
	return e
}

// verdict is what is decided of a switch.
type verdict struct {
	record    store.SwitchRecord
	ports     map[string]vswitch.Port
	uplink    vswitch.OffloadUplink
	nics      map[vswitch.Feature]vswitch.OffloadNIC // who is asked for a feature
	grants    map[vswitch.OffloadRef]store.Grant     // of all switches
	usage     map[string]vswitch.OffloadUsage        // by port
	denials   *denials
	decisions []vswitch.OffloadDecision
	attaching string // a port that has no netdev yet, and can get a VF
	had       bool   // it has lost the VF that it had: it comes before who never had one
}

// judge decides about the ports of a switch, the host's among them.
func (e *Engine) judge(ctx context.Context, switchName string) (verdict, error) {
	v, err := e.collect(ctx, switchName)
	if err == nil {
		v.decide()
	}
	return v, err
}

// judgeWith is judge with a port as it is about to be.
func (e *Engine) judgeWith(ctx context.Context, p vswitch.Port, attaching bool) (verdict, error) {
	v, err := e.collect(ctx, p.Switch)
	if err == nil {
		if attaching {
			v.attaching, v.had = p.ID, v.ports[p.ID].VF != ""
		}
		v.ports[p.ID] = p
		v.decide()
	}
	return v, err
}

// collect reads all that decides.
func (e *Engine) collect(ctx context.Context, switchName string) (v verdict, err error) {
	v.denials = e.denials
	v.ports, v.grants = make(map[string]vswitch.Port), make(map[vswitch.OffloadRef]store.Grant)
	err = e.store.View(func(tx *store.Tx) error {
		if v.record, err = tx.Switch(switchName); err != nil {
			return err
		}
		ports, err := portsOf(tx, v.record)
		if err != nil {
			return err
		}
		for _, p := range ports {
			v.ports[p.ID] = p
		}
		grants, err := tx.Grants()
		for _, g := range grants {
			v.grants[g.Request.OffloadRef] = g
		}
		return err
	})
	if err == nil {
		v.uplink, v.nics, err = e.offloadUplink(ctx, v.record.Switch)
	}
	return v, err
}

func (v *verdict) decide() {
	var ports []vswitch.OffloadPort
	v.usage = make(map[string]vswitch.OffloadUsage)
	for _, id := range slices.Sorted(maps.Keys(v.ports)) {
		p := v.ports[id]
		wish := p.Policy.Offload
		_, vf := v.given(id, vswitch.SRIOV)
		_, queue := v.given(id, vswitch.VMQ)
		usage := vswitch.OffloadUsage{VF: vf || p.VF != "" || id == v.attaching && v.had, VMQ: queue}
		if g, given := v.given(id, vswitch.IPsec); given {
			usage.SAs = g.Given.SAsHeld
		}
		v.usage[id] = usage
		ports = append(ports, vswitch.OffloadPort{
			ID: id, Owner: p.Owner.Kind, Policy: wish, Software: vswitch.SoftwareOnly(p),
			Failover: p.Failover, Settled: id != v.attaching && !p.Failover,
			Refused: v.denials.of(vswitch.OffloadRef{Port: id, Feature: vswitch.SRIOV}) != nil,
		})
	}
	v.decisions = vswitch.Decide(ports, v.uplink, v.usage)
}

// given is what a plugin gave a port of a feature.
func (v *verdict) given(port string, f vswitch.Feature) (store.Grant, bool) {
	g, found := v.grants[vswitch.OffloadRef{Port: port, Feature: f}]
	return g, found && g.Given != nil && !g.Going
}

// of are the decisions about one port.
func (v *verdict) of(port string) []vswitch.OffloadDecision {
	return slices.DeleteFunc(slices.Clone(v.decisions), func(d vswitch.OffloadDecision) bool { return d.Port != port })
}

// request is what a plugin is asked for by a decision, without a generation.
func (v *verdict) request(d vswitch.OffloadDecision) (plugin string, r vswitch.OffloadRequest) {
	p, nic := v.ports[d.Port], v.nics[d.Feature]
	r = vswitch.OffloadRequest{
		OffloadRef: vswitch.OffloadRef{Port: d.Port, Feature: d.Feature}, NIC: nic.ID,
		MAC: p.MAC, MTU: p.MTU, Owner: p.Owner.Kind, Netns: p.Owner.Netns,
	}
	if p.VLAN.Mode == vswitch.Access {
		r.VLAN = p.VLAN.ID
	}
	wish := p.Policy.Offload
	switch d.Feature {
	case vswitch.SRIOV:
		r.Weight, r.QueuePairs, r.Moderation = wish.Wish(d.Feature).Amount, d.Amount, wish.SRIOV.Moderation
		r.MaxOut, r.MACSpoofing = p.Policy.Bandwidth.Out.Max, p.MACSpoofing
		if d.Reason == vswitch.ModerationFixed {
			r.Moderation = ""
		}
	case vswitch.VMQ:
		r.Weight = wish.Wish(d.Feature).Amount
	case vswitch.IPsec:
		r.MaxSAs = wish.Wish(d.Feature).Amount
	}
	return nic.Plugin, r
}

// asksPlugin reports whether a decision is one that a plugin carries out.
func asksPlugin(d vswitch.OffloadDecision) bool { return d.Effective && d.Reason != vswitch.QueuesOfVF }

// offloadUplink is what there is below a switch, and which NIC is asked for which feature.
func (e *Engine) offloadUplink(ctx context.Context, s vswitch.Switch) (u vswitch.OffloadUplink, nics map[vswitch.Feature]vswitch.OffloadNIC, err error) {
	u = vswitch.OffloadUplink{None: s.Uplink == "", SRIOV: s.SRIOV}
	if u.None {
		return u, nil, nil
	}
	if e.hardware == nil {
		for _, f := range vswitch.Features() {
			u.Capabilities.Set(f, vswitch.Capability{Missing: vswitch.NoDaemon})
		}
		return u, nil, nil
	}
	team, err := e.teamRecord(s.Uplink)
	if err != nil && !errors.Is(err, vswitch.NotFound) {
		return u, nil, err
	}
	netdevs := []string{s.Uplink}
	if err == nil {
		u.Team = team.Mode
		if netdevs, err = e.carrying(ctx, team); err != nil {
			return u, nil, err
		}
	}
	has := e.hardware.Look(ctx)
	nics = make(map[vswitch.Feature]vswitch.OffloadNIC)
	for _, f := range vswitch.Features() {
		nic := servedBy(has, f, netdevs)
		c := nic.Capabilities.Of(f)
		switch {
		case c == (vswitch.Capability{}) && has.Untold:
			c.Missing = vswitch.ProviderFailed
		case u.Team != "" && u.Team != vswitch.TeamActiveStandby && f == vswitch.VMQ:
			c = vswitch.Capability{Missing: vswitch.TeamModeUnfit} // which member brings a port's frames nobody knows
		}
		nics[f] = nic
		u.Capabilities.Set(f, c)
	}
	return u, nics, nil
}

// carrying are the netdevs of a team that do its ports' work: itself, and the member that
// carries all, where one does.
func (e *Engine) carrying(ctx context.Context, team store.TeamRecord) ([]string, error) {
	netdevs := []string{team.Name}
	state, err := e.kernel.Team(ctx, team.Name)
	if errors.Is(err, vswitch.NotFound) {
		return netdevs, nil
	}
	if slices.Contains(team.Members, state.Active) { // and not one that is about to leave
		netdevs = append(netdevs, state.Active)
	}
	return netdevs, err
}

// servedBy is the first of the netdevs' NICs that can do a feature, or else one that says
// why it cannot.
func servedBy(has vswitch.OffloadInventory, f vswitch.Feature, netdevs []string) (found vswitch.OffloadNIC) {
	for _, netdev := range netdevs {
		for _, n := range has.NICs {
			c := n.Capabilities.Of(f)
			if n.Netdev != netdev || c == (vswitch.Capability{}) {
				continue
			}
			if c.Missing == "" {
				return n
			}
			if found.ID == "" {
				found = n
			}
		}
	}
	return found
}
