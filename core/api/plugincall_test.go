package api

import (
	"context"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/wire"
)

// echo is a plugin that attaches, and tells what it was called with.
func echo(ctx context.Context, v Verbs, c wire.Call) (wire.Answer, bool) {
	if c.Command == "OTHER" {
		return wire.Answer{}, false
	}
	_, err := v.Attach(ctx, attach())
	return wire.Answer{Out: []byte(c.Command + " " + string(c.Stdin)), Failed: err != nil}, true
}

// listensAt has the server of a lab listen where a plugin would ask.
func listensAt(t *testing.T, otherwise func(*Server)) *lab {
	t.Helper()
	l := newLab(t)
	l.client.socket = wire.SocketPath(l.client.dirs.Run)
	t.Setenv(wire.RunDirEnv, l.client.dirs.Run)
	t.Setenv(wire.StateDirEnv, l.client.dirs.State)
	l.serveAs(func(s *Server) {
		s.plugin = echo
		otherwise(s)
	})
	return l
}

func TestPluginCall(t *testing.T) {
	l := listensAt(t, func(*Server) {})
	a, done, alone := wire.Ask(wire.Call{Command: "ADD", Stdin: []byte("{}")})
	if !done || alone || a.Failed || string(a.Out) != "ADD {}" {
		t.Errorf("done %v, alone %v: %+v", done, alone, a)
	}
	if _, found, err := l.engine.Attached(context.Background(), owner()); err != nil || !found {
		t.Errorf("attached %v, %v", found, err)
	}
	if log := l.log.String(); !strings.Contains(log, "msg=attach") || !strings.Contains(log, `owner="container c"`) || strings.Contains(log, "refused") {
		t.Errorf("the log:\n%s", log)
	}
}

// What a plugin has to do by itself it does; what is wrong is told in the log.
func TestPluginCallRefused(t *testing.T) {
	for name, x := range map[string]struct {
		command   string
		otherwise func(*Server)
		logged    string
	}{
		"not for a daemon": {"OTHER", func(*Server) {}, ""},
		"no plugin":        {"ADD", func(s *Server) { s.plugin = nil }, ""},
		"another build":    {"ADD", func(s *Server) { s.build = "newer" }, "build"},
		"another host":     {"ADD", func(s *Server) { s.place.Net = "other" }, ""},
		"other mounts":     {"ADD", func(s *Server) { s.place.Mount = "other" }, ""},
		"another store":    {"ADD", func(s *Server) { s.place.State = "other" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := listensAt(t, x.otherwise)
			if a, done, alone := wire.Ask(wire.Call{Command: x.command}); done || alone {
				t.Errorf("done %v, alone %v: %+v", done, alone, a)
			}
			l.stop()
			if log := l.log.String(); strings.Contains(log, "refused") != (x.logged != "") || !strings.Contains(log, x.logged) {
				t.Errorf("the log, which should tell of %q:\n%s", x.logged, log)
			}
			if ports, err := l.engine.Ports(context.Background(), ""); err != nil || len(ports) > 0 {
				t.Errorf("ports %v, %v", ports, err)
			}
		})
	}
}

// GC and Detach of a plugin are logged like anybody's.
func TestPluginCallTells(t *testing.T) {
	l := newLab(t)
	v := telling{Verbs: l.engine, server: l.server}
	ctx := context.Background()
	if err := v.Detach(ctx, owner()); err != nil {
		t.Error(err)
	}
	if _, err := v.GC(ctx, engine.GCRequest{Network: "net"}); err != nil {
		t.Error(err)
	}
	for _, line := range []string{"msg=detach", "msg=gc"} {
		if !strings.Contains(l.log.String(), line) {
			t.Errorf("the log lacks %s:\n%s", line, l.log)
		}
	}
}

// A call of the libvirt hook is carried out, and a failure told that libvirt does not hear of.
func TestHookCall(t *testing.T) {
	l := listensAt(t, func(s *Server) {
		s.hook = func(ctx context.Context, v Verbs, c wire.HookCall) wire.Answer {
			err := v.ReleaseDomain(ctx, c.Object)
			return wire.Answer{Out: []byte(c.Driver + " " + string(c.Stdin)), Failed: err != nil || c.Operation == "fail"}
		}
	})
	for _, operation := range []string{"release", "fail"} {
		a, done, alone, late := wire.AskHook(wire.HookCall{Driver: "qemu", Object: "vm", Operation: operation, Stdin: []byte("<domain/>")})
		if !done || alone || late || string(a.Out) != "qemu <domain/>" || a.Failed != (operation == "fail") {
			t.Errorf("%s: done %v, alone %v, late %v: %+v", operation, done, alone, late, a)
		}
	}
	if log := l.log.String(); strings.Count(log, "domain release") != 2 || strings.Count(log, "msg=hook") != 1 || !strings.Contains(log, "operation=fail") {
		t.Errorf("the log:\n%s", log)
	}
	l.serveAs(func(s *Server) { s.hook = nil })
	if a, done, alone, late := wire.AskHook(wire.HookCall{Driver: "qemu"}); done || alone || late {
		t.Errorf("of a server without the hook: %+v, %v, %v, %v", a, done, alone, late)
	}
}
