package engine

import (
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

// SetSwitch changes host access, gateway, masquerade and notes of a switch while
// its ports stay attached. Type, uplink, VLAN and MTU are Immutable as yet. It is
// one transaction: on failure the switch is what it was.
// PowerShell twin: Set-VMSwitch.
func (e *Engine) SetSwitch(ctx context.Context, name string, c SwitchChange) (SwitchStatus, error) {
	unlock, err := e.lockSwitch(name)
	if err != nil {
		return SwitchStatus{}, fault("switch set", "switch "+name, err)
	}
	defer unlock()
	status, err := e.setSwitch(ctx, name, c)
	return status, fault("switch set", "switch "+name, err)
}

func (e *Engine) setSwitch(ctx context.Context, name string, c SwitchChange) (SwitchStatus, error) {
	old, err := e.record(name)
	if err != nil {
		return SwitchStatus{}, err
	}
	changed, err := c.apply(old.Switch)
	if err != nil {
		return SwitchStatus{}, err
	}
	if err := changed.Validate(); err != nil {
		return SwitchStatus{}, err
	}
	caps, err := e.capabilitiesFor(ctx, changed)
	if err != nil {
		return SwitchStatus{}, err
	}
	if err := e.settle(ctx, old, caps); err != nil {
		return SwitchStatus{}, err
	}
	record := old
	record.Switch = changed
	if err := e.exchange(ctx, old, &record, caps); err != nil {
		return SwitchStatus{}, undone(err, e.revert(context.WithoutCancel(ctx), record, old, caps))
	}
	return e.switchStatus(record)
}

// exchange writes the new record and takes the kernel from the old one to it. The
// host port's address is given back only when the port is gone.
func (e *Engine) exchange(ctx context.Context, old store.SwitchRecord, new *store.SwitchRecord, caps kernel.Capabilities) error {
	had, err := e.changing(old.Name, caps)
	if err != nil {
		return err
	}
	err = e.store.UpdateConfig(func(tx *store.Tx) (err error) {
		if err := errors.Join(subnetsFree(tx, new.Switch), gatewaysFree(tx, new.Switch)); err != nil {
			return err
		}
		if new.HostPort() && new.HostMAC.IsZero() {
			new.HostMAC, err = tx.LeaseMAC(vswitch.HostPortSwitchEnd(new.Name))
		} else if !new.HostPort() {
			new.HostMAC = vswitch.MAC{}
		}
		return errors.Join(err, tx.PutSwitch(*new))
	})
	if err != nil {
		return err
	}
	desired, err := e.desiredSwitch(*new, caps)
	if err != nil {
		return err
	}
	was := switchState(old, caps)
	was.Rules = hostRules([]store.SwitchRecord{old}, caps)
	if err := e.reach(ctx, desired, plan.Union(was, had)); err != nil {
		return err
	}
	_, err = e.realised(*new, caps)
	return err
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
	} else if err == nil && r.Uplink != "" {
		_, err = e.uplink(ctx, r.Switch)
	}
	return err
}

// revert takes the kernel back to the old record and then the store: until then
// the two records name all that may be there.
func (e *Engine) revert(ctx context.Context, failed, old store.SwitchRecord, caps kernel.Capabilities) error {
	desired := switchState(old, caps)
	err := e.store.View(func(tx *store.Tx) (err error) {
		desired.Rules, err = allRules(tx, caps, old.Name, old)
		return err
	})
	if err != nil {
		return err
	}
	had := switchState(failed, caps)
	had.Rules = hostRules([]store.SwitchRecord{failed}, caps)
	if err := e.reach(ctx, desired, had); err != nil {
		return err
	}
	err = e.store.UpdateConfig(func(tx *store.Tx) error { return tx.PutSwitch(old) })
	if err == nil {
		_, err = e.realised(old, caps)
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

// apply returns the definition with the changes made.
func (c SwitchChange) apply(s vswitch.Switch) (vswitch.Switch, error) {
	fixed := func(field string) (vswitch.Switch, error) {
		return s, &vswitch.Error{
			Kind: vswitch.Immutable, Err: fmt.Errorf("%s cannot change in place", field),
			Hint: fmt.Sprintf("run `patchbay switch delete %s` and add it anew", s.Name),
		}
	}
	switch {
	case c.Type != nil && *c.Type != s.Type:
		return fixed("the type")
	case c.Uplink != nil && *c.Uplink != s.Uplink:
		return fixed("the uplink")
	case c.VLAN != nil && *c.VLAN != s.VLAN:
		return fixed("the VLAN")
	case c.MTU != nil && *c.MTU != s.MTU:
		return fixed("the MTU")
	}
	if c.HostAccess != nil {
		s.HostAccess = c.HostAccess
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
	return s, nil
}

// DeleteSwitch removes a switch. One with guests' ports is InUse, naming them,
// unless force detaches them first. Deleting what is not there is NotFound.
// PowerShell twin: Remove-VMSwitch.
func (e *Engine) DeleteSwitch(ctx context.Context, name string, force bool) error {
	unlock, err := e.lockSwitch(name)
	if err != nil {
		return fault("switch delete", "switch "+name, err)
	}
	defer unlock()
	return fault("switch delete", "switch "+name, e.deleteSwitch(ctx, name, force))
}

func (e *Engine) deleteSwitch(ctx context.Context, name string, force bool) error {
	r, err := e.record(name)
	if err != nil {
		return err
	}
	var ports []vswitch.Port
	err = e.store.View(func(tx *store.Tx) error {
		ports, err = tx.PortsOf(name)
		return err
	})
	if err != nil {
		return err
	}
	if len(ports) > 0 && !force {
		return holders(name, ports)
	}
	for _, p := range ports {
		err = errors.Join(err, e.detach(ctx, p.Owner))
	}
	if err != nil {
		return err
	}
	caps, err := e.capabilities(ctx)
	if err != nil {
		return err
	}
	return e.removeSwitch(ctx, r, caps)
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

// removeSwitch takes the switch out of the kernel and then forgets it: a process
// killed in between leaves a record, which the next delete or add finishes.
func (e *Engine) removeSwitch(ctx context.Context, r store.SwitchRecord, caps kernel.Capabilities) error {
	was, err := e.changing(r.Name, caps)
	if err != nil {
		return err
	}
	had := plan.Union(switchState(r, caps), was)
	had.Forward = plan.Families{}
	had.Rules = plan.Union(plan.State{Rules: hostRules([]store.SwitchRecord{r}, caps)}, was).Rules
	desired := plan.State{}
	err = e.store.View(func(tx *store.Tx) error {
		desired.Rules, err = allRules(tx, caps, r.Name)
		return err
	})
	if err != nil {
		return err
	}
	if desired.Ports, err = e.releasedUplink(ctx, r); err != nil {
		return err
	}
	if desired.Ports == nil {
		delete(had.Ports, r.Uplink)
	}
	if err := e.reach(ctx, desired, had); err != nil {
		return err
	}
	return e.store.UpdateConfig(func(tx *store.Tx) error {
		return errors.Join(
			tx.DeletePort(vswitch.HostPortSwitchEnd(r.Name)), // and the lease of its address
			tx.DropRealised(r.Name),
			tx.DeleteSwitch(r.Name),
		)
	})
}

// allRules are the rules of all switches but one, which may be "" and have others
// in its place, with those of the guests' ports that the kernel cannot lock.
func allRules(tx *store.Tx, caps kernel.Capabilities, but string, instead ...store.SwitchRecord) (plan.Rules, error) {
	records, err := tx.Switches()
	if err != nil {
		return plan.Rules{}, err
	}
	records = slices.DeleteFunc(records, func(r store.SwitchRecord) bool { return r.Name == but })
	records = append(records, instead...)
	rules := hostRules(records, caps)
	if caps.PortLocked || !rules.Base {
		return rules, nil
	}
	guests, err := tx.Ports()
	for _, p := range guests {
		maps.Copy(rules.Guard, portRules(p, caps).Guard)
	}
	return rules, err
}

// releasedUplink is the uplink as it was before, or nothing if it is gone, or in
// other hands by now.
func (e *Engine) releasedUplink(ctx context.Context, r store.SwitchRecord) (map[string]plan.Port, error) {
	if r.Uplink == "" {
		return nil, nil
	}
	nic, err := e.kernel.Netdev(ctx, r.Uplink)
	if errors.Is(err, vswitch.NotFound) || err == nil && nic.Master != "" && nic.Master != vswitch.BridgeName(r.Name) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	mtu := nic.MTU
	if r.UplinkMTU != 0 {
		mtu = r.UplinkMTU
	}
	return map[string]plan.Port{r.Uplink: {Name: r.Uplink, MTU: mtu, Up: nic.Up}}, nil
}
