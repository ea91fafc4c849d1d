package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// SwitchOffload is what a switch's uplink does for its ports.
type SwitchOffload struct {
	Switch string `json:"switch"`
	Uplink string `json:"uplink,omitempty"`
	// Totals are what the uplink has of each feature, and what ports hold of it.
	Totals []vswitch.OffloadTotal `json:"totals"`
	Ports  []PortOffload          `json:"ports"`
}

// PortOffload is what the uplink does for one port.
type PortOffload struct {
	Port     string                  `json:"port"`
	Owner    vswitch.Owner           `json:"owner"`
	Features []vswitch.OffloadStatus `json:"features"`
}

// Offloads tells what uplinks do for ports, and why not more: of one switch, or of all if
// sw is empty. PowerShell twins: Get-VMNetworkAdapter, Get-NetAdapterVmqQueue,
// Get-NetAdapterSriovVf.
func (e *Engine) Offloads(ctx context.Context, sw string) ([]SwitchOffload, error) {
	names := []string{sw}
	if sw == "" {
		names = nil
		records, err := e.records()
		if err != nil {
			return nil, fault("offload list", "", err)
		}
		for _, r := range records {
			names = append(names, r.Name)
		}
	}
	all := []SwitchOffload{}
	for _, name := range names {
		v, err := e.judge(ctx, name)
		if err != nil {
			return nil, fault("offload list", "switch "+name, err)
		}
		all = append(all, e.offloadOf(v))
	}
	return all, nil
}

func (e *Engine) offloadOf(v verdict) SwitchOffload {
	s := SwitchOffload{Switch: v.record.Name, Uplink: v.record.Uplink, Totals: v.totals(), Ports: []PortOffload{}}
	for _, id := range slices.Sorted(maps.Keys(v.ports)) {
		s.Ports = append(s.Ports, PortOffload{Port: id, Owner: v.ports[id].Owner, Features: e.standings(v, id)})
	}
	return s
}

// totals are what the uplink has, and what ports really hold of it.
func (v *verdict) totals() []vswitch.OffloadTotal {
	held := slices.DeleteFunc(slices.Clone(v.decisions), func(d vswitch.OffloadDecision) bool {
		_, given := v.given(d.Port, d.Feature)
		return !given
	})
	all := vswitch.OffloadTotals(held, v.uplink, v.usage)
	for i := range all {
		if all[i].Missing == "" {
			all[i].NIC = v.nics[all[i].Feature].ID
		}
	}
	return all
}

// standings are what a port has of each feature. What is decided and not done is not in
// effect, and neither is a place for SAs of which the NIC holds none.
func (e *Engine) standings(v verdict, port string) []vswitch.OffloadStatus {
	var all []vswitch.OffloadStatus
	for _, d := range v.of(port) {
		s := vswitch.OffloadStatus{OffloadDecision: d}
		g, given := v.given(port, d.Feature)
		if given {
			s.Plugin, s.NIC, s.VF, s.Queue = g.Plugin, g.Given.NIC, g.Given.VF, g.Given.Queue
			s.SAs, s.SAsHeld = g.Given.SAs, g.Given.SAsHeld
		}
		switch {
		case d.Reason == vswitch.QueuesOfVF && !v.usage[port].VF:
			s.Effective, s.Reason = false, vswitch.Pending
		case !asksPlugin(d):
		case !given:
			s.Effective, s.Amount, s.Reason, s.Detail = false, 0, vswitch.Pending, ""
			if no := e.denials.of(vswitch.OffloadRef{Port: port, Feature: d.Feature}); no != nil {
				s.Reason, s.Detail = no.Reason, no.Detail
			}
		case s.Reason == "":
			s.Reason, s.Detail = g.Given.Reason, g.Given.Detail
			s.Effective = s.SAs == 0 || s.SAsHeld > 0
		}
		all = append(all, s)
	}
	return all
}

// offloadsOf is what a port has of its switch's uplink.
func (e *Engine) offloadsOf(ctx context.Context, p vswitch.Port) ([]vswitch.OffloadStatus, error) {
	v, err := e.judge(ctx, p.Switch)
	if err != nil {
		return nil, err
	}
	return e.standings(v, p.ID), nil
}

// judgeOffloads tells of the uplinks that can do something, and of ports that do without
// what they require.
func (e *Engine) judgeOffloads(ctx context.Context, s *Status, records []store.SwitchRecord) error {
	for _, r := range records {
		if r.Uplink == "" {
			continue
		}
		v, err := e.judge(ctx, r.Name)
		if err != nil {
			return fault("status", "switch "+r.Name, err)
		}
		o := e.offloadOf(v)
		for _, p := range o.Ports {
			s.judgeRequired(r.Name, p)
		}
		o.Ports = nil
		s.Offload = append(s.Offload, o)
	}
	if e.hardware == nil {
		return nil
	}
	failed := e.hardware.Look(ctx).Failed
	for _, plugin := range slices.Sorted(maps.Keys(failed)) {
		s.Problems = append(s.Problems, Problem{
			Kind: vswitch.PluginFailed, Message: fmt.Sprintf("plugin %s: %s", plugin, failed[plugin]),
			Hint: "run `patchbay plugin list`, and look at patchbayd's log",
		})
	}
	return nil
}

func (s *Status) judgeRequired(switchName string, p PortOffload) {
	for _, f := range p.Features {
		if f.Requested != vswitch.OffloadRequire || f.Effective {
			continue
		}
		cause, hint := f.Reason.Words()
		s.Problems = append(s.Problems, Problem{
			Kind: vswitch.CapabilityMissing, Hint: hint,
			Message: fmt.Sprintf("switch %s: port %s (%s) requires %s and does without: %s", switchName, p.Port, p.Owner, f.Feature, cause),
		})
	}
}
