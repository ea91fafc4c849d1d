package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// SetSwitch changes a switch in place while its ports stay attached and their traffic
// flows. It is one transaction: on failure the switch is what it was. Guests that have
// the switch's MTU follow it. PowerShell twin: Set-VMSwitch.
func (e *Engine) SetSwitch(ctx context.Context, name string, c SwitchChange) (SwitchStatus, error) {
	status, err := e.setSwitchTo(ctx, name, func(vswitch.Switch) (SwitchChange, error) { return c, nil })
	return status, fault("switch set", "switch "+name, err)
}

// setSwitchTo is SetSwitch with a change that depends on what the switch is: nobody else
// changes it in between.
func (e *Engine) setSwitchTo(ctx context.Context, name string, to func(vswitch.Switch) (SwitchChange, error)) (SwitchStatus, error) {
	unlock, err := e.lockSwitches(name)
	if err != nil {
		return SwitchStatus{}, err
	}
	defer unlock()
	return e.foreseeing().setSwitch(ctx, name, to)
}

func (e *Engine) setSwitch(ctx context.Context, name string, to func(vswitch.Switch) (SwitchChange, error)) (SwitchStatus, error) {
	old, err := e.record(name)
	if err != nil {
		return SwitchStatus{}, err
	}
	c, err := to(old.Switch)
	if err != nil {
		return SwitchStatus{}, err
	}
	changed := c.apply(old.Switch)
	if err := keepsFixed(old.Switch, changed); err != nil {
		return SwitchStatus{}, err
	}
	if err := changed.Validate(); err != nil {
		return SwitchStatus{}, withHint(err, old.Switch, changed)
	}
	caps, err := e.capabilitiesToDefine(ctx, old.Switch, changed)
	if err != nil {
		return SwitchStatus{}, err
	}
	if err := e.settle(ctx, old, caps); err != nil {
		return SwitchStatus{}, err
	}
	if old, err = e.record(name); err != nil {
		return SwitchStatus{}, err
	}
	record := old
	record.Switch = changed
	if changed.MTU != old.MTU || changed.Uplink != old.Uplink {
		err = e.complete(ctx, &record, []store.SwitchRecord{old})
	} else if record.Uplink != "" {
		_, err = e.uplink(ctx, changed, nil)
	}
	if err != nil {
		return SwitchStatus{}, err
	}
	warnings, err := e.consent(ctx, &old, record, c.Yes)
	if err != nil {
		return SwitchStatus{}, err
	}
	home, err := e.homecoming(ctx, change{old: &old, new: &record})
	if err != nil {
		return SwitchStatus{}, err
	}
	if err := e.transact(ctx, caps, change{old: &old, new: &record}); err != nil {
		return SwitchStatus{}, err
	}
	status, err := e.switchStatus(record)
	status.Warnings = append(warnings, home...)
	return status, err
}

// withHint tells how to change the type of a switch that has what the new type
// cannot have.
func withHint(err error, old, new vswitch.Switch) error {
	if new.Type == old.Type || len(new.Gateway) == 0 {
		return err
	}
	to := "--type " + string(new.Type)
	if new.Type == vswitch.External {
		to = "--uplink " + cmp.Or(new.Uplink, "NIC")
	}
	return &vswitch.Error{
		Kind: vswitch.KindOf(err), Err: err,
		Hint: fmt.Sprintf("run `patchbay switch set %s %s --gateway= --masquerade=off`", old.Name, to),
	}
}

// settle ends a change that a process was killed in: the store has room for what
// a switch was and what it becomes, and for nothing third.
func (e *Engine) settle(ctx context.Context, r store.SwitchRecord, caps kernel.Capabilities) error {
	var was store.Realised
	err := e.store.View(func(tx *store.Tx) (err error) {
		was, _, err = tx.Realised(r.Name)
		return err
	})
	if err == nil && was.Changing {
		_, err = e.repairSwitch(ctx, r, caps)
	}
	return err
}

// gatewaysFree refuses a gateway address that a guest on the switch has.
func gatewaysFree(tx *store.Tx, s vswitch.Switch) error {
	leases, err := tx.IPs(s.Name)
	for _, l := range leases {
		for _, g := range s.Gateway {
			if l.Addr == g.Addr() {
				return &vswitch.Error{
					Kind: vswitch.IPInUse, Err: fmt.Errorf("gateway address %s is leased by port %s", l.Addr, l.Port),
					Hint: "choose another address, or end that port's owner",
				}
			}
		}
	}
	return err
}

// apply returns the definition with the changes made. As in Hyper-V a NIC makes the
// switch external and another type gives the NIC up, and a new type comes with its
// own default of host access unless the change names one.
func (c SwitchChange) apply(s vswitch.Switch) vswitch.Switch {
	was := s.Type
	if c.Uplink != nil {
		s.Uplink = *c.Uplink
		if s.Uplink != "" && c.Type == nil {
			s.Type = vswitch.External
		}
	}
	if c.Type != nil {
		s.Type = *c.Type
		if s.Type != vswitch.External && c.Uplink == nil {
			s.Uplink = ""
		}
	}
	if s.Type != was {
		s.HostAccess = nil
	}
	if c.HostAccess != nil {
		s.HostAccess = c.HostAccess
	}
	if c.VLAN != nil {
		s.VLAN = *c.VLAN
	}
	if c.MTU != nil {
		s.MTU = *c.MTU
	}
	if c.Gateway != nil {
		s.Gateway = *c.Gateway
	}
	if c.Masquerade != nil {
		s.Masquerade = *c.Masquerade
	}
	if c.Notes != nil {
		s.Notes = *c.Notes
	}
	if c.SRIOV != nil {
		s.SRIOV = *c.SRIOV
	}
	if c.BandwidthMode != nil {
		s.MinBandwidth.Mode = *c.BandwidthMode
	}
	if c.DefaultFlow != nil {
		s.MinBandwidth.DefaultFlow = *c.DefaultFlow
	}
	if c.DefaultFlowWeight != nil {
		s.MinBandwidth.DefaultFlowWeight = *c.DefaultFlowWeight
	}
	if c.PortDefaults != nil {
		s.PortDefaults = c.PortDefaults.Apply(s.PortDefaults)
	}
	if c.PortProfiles != nil {
		s.PortProfiles = *c.PortProfiles
	}
	if !s.HostPort() {
		s.HostPolicy = vswitch.Policy{}
	}
	if c.HostPolicy != nil {
		s.HostPolicy = c.HostPolicy.Apply(s.HostPolicy)
	}
	return s.Normalized()
}

// DeleteSwitch removes a switch. One with guests' ports is InUse, naming them,
// unless Force detaches them, which goes last and is undone should it fail. Deleting what
// is not there is NotFound. What the host had on the uplink goes back there. PowerShell twin: Remove-VMSwitch.
func (e *Engine) DeleteSwitch(ctx context.Context, req DeleteSwitchRequest) (DeleteSwitchReport, error) {
	object := "switch " + req.Name
	c, unlock, err := e.lockDispute(req.Name)
	if err != nil {
		return DeleteSwitchReport{}, fault("switch delete", object, err)
	}
	defer unlock()
	report, err := e.deleteSwitch(ctx, req, c)
	return report, fault("switch delete", object, err)
}

// deleteSwitch deletes a switch that is in a dispute. Where that cannot be ended first, it
// is ended together with the switch: there has to be a way out.
func (e *Engine) deleteSwitch(ctx context.Context, req DeleteSwitchRequest, c dispute) (report DeleteSwitchReport, err error) {
	_, unended := e.end(context.WithoutCancel(ctx), c)
	r, err := e.record(req.Name)
	if errors.Is(err, vswitch.NotFound) && slices.Contains(c.names(), req.Name) {
		return report, nil // somebody had begun to delete it
	}
	if err != nil {
		return report, err
	}
	ports, err := e.portsOn(req.Name)
	if err != nil {
		return report, err
	}
	if len(ports) > 0 && !req.Force {
		return report, holders(req.Name, ports)
	}
	warnings, err := e.homecoming(ctx, change{old: &r})
	if err != nil {
		return report, err
	}
	caps, err := e.capabilities(ctx)
	if err != nil {
		return report, err
	}
	t := &transaction{caps: caps, changes: []change{{old: &r}}, guests: ports}
	if unended != nil {
		if err := e.join(t, c); err != nil {
			return report, err
		}
	}
	if err := e.carryOut(ctx, t); err != nil {
		return report, errors.Join(err, unended)
	}
	report.Warnings = warnings
	return report, nil
}

// holders is the error of a switch that still has ports.
func holders(name string, ports []vswitch.Port) error {
	const shown = 8
	var list []string
	for _, p := range ports[:min(shown, len(ports))] {
		list = append(list, fmt.Sprintf("%s (%s)", p.ID, p.Owner))
	}
	if more := len(ports) - shown; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return &vswitch.Error{
		Kind: vswitch.InUse, Err: fmt.Errorf("%d port(s) are attached: %s", len(ports), strings.Join(list, ", ")),
		Hint: fmt.Sprintf("end their owners, or run `patchbay switch delete %s --force`", name),
	}
}

// allRules are the rules of all switches of the host.
func allRules(tx *store.Tx, caps kernel.Capabilities) (plan.Rules, error) {
	records, err := tx.Switches()
	if err != nil {
		return plan.Rules{}, err
	}
	return rulesOf(tx, caps, records, nil)
}

// rulesOf are the rules of the switches, with those of the guests' ports. A switch that is
// not among the extents reaches as far as it does.
func rulesOf(tx *store.Tx, caps kernel.Capabilities, records []store.SwitchRecord, extents map[string]extent) (rules plan.Rules, err error) {
	rules = hostRules(records, caps)
	if !rules.Base {
		return rules, nil
	}
	defer func() { rules.GuardBase, rules.ACLBase = len(rules.Guards) > 0, len(rules.ACLs) > 0 }()
	bound := !caps.PortLocked
	for _, r := range records {
		d, err := demand(tx, r.Name)
		if err != nil {
			return rules, err
		}
		_, isolated, err := tx.PortVLANs(r.Name)
		if err != nil {
			return rules, err
		}
		guarded, err := tx.HasPolicies(r.Name)
		if err != nil {
			return rules, err
		}
		bound = bound || isolated || len(d.apart) > 0 || guarded
		rules.ApartIn = apartIn(rules.ApartIn, r, d.apart)
		reach, known := extents[r.Name]
		if !known {
			was, _, err := tx.Realised(r.Name)
			if err != nil {
				return rules, err
			}
			reach = standingExtent(was)
		}
		rules.Priority = priorityAt(rules.Priority, r.Name, reach.want)
	}
	if !bound {
		return rules, nil
	}
	guests, err := tx.Ports()
	for _, p := range guests {
		of := portRules(p, store.SwitchRecord{}, caps) // own addresses are their switch's
		maps.Copy(rules.Guard, of.Guard)
		maps.Copy(rules.Apart, of.Apart)
		maps.Copy(rules.Priority, of.Priority)
		maps.Copy(rules.Guards, of.Guards)
		maps.Copy(rules.ACLs, of.ACLs)
	}
	return rules, err
}

// releaseUplinks puts into desired, as they were before, the uplinks that from has and
// desired has not, and takes out of had those that are gone or in other hands by now.
func (e *Engine) releaseUplinks(ctx context.Context, from []store.SwitchRecord, desired, had plan.State) error {
	for _, r := range from {
		if _, stays := desired.Ports[r.Uplink]; r.Uplink == "" || stays || goes(r.Uplink, desired, had) {
			continue
		}
		released, err := e.releasedUplink(ctx, r)
		if err != nil {
			return err
		}
		if released == nil {
			delete(had.Ports, r.Uplink)
		} else {
			desired.Ports[r.Uplink] = *released
		}
	}
	return nil
}

// goes reports that an uplink is a team that is deleted too.
func goes(uplink string, desired, had plan.State) bool {
	_, was := had.Bonds[uplink]
	_, is := desired.Bonds[uplink]
	return was && !is
}

// releasedUplink is the uplink as it was before, or nil if it is gone, or in other
// hands by now.
func (e *Engine) releasedUplink(ctx context.Context, r store.SwitchRecord) (*plan.Port, error) {
	nic, err := e.kernel.Netdev(ctx, r.Uplink)
	if errors.Is(err, vswitch.NotFound) || err == nil && nic.Master != "" && nic.Master != vswitch.BridgeName(r.Name) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &plan.Port{Name: r.Uplink, MTU: cmp.Or(r.UplinkMTU, nic.MTU), Up: nic.Up}, nil
}
