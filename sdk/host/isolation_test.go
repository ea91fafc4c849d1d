package host_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/host"
)

func TestPluginSeesNothingOfTheHost(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
	l := newLab(t)
	_, err := l.open(l.options("tells-secrets")).Ensure(t.Context(), request("pb1"))
	if sdk.ReasonOf(err) != vswitch.Refused || !strings.Contains(err.Error(), "LANG=C.UTF-8") || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}

// What a plugin started ends with it, also when it is killed.
func TestChildrenEndWithThePlugin(t *testing.T) {
	for name, end := range map[string]func(*host.Plugin){
		"closed": func(p *host.Plugin) { p.Close() },
		"killed": func(p *host.Plugin) { _ = syscall.Kill(p.Status().PID, syscall.SIGKILL) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			p := l.open(l.options("has-children"))
			_, err := p.Ensure(t.Context(), request("pb1"))
			var child int
			var e *vswitch.Error
			if !errors.As(err, &e) {
				t.Fatal(err)
			}
			if _, err := fmt.Sscan(e.Cause(), &child); err != nil {
				t.Fatal(e)
			}
			gone := ending(t, child)
			end(p)
			gone()
		})
	}
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	for _, name := range []string{"lingers", "freezes", "mute"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			o := l.options(name)
			o.Limits.Start, o.Limits.Change = time.Minute, 50*time.Millisecond
			p := l.open(o)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, _ = p.Ensure(ctx, request("pb1")) // it starts; whatever it answers
			gone := func() {}
			if pid := p.Status().PID; pid != 0 {
				gone = ending(t, pid)
			}
			begun := time.Now()
			if p.Close(); time.Since(begun) > 20*time.Second {
				t.Errorf("it took %s", time.Since(begun))
			}
			gone()
		})
	}
}

func TestConfigurationThatDoesNotFit(t *testing.T) {
	l := newLab(t)
	o := l.options("works")
	o.Config = []byte(`{"startt": "fast"}`)
	_, err := l.open(o).Grants(t.Context())
	if !errors.Is(err, vswitch.Invalid) || !strings.Contains(err.Error(), `did you mean "start"?`) {
		t.Error(err)
	}
	o.Config = []byte(`{"start": "never"}`)
	if _, err = l.open(o).Grants(t.Context()); !errors.Is(err, vswitch.PluginFailed) || !strings.Contains(err.Error(), "as it was configured") {
		t.Error(err)
	}
}
