package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// BindPort gives a reserved port its tap: when it returns, all that the port is granted and
// denied is in the kernel, and until then the tap's frames were dropped. The override is
// applied once, to what the port is then; another one later takes away more, and one that
// asks for more than there is fails with Widens and changes nothing. Bound again to the same
// tap it repairs what is missing. Bound to another tap, or with a tap that was another port's
// of the same VM, it leaves nothing of the port or the tap where they were. The port of a VM
// that is expected (ExpectDomain) is VMIncoming then, and ActivateDomain follows.
func (e *Engine) BindPort(ctx context.Context, req BindPortRequest) (vswitch.Port, error) {
	object := fmt.Sprintf("netdev %s to %s", req.Netdev, req.Owner)
	if err := req.validate(); err != nil {
		return vswitch.Port{}, fault("port bind", object, err)
	}
	var err error
	if req.Pair {
		req.Netdev, err = e.otherEnd(ctx, req.Netdev)
	}
	var p vswitch.Port
	if err == nil {
		p, err = e.bindPort(ctx, req)
	}
	return p, fault("port bind", object, err)
}

func (req BindPortRequest) validate() error {
	errs := []error{validateVMOwner(req.Owner), vswitch.ValidateVMAlias(req.Alias)}
	if err := vswitch.ValidateNetdevName(req.Netdev); err != nil {
		errs = append(errs, &vswitch.Error{Kind: vswitch.Invalid, Object: "netdev", Err: err, Hint: "name the VM's tap"})
	}
	if _, err := vswitch.ParseAddressList(string(req.Addresses)); err != nil {
		errs = append(errs, err)
	}
	if req.Override.VLAN != nil {
		errs = append(errs, req.Override.VLAN.Validate())
	}
	return errors.Join(errs...)
}

// BindPorts binds several ports in the time of one, all of them or none: those of a VM that
// starts. It mends no switch and takes no tap from another port, which fails with Conflict:
// where it fails, BindPort of each does what can be done and tells what cannot.
func (e *Engine) BindPorts(ctx context.Context, reqs []BindPortRequest) ([]vswitch.Port, error) {
	object := fmt.Sprintf("%d netdevs", len(reqs))
	var errs []error
	seen := map[string]bool{}
	for _, req := range reqs {
		errs = append(errs, req.validate())
		if id := req.Owner.PortID(); req.Pair || seen[id] {
			errs = append(errs, &vswitch.Error{Kind: vswitch.Invalid, Object: "netdev", Err: fmt.Errorf("%.32q is of a pair, or of a port that is named twice", req.Netdev), Hint: "bind it alone"})
		} else {
			seen[id] = true
		}
	}
	if err := errors.Join(errs...); err != nil || len(reqs) == 0 {
		return nil, fault("port bind", object, err)
	}
	all, err := e.tryBind(ctx, reqs)
	if err != nil {
		return nil, fault("port bind", object, unsteady(err))
	}
	ports := make([]vswitch.Port, len(all))
	for i, b := range all {
		ports[i] = b.next.port
	}
	return ports, nil
}

func (e *Engine) bindPort(ctx context.Context, req BindPortRequest) (vswitch.Port, error) {
	var want AttachRequest
	return realising(ctx, e, &want, func() (vswitch.Port, error) {
		all, err := e.tryBind(ctx, []BindPortRequest{req})
		p := all[0].next.port
		want.Switch, want.VLAN = p.Switch, &p.VLAN
		return p, err
	})
}

// tryBind binds all or none. It fails with errNotRealised, having changed nothing in the kernel,
// if a switch has to be made or repaired first. Only one alone may take another port's tap.
func (e *Engine) tryBind(ctx context.Context, reqs []BindPortRequest) ([]binding, error) {
	all := make([]binding, len(reqs))
	ports, former, err := e.whoIsAt(reqs)
	if err != nil {
		return all, err
	}
	unlock, err := e.lockForBinding(append(ports, former...))
	if err != nil {
		return all, err
	}
	defer unlock()
	taps := make([]kernel.Netdev, len(reqs))
	for i, req := range reqs {
		if taps[i], err = e.kernel.Netdev(ctx, req.Netdev); err != nil {
			return all, err
		}
	}
	err = e.store.Update(func(tx *store.Tx) (err error) {
		for i, req := range reqs {
			if all[i], err = e.bindIn(tx, req, taps[i], former); err != nil {
				break
			}
		}
		return err
	})
	if err != nil {
		return all, err
	}
	if err := e.plugTaps(ctx, all); err != nil {
		if errors.Is(err, errNotRealised) && len(all) == 1 {
			return all, err // who binds one mends the switch and comes again
		}
		return all, undone(err, e.unbind(context.WithoutCancel(ctx), all))
	}
	return all, e.bindingsDone(ctx, all)
}

// bindingsDone has the switches accord with what is bound. That of the past comes first: copies
// of one tap's frames are in one place of it, whatever switch they are for.
func (e *Engine) bindingsDone(ctx context.Context, all []binding) error {
	var past, ports []vswitch.Port
	var errs []error
	for _, b := range all {
		past, ports = append(past, b.former.port), append(ports, b.now.port, b.next.port)
	}
	errs = append(errs, e.accord(ctx, past...))
	for _, b := range all {
		errs = append(errs, e.accordAnew(ctx, b.now.port))
	}
	err := errors.Join(append(errs, e.accord(ctx, ports...))...)
	for _, b := range all {
		if err == nil {
			e.settlePolicy(b.next.port)
		}
	}
	return err
}

// whoIsAt reads which ports are to be bound, and which others have their taps. Of several none
// may take the tap of another, or leave one.
func (e *Engine) whoIsAt(reqs []BindPortRequest) (ports, former []vswitch.Port, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		ports, former = nil, nil
		for _, req := range reqs {
			p, err := tx.Port(req.Owner.PortID())
			if err != nil {
				return reserveFirst(err)
			}
			other, found, err := tx.PortOfNetdev(req.Netdev)
			if err != nil {
				return err
			}
			if ports = append(ports, p); found && other.ID != p.ID {
				former = append(former, other)
			}
			if len(reqs) > 1 && (len(former) > 0 || p.Plugged() && p.Netdev != req.Netdev) {
				return errMeanwhile
			}
		}
		return nil
	})
	return ports, former, err
}

// reserved reads a port that is there.
func (e *Engine) reserved(id string) (p vswitch.Port, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		p, err = tx.Port(id)
		return reserveFirst(err)
	})
	return p, err
}

func reserveFirst(err error) error {
	if !errors.Is(err, vswitch.NotFound) {
		return err
	}
	return &vswitch.Error{Kind: vswitch.NotFound, Err: errors.New("the port is not reserved"), Hint: "reserve it first: libvirt's `network` hook does, see `patchbay libvirt`"}
}

// lockForBinding locks what a binding changes: switches first, in order.
func (e *Engine) lockForBinding(all []vswitch.Port) (unlock func(), err error) {
	var switches, ports []string
	for _, p := range all {
		switches, ports = append(switches, p.Switch), append(ports, p.ID)
	}
	slices.Sort(switches)
	var held []func()
	unlock = func() {
		for _, let := range slices.Backward(held) {
			let()
		}
	}
	for _, name := range slices.Compact(switches) {
		let, err := e.store.LockSwitch(name, store.Shared)
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, let)
	}
	let, err := e.store.LockPorts(ports)
	if err != nil {
		unlock()
		return nil, err
	}
	held = append(held, let)
	return unlock, nil
}

// errMeanwhile is of a port that became another one before its locks were held.
var errMeanwhile = &vswitch.Error{Kind: vswitch.Conflict, Err: errors.New("the port or its netdev was given away meanwhile"), Hint: "try again"}

// unbind takes back what bindings that failed have written and done, and has the switches
// accord with that. The taps are left as nobody's ports, which are shut.
func (e *Engine) unbind(ctx context.Context, all []binding) error {
	var back []reservation
	var ports []vswitch.Port
	for _, b := range all {
		ports = append(ports, b.former.port, b.now.port)
		if b.now.port.Netdev != b.next.port.Netdev { // else it was there before
			b.next.stays = true // whoever asks again finds it there
			back = append(back, b.next)
		}
	}
	_, err := e.withdraw(ctx, back)
	if len(back) > 0 {
		err = errors.Join(err, e.store.Update(func(tx *store.Tx) error { return unboundIn(tx, all) }))
	}
	return errors.Join(err, e.accord(ctx, ports...))
}
