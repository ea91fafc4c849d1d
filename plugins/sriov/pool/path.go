package pool

import (
	"context"

	"github.com/patchbay-net/patchbay/plugins/sriov/record"
	"github.com/patchbay-net/patchbay/sdk"
)

// SwitchPath moves a port's frames: a NIC that does not know the port's MAC as its VF's passes
// what is for the port to the switch. A VM that is to migrate works on meanwhile.
func (p *Provider) SwitchPath(ctx context.Context, ref sdk.Ref, to sdk.Path) error {
	_, end, err := p.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	addr, entry, has := p.entry(ref.Port)
	if !has || entry.Phase != record.Held || entry.Request.Ref != ref {
		return sdk.NotFound(ref.String(), "it was not granted")
	}
	pf, err := p.served(entry.PF)
	if err != nil {
		return err
	}
	vf, err := p.host.VF(entry.PF, entry.Index)
	if err != nil {
		return sdk.NotFound(ref.String(), "%v", err)
	}
	entry.Path = to
	if err := p.put(addr, entry); err != nil {
		return err
	}
	return p.set(pf, vf, entry.Request, wanted(entry.Request, to))
}
