package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TapRequest is about a tap that Patchbay makes for a VM, whose interface is of libvirt's type
// ethernet and says that the tap is there (managed='no').
type TapRequest struct {
	Domain vswitch.DomainRef `json:"domain"` // with its ID
	Name   string            `json:"name"`
	MAC    vswitch.MAC       `json:"mac,omitzero"` // the VM's
	// Queues is how many the VM uses; 0 and 1 are the same to the kernel.
	Queues int `json:"queues,omitempty"`
}

func (r TapRequest) validate() error {
	errs := []error{r.Domain.Validate(), vswitch.ValidateNetdevName(r.Name)}
	if r.Domain.ID == "" {
		errs = append(errs, &vswitch.Error{Kind: vswitch.Invalid, Object: "domain", Err: errors.New("it has no UUID"), Hint: "name it by the domain's UUID"})
	}
	const most = 256 // MAX_TAP_QUEUES
	if r.Queues < 0 || r.Queues > most {
		errs = append(errs, &vswitch.Error{Kind: vswitch.Range, Object: "queues", Err: fmt.Errorf("%d are outside 0-%d", r.Queues, most)})
	}
	return errors.Join(errs...)
}

// mark tells by the tap itself whose it is. It is not that of netdevs that are a part of a
// switch: the tap is the VM's, and becomes a port as any other.
func (r TapRequest) mark() string { return "patchbay-tap: vm=" + r.Domain.ID }

// MakeTap makes a VM's tap before libvirt looks for it. One that is there for the VM is fine;
// one of the name that is somebody else's is AlreadyExists. ReservePort and BindPort make it
// a port, DeleteTap ends it.
func (e *Engine) MakeTap(ctx context.Context, req TapRequest) error {
	err := errors.Join(req.validate(), req.MAC.ValidateStatic())
	if err == nil {
		err = e.kernel.Apply(ctx, []plan.Step{plan.MakeTap{Name: req.Name, Mark: req.mark(), MAC: req.MAC.TapMAC(), Queues: req.Queues}})
	}
	return fault("tap make", "netdev "+req.Name, err)
}

// DeleteTap removes a tap that MakeTap has made for the VM. One that is not there, or not
// that, is deleted.
func (e *Engine) DeleteTap(ctx context.Context, req TapRequest) error {
	err := req.validate()
	if err == nil {
		err = e.kernel.Apply(ctx, []plan.Step{plan.DeleteTap{Name: req.Name, Mark: req.mark()}})
	}
	return fault("tap delete", "netdev "+req.Name, err)
}

// tapOf is the tap of a port, were it one of ours.
func tapOf(p vswitch.Port) TapRequest { return TapRequest{Domain: p.Owner.Domain(), Name: p.Netdev} }

// deleteTaps removes those taps of a VM's ports that MakeTap has made.
func (e *Engine) deleteTaps(ctx context.Context, ports ...vswitch.Port) error {
	var steps []plan.Step
	for _, p := range ports {
		if p.Plugged() {
			steps = append(steps, plan.DeleteTap{Name: p.Netdev, Mark: tapOf(p).mark()})
		}
	}
	if len(steps) == 0 {
		return nil
	}
	return e.kernel.Apply(ctx, steps)
}
