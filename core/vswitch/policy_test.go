package vswitch_test

import (
	"errors"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestPolicyValidate(t *testing.T) {
	for name, c := range map[string]struct {
		policy vswitch.Policy
		kind   vswitch.Kind
		field  string
	}{
		"nothing":                  {},
		"all that goes together":   {policy: vswitch.Policy{DHCPGuard: true, StormLimit: vswitch.MaxStormLimit, Mirror: vswitch.MirrorSource, Bandwidth: vswitch.Bandwidth{In: vswitch.Limit{Max: 1e9}}}},
		"storm below nothing":      {vswitch.Policy{StormLimit: -1}, vswitch.Range, "stormLimit"},
		"storm beyond any link":    {vswitch.Policy{StormLimit: vswitch.MaxStormLimit + 1}, vswitch.Range, "stormLimit"},
		"unknown mirror":           {vswitch.Policy{Mirror: "both"}, vswitch.Invalid, "mirror"},
		"source with a limit":      {policy: vswitch.Policy{Mirror: vswitch.MirrorSource, Bandwidth: vswitch.Bandwidth{Out: vswitch.Limit{Max: 1e9}}}},
		"limit of a bit":           {vswitch.Policy{Bandwidth: vswitch.Bandwidth{In: vswitch.Limit{Max: 1}}}, vswitch.Range, "bandwidth.in.max"},
		"destination with a limit": {policy: vswitch.Policy{Mirror: vswitch.MirrorDestination, Bandwidth: vswitch.Bandwidth{Out: vswitch.Limit{Max: 1e9}}}},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.policy.Validate()
			var e *vswitch.Error
			if c.kind == "" && err == nil {
				return
			}
			if !errors.As(err, &e) || e.Kind != c.kind || e.Field != c.field {
				t.Errorf("%v, want %s in %s", err, c.kind, c.field)
			}
		})
	}
}

func TestPolicyString(t *testing.T) {
	p := vswitch.Policy{DHCPGuard: true, StormLimit: 7, Mirror: vswitch.MirrorDestination, Bandwidth: vswitch.Bandwidth{In: vswitch.Limit{Max: 1e7}}}
	if got, want := p.String(), "dhcpGuard, stormLimit 7, bandwidth 10M in, mirror destination"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (vswitch.Policy{}).String(); got != "none" {
		t.Errorf("%q", got)
	}
}
