package vswitch_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestSharedUplink(t *testing.T) {
	for name, c := range map[string]struct {
		json string
		kind vswitch.Kind // "" is valid
		says string
	}{
		"nothing":                     {`{}`, "", "weight"},
		"default":                     {`{"mode":"default","defaultFlowWeight":7}`, "", "weight, 7 for the default flow"},
		"weight":                      {`{"mode":"weight"}`, "", "weight"},
		"absolute":                    {`{"mode":"absolute","defaultFlow":"100M"}`, "", "absolute, 100M for the default flow"},
		"none":                        {`{"mode":"none"}`, "", "none"},
		"another mode":                {`{"mode":"Weight"}`, vswitch.Invalid, ""},
		"a rate by weight":            {`{"defaultFlow":"100M"}`, vswitch.BandwidthMismatch, ""},
		"a weight of none":            {`{"mode":"none","defaultFlowWeight":1}`, vswitch.BandwidthMismatch, ""},
		"a weight of bits":            {`{"mode":"absolute","defaultFlowWeight":1}`, vswitch.BandwidthMismatch, ""},
		"a weight beyond all":         {`{"defaultFlowWeight":101}`, vswitch.Range, ""},
		"a weight of less than none":  {`{"defaultFlowWeight":-1}`, vswitch.Range, ""},
		"a rate of less than a frame": {`{"mode":"absolute","defaultFlow":80}`, vswitch.Range, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := vswitch.Switch{Name: "wan", Uplink: "eth0"}
			if err := json.Unmarshal([]byte(c.json), &s.MinBandwidth); err != nil {
				t.Fatal(err)
			}
			err := s.Validate()
			if c.kind == "" && err != nil || c.kind != "" && !errors.Is(err, c.kind) {
				t.Errorf("%v, want %s", err, c.kind)
			}
			if got := s.MinBandwidth.String(); c.kind == "" && got != c.says {
				t.Errorf("%q, want %q", got, c.says)
			}
		})
	}
	a, b := vswitch.Switch{MinBandwidth: vswitch.SharedUplink{Mode: "default"}}, vswitch.Switch{MinBandwidth: vswitch.SharedUplink{Mode: "weight"}}
	if a.Normalized().MinBandwidth != b.Normalized().MinBandwidth {
		t.Error("the default is by weight, and is another mode")
	}
}

func TestMinimum(t *testing.T) {
	for name, c := range map[string]struct {
		min  vswitch.Minimum
		mode vswitch.BandwidthMode
		kind vswitch.Kind
		says string
	}{
		"none":                     {says: ""},
		"weight":                   {min: vswitch.Minimum{Weight: 100}, says: "at least weight 100"},
		"rate":                     {min: vswitch.Minimum{Rate: 1e8}, mode: "absolute", says: "at least 100M"},
		"rate by weight":           {min: vswitch.Minimum{Rate: 1e8}, mode: "default", kind: vswitch.BandwidthMismatch},
		"weight of bits":           {min: vswitch.Minimum{Weight: 1}, mode: "absolute", kind: vswitch.BandwidthMismatch},
		"any where there are none": {min: vswitch.Minimum{Weight: 1}, mode: "none", kind: vswitch.BandwidthMismatch},
		"both":                     {min: vswitch.Minimum{Weight: 1, Rate: 1e8}, mode: "weight", kind: vswitch.BandwidthMismatch},
		"weight beyond all":        {min: vswitch.Minimum{Weight: 101}, kind: vswitch.Range},
		"rate beyond all":          {min: vswitch.Minimum{Rate: vswitch.MaxBits + 8}, mode: "absolute", kind: vswitch.Range},
		"rate below a frame":       {min: vswitch.Minimum{Rate: 8}, mode: "absolute", kind: vswitch.Range},
	} {
		t.Run(name, func(t *testing.T) {
			b := vswitch.Bandwidth{Min: c.min}
			s := vswitch.Switch{Name: "wan", Uplink: "eth0", MinBandwidth: vswitch.SharedUplink{Mode: c.mode}, PortDefaults: vswitch.Policy{Bandwidth: b}, HostPolicy: vswitch.Policy{Bandwidth: b}}
			if err := s.Validate(); c.kind == "" && err != nil || c.kind != "" && !errors.Is(err, c.kind) {
				t.Errorf("%v, want %s", err, c.kind)
			}
			if got := b.String(); c.kind == "" && got != c.says {
				t.Errorf("%q, want %q", got, c.says)
			}
		})
	}
	one, rate := 5, vswitch.Bits(1e8)
	both := vswitch.Policy{Bandwidth: vswitch.Bandwidth{Min: vswitch.Minimum{Weight: 9}}}
	if got := (vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{Min: vswitch.MinimumChange{Rate: &rate}}}).Apply(both).Bandwidth.Min; got != (vswitch.Minimum{Rate: 1e8}) {
		t.Errorf("a rate in the place of a weight: %+v", got)
	}
	if got := (vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{Min: vswitch.MinimumChange{Weight: &one}}}).Apply(both).Bandwidth.Min; got != (vswitch.Minimum{Weight: 5}) {
		t.Errorf("another weight: %+v", got)
	}
	if got := (vswitch.PolicyChange{}).Apply(both).Bandwidth.Min; got != both.Bandwidth.Min {
		t.Errorf("nothing is asked for: %+v", got)
	}
}
