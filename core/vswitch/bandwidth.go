package vswitch

import "fmt"

// Bandwidth is how much of the switch a port gets. The zero value is a port without a
// limit and without a reservation.
type Bandwidth struct {
	// In is what the owner may receive, Out what it may send.
	// PowerShell twin: -MaximumBandwidth, which is for both.
	In  Limit `json:"in,omitzero"`
	Out Limit `json:"out,omitzero"`
	// Min is what the owner can send by the switch's uplink whatever others do.
	Min Minimum `json:"min,omitzero"`
}

// Limit is the most that goes one way.
type Limit struct {
	// Max is bits a second, 0 for any number. It counts whole Ethernet frames.
	Max Bits `json:"max,omitempty"`
	// Burst is how many bits pass at once after a pause; 0: what 10 ms of Max are, and
	// some frames where that is less.
	Burst Bits `json:"burst,omitempty"`
}

// The least and the greatest that a limit can be. One that is less would hold a frame for
// seconds; no link carries more.
const (
	MinLimit Bits = 8_000
	MaxBits  Bits = 1_000_000_000_000
	minBurst Bits = 8 * 2 * 1522
)

func (l Limit) validate(found *problems, field string) {
	if l.Max != 0 && (l.Max < MinLimit || l.Max > MaxBits) {
		found.found(Range, field+".max", "%s a second is outside %s-%s; 0 is no limit", l.Max, MinLimit, MaxBits).in(field + ".max")
	}
	switch {
	case l.Burst == 0:
	case l.Max == 0:
		found.found(Invalid, field+".burst", "a burst without a limit").in(field + ".burst")
	case l.Burst < minBurst || l.Burst > MaxBurst:
		found.found(Range, field+".burst", "%s is outside %s-%s; 0 is what 10 ms of the limit are", l.Burst, minBurst, MaxBurst).in(field + ".burst")
	}
}

// MaxBurst is as much as Linux can count of one (4 GB), in round figures.
const MaxBurst Bits = 32_000_000_000

func (b Bandwidth) validate(found *problems) {
	b.In.validate(found, "bandwidth.in")
	b.Out.validate(found, "bandwidth.out")
	b.Min.validate(found)
}

// IsZero reports whether nothing is limited and nothing promised.
func (b Bandwidth) IsZero() bool { return b == Bandwidth{} }

// String says what is limited, as in "10M in, 1G out, at least 100M"; "" for nothing.
func (b Bandwidth) String() string {
	words := ""
	for _, way := range []struct {
		limit Limit
		word  string
	}{{b.In, "in"}, {b.Out, "out"}} {
		if way.limit.Max == 0 {
			continue
		}
		if words != "" {
			words += ", "
		}
		words += fmt.Sprintf("%s %s", way.limit.Max, way.word)
		if way.limit.Burst != 0 {
			words += fmt.Sprintf(" (burst %s)", way.limit.Burst)
		}
	}
	if !b.Min.IsZero() {
		if words != "" {
			words += ", "
		}
		words += "at least " + b.Min.String()
	}
	return words
}

// IsLimited reports whether anything is held back.
func (b Bandwidth) IsLimited() bool { return b.In.Max != 0 || b.Out.Max != 0 }

// BandwidthChange is what of a Bandwidth is asked for, under the same keys; nil fields stay
// as they are.
type BandwidthChange struct {
	In  LimitChange   `json:"in,omitzero"`
	Out LimitChange   `json:"out,omitzero"`
	Min MinimumChange `json:"min,omitzero"`
	// Burst is for each way that has a limit when the change is made: a port profile's too, as a
	// profile is a change of the switch's defaults.
	Burst *Bits `json:"burst,omitempty"`
}

// LimitChange is what of a Limit is asked for.
type LimitChange struct {
	Max   *Bits `json:"max,omitempty"`
	Burst *Bits `json:"burst,omitempty"`
}

func (c BandwidthChange) apply(b Bandwidth) Bandwidth {
	b.In, b.Out, b.Min = b.In.with(c.In), b.Out.with(c.Out), c.Min.apply(b.Min)
	if c.Burst == nil {
		return b
	}
	if b.In.Max != 0 || b.Out.Max == 0 { // where there is none, validate says so
		b.In.Burst = *c.Burst
	}
	if b.Out.Max != 0 {
		b.Out.Burst = *c.Burst
	}
	return b
}

// with changes a limit. A burst goes with the limit that it is of.
func (l Limit) with(c LimitChange) Limit {
	change(&l.Max, c.Max)
	change(&l.Burst, c.Burst)
	if l.Max == 0 && c.Burst == nil {
		l.Burst = 0
	}
	return l
}
