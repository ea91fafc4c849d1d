package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// What ports are promised of an uplink is the switch's, as mirroring is: in mode weight each
// port's part follows from those of all others. A port that comes, goes or changes has the
// parts of all reckoned anew. How fast the uplink is, is not in the store: see plan.Sharing.

// sharingAmong is how the ports of a switch, the host's among them, share its uplink.
func sharingAmong(s vswitch.Switch, ports []vswitch.Port) plan.Sharing {
	u := s.MinBandwidth
	sharing := plan.Sharing{Ports: make(map[vswitch.MAC]uint64)}
	switch u.Mode.Effective() {
	case vswitch.BandwidthAbsolute:
		sharing.Absolute, sharing.Default = true, uint64(u.DefaultFlow)
	case vswitch.BandwidthWeight:
		sharing.Default = uint64(u.DefaultFlowWeight)
		if sharing.Default == 0 {
			sharing.Default = vswitch.DefaultFlowWeight
		}
	}
	for _, p := range ports {
		m := p.Policy.Bandwidth.Min
		if n := uint64(m.Rate) + uint64(m.Weight); n > 0 && !p.MACSpoofing { // whose frames are known by their address
			sharing.Ports[p.MAC] = n
		}
	}
	return sharing
}

// sharingOf is sharingAmong of a switch as the store has it. A port without a netdev sends
// nothing: it is promised its part, and has none so far.
func sharingOf(tx *store.Tx, r store.SwitchRecord) (plan.Sharing, error) {
	ports, err := policed(tx, r)
	ports = slices.DeleteFunc(ports, func(p vswitch.Port) bool { return !p.Plugged() })
	return sharingAmong(r.Switch, ports), err
}

// addJoint adds to a switch's state what its ports have together.
func addJoint(tx *store.Tx, s plan.State, r store.SwitchRecord, caps kernel.Capabilities) (err error) {
	if s.Mirrors[vswitch.BridgeName(r.Name)], err = mirrorsOf(tx, r); err != nil || r.Uplink == "" || !caps.Shares {
		return err
	}
	s.Shares[r.Uplink], err = sharingOf(tx, r)
	return err
}

// accord brings what the ports of a switch have together to what the ports are, of which
// some have come, gone or changed: copies of frames and parts of the uplink.
func (e *Engine) accord(ctx context.Context, ports ...vswitch.Port) error {
	defer e.offloadsChanged()
	var switches []string
	for _, p := range ports {
		if !p.Policy.Bandwidth.Min.IsZero() {
			switches = append(switches, p.Switch)
		}
	}
	slices.Sort(switches)
	errs := []error{e.remirrorFor(ctx, ports...)}
	for _, name := range slices.Compact(switches) {
		errs = append(errs, e.reshare(ctx, name))
	}
	return errors.Join(errs...)
}

// accordAnew is accord of all switches, after a binding that did not come to its end: nobody
// knows any more which port, of which switch, had the tap before.
func (e *Engine) accordAnew(ctx context.Context, p vswitch.Port) error {
	if !p.Plugged() || !p.PolicyChanged {
		return nil // that of p came to its end
	}
	var records []store.SwitchRecord
	err := e.store.View(func(tx *store.Tx) (err error) {
		records, err = tx.Switches()
		return err
	})
	errs := []error{err}
	for _, r := range records {
		past := vswitch.Port{Switch: r.Name, Netdev: p.Netdev, Policy: vswitch.Policy{Mirror: vswitch.MirrorSource}}
		errs = append(errs, e.remirror(ctx, r.Name, []vswitch.Port{past}), e.reshare(ctx, r.Name))
	}
	return errors.Join(errs...)
}

// discord are the ports for accord, if it has to do with what differs of them.
func discord(old, new vswitch.Port) []vswitch.Port {
	if old.Policy.Mirror == new.Policy.Mirror && old.Policy.Bandwidth.Min == new.Policy.Bandwidth.Min {
		return nil
	}
	return []vswitch.Port{old, new}
}

// reshare has the uplink of a switch shared as its ports are now. The caller may hold the
// locks of the switch and of ports.
func (e *Engine) reshare(ctx context.Context, switchName string) error {
	unlock, err := e.store.LockShares(switchName)
	if err != nil {
		return err
	}
	defer unlock()
	var desired plan.State
	err = e.store.View(func(tx *store.Tx) error {
		was, found, err := tx.Realised(switchName)
		if err != nil || !found || was.Changing || was.Uplink == "" {
			return err // who makes or changes it, shares it: see conclude
		}
		desired, err = sharedState(tx, was.SwitchRecord)
		return err
	})
	if err != nil || len(desired.Shares) == 0 {
		return err
	}
	return e.reach(ctx, desired, plan.State{})
}

// sharedState is how a switch's uplink is shared, or each member of the team that it is.
func sharedState(tx *store.Tx, r store.SwitchRecord) (s plan.State, err error) {
	sharing, err := sharingOf(tx, r)
	if err != nil {
		return s, err
	}
	s.Shares = map[string]plan.Sharing{r.Uplink: sharing}
	team, err := tx.Team(r.Uplink)
	if errors.Is(err, vswitch.NotFound) {
		return s, nil
	}
	return s.Shared(map[string]plan.Bond{r.Uplink: teamState(team, 0, true, func(string) bool { return true })}), err
}

// placeShares has the members of teams shared for the switches that stand on the teams: also
// for one that is no part of the transaction, whose team gets other members.
func (e *Engine) placeShares(t *transaction, switches []store.SwitchRecord, desired, had *plan.State) error {
	err := e.store.View(func(tx *store.Tx) error {
		for _, r := range switches {
			_, bonded := desired.Bonds[r.Uplink]
			if !bonded || !t.caps.Shares || slices.Contains(t.names(), r.Name) {
				continue
			}
			sharing, err := sharingOf(tx, r)
			if err != nil {
				return err
			}
			*desired = plan.Union(*desired, plan.State{Shares: map[string]plan.Sharing{r.Uplink: sharing}})
			*had = plan.Union(*had, plan.State{Shares: map[string]plan.Sharing{r.Uplink: {}}})
		}
		return nil
	})
	*had = had.Shared(had.Bonds, desired.Bonds)
	*desired = desired.Shared(desired.Bonds)
	return err
}

// sharesUplink names what minimums of bandwidth are, in errors.
const sharesUplink = "minimums of bandwidth"

// admitMinimum refuses a minimum that is not of the switch's mode, that the kernel cannot
// keep, or for which the uplink is too slow.
func (e *Engine) admitMinimum(tx *store.Tx, was store.Realised, p vswitch.Port) error {
	m := p.Policy.Bandwidth.Min
	if m.IsZero() {
		return nil
	}
	if err := m.ValidateIn(was.MinBandwidth.Mode); err != nil {
		return err
	}
	var caps kernel.Capabilities
	if _, err := tx.Fact(capabilitiesFact, &caps); err != nil {
		return err
	}
	if !caps.Shares {
		return missing(sharesUplink, kernel.ShareSymbols, "leave the minimum out")
	}
	if is, err := tx.Port(p.ID); err != nil && !errors.Is(err, vswitch.NotFound) {
		return err
	} else if is := is.Policy.Bandwidth.Min; err == nil && m.Rate <= is.Rate && m.Weight <= is.Weight {
		return nil // it was promised when the link was faster, perhaps, and has its part of this one
	}
	return e.admitShares(tx, was.SwitchRecord, p)
}

// admitShares refuses promises of which the uplink cannot keep all at once. A team promises
// what the slowest of its members can keep: each port goes by one, and any may be the last.
func (e *Engine) admitShares(tx *store.Tx, r store.SwitchRecord, p ...vswitch.Port) error {
	if r.Uplink == "" {
		return nil
	}
	s, err := sharedState(tx, r)
	if err != nil {
		return err
	}
	ports, err := policed(tx, r) // those without a netdev are promised theirs, too
	if err != nil {
		return err
	}
	sharing := sharingAmong(r.Switch, append(ports, p...))
	if len(sharing.Ports) > plan.MaxShares {
		return &vswitch.Error{Kind: vswitch.Admission, Err: fmt.Errorf("%d ports have a minimum, and an uplink can tell %d apart", len(sharing.Ports), plan.MaxShares), Hint: "leave the minimum out of others, or use another switch"}
	}
	for netdev := range s.Shares {
		s.Shares[netdev] = sharing
	}
	seen, err := e.kernel.Observe(context.Background(), s)
	if err != nil {
		return err
	}
	for netdev := range s.Shares {
		link := seen.Shares[netdev].Link
		if promised := sharing.Promised(link); link > 0 && promised > link {
			return &vswitch.Error{
				Kind: vswitch.Admission,
				Err: fmt.Errorf("%s carries %s a second, and %s are promised to ports and the default flow",
					netdev, vswitch.Bits(link), vswitch.Bits(promised)),
				Hint: "ask for less, lower the minimum of other ports, or the default flow with `patchbay switch set " + r.Name + " --default-flow-rate RATE`",
			}
		}
	}
	return nil
}

// promisesOther reports that a change of a switch promises anything, or anything else than
// before: one that does not is not refused because the uplink has become slow.
func promisesOther(c change) bool {
	if c.old == nil {
		return !c.new.HostPolicy.Bandwidth.Min.IsZero()
	}
	return c.old.Uplink != c.new.Uplink || c.old.MinBandwidth != c.new.MinBandwidth || c.old.HostPolicy.Bandwidth.Min != c.new.HostPolicy.Bandwidth.Min
}

// keepsFixed refuses to change what a switch is made with for good: SR-IOV, and the mode of
// its bandwidth, as what ports have been promised would mean nothing in another one.
func keepsFixed(old, new vswitch.Switch) error {
	if old.SRIOV != new.SRIOV {
		return fixedSRIOV(old)
	}
	was, is := old.MinBandwidth.Mode.Effective(), new.MinBandwidth.Mode.Effective()
	if was == is {
		return nil
	}
	return &vswitch.Error{
		Kind: vswitch.Immutable, Object: "switch " + old.Name, Field: "minBandwidth.mode",
		Err:  fmt.Errorf("its bandwidth mode is %s and cannot become %s", was, is),
		Hint: fmt.Sprintf("delete the switch and make it again with --min-bandwidth-mode %s", is),
	}
}
