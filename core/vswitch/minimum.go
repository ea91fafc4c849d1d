package vswitch

import (
	"cmp"
	"fmt"
	"strings"
)

// BandwidthMode is how the ports of a switch are promised a part of its uplink.
// PowerShell twin: New-VMSwitch -MinimumBandwidthMode.
type BandwidthMode string

// The modes. A switch keeps the one that it is made with.
const (
	// BandwidthDefault is by weight.
	BandwidthDefault  BandwidthMode = ""
	BandwidthWeight   BandwidthMode = "weight"   // a share, as other ports' weights are
	BandwidthAbsolute BandwidthMode = "absolute" // bits a second
	BandwidthNone     BandwidthMode = "none"     // no port has a minimum
)

// BandwidthModes lists the words that a user may write.
func BandwidthModes() []string { return []string{"default", "weight", "absolute", "none"} }

// plain is the mode by the one name that it has in a record: default for what the default is.
func (m BandwidthMode) plain() BandwidthMode {
	if m == "default" || m == BandwidthWeight {
		return BandwidthDefault
	}
	return m
}

// Effective is the mode with the default resolved: weight, absolute or none.
func (m BandwidthMode) Effective() BandwidthMode {
	return cmp.Or(m.plain(), BandwidthWeight)
}

// SharedUplink is how the ports of a switch share its uplink when it is not enough for all.
type SharedUplink struct {
	Mode BandwidthMode `json:"mode,omitempty"`
	// DefaultFlow is what is left, in bits a second, for all that has no minimum of its
	// own; 0: a tenth of the link. In mode absolute alone.
	// PowerShell twin: -DefaultFlowMinimumBandwidthAbsolute.
	DefaultFlow Bits `json:"defaultFlow,omitempty"`
	// DefaultFlowWeight is its weight; 0: DefaultFlowWeight. In mode weight alone.
	// PowerShell twin: -DefaultFlowMinimumBandwidthWeight.
	DefaultFlowWeight int `json:"defaultFlowWeight,omitempty"`
}

// What the default flow has where nobody says otherwise: a weight, and a part of the link.
const (
	DefaultFlowWeight = 1
	DefaultFlowPart   = 10 // one of so many
)

// MaxWeight is the greatest weight that a port may have, of bandwidth and of offloads alike.
const MaxWeight = 100

// IsZero reports whether all is left to the default.
func (u SharedUplink) IsZero() bool { return u == SharedUplink{} }

// String says how the uplink is shared, as in "weight", or "absolute, 100M for the default
// flow".
func (u SharedUplink) String() string {
	words := string(u.Mode.Effective())
	switch {
	case u.DefaultFlow != 0:
		words += fmt.Sprintf(", %s for the default flow", u.DefaultFlow)
	case u.DefaultFlowWeight != 0:
		words += fmt.Sprintf(", %d for the default flow", u.DefaultFlowWeight)
	}
	return words
}

func (u SharedUplink) validate(p *problems, object string) {
	switch u.Mode.Effective() {
	case BandwidthWeight, BandwidthAbsolute, BandwidthNone:
	default:
		p.found(Invalid, object, "bandwidth mode %.32q is none of %s", u.Mode, strings.Join(BandwidthModes(), ", ")).in("minBandwidth.mode")
		return
	}
	if u.DefaultFlow != 0 && u.Mode.Effective() != BandwidthAbsolute {
		p.found(BandwidthMismatch, object, "bits a second for the default flow are for mode absolute, and the switch's mode is %s", u.Mode.Effective()).in("minBandwidth.defaultFlow")
	}
	if u.DefaultFlow != 0 && (u.DefaultFlow < MinLimit || u.DefaultFlow > MaxBits) {
		p.found(Range, object, "%s a second for the default flow is outside %s-%s; 0 is a tenth of the link", u.DefaultFlow, MinLimit, MaxBits).in("minBandwidth.defaultFlow")
	}
	if u.DefaultFlowWeight != 0 && u.Mode.Effective() != BandwidthWeight {
		p.found(BandwidthMismatch, object, "a weight of the default flow is for mode weight, and the switch's mode is %s", u.Mode.Effective()).in("minBandwidth.defaultFlowWeight")
	}
	if u.DefaultFlowWeight < 0 || u.DefaultFlowWeight > MaxWeight {
		p.found(Range, object, "weight %d of the default flow is outside 0-%d; 0 is %d", u.DefaultFlowWeight, MaxWeight, DefaultFlowWeight).in("minBandwidth.defaultFlowWeight")
	}
}

// Minimum is what a port is promised of its switch's uplink when that is not enough for all:
// bits a second or a weight, as the switch's mode is. The zero value is no promise.
type Minimum struct {
	// Rate is bits a second. PowerShell twin: -MinimumBandwidthAbsolute.
	Rate Bits `json:"rate,omitempty"`
	// Weight is 1-100. PowerShell twin: -MinimumBandwidthWeight.
	Weight int `json:"weight,omitempty"`
}

// IsZero reports whether nothing is promised.
func (m Minimum) IsZero() bool { return m == Minimum{} }

// String is "100M" or "weight 50"; "" for none.
func (m Minimum) String() string {
	switch {
	case m.Rate != 0:
		return m.Rate.String()
	case m.Weight != 0:
		return fmt.Sprintf("weight %d", m.Weight)
	}
	return ""
}

func (m Minimum) validate(found *problems) {
	if m.Rate != 0 && m.Weight != 0 {
		found.found(BandwidthMismatch, "bandwidth.min", "bits a second and a weight contradict each other; give one").in("bandwidth.min")
	}
	if m.Rate != 0 && (m.Rate < MinLimit || m.Rate > MaxBits) {
		found.found(Range, "bandwidth.min.rate", "%s a second is outside %s-%s; 0 is no minimum", m.Rate, MinLimit, MaxBits).in("bandwidth.min.rate")
	}
	if m.Weight < 0 || m.Weight > MaxWeight {
		found.found(Range, "bandwidth.min.weight", "%d is outside 0-%d; 0 is no minimum", m.Weight, MaxWeight).in("bandwidth.min.weight")
	}
}

// ValidateIn demands of a minimum that it is of its switch's mode.
func (m Minimum) ValidateIn(mode BandwidthMode) error {
	effective := mode.Effective()
	var hint string
	switch {
	case effective == BandwidthNone && !m.IsZero():
		hint = "leave the minimum out, or make another switch with `patchbay switch add NAME --min-bandwidth-mode weight`"
	case effective == BandwidthWeight && m.Rate != 0:
		hint = "give a weight of 1-100: --min-weight, or `min: {weight: N}`"
	case effective == BandwidthAbsolute && m.Weight != 0:
		hint = "give bits a second: --min-rate, or `min: {rate: 100M}`"
	default:
		return nil
	}
	return &Error{
		Kind: BandwidthMismatch, Object: "bandwidth.min", Field: "bandwidth.min",
		Err: fmt.Errorf("the switch's bandwidth mode is %s, and the minimum is %s", effective, m), Hint: hint,
	}
}

// MinimumChange is what of a Minimum is asked for. To ask for one kind gives the other up.
type MinimumChange struct {
	Rate   *Bits `json:"rate,omitempty"`
	Weight *int  `json:"weight,omitempty"`
}

func (c MinimumChange) apply(m Minimum) Minimum {
	if c.Rate == nil && c.Weight == nil {
		return m
	}
	m = Minimum{}
	change(&m.Rate, c.Rate)
	change(&m.Weight, c.Weight)
	return m
}
