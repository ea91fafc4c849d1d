package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"

	"github.com/patchbay-net/patchbay/cni/plugin"
	"github.com/patchbay-net/patchbay/core/api"
	"github.com/patchbay-net/patchbay/core/wire"
	"github.com/patchbay-net/patchbay/sdk/host"
	"github.com/patchbay-net/patchbay/sdk/host/fleet"
)

// daemon is patchbayd's life.
type daemon struct {
	dirs   api.Directories
	log    *slog.Logger
	getenv func(string) string
}

// run serves until ctx ends, and then until the last verb has ended.
func (d daemon) run(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return errNotRoot()
	}
	lock, err := lockRunDir(d.dirs.Run)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	l, own, err := d.listener()
	if err != nil {
		return err
	}
	if own {
		defer func() { _ = os.Remove(wire.SocketPath(d.dirs.Run)) }() // gone is as good
	}
	plugins := fleet.Open(fleet.Config{
		Dirs: host.Dirs(d.getenv), Checksums: host.ChecksumFile, Settings: host.Settings(d.getenv),
		RunDir: d.dirs.Run, Log: d.log, Resident: true,
	})
	defer plugins.Close()
	verbs, behind := api.OpenResident(d.dirs, plugins)
	defer func() { err = errors.Join(err, behind.Close()) }()
	resident := newResident(verbs, d.log)
	server, err := api.NewServer(api.ServerConfig{Verbs: resident, Plugin: plugin.ServeResident, Hook: resident.hook, Dirs: d.dirs, Log: d.log})
	if err != nil {
		return err
	}
	n := notifier{socket: d.getenv("NOTIFY_SOCKET")}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	errs := make([]error, 2)
	group.Go(func() {
		defer cancel()
		errs[0] = server.Serve(ctx, l)
	})
	group.Go(func() {
		defer cancel()
		errs[1] = verbs.Keep(ctx, d.log, func() { d.ready(n) })
	})
	group.Go(func() { resident.follower.Run(ctx) })
	stopWatchdog := d.watchdog(n)
	<-ctx.Done()
	n.tell("STOPPING=1", d.log)
	group.Wait()
	stopWatchdog()
	d.log.Info("patchbayd stopped")
	return errors.Join(errs...)
}

func (d daemon) ready(n notifier) {
	d.log.Info("patchbayd ready", "version", version, "pid", os.Getpid(), "socket", wire.SocketPath(d.dirs.Run))
	n.tell("READY=1\nSTATUS=keeping this host's switches", d.log)
}
