package vswitch_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestParseBits(t *testing.T) {
	for text, want := range map[string]vswitch.Bits{
		"0": 0, "10M": 10e6, "1G": 1e9, "1.5Gbit": 15e8, "800 kbit/s": 800e3, "800K": 800e3, "0.000008M": 8, "2T": 0,
		"3": 0, "4": 8, "11": 8, "12": 16, "1000000000000": 1e12, "1T": 1e12, "64kbps": 64e3, " 8 ": 8,
		"": 0, "M": 0, "-8": 0, "1e9": 0, "0x10": 0, "1..5M": 0, "10MB": 0, "10m": 0, "1G1": 0, "NaN": 0, "Inf": 0, "1,5G": 0, "1_000": 0,
	} {
		refused := want == 0 && text != "0" && text != "3"
		got, err := vswitch.ParseBits(text)
		if refused != errors.Is(err, vswitch.Range) || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
}

func TestBitsString(t *testing.T) {
	for b, want := range map[vswitch.Bits]string{0: "0", 8: "8", 10e6: "10M", 15e8: "1.5G", 1e12: "1T", 1_234_568: "1234.568k", 1_000_008: "1000.008k", 999_992: "999.992k"} {
		if got := b.String(); got != want {
			t.Errorf("%d is %q, want %q", int64(b), got, want)
		}
	}
}

// FuzzBits: what is read is a multiple of 8 in range, and reads as itself when written.
func FuzzBits(f *testing.F) {
	for _, text := range []string{"10M", "1.5Gbit", "999.999999k", "0.1T", "7", "1e3", "9007199254740993"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := vswitch.ParseBits(text)
		if err != nil {
			if vswitch.HintOf(err) == "" {
				t.Errorf("%q: no hint in %v", text, err)
			}
			return
		}
		if b < 0 || b > vswitch.MaxBits || b%8 != 0 {
			t.Errorf("%q is %d", text, int64(b))
		}
		again, err := vswitch.ParseBits(b.String())
		if err != nil || again != b {
			t.Errorf("%q is %d, written %q and read %d, %v", text, int64(b), b, int64(again), err)
		}
	})
}

func TestBitsInJSON(t *testing.T) {
	var l vswitch.Limit
	if err := json.Unmarshal([]byte(`{"max":"10M","burst":80000}`), &l); err != nil || l != (vswitch.Limit{Max: 10e6, Burst: 80000}) {
		t.Errorf("%+v, %v", l, err)
	}
	if text, err := json.Marshal(l); err != nil || string(text) != `{"max":10000000,"burst":80000}` {
		t.Errorf("%s, %v", text, err)
	}
	for _, text := range []string{`{"max":true}`, `{"max":-8}`, `{"max":"many"}`, `{"max":[]}`} {
		if err := json.Unmarshal([]byte(text), &l); err == nil {
			t.Errorf("%s is read as %+v", text, l)
		}
	}
}

func TestBandwidthChange(t *testing.T) {
	bits := func(n vswitch.Bits) *vswitch.Bits { return &n }
	both := vswitch.Bandwidth{In: vswitch.Limit{Max: 1e6, Burst: 1e5}, Out: vswitch.Limit{Max: 2e6}}
	for name, c := range map[string]struct {
		from   vswitch.Bandwidth
		change vswitch.BandwidthChange
		want   vswitch.Bandwidth
		kind   vswitch.Kind
	}{
		"nothing":                  {from: both, want: both},
		"one way":                  {from: both, change: vswitch.BandwidthChange{Out: vswitch.LimitChange{Max: bits(0)}}, want: vswitch.Bandwidth{In: both.In}},
		"the burst goes along":     {from: both, change: vswitch.BandwidthChange{In: vswitch.LimitChange{Max: bits(0)}}, want: vswitch.Bandwidth{Out: both.Out}},
		"a burst of both":          {from: both, change: vswitch.BandwidthChange{Burst: bits(2e5)}, want: vswitch.Bandwidth{In: vswitch.Limit{Max: 1e6, Burst: 2e5}, Out: vswitch.Limit{Max: 2e6, Burst: 2e5}}},
		"a burst of the only one":  {change: vswitch.BandwidthChange{Out: vswitch.LimitChange{Max: bits(1e6)}, Burst: bits(2e5)}, want: vswitch.Bandwidth{Out: vswitch.Limit{Max: 1e6, Burst: 2e5}}},
		"a burst of none":          {change: vswitch.BandwidthChange{Burst: bits(2e5)}, want: vswitch.Bandwidth{In: vswitch.Limit{Burst: 2e5}}, kind: vswitch.Invalid},
		"a burst of no frame":      {change: vswitch.BandwidthChange{In: vswitch.LimitChange{Max: bits(1e6), Burst: bits(8)}}, want: vswitch.Bandwidth{In: vswitch.Limit{Max: 1e6, Burst: 8}}, kind: vswitch.Range},
		"less than a frame a time": {change: vswitch.BandwidthChange{In: vswitch.LimitChange{Max: bits(vswitch.MinLimit - 8)}}, want: vswitch.Bandwidth{In: vswitch.Limit{Max: vswitch.MinLimit - 8}}, kind: vswitch.Range},
	} {
		t.Run(name, func(t *testing.T) {
			p := vswitch.PolicyChange{Bandwidth: c.change}.Apply(vswitch.Policy{Bandwidth: c.from})
			if p.Bandwidth != c.want {
				t.Errorf("%+v, want %+v", p.Bandwidth, c.want)
			}
			if err := p.Validate(); c.kind == "" && err != nil || c.kind != "" && !errors.Is(err, c.kind) {
				t.Errorf("%v, want %s", err, c.kind)
			}
		})
	}
	if got := both.String(); got != "1M in (burst 100k), 2M out" {
		t.Error(got)
	}
}

func TestShaperNames(t *testing.T) {
	id := vswitch.Owner{Kind: vswitch.OwnerContainer, Network: "n", ID: "web", Endpoint: "eth0"}.PortID()
	for _, id := range []string{id, vswitch.HostPortSwitchEnd("lan"), vswitch.HostPortSwitchEnd(strings.Repeat("n", 40))} {
		shaper := vswitch.ShaperName(id)
		if back, is := vswitch.ShapedPort(shaper); !is || back != id || vswitch.ValidateNetdevName(shaper) != nil {
			t.Errorf("%s limits %s, %v", shaper, back, is)
		}
	}
	for _, other := range []string{"pb-lan", vswitch.BridgeName("exactly12chr"), vswitch.HostPortName("lan"), "eth0", "tap0", "pb1"} {
		if got := vswitch.ShaperName(other); got != "" {
			t.Errorf("%s is limited by %s", other, got)
		}
	}
}
