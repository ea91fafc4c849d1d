package vswitch

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bits counts bits, or bits a second. Its text is a number with one of the suffixes k, M, G
// and T of 1000, 1000², ..., as in "10M", "1.5Gbit" or "800 kbit/s".
type Bits int64

// bitUnits are the suffixes from the greatest to the least.
func bitUnits() []struct {
	suffix string
	size   float64
} {
	return []struct {
		suffix string
		size   float64
	}{{"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}, {"", 1}}
}

// ParseBits reads what String writes, and the spellings that people use besides. The result
// is the nearest multiple of 8, as Hyper-V rounds.
func ParseBits(text string) (Bits, error) {
	wrong := func(cause string) (Bits, error) {
		return 0, &Error{Kind: Range, Err: fmt.Errorf("%.80q %s", text, cause), Hint: "write bits a second, like 10M, 1.5G or 800k"}
	}
	s := strings.TrimSpace(text)
	for _, unit := range []string{"bit/s", "bits/s", "bps", "bits", "bit"} {
		if short, cut := strings.CutSuffix(s, unit); cut {
			s = strings.TrimSpace(short)
			break
		}
	}
	factor := 1.0
	for _, unit := range bitUnits() {
		if short, cut := cutUnit(s, unit.suffix); cut {
			s, factor = strings.TrimSpace(short), unit.size
			break
		}
	}
	if strings.Trim(s, "0123456789.") != "" || s == "" {
		return wrong("is no number of bits")
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return wrong("is no number of bits")
	}
	if n*factor > float64(MaxBits) {
		return wrong("is more than " + MaxBits.String())
	}
	return Bits(math.Round(n * factor)).Rounded(), nil
}

func cutUnit(s, suffix string) (string, bool) {
	if suffix == "" {
		return s, true
	}
	if short, cut := strings.CutSuffix(s, suffix); cut {
		return short, true
	}
	if suffix == "k" {
		return strings.CutSuffix(s, "K")
	}
	return s, false
}

// Rounded is the nearest multiple of 8.
func (b Bits) Rounded() Bits { return (b + 4) / 8 * 8 }

// String is the shortest text that ParseBits reads as b.
func (b Bits) String() string {
	for _, unit := range bitUnits() {
		if size := Bits(unit.size); b >= size && b%max(1, size/1000) == 0 {
			return strconv.FormatFloat(float64(b)/unit.size, 'f', -1, 64) + unit.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// UnmarshalJSON takes a number or a text.
func (b *Bits) UnmarshalJSON(data []byte) (err error) {
	var text string
	if json.Unmarshal(data, &text) != nil {
		text = string(data)
	}
	*b, err = ParseBits(text)
	return err
}
