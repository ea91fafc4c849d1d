package vswitch_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestErrorText(t *testing.T) {
	cause := errors.New("no space left on device")
	for _, c := range []struct {
		e    *vswitch.Error
		want string
	}{
		{&vswitch.Error{Kind: vswitch.NotFound}, "not found"},
		{&vswitch.Error{Kind: vswitch.NotFound, Op: "detach", Object: "port pb1"}, "detach port pb1: not found"},
		{&vswitch.Error{Kind: vswitch.StoreUnavailable, Op: "attach", Err: cause}, "attach: no space left on device"},
		{&vswitch.Error{Kind: vswitch.Invalid, Object: "switch lan", Err: cause, Hint: "free some"}, "switch lan: no space left on device; free some"},
		{&vswitch.Error{Kind: vswitch.MACPoolExhausted, Hint: "run `x`"}, "mac pool exhausted; run `x`"},
	} {
		if got := c.e.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
		wrapped := fmt.Errorf("outer: %w", c.e)
		if !errors.Is(wrapped, c.e.Kind) || vswitch.KindOf(wrapped) != c.e.Kind || vswitch.HintOf(wrapped) != c.e.Hint || errors.Is(wrapped, vswitch.Conflict) {
			t.Errorf("%q loses its kind or hint", c.want)
		}
		if c.e.Err != nil && !errors.Is(wrapped, cause) {
			t.Errorf("%q loses its cause", c.want)
		}
	}
	if vswitch.KindOf(cause) != vswitch.KernelFailed || vswitch.HintOf(cause) != "" || vswitch.KindOf(fmt.Errorf("x: %w", vswitch.InUse)) != vswitch.InUse {
		t.Error("KindOf of an error without a kind, or of a bare kind")
	}
}
