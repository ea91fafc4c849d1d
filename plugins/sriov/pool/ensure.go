package pool

import (
	"context"
	"errors"
	"io/fs"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/plugins/sriov/record"
	"github.com/patchbay-net/patchbay/sdk"
)

// Ensure gives a port a VF, or has the one that it has do what is asked for. Another owner
// gets it like one that nobody had before.
func (p *Provider) Ensure(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
	if r.Feature != vswitch.SRIOV {
		return sdk.Grant{}, sdk.Deny(vswitch.NoDriverSupport, "this plugin gives VFs, and no %s", r.Feature)
	}
	ctx, end, err := p.begin(ctx)
	if err != nil {
		return sdk.Grant{}, err
	}
	defer end()
	addr, entry, has := p.entry(r.Port)
	if has && r.Generation < entry.Request.Generation {
		return sdk.Grant{}, sdk.Late(r, entry.Request.Generation)
	}
	pf, err := p.served(r.NIC)
	if err != nil {
		return sdk.Grant{}, err
	}
	if has && sameOwner(entry.Request, r) {
		// What is set on a netdev that its owner does not have yet is set by making it anew.
		if vf, ok := p.intact(addr, entry); ok && (vf.Netdev() == "" || sameShape(entry.Request, r)) {
			return p.renew(ctx, pf, vf, entry, r)
		}
	}
	if has {
		if err := p.giveBack(ctx, addr, entry); err != nil {
			return sdk.Grant{}, err
		}
	}
	p.retry(ctx, undone...)
	if pf, err = p.served(r.NIC); err != nil {
		return sdk.Grant{}, err
	}
	return p.take(ctx, pf, r)
}

// Release brings a port's VF back to how it was found.
func (p *Provider) Release(ctx context.Context, ref sdk.Ref, generation uint64) error {
	ctx, end, err := p.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	addr, entry, has := p.entry(ref.Port)
	if !has || entry.Request.Ref != ref || entry.Request.Generation > generation {
		return nil
	}
	sdk.Log(ctx).Info("give back VF", "port", ref.Port, "nic", entry.PF, "vf", entry.Index, "address", addr)
	return p.giveBack(ctx, addr, entry)
}

// Grants lists what ports hold, as far as the kernel still knows of it.
func (p *Provider) Grants(context.Context) ([]sdk.Grant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return nil, errClosed()
	}
	var all []sdk.Grant
	for addr, entry := range p.file.State().VFs {
		if entry.Phase != record.Held || entry.Grant.VF == nil {
			continue
		}
		if vf, ok := p.intact(addr, entry); ok {
			all = append(all, p.grant(vf, entry))
		}
	}
	return all, nil
}

// grant is a VF as its port is told of it.
func (p *Provider) grant(vf nic.VF, entry record.VF) sdk.Grant {
	g := entry.Grant
	g.VF = &sdk.VF{Index: vf.Index, PCIAddr: vf.Addr}
	if entry.Request.Owner != vswitch.OwnerVM {
		if now, err := p.host.VF(vf.PF, vf.Index); err == nil {
			g.VF.Netdev = now.Netdev()
		}
	}
	return g
}

// entry is what is written down of a port, but for a VF that was seized from it.
func (p *Provider) entry(port string) (addr string, entry record.VF, has bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.file.State().Of(port)
}

// served is a NIC that the plugin serves.
func (p *Provider) served(id string) (nic.PF, error) {
	pf, err := p.host.PF(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nic.PF{}, sdk.NotFound("NIC "+id, "there is none with SR-IOV at this address")
	case err != nil:
		return nic.PF{}, err
	case !p.serves(pf):
		return nic.PF{}, sdk.NotFound("NIC "+id, "the setting nics leaves it out")
	case pf.Netdev == "":
		return nic.PF{}, sdk.Deny(vswitch.NoDriverSupport, "NIC %s has no netdev", id)
	}
	return pf, nil
}

// sameOwner reports whether two requests differ in no more than settings.
func sameOwner(a, b sdk.Request) bool {
	return a.NIC == b.NIC && a.MAC == b.MAC && a.Owner == b.Owner && a.Netns == b.Netns
}

// intact finds the VF of a port as it was given: the NIC still knows whose it is, and an owner
// that is no VM has a driver to use it with.
func (p *Provider) intact(addr string, entry record.VF) (nic.VF, bool) {
	vf, err := p.host.VF(entry.PF, entry.Index)
	if err != nil || vf.Addr != addr || !entry.Is(vf) || vf.Lost || entry.Phase != record.Held {
		return nic.VF{}, false
	}
	if entry.Request.Owner != vswitch.OwnerVM && (vf.Driver == "" || vf.PassedThrough()) {
		return nic.VF{}, false
	}
	pf, err := p.host.PF(entry.PF)
	if err != nil {
		return nic.VF{}, false
	}
	settings, err := p.host.Settings(pf)
	return vf, err == nil && (settings[vf.Index].MAC == entry.Request.MAC || entry.Path == sdk.PathSoftware)
}

// renew brings the VF that a port has up to date while it works. What fails leaves it as it
// was.
func (p *Provider) renew(ctx context.Context, pf nic.PF, vf nic.VF, entry record.VF, r sdk.Request) (sdk.Grant, error) {
	if err := p.set(pf, vf, r, wanted(r, entry.Path)); err != nil {
		if undone := p.host.Set(pf, vf.Index, wanted(entry.Request, entry.Path)); undone != nil {
			sdk.Log(ctx).Error("a VF is neither as it was nor as it should be", "address", vf.Addr, "err", undone)
		}
		return sdk.Grant{}, err
	}
	if r == entry.Request {
		return p.grant(vf, entry), nil
	}
	entry.Grant.Generation = r.Generation
	if !sameShape(entry.Request, r) {
		entry.Grant.Reason, entry.Grant.Detail = vswitch.Refused, "queue pairs, moderation and MTU are set when the port is attached anew"
	}
	entry.Request = r
	return p.grant(vf, entry), p.put(vf.Addr, entry)
}

// sameShape reports whether two requests want the same of a VF's netdev.
func sameShape(a, b sdk.Request) bool {
	return a.QueuePairs == b.QueuePairs && a.Moderation == b.Moderation && a.MTU == b.MTU
}
