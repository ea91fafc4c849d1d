package api

import (
	"context"
	"errors"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
)

// errNotOurs says that a call of the plugin is for the plugin's own process.
var errNotOurs = errors.New("the plugin has to carry this out itself")

// admitCall reads a call of the CNI plugin. Nothing has been done while it fails.
func (s *Server) admitCall(body []byte) (run call, err error) {
	c, build, p, err := wire.ParseCall(body)
	if err != nil {
		return run, err
	}
	if err := s.fits(build, p); err != nil {
		return run, err
	}
	if s.plugin == nil {
		return run, errNotOurs
	}
	// Whatever it may change is finished, as with any verb; and so is what it reads.
	return call{changes: true, verb: namePlugin, do: func(ctx context.Context, v Verbs) (any, error) {
		a, done := s.plugin(ctx, telling{Verbs: v, server: s}, c)
		if !done {
			return nil, errNotOurs
		}
		return a, nil
	}}, nil
}

// Hook carries out a call of the libvirt hook with these verbs.
type Hook func(ctx context.Context, v Verbs, c wire.HookCall) wire.Answer

// admitHookCall reads a call of the libvirt hook, as admitCall does.
func (s *Server) admitHookCall(body []byte) (run call, err error) {
	c, build, p, err := wire.ParseHookCall(body)
	if err != nil {
		return run, err
	}
	if err := s.fits(build, p); err != nil {
		return run, err
	}
	if s.hook == nil {
		return run, errNotOurs
	}
	return call{changes: true, verb: nameHook, do: func(ctx context.Context, v Verbs) (any, error) {
		a := s.hook(ctx, telling{Verbs: v, server: s}, c)
		if a.Failed { // libvirt is not told of every failure
			s.log.Warn(nameHook, "driver", c.Driver, "object", c.Object, "operation", c.Operation, "err", string(a.Out))
		}
		return a, nil
	}}, nil
}

// telling logs what the plugin and the hook change as the changes of any other client.
type telling struct {
	Verbs
	server *Server
}

// Attach is Verbs'.
func (t telling) Attach(ctx context.Context, req engine.AttachRequest) (a engine.Attachment, err error) {
	defer t.tell(nameAttach, req, time.Now(), &err)
	return t.Verbs.Attach(ctx, req)
}

// Detach is Verbs'.
func (t telling) Detach(ctx context.Context, owner vswitch.Owner) (err error) {
	defer t.tell(nameDetach, owner, time.Now(), &err)
	return t.Verbs.Detach(ctx, owner)
}

// GC is Verbs'.
func (t telling) GC(ctx context.Context, req engine.GCRequest) (r engine.GCReport, err error) {
	defer t.tell(nameGC, req, time.Now(), &err)
	return t.Verbs.GC(ctx, req)
}

// ReservePort is Verbs'.
func (t telling) ReservePort(ctx context.Context, req engine.ReservePortRequest) (p vswitch.Port, err error) {
	defer t.tell(nameReservePort, req, time.Now(), &err)
	return t.Verbs.ReservePort(ctx, req)
}

// BindPort is Verbs'.
func (t telling) BindPort(ctx context.Context, req engine.BindPortRequest) (p vswitch.Port, err error) {
	defer t.tell(nameBindPort, req, time.Now(), &err)
	return t.Verbs.BindPort(ctx, req)
}

// BindPorts is Verbs'. Where it fails BindPort of each tells.
func (t telling) BindPorts(ctx context.Context, reqs []engine.BindPortRequest) ([]vswitch.Port, error) {
	start := time.Now()
	ports, err := t.Verbs.BindPorts(ctx, reqs)
	if err == nil {
		t.tell(nameBindPorts, reqs, start, &err)
	}
	return ports, err
}

// ReleasePort is Verbs'.
func (t telling) ReleasePort(ctx context.Context, owner vswitch.Owner) (err error) {
	defer t.tell(nameReleasePort, owner, time.Now(), &err)
	return t.Verbs.ReleasePort(ctx, owner)
}

// MakeTap is Verbs'.
func (t telling) MakeTap(ctx context.Context, req engine.TapRequest) (err error) {
	defer t.tell(nameMakeTap, req, time.Now(), &err)
	return t.Verbs.MakeTap(ctx, req)
}

// DeleteTap is Verbs'.
func (t telling) DeleteTap(ctx context.Context, req engine.TapRequest) (err error) {
	defer t.tell(nameDeleteTap, req, time.Now(), &err)
	return t.Verbs.DeleteTap(ctx, req)
}

// ReleaseDomain is Verbs'.
func (t telling) ReleaseDomain(ctx context.Context, id string) (err error) {
	defer t.tell(nameReleaseVM, id, time.Now(), &err)
	return t.Verbs.ReleaseDomain(ctx, id)
}

// ExpectDomain is Verbs'.
func (t telling) ExpectDomain(ctx context.Context, req engine.ExpectDomainRequest) (err error) {
	defer t.tell(nameExpectVM, req, time.Now(), &err)
	return t.Verbs.ExpectDomain(ctx, req)
}

func (t telling) tell(verb string, arg any, start time.Time, err *error) {
	t.server.tell(call{verb: verb, changes: true, args: []any{arg}}, *err, time.Since(start))
}
