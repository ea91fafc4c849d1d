package engine

import (
	"context"
	"fmt"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Detach removes an owner's port: its netdevs and rules, then its record and
// leases, which rest a while before they are given to others. It needs neither
// the owner's namespace nor a record, and detaching what is not there succeeds.
// Where the store cannot be read, the netdev, whose name follows from the owner,
// is removed all the same and the store's error returned.
// PowerShell twin: Remove-VMNetworkAdapter.
func (e *Engine) Detach(ctx context.Context, owner vswitch.Owner) error {
	if err := owner.Validate(); err != nil {
		return fault("detach", owner.String(), err)
	}
	return fault("detach", owner.String(), e.detachAndShrink(ctx, owner))
}

// detachAndShrink detaches an owner and removes the segments that its switch can do
// without then. The caller holds no lock of a switch.
func (e *Engine) detachAndShrink(ctx context.Context, owner vswitch.Owner) error {
	outgrown, err := e.detachTogether(ctx, owner)
	for _, name := range outgrown {
		_ = e.shrink(ctx, name) // the owner is detached; GC tries again and tells
	}
	return err
}

// DeletePort detaches the owner of a port that is named as in `port show`. The
// host's port goes with `switch set --host-access=false`.
func (e *Engine) DeletePort(ctx context.Context, name string) error {
	p, err := e.findPort(name)
	if err != nil {
		return fault("port delete", "port "+name, err)
	}
	if p.Owner.Kind == vswitch.OwnerHost {
		return fault("port delete", "port "+name, &vswitch.Error{
			Kind: vswitch.InUse, Err: fmt.Errorf("this is the host's own port"),
			Hint: fmt.Sprintf("run `patchbay switch set %s --host-access=false`, or delete the switch", p.Switch),
		})
	}
	return fault("port delete", "port "+name, e.detachAndShrink(ctx, p.Owner))
}
