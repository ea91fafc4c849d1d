package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestFakeFailsAndDies(t *testing.T) {
	broken := errors.New("broken")
	steps := []plan.Step{plan.ReleasePort{Name: "pb1"}, plan.DeleteNetdev{Name: "pb1"}, plan.DeleteBridge{Name: "pb-lan"}}
	t.Run("fail", func(t *testing.T) {
		f := fakeHost(t)
		done := f.Steps()
		f.FailAt(2, broken)
		err := f.Apply(t.Context(), steps)
		var stepErr *kernel.StepError
		if !errors.Is(err, broken) || !errors.As(err, &stepErr) || stepErr.Index != 1 || stepErr.Step != steps[1] {
			t.Errorf("got %v, want step 1 broken", err)
		}
		if got := f.Log()[done:]; len(got) != 1 || got[0] != steps[0].String() {
			t.Errorf("carried out: %q", got)
		}
		fakeApply(t, f, steps...) // once only
	})
	t.Run("die", func(t *testing.T) {
		f := fakeHost(t)
		f.DieAt(3)
		if err := f.Apply(t.Context(), steps); !errors.Is(err, kernel.ErrDied) {
			t.Errorf("got %v", err)
		}
		calls := map[string]func() error{
			"Observe":      func() error { _, err := f.Observe(t.Context(), plan.State{}); return err },
			"Apply":        func() error { return f.Apply(t.Context(), nil) },
			"Netdevs":      func() error { _, err := f.Netdevs(t.Context()); return err },
			"Netdev":       func() error { _, err := f.Netdev(t.Context(), "nic0"); return err },
			"Capabilities": func() error { _, err := f.Capabilities(t.Context()); return err },
			"CheckNetns":   func() error { return f.CheckNetns(fakeNetns) },
		}
		for name, call := range calls {
			if err := call(); !errors.Is(err, kernel.ErrDied) {
				t.Errorf("%s of a dead process: %v", name, err)
			}
		}
		f.Revive()
		if _, err := f.Netdev(t.Context(), "pb1"); !errors.Is(err, vswitch.NotFound) {
			t.Errorf("the second step was not carried out: %v", err)
		}
		if _, err := f.Netdev(t.Context(), "pb-lan"); err != nil {
			t.Errorf("the third step was carried out: %v", err)
		}
	})
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := fakeHost(t).Apply(ctx, steps); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// TestFakeIsSafeForMany runs under the race detector.
func TestFakeIsSafeForMany(t *testing.T) {
	f := fakeHost(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name, path := fmt.Sprintf("pbx%d", i), fmt.Sprintf("/run/netns/x%d", i)
			for range 20 {
				f.AddNetns(path)
				veth := fakeVeth(name, path, "eth0")
				if err := f.Apply(t.Context(), []plan.Step{veth, plan.SetPort{Port: veth.Port}, plan.AddFDB{Port: name, MAC: vswitch.MAC{2, byte(i)}}}); err != nil {
					t.Error(err)
				}
				_, _ = f.Observe(t.Context(), plan.State{Ports: map[string]plan.Port{name: veth.Port}})
				_, _ = f.Netdevs(t.Context())
				_ = f.String()
				f.RemoveNetns(path)
			}
		})
	}
	wg.Wait()
	if strings.Contains(f.String(), "pbx") {
		t.Errorf("left over:\n%s", f)
	}
}
