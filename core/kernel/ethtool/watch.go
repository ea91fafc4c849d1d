package ethtool

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Watch calls tell whenever something about a NIC may have changed: a driver came or went,
// the carrier, the number of queues or a feature. One call may stand for many changes. It
// has begun when ready is called, and ends with ctx. Rules and indirection tables that
// somebody else changes are not told by the kernel.
func (c *Conn) Watch(ctx context.Context, ready, tell func()) error {
	links, err := subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
	if err != nil {
		return err
	}
	files := []*os.File{links}
	if settings := settingsGroup(); settings != 0 {
		f, err := subscribe(unix.NETLINK_GENERIC, settings)
		if err != nil {
			_ = links.Close() // nothing was read from it
			return err
		}
		files = append(files, f)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		for _, f := range files {
			_ = f.Close() // which ends the reading
		}
	})
	defer stop()
	changed := make(chan struct{}, 1) // full: the next look is still to come
	failed := make(chan error, len(files))
	var reading sync.WaitGroup
	for _, f := range files {
		reading.Go(func() { failed <- read(f, f == links, changed) })
	}
	defer reading.Wait()
	defer cancel()
	ready()
	for {
		select {
		case <-changed:
			tell()
		case err := <-failed:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
	}
}

// settingsGroup is where the kernel tells of queues and features (ETHTOOL_MCGRP_MONITOR); 0
// where it does not, before Linux 5.6.
func settingsGroup() int {
	family, err := netlink.GenlFamilyGet("ethtool")
	if err != nil {
		return 0
	}
	for _, g := range family.Groups {
		if g.Name == "monitor" {
			return int(g.ID)
		}
	}
	return 0
}

// read notes that something changed until the file is closed. Of links only NICs' count:
// the ports of thousands of containers come and go beside them.
func read(f *os.File, links bool, changed chan<- struct{}) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // then some were lost
			return err
		}
		if err == nil && links && !aboutNICs(buf[:n]) {
			continue
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// aboutNICs reports whether some message is about a NIC, or cannot be read.
func aboutNICs(b []byte) bool {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return true
	}
	for _, m := range messages {
		if _, ok := parseAdapter(m.Data); ok {
			return true
		}
	}
	return false
}

// subscribe opens a socket that hears a group. The file is in Go's poller.
func subscribe(family, group int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, family)
	if err != nil {
		return nil, os.NewSyscallError("netlink socket", err)
	}
	err = errors.Join(unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group))
	if err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("netlink subscribe", err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}
