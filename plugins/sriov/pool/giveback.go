package pool

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"slices"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/plugins/sriov/record"
	"github.com/patchbay-net/patchbay/sdk"
)

// claim makes the caller the only one who works on a VF, and says what is written down of it
// then. It waits for who does now.
func (p *Provider) claim(addr string) (entry record.VF, has bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.busy[addr] {
		p.idle.Wait()
	}
	p.busy[addr] = true
	entry, has = p.file.State().VFs[addr]
	return entry, has
}

// leave ends what claim began.
func (p *Provider) leave(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, addr)
	p.idle.Broadcast()
}

// giveBack brings a VF back to how it was found, and forgets it, unless somebody else did and
// it has been given anew since it was seen. One that cannot be brought back stays written down,
// and nobody gets it; so does one that a VM has seized, which is no error: its port is rid of it.
func (p *Provider) giveBack(ctx context.Context, addr string, seen record.VF) error {
	entry, has := p.claim(addr)
	defer p.leave(addr)
	if !has || entry.Request != seen.Request || entry.Phase == record.Held && seen.Phase != record.Held {
		return nil
	}
	return p.undo(ctx, addr, entry)
}

// undo is giveBack for who has claimed the VF.
func (p *Provider) undo(ctx context.Context, addr string, entry record.VF) error {
	was := entry.Phase
	entry.Phase = record.Leaving
	if err := p.put(addr, entry); err != nil {
		return err
	}
	err := p.restore(ctx, entry)
	switch {
	case errors.Is(err, errSeized):
		entry.Phase = record.Seized
		return p.put(addr, entry)
	case errors.Is(err, vswitch.InUse) && was == record.Held:
		entry.Phase = was // its VM has it: nothing was changed
		if failed := p.put(addr, entry); failed != nil {
			return failed
		}
		return err
	case err != nil:
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.file.Drop(addr)
}

// retry brings back what could not be brought back before, of some phases.
func (p *Provider) retry(ctx context.Context, phases ...record.Phase) {
	p.mu.Lock()
	state := p.file.State()
	for addr := range p.busy {
		delete(state.VFs, addr)
	}
	p.mu.Unlock()
	for addr, entry := range state.VFs {
		if !slices.Contains(phases, entry.Phase) {
			continue
		}
		if vf, err := p.host.VF(entry.PF, entry.Index); err == nil && seized(vf, entry) {
			continue
		}
		sdk.Log(ctx).Info("bring back VF", "address", addr, "port", entry.Request.Port, "phase", entry.Phase)
		if err := p.giveBack(ctx, addr, entry); err != nil {
			sdk.Log(ctx).Error("a VF cannot be brought back, and is nobody's", "address", addr, "err", err)
		}
	}
}

// undone are the phases of VFs that no port has.
var undone = []record.Phase{record.Taking, record.Leaving, record.Seized}

// seized reports whether a VF of a port that is no VM is, or is about to be, a VM's: the pools
// of libvirt hand out whatever they do not use themselves.
func seized(vf nic.VF, entry record.VF) bool {
	return entry.Request.Owner != vswitch.OwnerVM && (vf.PassedThrough() || vf.Override != "")
}

var errSeized = errors.New("a VM has it")

// forget notes which NICs have no VFs of the plugin's any more: none, or others that somebody
// made in their place. p.mu is held.
func (p *Provider) forget() error {
	state := p.file.State()
	for addr, n := range state.Made {
		pf, err := p.host.PF(addr)
		if err != nil || pf.Num != n {
			n = 0
		}
		first, _ := p.host.VF(addr, 0) // without it they are being removed
		if was := state.First[addr]; first.Inode == 0 || was != 0 && was != first.Inode {
			n = 0
		}
		if err := p.file.Made(addr, n, first.Inode); err != nil {
			return err
		}
	}
	return nil
}

// restore makes a VF what it was found as. A VF that is no more is that, also where another was
// made in its place.
func (p *Provider) restore(ctx context.Context, entry record.VF) error {
	vf, err := p.host.VF(entry.PF, entry.Index)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !entry.Is(vf) {
		return nil
	}
	if err != nil {
		return err
	}
	if seized(vf, entry) {
		return errSeized
	}
	if err := p.host.Unbind(vf); err != nil {
		return err
	}
	if err := p.host.Override(vf, entry.Found.Override); err != nil {
		return err
	}
	if err := p.unset(vf, entry.Found.Settings); err != nil {
		return err
	}
	if entry.Found.Driver == "" {
		return nil
	}
	d, err := p.host.Bind(ctx, vf, entry.Found.Driver)
	if err != nil { // it is clean all the same
		sdk.Log(ctx).Warn("a VF that was given back has no netdev", "address", vf.Addr, "driver", entry.Found.Driver, "err", err)
		return nil
	}
	if _, err := p.host.Dress(d, nic.Netdev{Name: entry.Found.Netdev, MTU: entry.Found.MTU, Up: entry.Found.Up}); err != nil {
		sdk.Log(ctx).Warn("a VF that was given back is not quite as it was found", "address", vf.Addr, "err", err)
	}
	return nil
}

// unset has the NIC hold what it held before. Drivers that take no MAC away are given one
// that nobody has.
func (p *Provider) unset(vf nic.VF, found nic.Settings) error {
	pf, err := p.host.PF(vf.PF)
	if err != nil {
		return err
	}
	err = p.host.Set(pf, vf.Index, found)
	if err == nil || !found.MAC.IsZero() {
		return err
	}
	_, _ = rand.Read(found.MAC[:]) // it does not fail
	found.MAC[0] = found.MAC[0]&^1 | 2
	return p.host.Set(pf, vf.Index, found)
}
