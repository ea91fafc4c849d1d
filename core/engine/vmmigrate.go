package engine

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// expectedFor is how long a VM that was announced may take until its taps are there. libvirt
// asks for all of them before any memory moves.
const expectedFor = time.Minute

// ExpectDomain announces that a VM is about to come from another host. Its ports get, when
// they are reserved, what the other host has exported of them, and are bound as VMIncoming:
// complete, but nothing draws the VM's traffic here until the VM speaks or ActivateDomain is
// called. The announcement holds for a minute, or until ReleaseDomain; a later one, and GC, have it
// forgotten. A state of a later version is refused, before any memory moves.
func (e *Engine) ExpectDomain(_ context.Context, req ExpectDomainRequest) error {
	err := req.validate()
	if err == nil {
		err = e.expect(req)
	}
	return fault("domain expect", req.Domain.String(), err)
}

func (e *Engine) expect(req ExpectDomainRequest) error {
	x := store.Expected{Since: e.now().UTC()}
	if req.State != nil {
		body, err := json.Marshal(req.State)
		if err != nil {
			return err
		}
		x.State = body
	}
	return e.store.Update(func(tx *store.Tx) error {
		return errors.Join(e.expireExpected(tx), tx.PutExpected(req.Domain.ID, x))
	})
}

func (req ExpectDomainRequest) validate() error {
	if err := req.Domain.Validate(); err != nil {
		return err
	}
	if req.Domain.ID == "" {
		return &vswitch.Error{Kind: vswitch.Invalid, Object: "domain", Err: errors.New("it has no UUID"), Hint: "name it by the domain's UUID"}
	}
	if req.State == nil {
		return nil
	}
	return req.State.Validate()
}

// expected is what was announced of a VM, unless that is too long ago.
func (e *Engine) expected(tx *store.Tx, domain string) (x store.Expected, comes bool, err error) {
	x, found, err := tx.Expected(domain)
	return x, found && !e.isLate(x), err
}

func (e *Engine) isLate(x store.Expected) bool { return e.now().Sub(x.Since).Abs() > expectedFor }

// expireExpected forgets VMs that have not come, where nobody has said so.
func (e *Engine) expireExpected(tx *store.Tx) error {
	return tx.DropExpectedLate(e.isLate)
}

// ActivateDomain says that a VM which has come from another host runs here now: what is for
// its addresses goes to its ports, and the network outside is told. It changes nothing for
// ports that are active, or of a VM that has none. The VM is named by its domain's UUID.
func (e *Engine) ActivateDomain(ctx context.Context, id string) ([]vswitch.Port, error) {
	object := vswitch.DomainRef{ID: id}
	if err := object.Validate(); err != nil {
		return nil, fault("domain activate", object.String(), err)
	}
	ports, err := e.activateDomain(ctx, id)
	return ports, fault("domain activate", object.String(), err)
}

func (e *Engine) activateDomain(ctx context.Context, id string) (active []vswitch.Port, err error) {
	var ports []vswitch.Port
	var expected, incoming bool
	err = e.store.View(func(tx *store.Tx) error {
		if ports, err = tx.PortsOfDomain(id); err == nil {
			_, expected, err = tx.Expected(id)
		}
		return err
	})
	active = []vswitch.Port{}
	for _, p := range ports {
		if p.VM.Stage != vswitch.VMIncoming {
			continue
		}
		incoming = true
		done, activeErr := e.activate(ctx, p.ID)
		if activeErr != nil {
			err = errors.Join(err, fault("", "port "+p.ID, activeErr))
		} else if done.ID != "" {
			active = append(active, done)
		}
	}
	if err == nil && expected && !incoming { // it runs, and nothing of it waits
		err = e.store.Update(func(tx *store.Tx) error { return tx.DropExpected(id) })
	}
	return active, err
}

// activate makes an incoming port an active one; the answer is empty if it was not incoming.
func (e *Engine) activate(ctx context.Context, id string) (vswitch.Port, error) {
	var want AttachRequest
	return realising(ctx, e, &want, func() (p vswitch.Port, err error) {
		p, err = e.tryActivate(ctx, id, &want)
		return p, err
	})
}

func (e *Engine) tryActivate(ctx context.Context, id string, want *AttachRequest) (vswitch.Port, error) {
	p, err := e.reserved(id)
	if err != nil {
		return vswitch.Port{}, ignoreNotFound(err)
	}
	want.Switch, want.VLAN = p.Switch, &p.VLAN
	unlock, err := e.lockForBinding([]vswitch.Port{p})
	if err != nil {
		return vswitch.Port{}, err
	}
	defer unlock()
	r := e.lookUp(id)[0]
	if errors.Is(r.err, vswitch.NotFound) || r.err == nil && r.port.VM.Stage != vswitch.VMIncoming {
		return vswitch.Port{}, nil
	}
	if r.err != nil {
		return vswitch.Port{}, r.err
	}
	silent := attachedState(r.port, r.record, r.caps)
	r.port.VM.Stage = vswitch.VMActive
	if r.port.VM.Team && e.resident.Load() != nil { // or nobody would end it
		r.port.VM.VFTurn = vswitch.VFComes
	}
	if err := e.reach(ctx, attachedState(r.port, r.record, r.caps), silent); err != nil {
		return vswitch.Port{}, needsRepair(err)
	}
	if r.port.VM.VFTurn != "" {
		_ = e.letIn(ctx, r.record.Uplink, r.port) // see there
	}
	// Last, so that who comes after a kill finds it to do.
	err = e.store.Update(func(tx *store.Tx) error {
		return errors.Join(tx.PutPort(r.port), tx.DropExpected(r.port.Owner.ID))
	})
	if err != nil {
		return vswitch.Port{}, err
	}
	e.resident.Load().watch(r.port)
	e.announceGuest(ctx, r.port)
	return r.port, nil
}

// announceGuest tells the network by which uplink a guest is reached, and has it told again
// if this engine is resident: but for a guest that may have its VF a moment later, or be on another
// host, which a NIC or a switch that learns would lose sight of by that. That it fails is no
// reason to undo what was done.
func (e *Engine) announceGuest(ctx context.Context, p vswitch.Port) {
	what, err := e.announcements(ctx, p.Switch, func(g plan.Guest, _ int) bool { return g.MAC == p.MAC })
	if err != nil {
		return // it speaks for itself sooner or later
	}
	_ = e.kernel.Apply(ctx, announcing(what))
	if !p.VM.Team {
		e.resident.Load().guestArrived(p.Switch, what)
	}
}

// ExportDomain is what ExpectDomain on another host makes a VM's ports of: as they are now,
// with what they have counted. The VM is named by its domain's UUID.
func (e *Engine) ExportDomain(ctx context.Context, id string) (DomainState, error) {
	object := vswitch.DomainRef{ID: id}
	state := DomainState{Version: DomainStateVersion, Ports: []PortState{}}
	err := object.Validate()
	var ports []vswitch.Port
	if err == nil {
		ports, err = e.portsOfDomain(id)
	}
	if err != nil {
		return state, fault("domain export", object.String(), err)
	}
	counted, err := e.kernel.PortCounters(ctx)
	for _, p := range ports {
		if !p.Plugged() {
			continue
		}
		state.Ports = append(state.Ports, PortState{
			Switch: p.Switch, MAC: p.MAC, VLAN: p.VLAN, Isolated: p.Isolated, MACSpoofing: p.MACSpoofing, Policy: p.Policy,
			Narrowed: p.VM.Narrowed, Counted: countedSoFar(p, counted[p.Netdev]),
		})
	}
	return state, fault("domain export", object.String(), err)
}
