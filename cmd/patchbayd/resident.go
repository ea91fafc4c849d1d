package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/patchbay-net/patchbay/core/api"
	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
	"github.com/patchbay-net/patchbay/libvirt-hook/follow"
	"github.com/patchbay-net/patchbay/libvirt-hook/hook"
)

// resident is the engine in a process that follows libvirt.
type resident struct {
	*engine.Engine
	follower *follow.Follower
}

// drivers are those of libvirt whose domains may be on a switch.
func drivers() []string { return []string{"qemu:///system", "lxc:///system"} }

func newResident(verbs *engine.Engine, log *slog.Logger) *resident {
	r := &resident{Engine: verbs}
	r.follower = follow.New(follow.Config{
		URIs: drivers(), Dial: follow.Connect, Verbs: verbs, Log: log,
		Hook: func(ctx context.Context, c wire.HookCall) wire.Answer { return hook.Serve(ctx, verbs, c) },
	})
	if follow.Built {
		verbs.LeaveTaps(r.follower.Binds)
	}
	return r
}

// hook carries out a call of the hook, which shows that libvirtd is there.
func (r *resident) hook(ctx context.Context, v api.Verbs, c wire.HookCall) wire.Answer {
	defer r.follower.Heard()
	return hook.Serve(ctx, v, c)
}

// Status is the engine's, with how libvirt is followed.
func (r *resident) Status(ctx context.Context) (engine.Status, error) {
	s, err := r.Engine.Status(ctx)
	if s.Daemon != nil {
		s.Daemon.Libvirt = r.follower.Status()
	}
	return s, err
}

// SetPort is the engine's.
func (r *resident) SetPort(ctx context.Context, name string, c engine.PortChange) (engine.PortStatus, error) {
	p, err := r.Engine.SetPort(ctx, name, c)
	if err == nil && p.Owner.Kind == vswitch.OwnerVM {
		r.follower.Changed(p.Owner.ID)
	}
	return p, err
}

// SetSwitch is the engine's.
func (r *resident) SetSwitch(ctx context.Context, name string, c engine.SwitchChange) (engine.SwitchStatus, error) {
	s, err := r.Engine.SetSwitch(ctx, name, c)
	if err == nil {
		r.follower.Changed("")
	}
	return s, err
}

// Apply is the engine's.
func (r *resident) Apply(ctx context.Context, req engine.ApplyRequest) (engine.ConfigDiff, error) {
	diff, err := r.Engine.Apply(ctx, req)
	if err == nil {
		r.follower.Changed("")
	}
	return diff, err
}

// DefineNetwork has libvirtd define a network.
func (r *resident) DefineNetwork(ctx context.Context, req engine.DefineNetworkRequest) (engine.DefinedNetwork, error) {
	stale, err := r.follower.Define(req.XML)
	switch {
	case errors.Is(err, follow.ErrNotFollowed):
		return r.Engine.DefineNetwork(ctx, req)
	case err != nil:
		err = &vswitch.Error{
			Kind: vswitch.Conflict, Op: "libvirt network define", Object: req.Name, Err: err,
			Hint: "look with `virsh net-list --all` and `" + vswitch.ShellWords("virsh", "net-dumpxml", req.Name) + "` what libvirt has",
		}
	}
	return engine.DefinedNetwork{Name: req.Name, Stale: stale}, err
}
