package nic

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"

	"github.com/patchbay-net/patchbay/core/mortal"
)

// Host is a machine, in the network namespace of the caller.
type Host struct {
	sys string // where sysfs is mounted
	run string // where udevd says that it runs, and what it is done with
	nl  *netlink.Handle
}

// Open is this machine.
func Open() *Host { return At("/sys", "/run") }

// At is a machine whose sysfs and /run are mounted elsewhere.
func At(sys, run string) *Host { return &Host{sys: sys, run: run, nl: &netlink.Handle{}} }

// device is a path below that of a PCI function.
func (h *Host) device(addr string, path ...string) string {
	return filepath.Join(append([]string{h.sys, "bus/pci/devices", addr}, path...)...)
}

// maxAttribute is the most that is read of an attribute: no attribute is longer.
const maxAttribute = 4096

// text is an attribute of a function.
func (h *Host) text(addr, name string) (string, error) {
	f, err := os.Open(h.device(addr, name))
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // read only
	data := make([]byte, maxAttribute)
	n, err := f.Read(data)
	if errors.Is(err, syscall.ENODEV) { // it is being removed
		err = fs.ErrNotExist
	}
	if n == 0 && err != nil {
		return "", fmt.Errorf("%s of %s: %w", name, addr, err)
	}
	return strings.TrimSpace(string(data[:n])), nil
}

// number is an attribute that is a number, and never below 0.
func (h *Host) number(addr, name string) (int, error) {
	text, err := h.text(addr, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 0, 31)
	if err != nil {
		return 0, fmt.Errorf("%s of %s is %.32q", name, addr, text)
	}
	return int(n), nil
}

// target is the last part of what a link of a function points at, "" without the link.
func (h *Host) target(addr, name string) string {
	to, err := os.Readlink(h.device(addr, name))
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// netdevs are the names of a function's netdevs in this namespace.
func (h *Host) netdevs(addr string) []string {
	entries, _ := os.ReadDir(h.device(addr, "net")) // without the directory there are none
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// netdev is the first of a function's netdevs, "" where this namespace has none.
func (h *Host) netdev(addr string) string {
	if names := h.netdevs(addr); len(names) > 0 {
		return names[0]
	}
	return ""
}

// write sets an attribute. It is a step at which the process may die.
func (h *Host) write(path, text string) error {
	mortal.Point()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Boot names the time since the machine was booted.
func (h *Host) Boot() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}
