package engine

import (
	"context"
	"errors"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file is about the moments in which nobody can tell whether a guest has its VF: see
// vswitch.VFTurn.

// LoosenVFs says that the guest was asked to let go of its VFs, to migrate: what is for the VM comes to
// its ports besides, until TakeVF or ReturnVFs, or for some minutes. The VM is named by its
// domain's UUID.
func (e *Engine) LoosenVFs(ctx context.Context, id string) error {
	return e.besideVFs(id, "vf loosen", func(r reservation) error {
		if r.port.VM.VFAway != "" {
			return nil
		}
		return e.turned(ctx, r, func(v *vswitch.VMPort) { v.VFTurn = vswitch.VFLeaves })
	})
}

// besideVFs calls do with each port of a VM that has a VF besides, under the port's locks.
func (e *Engine) besideVFs(id, verb string, do func(reservation) error) error {
	object := vswitch.DomainRef{ID: id}
	if err := object.Validate(); err != nil {
		return fault(verb, object.String(), err)
	}
	ports, err := e.portsOfDomain(id)
	for _, p := range ports {
		if p.VM.Team {
			err = errors.Join(err, fault("", "port "+p.ID, e.besideVF(p.ID, do)))
		}
	}
	return fault(verb, object.String(), err)
}

func (e *Engine) besideVF(port string, do func(reservation) error) error {
	r, unlock, err := e.lockAndLookUp(port)
	if err != nil {
		return ignoreNotFound(err)
	}
	defer unlock()
	return do(r)
}

// turned takes the switch to what a port's VF is like from now on, and has that looked out for.
func (e *Engine) turned(ctx context.Context, r reservation, turn func(*vswitch.VMPort)) error {
	p := r.port
	turn(&p.VM)
	if err := e.pointed(ctx, r.port, p, r); err != nil {
		return err
	}
	if err := e.letIn(ctx, r.record.Uplink, p); err != nil {
		return err
	}
	if err := e.noteVF(&p, turn); err != nil { // last, so that who comes after a kill finds it to do
		return err
	}
	e.resident.Load().watch(p)
	return nil
}

// letIn has the uplink's NIC take in what is for a VM that hears by its port, though the NIC holds the
// address for its VF; and no more when it does not. A NIC that cannot hands it the VF alone, which is
// no reason for anything to fail.
func (e *Engine) letIn(ctx context.Context, uplink string, p vswitch.Port) error {
	if !p.VM.Team || uplink == "" {
		return nil
	}
	off := p.GoesByVF()
	err := e.kernel.Apply(ctx, []plan.Step{plan.LetIn{Netdev: uplink, MAC: p.MAC, Off: off}})
	if !off || errors.Is(err, vswitch.NotFound) {
		return nil
	}
	return err
}

// shutOut is letIn of a port that has left the kernel.
func (e *Engine) shutOut(ctx context.Context, uplink string, p vswitch.Port) error {
	if p.GoesByVF() {
		return nil
	}
	p.VM.VFAway, p.VM.VFTurn = "", ""
	return e.letIn(ctx, uplink, p)
}

// endTurn has the switch take it that a guest has its VF, if the turn is still the one that was
// looked out for.
func (e *Engine) endTurn(ctx context.Context, was vswitch.Port) (ended bool, err error) {
	err = e.besideVF(was.ID, func(r reservation) error {
		if r.port.VM.VFTurn != was.VM.VFTurn || ctx.Err() != nil {
			return nil
		}
		ended = true // what is begun is finished
		return e.turned(context.WithoutCancel(ctx), r, func(v *vswitch.VMPort) { v.VFTurn = "" })
	})
	return ended && err == nil, err
}

// KeepVFs says that the VM has migrated, as QEMU has told: a VF that is away stays so, even if
// libvirt has the VM go on here all the same; or, with false, that it is about to migrate again. The
// VM is named by its domain's UUID.
func (e *Engine) KeepVFs(_ context.Context, id string, away bool) error {
	turn := vswitch.VFTurn("")
	if away {
		turn = vswitch.VFGone
	}
	return e.besideVFs(id, "vf keep", func(r reservation) error {
		if r.port.VM.VFAway == "" {
			return nil
		}
		return e.noteVF(&r.port, func(v *vswitch.VMPort) { v.VFTurn = turn })
	})
}
