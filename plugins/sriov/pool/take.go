package pool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/plugins/sriov/record"
	"github.com/patchbay-net/patchbay/sdk"
)

// take gives a port that has none a VF.
func (p *Provider) take(ctx context.Context, pf nic.PF, r sdk.Request) (sdk.Grant, error) {
	vf, entry, err := p.choose(ctx, pf, r)
	if err != nil {
		return sdk.Grant{}, err
	}
	defer p.leave(vf.Addr)
	g, err := p.bring(ctx, vf, entry)
	if err == nil {
		entry.Grant, entry.Phase = g, record.Held
		err = p.put(vf.Addr, entry)
	}
	if err == nil {
		return p.grant(vf, entry), nil
	}
	if failed := p.undo(ctx, vf.Addr, entry); failed != nil {
		err = errors.Join(err, failed)
	}
	return sdk.Grant{}, err
}

// choose finds a VF for a port, claims it, and has it written down that the port is to have
// it.
func (p *Provider) choose(ctx context.Context, pf nic.PF, r sdk.Request) (nic.VF, record.VF, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Owner == vswitch.OwnerVM {
		if why := p.host.VMs(pf); why != "" {
			return nic.VF{}, record.VF{}, sdk.Deny(why, "no VM can have a VF of %s", pf.Addr)
		}
	}
	if err := p.forget(); err != nil {
		return nic.VF{}, record.VF{}, err
	}
	pf, err := p.withVFs(ctx, pf.Addr)
	if err != nil {
		return nic.VF{}, record.VF{}, err
	}
	settings, err := p.host.Settings(pf)
	if err != nil {
		return nic.VF{}, record.VF{}, err
	}
	state := p.file.State()
	vfs := p.host.VFs(pf)
	if err := p.duplicate(pf, vfs, settings, r); err != nil {
		return nic.VF{}, record.VF{}, err
	}
	made := state.Made[pf.Addr] > 0
	for _, vf := range vfs {
		if _, taken := state.VFs[vf.Addr]; taken || !p.free(vf, made) {
			continue
		}
		entry := record.VF{PF: pf.Addr, Index: vf.Index, Phase: record.Taking, Request: r, Found: p.found(vf, settings[vf.Index])}
		sdk.Log(ctx).Info("take VF", "port", r.Port, "nic", pf.Addr, "vf", vf.Index, "address", vf.Addr)
		if err := p.file.Put(vf.Addr, entry); err != nil {
			return nic.VF{}, record.VF{}, err
		}
		p.busy[vf.Addr] = true
		return vf, entry, nil
	}
	return nic.VF{}, record.VF{}, sdk.Deny(vswitch.NoFreeVF, "all %d VFs of %s are held", pf.Num, pf.Addr)
}

// withVFs is a NIC, on which VFs are made if it has none.
func (p *Provider) withVFs(ctx context.Context, addr string) (nic.PF, error) {
	pf, err := p.host.PF(addr)
	switch {
	case err != nil || pf.Num > 0:
		return pf, err
	case pf.Netdev == "" || pf.Total == 0:
		return nic.PF{}, sdk.Deny(vswitch.NoDriverSupport, "driver %q of %s makes no VFs", pf.Driver, pf.Addr)
	}
	n := min(p.o.vfs, pf.Total)
	if err := p.file.Made(pf.Addr, n, 0); err != nil {
		return nic.PF{}, err
	}
	if err := p.host.MakeVFs(ctx, pf, n); err != nil {
		if failed := p.file.Made(pf.Addr, 0, 0); failed != nil {
			err = errors.Join(err, failed)
		}
		return nic.PF{}, err
	}
	if err := p.forget(); err != nil { // it notes their inode
		return nic.PF{}, err
	}
	return p.host.PF(pf.Addr)
}

// duplicate refuses a MAC that the NIC or another VF has: of two with one MAC neither works.
func (p *Provider) duplicate(pf nic.PF, vfs []nic.VF, settings map[int]nic.Settings, r sdk.Request) error {
	if d, err := p.host.Netdev(pf.Netdev); err == nil && d.MAC == r.MAC {
		return sdk.Deny(vswitch.Refused, "NIC %s itself has MAC %s", pf.Addr, r.MAC)
	}
	known := p.file.State().VFs
	for addr, entry := range known {
		if entry.Request.MAC == r.MAC && entry.Phase != record.Seized {
			return sdk.Deny(vswitch.Refused, "VF %s of port %s has MAC %s", addr, entry.Request.Port, r.MAC)
		}
	}
	for _, vf := range vfs {
		if entry, ours := known[vf.Addr]; (!ours || entry.Phase == record.Seized) && settings[vf.Index].MAC == r.MAC {
			return sdk.Deny(vswitch.Refused, "VF %d of %s, which is not Patchbay's, has MAC %s", vf.Index, vf.PF, r.MAC)
		}
	}
	return nil
}

// found is what a VF is before it is touched.
func (p *Provider) found(vf nic.VF, s nic.Settings) record.Found {
	f := record.Found{Settings: s, Driver: vf.Driver, Override: vf.Override, Inode: vf.Inode}
	if d, err := p.host.Netdev(vf.Netdev()); err == nil {
		f.Netdev, f.MTU, f.Up = d.Name, d.MTU, d.Up
		if d.Random { // some NICs show what the driver made up as if somebody had set it
			f.Settings.MAC = vswitch.MAC{}
		}
	}
	return f
}

// wanted are the settings of a VF that a port has.
func wanted(r sdk.Request, path sdk.Path) nic.Settings {
	const mega = 1_000_000
	s := nic.Settings{
		MAC: r.MAC, VLAN: r.VLAN, MaxRate: int((r.MaxOut + mega - 1) / mega), SpoofChk: !r.MACSpoofing, Trust: r.MACSpoofing,
	}
	if s.VLAN != 0 {
		s.VLANProto = nic.VLANProto
	}
	if path == sdk.PathSoftware {
		s.MAC = vswitch.MAC{}
	}
	return s
}

// bring brings a VF to its port: first without any driver, so that nothing is left of who had
// it before, and then with its own.
func (p *Provider) bring(ctx context.Context, vf nic.VF, entry record.VF) (sdk.Grant, error) {
	r := entry.Request
	g := sdk.Grant{Ref: r.Ref, NIC: r.NIC, Generation: r.Generation, VF: &sdk.VF{Index: vf.Index, PCIAddr: vf.Addr}, Amount: 1}
	if err := p.host.Unbind(vf); err != nil {
		return g, err
	}
	if err := p.host.Override(vf, ""); err != nil {
		return g, err
	}
	pf, err := p.host.PF(vf.PF)
	if err != nil {
		return g, err
	}
	if err := p.set(pf, vf, r, wanted(r, entry.Path)); err != nil {
		return g, err
	}
	if r.Owner == vswitch.OwnerVM {
		return limited(g, r, 1), nil // libvirt gives it a driver, and the guest its queue pairs
	}
	d, err := p.host.Bind(ctx, vf, entry.Found.Driver)
	if errors.Is(err, fs.ErrNotExist) {
		return g, sdk.Deny(vswitch.NoDriverSupport, "no driver takes VF %s: load its module, and see that sriov_drivers_autoprobe is 1", vf.Addr)
	}
	if err != nil {
		return g, sdk.Deny(vswitch.Refused, "%v", err)
	}
	if d, err = p.host.Dress(d, nic.Netdev{Name: entry.Found.Netdev, MAC: r.MAC, MTU: r.MTU}); err != nil {
		return g, sdk.Deny(vswitch.Refused, "%v", err)
	}
	return p.shape(d, g, r), nil
}

// set has the NIC hold what a port's VF may do.
func (p *Provider) set(pf nic.PF, vf nic.VF, r sdk.Request, s nic.Settings) error {
	err := p.host.Set(pf, vf.Index, s)
	if err == nil && !r.MACSpoofing {
		err = p.host.ProveSpoofChk(pf, vf.Index)
	}
	switch {
	case err == nil:
		return nil
	case nic.NotSupported(err):
		return sdk.Deny(vswitch.NoDriverSupport, "VF %d of %s: %v", vf.Index, pf.Addr, err)
	}
	return sdk.Deny(vswitch.Refused, "VF %d of %s: %v", vf.Index, pf.Addr, err)
}

// shape gives a VF's netdev its queue pairs and moderation, as far as it can have them.
func (p *Provider) shape(d nic.Netdev, g sdk.Grant, r sdk.Request) sdk.Grant {
	has, most, err := p.host.QueuePairs(d)
	if err != nil || most == 0 {
		has, most = 1, 1
	}
	n := min(max(1, r.QueuePairs), most)
	if n != has && p.host.SetQueuePairs(d, n) != nil {
		n = min(n, has)
	}
	g = limited(g, r, n)
	if err := p.host.SetModeration(d, r.Moderation); err != nil {
		g.Reason, g.Detail = vswitch.ModerationFixed, err.Error()
	}
	return g
}

// limited is a grant of n queue pairs, and says so where more were asked for.
func limited(g sdk.Grant, r sdk.Request, n int) sdk.Grant {
	g.Amount, g.Reason, g.Detail = n, "", ""
	if n < r.QueuePairs {
		g.Reason, g.Detail = vswitch.LimitReached, fmt.Sprintf("%d queue pairs of %d", n, r.QueuePairs)
	}
	return g
}

// put writes a VF down.
func (p *Provider) put(addr string, entry record.VF) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.file.Put(addr, entry)
}
