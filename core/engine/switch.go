package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// allSwitches is the lock that verbs on switches take before that of their own:
// they share the uplinks, the numbers and the rules.
const allSwitches = ""

// AddSwitch makes a switch. One that exists and agrees with what the definition
// says, whatever it leaves out, is brought to what it should be and returned; one
// that disagrees is a Conflict.
// PowerShell twin: New-VMSwitch.
func (e *Engine) AddSwitch(ctx context.Context, s vswitch.Switch) (SwitchStatus, error) {
	object := "switch " + s.Name
	if err := s.Validate(); err != nil {
		return SwitchStatus{}, fault("switch add", object, err)
	}
	unlock, err := e.lockSwitch(s.Name)
	if err != nil {
		return SwitchStatus{}, fault("switch add", object, err)
	}
	defer unlock()
	status, err := e.addSwitch(ctx, s)
	return status, fault("switch add", object, err)
}

// lockSwitch takes the locks of a verb that changes a switch.
func (e *Engine) lockSwitch(name string) (unlock func(), err error) {
	if err := vswitch.ValidateName(name); err != nil {
		return nil, &vswitch.Error{Kind: vswitch.Invalid, Err: err}
	}
	unlockAll, err := e.store.LockSwitch(allSwitches, store.Exclusive)
	if err != nil {
		return nil, err
	}
	unlockOne, err := e.store.LockSwitch(name, store.Exclusive)
	if err != nil {
		unlockAll()
		return nil, err
	}
	return func() { unlockOne(); unlockAll() }, nil
}

func (e *Engine) addSwitch(ctx context.Context, s vswitch.Switch) (SwitchStatus, error) {
	existing, err := e.record(s.Name)
	if err == nil {
		if err := agrees(s, existing); err != nil {
			return SwitchStatus{}, err
		}
		caps, err := e.capabilitiesFor(ctx, existing.Switch)
		if err != nil {
			return SwitchStatus{}, err
		}
		return e.repairSwitch(ctx, existing, caps)
	}
	if !errors.Is(err, vswitch.NotFound) {
		return SwitchStatus{}, err
	}
	caps, err := e.capabilitiesFor(ctx, s)
	if err != nil {
		return SwitchStatus{}, err
	}
	record := store.SwitchRecord{Switch: s.Normalized(), EffectiveMTU: s.MTU, Created: e.now()}
	if err := e.newRecord(ctx, &record); err != nil {
		return SwitchStatus{}, err
	}
	status, err := e.repairSwitch(ctx, record, caps)
	if err != nil {
		return status, undone(err, e.removeSwitch(ctx, record, caps))
	}
	return status, nil
}

// newRecord decides what a switch's record adds to its definition, and writes it:
// the intent, before anything is touched.
func (e *Engine) newRecord(ctx context.Context, r *store.SwitchRecord) error {
	if err := e.namesFree(ctx, r.Name); err != nil {
		return err
	}
	if r.Type == vswitch.External {
		nic, err := e.uplink(ctx, r.Switch)
		if err != nil {
			return err
		}
		if r.EffectiveMTU == 0 {
			r.EffectiveMTU = nic.MTU
		}
		if r.EffectiveMTU != nic.MTU {
			r.UplinkMTU = nic.MTU
		}
	}
	if r.EffectiveMTU == 0 {
		r.EffectiveMTU = vswitch.DefaultMTU
	}
	r.BridgeMAC = vswitch.DerivedMAC("bridge", r.Name, strconv.FormatUint(rand.Uint64(), 36))
	return e.store.UpdateConfig(func(tx *store.Tx) (err error) {
		if err := errors.Join(uplinkFree(tx, r.Switch), subnetsFree(tx, r.Switch)); err != nil {
			return err
		}
		if r.Number, err = tx.FreeSwitchNumber(); err != nil {
			return err
		}
		if r.HostPort() {
			if r.HostMAC, err = tx.LeaseMAC(vswitch.HostPortSwitchEnd(r.Name)); err != nil {
				return err
			}
		}
		return tx.PutSwitch(*r)
	})
}

// uplinkFree refuses a NIC that is another switch's uplink.
func uplinkFree(tx *store.Tx, s vswitch.Switch) error {
	if s.Uplink == "" {
		return nil
	}
	records, err := tx.Switches()
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.Uplink == s.Uplink && r.Name != s.Name {
			return &vswitch.Error{
				Kind: vswitch.UplinkInUse, Err: fmt.Errorf("NIC %s is the uplink of switch %s", s.Uplink, r.Name),
				Hint: fmt.Sprintf("name another NIC, or run `patchbay switch delete %s`", r.Name),
			}
		}
	}
	return nil
}

// subnetsFree refuses a gateway whose subnet is another switch's: the host could
// route to one of them alone.
func subnetsFree(tx *store.Tx, s vswitch.Switch) error {
	records, err := tx.Switches()
	for _, r := range records {
		for _, theirs := range r.Gateway {
			for _, ours := range s.Gateway {
				if r.Name != s.Name && ours.Overlaps(theirs) {
					return &vswitch.Error{
						Kind: vswitch.Conflict, Err: fmt.Errorf("gateway %s overlaps %s of switch %s", ours, theirs, r.Name),
						Hint: "choose another subnet",
					}
				}
			}
		}
	}
	return err
}

// namesFree refuses a switch whose netdevs' names somebody else has: another
// switch with a name that is cut to the same, or a stranger.
func (e *Engine) namesFree(ctx context.Context, name string) error {
	for _, netdev := range []string{vswitch.BridgeName(name), vswitch.HostPortName(name), vswitch.HostPortSwitchEnd(name)} {
		n, err := e.kernel.Netdev(ctx, netdev)
		if errors.Is(err, vswitch.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if !vswitch.AliasOf(n.Alias, name) {
			return &vswitch.Error{
				Kind: vswitch.AlreadyExists, Err: fmt.Errorf("netdev %s, which the switch needs, is there and somebody else's", netdev),
				Hint: fmt.Sprintf("choose another name for the switch, or rename the netdev: `ip link set %s name NEW`", netdev),
			}
		}
	}
	return nil
}

func (e *Engine) record(name string) (r store.SwitchRecord, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		r, err = tx.Switch(name)
		return err
	})
	return r, err
}

// repairSwitch brings the kernel to what the record says: a new switch comes to
// be, one that lost something gets it back.
func (e *Engine) repairSwitch(ctx context.Context, r store.SwitchRecord, caps kernel.Capabilities) (SwitchStatus, error) {
	if err := supported(r.Switch, caps); err != nil {
		return SwitchStatus{}, err
	}
	if r.Uplink != "" {
		if _, err := e.uplink(ctx, r.Switch); err != nil {
			return SwitchStatus{}, err
		}
	}
	desired, err := e.desiredSwitch(r, caps)
	if err != nil {
		return SwitchStatus{}, err
	}
	had, err := e.changing(r.Name, caps)
	if err != nil {
		return SwitchStatus{}, err
	}
	if err := e.reach(ctx, desired, had); err != nil {
		return SwitchStatus{}, err
	}
	return e.realised(r, caps)
}

// realised notes that the kernel has all of a switch and no more: from now on
// attachments need not look.
func (e *Engine) realised(r store.SwitchRecord, caps kernel.Capabilities) (s SwitchStatus, err error) {
	err = e.store.Update(func(tx *store.Tx) error {
		if !r.HostPort() { // it had one, perhaps
			if err := tx.DeletePort(vswitch.HostPortSwitchEnd(r.Name)); err != nil {
				return err
			}
		}
		if s, err = statusOf(tx, r); err != nil {
			return err
		}
		return tx.PutRealised(store.Realised{SwitchRecord: r, LocksPorts: caps.PortLocked, HasRules: caps.BridgeRules})
	})
	return s, err
}

// changing goes before every change of a switch and returns what the kernel may
// still have of what the switch was: if the process is killed in the middle, the
// next verb finds the same again, and removes what is not wanted of it.
func (e *Engine) changing(name string, caps kernel.Capabilities) (had plan.State, err error) {
	err = e.store.Update(func(tx *store.Tx) error {
		was, found, err := tx.Realised(name)
		if err != nil || !found {
			return err
		}
		had = switchState(was.SwitchRecord, caps)
		had.Forward = plan.Families{}
		had.Rules = hostRules([]store.SwitchRecord{was.SwitchRecord}, caps)
		if was.Changing {
			return nil
		}
		was.Changing = true
		return tx.PutRealised(was)
	})
	return had, err
}

// desiredSwitch is a switch with the rules of the whole host.
func (e *Engine) desiredSwitch(r store.SwitchRecord, caps kernel.Capabilities) (plan.State, error) {
	desired := switchState(r, caps)
	err := e.store.View(func(tx *store.Tx) error {
		rules, err := allRules(tx, caps, "")
		desired.Rules = rules
		return err
	})
	return desired, err
}

// reach takes the kernel to desired; had names what was ours before and goes.
func (e *Engine) reach(ctx context.Context, desired, had plan.State) error {
	observed, err := e.kernel.Observe(ctx, plan.Union(desired, had))
	if err != nil {
		return err
	}
	return e.kernel.Apply(ctx, plan.Diff(desired, observed))
}

func (e *Engine) switchStatus(r store.SwitchRecord) (s SwitchStatus, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		s, err = statusOf(tx, r)
		return err
	})
	return s, err
}

func statusOf(tx *store.Tx, r store.SwitchRecord) (SwitchStatus, error) {
	s := SwitchStatus{
		Switch: r.Switch, EffectiveMTU: r.EffectiveMTU,
		Bridge: vswitch.BridgeName(r.Name), BridgeMAC: r.BridgeMAC,
	}
	if r.HostPort() {
		s.HostPortNetdev = vswitch.HostPortName(r.Name)
	}
	var err error
	s.Ports, err = tx.PortCount(r.Name)
	return s, err
}

// agrees compares a definition with what exists: what it says must be so, what
// it leaves out may be anything.
func agrees(want vswitch.Switch, have store.SwitchRecord) error {
	var differ []string
	check := func(field string, same bool, w, h any) {
		if !same {
			differ = append(differ, fmt.Sprintf("%s is %v, not %v", field, h, w))
		}
	}
	check("type", want.Type == "" || want.Type == have.Type, want.Type, have.Type)
	check("uplink", want.Uplink == "" || want.Uplink == have.Uplink, want.Uplink, cmp.Or(have.Uplink, "none"))
	check("hostAccess", want.HostAccess == nil || *want.HostAccess == have.HostPort(), want.HostPort(), have.HostPort())
	check("vlan", want.VLAN == 0 || want.VLAN == have.VLAN, want.VLAN, have.VLAN)
	check("mtu", want.MTU == 0 || want.MTU == have.EffectiveMTU, want.MTU, have.EffectiveMTU)
	check("gateway", len(want.Gateway) == 0 || slices.Equal(want.Normalized().Gateway, have.Normalized().Gateway), want.Gateway, have.Gateway)
	check("masquerade", want.Masquerade.IsZero() || masqueradesAs(want, have), want.Masquerade, have.Masquerade)
	if len(differ) == 0 {
		return nil
	}
	return &vswitch.Error{
		Kind: vswitch.Conflict, Err: fmt.Errorf("exists with another definition: %s", strings.Join(differ, "; ")),
		Hint: fmt.Sprintf("compare with `patchbay switch show %s`; change it with `patchbay switch set %s`", have.Name, have.Name),
	}
}

// masqueradesAs compares masquerade for the families that there are: "on" is
// "ipv4" where there is no IPv6 gateway.
func masqueradesAs(want vswitch.Switch, have store.SwitchRecord) bool {
	if len(want.Gateway) == 0 {
		want.Gateway = have.Gateway
	}
	return want.EffectiveMasquerade() == have.EffectiveMasquerade()
}

// Switch returns one switch, or vswitch.NotFound. PowerShell twin: Get-VMSwitch.
func (e *Engine) Switch(_ context.Context, name string) (SwitchStatus, error) {
	r, err := e.record(name)
	if err != nil {
		return SwitchStatus{}, fault("switch show", "switch "+name, err)
	}
	return e.switchStatus(r)
}

// Switches returns all switches by name. PowerShell twin: Get-VMSwitch.
func (e *Engine) Switches(context.Context) ([]SwitchStatus, error) {
	all := []SwitchStatus{}
	err := e.store.View(func(tx *store.Tx) error {
		records, err := tx.Switches()
		if err != nil {
			return err
		}
		for _, r := range records {
			s, err := statusOf(tx, r)
			if err != nil {
				return err
			}
			all = append(all, s)
		}
		return nil
	})
	return all, fault("switch list", "", err)
}

// CanAttach fails with what an Attach to the switch would fail with for the
// switch's sake: it is missing, disagrees with define, or its uplink is not fit.
// It changes nothing.
func (e *Engine) CanAttach(ctx context.Context, name string, define *vswitch.Switch) error {
	return fault("attach", "switch "+name, e.canAttach(ctx, name, define))
}

func (e *Engine) canAttach(ctx context.Context, name string, define *vswitch.Switch) error {
	want := vswitch.Switch{Name: name}
	r, err := e.record(name)
	switch {
	case err == nil && define != nil:
		err = agrees(*define, r)
		want = r.Switch
	case err == nil:
		want = r.Switch
	case errors.Is(err, vswitch.NotFound) && define != nil:
		want = *define
		if err = define.Validate(); err == nil {
			err = e.namesFree(ctx, name)
		}
	}
	if err != nil {
		return err
	}
	if _, err := e.capabilitiesFor(ctx, want); err != nil {
		return err
	}
	if want.Uplink != "" {
		if _, err := e.uplink(ctx, want); err != nil {
			return err
		}
	}
	asked := errors.New("asked, and nothing to write")
	err = e.store.Update(func(tx *store.Tx) error { // that it can be written is a part of the question
		if err := errors.Join(uplinkFree(tx, want), subnetsFree(tx, want)); err != nil {
			return err
		}
		return asked
	})
	if errors.Is(err, asked) {
		return nil
	}
	return err
}
