package nic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/mortal"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Netdev is a netdev of this namespace.
type Netdev struct {
	Name   string
	Index  int
	MAC    vswitch.MAC
	Random bool // its driver made the MAC up
	MTU    int
	Up     bool
	Master bool // it is part of a bridge, a team or the like
}

// Netdev reads a netdev.
func (h *Host) Netdev(name string) (Netdev, error) {
	link, err := h.nl.LinkByName(name)
	if err != nil {
		return Netdev{}, fmt.Errorf("netdev %s: %w", name, err)
	}
	a := link.Attrs()
	d := Netdev{Name: a.Name, Index: a.Index, MTU: a.MTU, Up: a.RawFlags&unix.IFF_UP != 0, Master: a.MasterIndex != 0}
	copy(d.MAC[:], a.HardwareAddr)
	const random = "1" // NET_ADDR_RANDOM
	assigned, err := os.ReadFile(filepath.Join(h.sys, "class/net", name, "addr_assign_type"))
	d.Random = err == nil && strings.TrimSpace(string(assigned)) == random
	return d, nil
}

// Dress gives a netdev a name, a MAC, an MTU and whether it is up; what is zero stays as it
// is. A name that another netdev has is not taken away from that.
func (h *Host) Dress(d, as Netdev) (Netdev, error) {
	link := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: d.Index, Name: d.Name}}
	if as.Name != "" && as.Name != d.Name {
		mortal.Point()
		switch err := h.nl.LinkSetName(link, as.Name); {
		case err == nil:
			d.Name = as.Name
		case !errors.Is(err, unix.EEXIST):
			return d, fmt.Errorf("name %s of netdev %s: %w", as.Name, d.Name, err)
		}
	}
	if !as.MAC.IsZero() && as.MAC != d.MAC {
		mortal.Point()
		if err := h.nl.LinkSetHardwareAddr(link, net.HardwareAddr(as.MAC[:])); err != nil {
			return d, fmt.Errorf("MAC %s of netdev %s: %w", as.MAC, d.Name, err)
		}
		d.MAC = as.MAC
	}
	if as.MTU != 0 && as.MTU != d.MTU {
		mortal.Point()
		if err := h.nl.LinkSetMTU(link, as.MTU); err != nil {
			return d, fmt.Errorf("MTU %d of netdev %s: %w", as.MTU, d.Name, err)
		}
		d.MTU = as.MTU
	}
	if as.Up && !d.Up {
		mortal.Point()
		if err := h.nl.LinkSetUp(link); err != nil {
			return d, fmt.Errorf("netdev %s up: %w", d.Name, err)
		}
		d.Up = true
	}
	return d, nil
}

// AwaitNetdev waits for a function's netdev to come into this namespace, and for udev to be
// done with it: it renames them. w has listened since before the netdev could come.
func (h *Host) AwaitNetdev(ctx context.Context, w *Watch, addr string) (Netdev, error) {
	for {
		if name := h.netdev(addr); name != "" {
			d, err := h.Netdev(name)
			if err == nil && h.settled(d) {
				return d, nil
			}
			if err != nil && !isGone(err) { // it may have been renamed in between
				return Netdev{}, err
			}
		}
		if err := w.Next(ctx); err != nil {
			return Netdev{}, fmt.Errorf("netdev of %s did not come: %w", addr, err)
		}
	}
}

// settled reports whether udev has nothing more to do with a netdev.
func (h *Host) settled(d Netdev) bool {
	if _, err := os.Stat(filepath.Join(h.run, "udev/control")); err != nil {
		return true // it does not run
	}
	_, err := os.Stat(filepath.Join(h.run, fmt.Sprint("udev/data/n", d.Index)))
	return err == nil
}

// isGone reports whether an error says that something is not there (any more).
func isGone(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.Is(err, fs.ErrNotExist) || errors.As(err, &notFound) || errors.Is(err, unix.ENODEV)
}
