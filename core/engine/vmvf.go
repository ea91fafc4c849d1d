package engine

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file is about VMs that have a port and a VF with the same address, and go by the VF while
// they have it. libvirt gives the VF and takes it back. What it does not do is to tell the NIC
// when the guest has let go of the VF to migrate: as long as the NIC holds the address for the VF,
// it hands it what is for the guest.

// TakeVFRequest names a VM's port by its ID, and the VF that the VM goes by otherwise.
type TakeVFRequest struct {
	Port string `json:"port"`
	VF   string `json:"vf"` // its PCI address
}

// TakeVF says that the guest has let go of its VF: the VF's NIC forgets the address that it holds
// for it, the switch sends to the port what is for the VM, and the network outside is told. The latter
// two it does also where it fails: with CapabilityMissing for what is no VF, or one whose NIC is not
// here, and with Conflict for a VF that has another address than the port. The port says so
// (VMPort.VFAway) until ReturnVFs gives the address back, or the VM has stopped here: then
// libvirt brings the VF into its former state.
func (e *Engine) TakeVF(ctx context.Context, req TakeVFRequest) error {
	object := fmt.Sprintf("VF %.40s", req.VF)
	p, err := e.takeVF(ctx, req)
	if p.ID != "" {
		e.announceGuest(ctx, p) // other switches may have learnt another way to the VF
	}
	return fault("vf take", object, err)
}

func (e *Engine) takeVF(ctx context.Context, req TakeVFRequest) (p vswitch.Port, err error) {
	r, unlock, err := e.lockAndLookUp(req.Port)
	if err != nil {
		return p, err
	}
	defer unlock()
	p = r.port
	err = e.noteVF(&p, func(v *vswitch.VMPort) { v.VFAway, v.VFTurn = req.VF, "" })
	if err != nil { // first, so that who comes after a kill finds it
		return p, err
	}
	return p, errors.Join(e.pointed(ctx, r.port, p, r), e.forgetVF(ctx, p))
}

// lockAndLookUp locks a port with its switch, and reads what it is.
func (e *Engine) lockAndLookUp(id string) (r reservation, unlock func(), err error) {
	p, err := e.reserved(id)
	if err != nil {
		return r, nil, err
	}
	if unlock, err = e.lockForBinding([]vswitch.Port{p}); err != nil {
		return r, nil, err
	}
	found := e.lookUp(id)[0]
	if found.err != nil {
		unlock()
	}
	return found.reservation, unlock, found.err
}

// pointed has the switch send to a port what is for it, or not, as its VF is away or not.
func (e *Engine) pointed(ctx context.Context, was, is vswitch.Port, on reservation) error {
	return e.reach(ctx, attachedState(is, on.record, on.caps), attachedState(was, on.record, on.caps))
}

// nobodysMAC is what a VF has instead of none where its NIC takes no zero, as libvirt does it.
func nobodysMAC() vswitch.MAC { return vswitch.MAC{0x02} }

func forgotten(mac vswitch.MAC) bool { return mac.IsZero() || mac == nobodysMAC() }

// forgetVF has the NIC of a port's VF forget the port's address.
func (e *Engine) forgetVF(ctx context.Context, p vswitch.Port) error {
	vf, err := e.kernel.VF(ctx, p.VM.VFAway)
	switch {
	case err != nil, forgotten(vf.MAC):
		return err
	case vf.MAC != p.MAC:
		return &vswitch.Error{
			Kind: vswitch.Conflict, Err: fmt.Errorf("VF %d of %s has %s, and port %s has %s", vf.Index, vf.PF, vf.MAC, p.ID, p.MAC),
			Hint: "give both interfaces of the team one address: `patchbay libvirt interface --sriov` writes them",
		}
	}
	forget := plan.SetVFMAC{PF: vf.PF, VF: vf.Index}
	err = e.kernel.Apply(ctx, []plan.Step{forget})
	if errors.Is(err, syscall.EINVAL) {
		forget.MAC = nobodysMAC()
		err = e.kernel.Apply(ctx, []plan.Step{forget})
	}
	return err
}

// recallVF has it hold the address again.
func (e *Engine) recallVF(ctx context.Context, p vswitch.Port) error {
	vf, err := e.kernel.VF(ctx, p.VM.VFAway)
	if errors.Is(err, vswitch.CapabilityMissing) || errors.Is(err, vswitch.NotFound) || err == nil && !forgotten(vf.MAC) {
		return nil // it has not forgotten it
	}
	if err != nil {
		return err
	}
	return e.kernel.Apply(ctx, []plan.Step{plan.SetVFMAC{PF: vf.PF, VF: vf.Index, MAC: p.MAC}})
}

// noteVF writes into a port what is with the VF of its VM.
func (e *Engine) noteVF(p *vswitch.Port, note func(*vswitch.VMPort)) error {
	return e.store.Update(func(tx *store.Tx) (err error) {
		if *p, err = tx.Port(p.ID); err != nil {
			return err
		}
		note(&p.VM)
		return tx.PutPort(*p)
	})
}

// ReturnVFs has the NICs hold the addresses of a VM's VFs again, which TakeVF has made them
// forget: the VM has not migrated, and gets its VFs back. It has to come before the guest's
// driver, which would keep to an address that was changed behind it. What is for the VM comes to the
// port besides until it is heard by the VF, see VFComes. The answer are the ports whose
// VFs were away, as they were. What fails may be tried again. The VM is named by its domain's UUID.
func (e *Engine) ReturnVFs(ctx context.Context, id string) ([]vswitch.Port, error) {
	object, back := vswitch.DomainRef{ID: id}, []vswitch.Port{}
	if err := object.Validate(); err != nil {
		return back, fault("vf return", object.String(), err)
	}
	ports, err := e.portsOfDomain(id)
	for _, p := range ports {
		if !inHand(p) {
			continue
		}
		was, returnErr := e.returnVF(ctx, p.ID)
		if returnErr != nil {
			err = errors.Join(err, fault("", "VF "+p.VM.VFAway, returnErr))
		} else if was.VM.VFAway != "" {
			back = append(back, was)
		}
	}
	return back, fault("vf return", object.String(), err)
}

// inHand reports whether the VF of a VM that is about to migrate is to be returned if that fails.
func inHand(p vswitch.Port) bool { return p.VM.VFAway != "" || p.VM.VFTurn == vswitch.VFLeaves }

func (e *Engine) portsOfDomain(id string) (ports []vswitch.Port, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		ports, err = tx.PortsOfDomain(id)
		return err
	})
	return ports, err
}

// returnVF answers what the port was before; nothing if its VF was not in hand.
func (e *Engine) returnVF(ctx context.Context, port string) (was vswitch.Port, err error) {
	r, unlock, err := e.lockAndLookUp(port)
	if err != nil {
		return was, ignoreNotFound(err)
	}
	defer unlock()
	p := r.port
	if !inHand(p) {
		return was, nil
	}
	if p.VM.VFAway != "" {
		if err := e.recallVF(ctx, p); err != nil {
			return was, err
		}
	}
	return p, e.turned(ctx, r, func(v *vswitch.VMPort) { v.VFAway, v.VFTurn = "", vswitch.VFComes })
}

// AnnounceDomain tells the network outside again where the VM's ports are. The VM is named by
// its domain's UUID.
func (e *Engine) AnnounceDomain(ctx context.Context, id string) error {
	object := vswitch.DomainRef{ID: id}
	if err := object.Validate(); err != nil {
		return fault("domain announce", object.String(), err)
	}
	ports, err := e.portsOfDomain(id)
	for _, p := range ports {
		if p.Plugged() && p.Speaks() {
			e.announceGuest(ctx, p)
		}
	}
	return fault("domain announce", object.String(), err)
}
