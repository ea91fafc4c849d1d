package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// VFPool is what VMs on a switch can have VFs of.
type VFPool struct {
	PF string `json:"pf"` // the uplink's netdev
}

// VFPool tells whose VFs libvirt can give to VMs on a switch. It fails where there are none for
// VMs: with Immutable on a switch without SR-IOV, else with CapabilityMissing.
func (e *Engine) VFPool(ctx context.Context, sw string) (VFPool, error) {
	p, err := e.vfPool(ctx, sw)
	return p, fault("libvirt", "switch "+sw, err)
}

func (e *Engine) vfPool(ctx context.Context, sw string) (p VFPool, err error) {
	v, err := e.collect(ctx, sw)
	if err != nil {
		return p, err
	}
	lacks := func(r vswitch.Reason) error {
		cause, hint := r.Words()
		return &vswitch.Error{Kind: vswitch.CapabilityMissing, Field: "sriov", Err: errors.New(cause), Hint: hint}
	}
	switch _, err := e.teamRecord(v.record.Uplink); {
	case !v.record.SRIOV:
		return p, fixedSRIOV(v.record.Switch)
	case err == nil:
		return p, lacks(vswitch.TeamWithoutVFLAG)
	case !errors.Is(err, vswitch.NotFound):
		return p, err
	}
	nic, err := e.kernel.Netdev(ctx, v.record.Uplink)
	if err != nil {
		return p, err
	}
	if nic.NumVFs == 0 {
		return p, &vswitch.Error{
			Kind: vswitch.CapabilityMissing, Field: "sriov", Err: fmt.Errorf("its uplink %s has no VFs", nic.Name),
			Hint: fmt.Sprintf("make some: `echo 4 >/sys/class/net/%s/device/sriov_numvfs`", nic.Name),
		}
	}
	host, err := e.kernel.Host(ctx)
	if err != nil {
		return p, err
	}
	if !host.IOMMU {
		return p, lacks(vswitch.NoIOMMU)
	}
	if r := v.nics[vswitch.SRIOV].Capabilities.SRIOV.VMs; r != "" {
		return p, lacks(r)
	}
	return VFPool{PF: nic.Name}, nil
}
