package host_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/host"
)

func TestPluginThatFloods(t *testing.T) {
	t.Run("an answer of 16 MB", func(t *testing.T) {
		l := newLab(t)
		if _, err := l.open(l.options("floods")).Grants(t.Context()); !errors.Is(err, vswitch.PluginFailed) {
			t.Error(err)
		}
	})
	t.Run("inventories", func(t *testing.T) {
		l := newLab(t)
		p := l.open(l.options("tells-too-much"))
		if _, err := p.Describe(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		heard := 0
		if err := p.WatchInventory(ctx, func(sdk.Inventory) error { heard++; return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if heard > 200 {
			t.Errorf("%d inventories were passed on in 2 s", heard)
		}
	})
	for _, name := range []string{"noisy", "noisy-on-one-line"} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			p := l.open(l.options(name))
			begun := time.Now()
			for time.Since(begun) < time.Second {
				if _, err := p.Grants(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			p.Close()
			text := l.log.String()
			if lines := strings.Count(text, "\n"); len(text) > 2<<20 || name == "noisy" && (strings.Count(text, "msg=\"line ") > 600 || !strings.Contains(text, "were left out")) {
				t.Errorf("%d lines, %d bytes of log: ...%s", lines, len(text), text[max(0, len(text)-3000):])
			}
		})
	}
}

func TestInventoriesThatDoNotComeOrEnd(t *testing.T) {
	for _, name := range []string{"stays-silent", "tells-and-ends"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			o := l.options(name)
			o.Limits.Read = 200 * time.Millisecond
			p := l.open(o)
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan error, 1)
			go func() { result <- p.WatchInventory(ctx, func(sdk.Inventory) error { return nil }) }()
			if s := l.await(host.Waiting); !strings.Contains(s.LastFailure, "5 answers in a row") {
				t.Errorf("%+v", s)
			}
			cancel()
			if err := <-result; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}

// Whoever listens can stop listening with an error of their own.
func TestTellsOwnErrorEndsAWatch(t *testing.T) {
	l := newLab(t)
	p := l.open(l.options("works"))
	mine := errors.New("enough")
	if err := p.WatchInventory(t.Context(), func(sdk.Inventory) error { return mine }); !errors.Is(err, mine) {
		t.Error(err)
	}
	if err := p.WatchEvents(t.Context(), func(sdk.Event) error { return nil }); !errors.Is(err, vswitch.CapabilityMissing) {
		t.Error(err)
	}
}

// Who listens hears the next process, however the end of this one is heard of.
func TestWatchOutlivesConnection(t *testing.T) {
	l := newLab(t)
	p := l.open(l.options("works"))
	mine := errors.New("enough")
	told, lost := 0, make(chan struct{})
	err := p.WatchInventory(t.Context(), func(sdk.Inventory) error {
		if told++; told == 2 {
			return mine
		}
		go func() {
			defer close(lost)
			p.LoseUnheard()
		}()
		return nil
	})
	<-lost
	if !errors.Is(err, mine) {
		t.Error(err)
	}
}
