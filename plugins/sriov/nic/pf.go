package nic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// addrForm is a PCI address.
var addrForm = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// IsAddr reports whether text is a PCI address.
func IsAddr(text string) bool { return addrForm.MatchString(text) }

// maxVFs is the most that the PCI standard lets a PF have.
const maxVFs = 1<<16 - 1

// PF is a NIC: the physical function that VFs are made on.
type PF struct {
	Addr   string
	Netdev string // "" where this namespace has none
	Driver string // "" for none
	Model  string // vendor and device
	Link   bool
	Total  int // how many VFs there can be
	Num    int // how many there are
}

// PFs lists the NICs that can have VFs, by their address.
func (h *Host) PFs() ([]PF, error) {
	found, err := filepath.Glob(h.device("*", "sriov_totalvfs"))
	if err != nil {
		return nil, err
	}
	var all []PF
	for _, path := range found {
		pf, err := h.PF(filepath.Base(filepath.Dir(path)))
		switch {
		case errors.Is(err, fs.ErrNotExist): // it was removed just now
		case err != nil:
			return nil, err
		case pf.isNIC(h):
			all = append(all, pf)
		}
	}
	return all, nil
}

// isNIC tells NICs from storage controllers, which have VFs too.
func (pf PF) isNIC(h *Host) bool {
	class, err := h.text(pf.Addr, "class")
	return err == nil && strings.HasPrefix(class, "0x02")
}

// PF is the function at an address. Without it, or if it can have no VFs, the error is
// fs.ErrNotExist.
func (h *Host) PF(addr string) (PF, error) {
	if !IsAddr(addr) {
		return PF{}, fmt.Errorf("%.40q: %w", addr, fs.ErrNotExist)
	}
	pf := PF{Addr: addr, Driver: h.target(addr, "driver"), Netdev: h.netdev(addr)}
	var err error
	if pf.Total, err = h.number(addr, "sriov_totalvfs"); err != nil {
		return PF{}, err
	}
	if pf.Num, err = h.number(addr, "sriov_numvfs"); err != nil {
		return PF{}, err
	}
	if pf.Total > maxVFs || pf.Num > pf.Total {
		return PF{}, fmt.Errorf("%s has %d VFs of %d", addr, pf.Num, pf.Total)
	}
	vendor, _ := h.text(addr, "vendor") // it is only shown
	device, _ := h.text(addr, "device")
	pf.Model = strings.TrimPrefix(vendor, "0x") + ":" + strings.TrimPrefix(device, "0x")
	if pf.Netdev != "" {
		if link, err := h.nl.LinkByName(pf.Netdev); err == nil {
			pf.Link = link.Attrs().OperState == netlink.OperUp
		}
	}
	return pf, nil
}

// VMs says why VFs of the NIC cannot be given to VMs, "" where they can.
func (h *Host) VMs(pf PF) vswitch.Reason {
	of := pf.Addr
	if pf.Num > 0 {
		if vf, err := h.VF(pf.Addr, 0); err == nil {
			of = vf.Addr
		}
	}
	if h.target(of, "iommu_group") == "" {
		return vswitch.NoIOMMU
	}
	together, err := os.ReadDir(h.device(of, "iommu_group/devices"))
	if err != nil {
		return vswitch.NoIOMMU
	}
	card, _, _ := strings.Cut(of, ".") // its own functions share one, where they have no ACS between them
	for _, other := range together {
		name := other.Name()
		if name == of || of == pf.Addr && strings.HasPrefix(name, card+".") || h.isBridge(name) {
			continue
		}
		return vswitch.NoACS
	}
	return ""
}

func (h *Host) isBridge(addr string) bool {
	class, err := h.text(addr, "class")
	return err == nil && strings.HasPrefix(class, "0x06")
}

// MakeVFs makes n VFs on a NIC that has none: with others on it the kernel refuses. It
// waits a little until they are ready.
func (h *Host) MakeVFs(ctx context.Context, pf PF, n int) error {
	w, err := h.Watch()
	if err != nil {
		return err
	}
	defer w.Close()
	err = h.write(h.device(pf.Addr, "sriov_numvfs"), fmt.Sprint(n))
	switch {
	case err == nil:
		h.awaitMade(ctx, w, pf)
		return nil
	case errors.Is(err, syscall.ENOMEM) && h.noMemory(pf.Addr):
		return sdk.Deny(vswitch.NoVFMemory, "%d VFs of %s: the firmware left their registers no addresses", n, pf.Addr)
	case errors.Is(err, syscall.ENOMEM):
		return sdk.Deny(vswitch.NoBusResources, "%d VFs of %s need more PCI bus numbers", n, pf.Addr)
	case errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOENT):
		return sdk.Deny(vswitch.NoDriverSupport, "driver %q of %s makes no VFs: %v", pf.Driver, pf.Addr, err)
	}
	return sdk.Deny(vswitch.Refused, "%d VFs of %s: %v", n, pf.Addr, err)
}

// madeTime is for how long VFs that were made are waited for.
const madeTime = 5 * time.Second

// awaitMade waits for the drivers of VFs that were made to be done with them, and for the
// NIC's link, which some lose by it.
func (h *Host) awaitMade(ctx context.Context, w *Watch, before PF) {
	ctx, cancel := context.WithTimeout(ctx, madeTime)
	defer cancel()
	for {
		now, err := h.PF(before.Addr)
		if err != nil || (now.Link || !before.Link) && !slices.ContainsFunc(h.VFs(now), h.unfinished) || w.Next(ctx) != nil {
			return
		}
	}
}

// unfinished reports whether a VF's driver, or udev, has still to do with it.
func (h *Host) unfinished(vf VF) bool {
	if vf.Driver == "" || vf.PassedThrough() {
		return false
	}
	d, err := h.Netdev(vf.Netdev())
	return err != nil || !h.settled(d)
}

// The lines of a function's file `resource` that are its VFs'.
const firstVFResource, lastVFResource = 7, 12

// noMemory reports whether the VFs of a NIC want addresses and have none.
func (h *Host) noMemory(addr string) bool {
	text, err := h.text(addr, "resource")
	if err != nil {
		return false
	}
	const nothing = "0x0000000000000000"
	wants := false
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if i < firstVFResource || i > lastVFResource || len(words) != 3 || words[2] == nothing {
			continue
		}
		wants = true
		if words[0] != nothing {
			return false
		}
	}
	return wants
}

// VF is a virtual function.
type VF struct {
	PF       string
	Index    int
	Addr     string
	Driver   string   // "" for none
	Override string   // the only driver that may take it, "" for any
	Netdevs  []string // in this namespace
	// Inode is another one of a VF that was made anew: while the machine runs sysfs gives none
	// twice.
	Inode uint64
	// Lost says that its driver works with what is no more: the NIC was reset behind it. The
	// driver has to take it anew.
	Lost bool
}

// Netdev is the VF's netdev, "" where this namespace has none.
func (vf VF) Netdev() string {
	if len(vf.Netdevs) == 0 {
		return ""
	}
	return vf.Netdevs[0]
}

// VF is a VF of a NIC; without it the error is fs.ErrNotExist.
func (h *Host) VF(pf string, index int) (VF, error) {
	addr := h.target(pf, fmt.Sprint("virtfn", index))
	var stat syscall.Stat_t
	if !IsAddr(addr) || syscall.Stat(h.device(addr), &stat) != nil {
		return VF{}, fmt.Errorf("VF %d of %s: %w", index, pf, fs.ErrNotExist)
	}
	vf := VF{PF: pf, Index: index, Addr: addr, Driver: h.target(addr, "driver"), Netdevs: h.netdevs(addr), Inode: stat.Ino}
	if text, err := h.text(addr, "driver_override"); err == nil && text != "(null)" {
		vf.Override = text
	}
	slices.Sort(vf.Netdevs)
	vf.Lost = vf.Driver != "" && !vf.PassedThrough() && !h.masters(addr)
	return vf, nil
}

// masters reports whether a function may use the bus, which drivers have it do from the
// beginning, and which it forgets when its NIC is reset. Where that cannot be read it may.
func (h *Host) masters(addr string) bool {
	f, err := os.Open(h.device(addr, "config"))
	if err != nil {
		return true
	}
	defer func() { _ = f.Close() }() // read only
	const command, busMaster = 4, 1 << 2
	var register [1]byte
	n, _ := f.ReadAt(register[:], command) // see n
	return n == 0 || register[0]&busMaster != 0
}

// VFs lists the VFs of a NIC.
func (h *Host) VFs(pf PF) []VF {
	var all []VF
	for i := range pf.Num {
		if vf, err := h.VF(pf.Addr, i); err == nil { // else it is being removed
			all = append(all, vf)
		}
	}
	return all
}
