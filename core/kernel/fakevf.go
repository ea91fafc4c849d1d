package kernel

import (
	"context"
	"maps"
	"slices"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// AddVF gives a netdev of the host's a VF at a PCI address.
func (f *Fake) AddVF(addr string, vf VF) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.vfs[addr] = vf
	if pf := f.host.links[vf.PF]; pf != nil {
		pf.NumVFs++
		pf.vfs[vf.Index] = vf.MAC
	}
}

// VF is Kernel's.
func (f *Fake) VF(ctx context.Context, addr string) (VF, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.answers(ctx); err != nil {
		return VF{}, err
	}
	vf, there := f.vfs[addr]
	if !there {
		return vf, refused(vswitch.CapabilityMissing, syscall.ENOENT, "PCI device %s is no VF", addr)
	}
	pf, err := f.host.link(vf.PF)
	if err != nil {
		return vf, err
	}
	vf.MAC = pf.vfs[vf.Index]
	return vf, nil
}

func (f *Fake) setVFMAC(s plan.SetVFMAC) error {
	pf, err := f.host.link(s.PF)
	if err != nil {
		return err
	}
	if _, there := pf.vfs[s.VF]; !there {
		return refused(vswitch.NotFound, syscall.EINVAL, "VF %d of %s", s.VF, s.PF)
	}
	pf.vfs[s.VF] = s.MAC
	return nil
}

// vfMACs are the administrative addresses of its VFs.
func (l *fakeLink) vfMACs() (macs []vswitch.MAC) {
	macs = slices.Clone(l.VFs)
	for _, index := range slices.Sorted(maps.Keys(l.vfs)) {
		if mac := l.vfs[index]; !mac.IsZero() {
			macs = append(macs, mac)
		}
	}
	return macs
}

func (f *Fake) letIn(s plan.LetIn) error {
	nic, err := f.host.link(s.Netdev)
	if err != nil {
		return err
	}
	nic.letIn = slices.DeleteFunc(nic.letIn, func(m vswitch.MAC) bool { return m == s.MAC })
	if !s.Off {
		nic.letIn = append(nic.letIn, s.MAC)
	}
	return nil
}
