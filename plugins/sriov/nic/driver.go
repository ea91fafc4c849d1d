package nic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// passThrough begins the names of drivers that hand a function to a VM.
const passThrough = "vfio"

// PassedThrough reports whether a VF's driver is one that hands it to a VM.
func (vf VF) PassedThrough() bool { return strings.HasPrefix(vf.Driver, passThrough) }

// Unbind takes a VF from its driver, wherever its netdev is: that ends with it. What a VM has
// is not taken: the kernel would wait for the VM's end, and the error is vswitch.InUse.
func (h *Host) Unbind(vf VF) error {
	if vf.Driver == "" {
		return nil
	}
	if vf.PassedThrough() {
		if err := h.busy(vf); err != nil {
			return err
		}
	}
	err := h.write(h.device(vf.Addr, "driver/unbind"), vf.Addr)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return nil // somebody else did
	}
	if err != nil {
		return fmt.Errorf("take VF %s from driver %s: %w", vf.Addr, vf.Driver, err)
	}
	return nil
}

// busy fails while a VM has the VF: a group of VFIO can be opened once.
func (h *Host) busy(vf VF) error {
	group := h.target(vf.Addr, "iommu_group")
	if group == "" {
		return nil
	}
	f, err := os.OpenFile(filepath.Join("/dev/vfio", group), os.O_RDWR, 0)
	if errors.Is(err, syscall.EBUSY) {
		return &vswitch.Error{
			Kind: vswitch.InUse, Object: "VF " + vf.Addr, Err: errors.New("a VM has it"),
			Hint: "detach it from the VM, or stop the VM",
		}
	}
	if err == nil {
		_ = f.Close() // only to find out
	}
	return nil
}

// Override has a VF taken by no other driver than this; "" for any.
func (h *Host) Override(vf VF, driver string) error {
	if vf.Override == driver {
		return nil
	}
	if err := h.write(h.device(vf.Addr, "driver_override"), driver+"\n"); err != nil {
		return fmt.Errorf("driver override of VF %s: %w", vf.Addr, err)
	}
	return nil
}

// Bind has a driver take a VF that has none, the one that fits if driver is "", and waits for
// its netdev. Without a driver that fits the error is fs.ErrNotExist.
func (h *Host) Bind(ctx context.Context, vf VF, driver string) (Netdev, error) {
	w, err := h.Watch()
	if err != nil {
		return Netdev{}, err
	}
	defer w.Close()
	path := filepath.Join(h.sys, "bus/pci/drivers_probe")
	if driver != "" {
		path = filepath.Join(h.sys, "bus/pci/drivers", driver, "bind")
	}
	switch err := h.write(path, vf.Addr); {
	case errors.Is(err, syscall.EBUSY): // it has one by now
	case err != nil:
		return Netdev{}, fmt.Errorf("give VF %s to driver %s: %w", vf.Addr, driver, err)
	}
	if h.target(vf.Addr, "driver") == "" {
		return Netdev{}, fmt.Errorf("driver that takes VF %s: %w", vf.Addr, fs.ErrNotExist)
	}
	return h.AwaitNetdev(ctx, w, vf.Addr)
}
