package nic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Watch hears that something about netdevs of this namespace, or about PCI functions, has
// changed. It does not say what: who wants to know looks.
type Watch struct {
	files []*os.File
	heard chan struct{} // holds one, however much was heard
	ended chan error
}

// The groups of uevents: the kernel's own, and what udev passes on when it is done.
const kernelEvents, udevEvents = 1, 2

// Watch begins to listen.
func (h *Host) Watch() (*Watch, error) {
	w := &Watch{heard: make(chan struct{}, 1), ended: make(chan error, 2)}
	for _, s := range []struct {
		protocol int
		groups   uint32
		counts   func([]byte) bool
	}{
		{unix.NETLINK_ROUTE, unix.RTMGRP_LINK, ofPCI},
		{unix.NETLINK_KOBJECT_UEVENT, kernelEvents | udevEvents, ofFunction},
	} {
		f, err := subscribe(s.protocol, s.groups)
		if err != nil {
			w.Close()
			return nil, err
		}
		w.files = append(w.files, f)
		go w.listen(f, s.counts)
	}
	return w, nil
}

func subscribe(protocol int, groups uint32) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, os.NewSyscallError("netlink socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("netlink bind", err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprint("netlink ", protocol)), nil
}

func (w *Watch) listen(f *os.File, counts func([]byte) bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		switch {
		case errors.Is(err, unix.ENOBUFS): // more came than was read: something changed
		case err != nil:
			w.ended <- err
			return
		case !counts(buf[:n]):
			continue
		}
		select {
		case w.heard <- struct{}{}:
		default:
		}
	}
}

// Next waits for something to be heard since the last Next, or since the watch began.
func (w *Watch) Next(ctx context.Context) error {
	select {
	case <-w.heard:
		return nil
	case err := <-w.ended:
		return fmt.Errorf("listen to the kernel: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Calm waits until nothing has been heard for a while, or for as long as it may take: what
// comes in crowds is looked at once.
func (w *Watch) Calm(ctx context.Context, quiet, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		still, end := context.WithTimeout(ctx, quiet)
		err := w.Next(still)
		end()
		if err != nil {
			return
		}
	}
}

// Close ends it.
func (w *Watch) Close() {
	for _, f := range w.files {
		_ = f.Close() // nothing is left to be read
	}
}
