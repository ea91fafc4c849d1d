package vswitch

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a VLAN id (IEEE 802.1Q). 0 marks a priority tag and 4095 is reserved.
const (
	MinVLAN = 1
	MaxVLAN = 4094
)

// VLANSpan is VLAN First and all up to Last.
type VLANSpan struct{ First, Last int }

// VLANSet is a set of VLANs as spans in order, with a gap between each two. Nil is the
// empty set. Its text is Hyper-V's AllowedVlanIdList: "1-100,200".
type VLANSet []VLANSpan

// VLANs returns the set of the given ids. An id outside 1-4094 is left out.
func VLANs(ids ...int) VLANSet {
	spans := make([]VLANSpan, 0, len(ids))
	for _, id := range ids {
		spans = append(spans, VLANSpan{id, id})
	}
	return merged(spans)
}

// ParseVLANSet reads a list like "1-100,200". What is outside 1-4094, a range that is
// written backwards, and one that repeats a part of another are VLANRange.
func ParseVLANSet(text string) (VLANSet, error) {
	const longest = 32 << 10 // 4094 ids take less
	if len(text) > longest {
		return nil, vlanRange("the list of VLANs is longer than %d bytes", longest)
	}
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var spans []VLANSpan
	for part := range strings.SplitSeq(text, ",") {
		s, err := parseVLANSpan(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		spans = append(spans, s)
	}
	slices.SortFunc(spans, VLANSpan.compare)
	for i, s := range spans[1:] {
		if before := spans[i]; s.First <= before.Last {
			return nil, vlanRange("VLANs %s and %s overlap", before, s)
		}
	}
	return merged(spans), nil
}

func parseVLANSpan(text string) (s VLANSpan, err error) {
	first, last, isRange := strings.Cut(text, "-")
	if s.First, err = parseVLAN(first); err != nil {
		return s, err
	}
	s.Last = s.First
	if isRange {
		if s.Last, err = parseVLAN(last); err != nil {
			return s, err
		}
	}
	if s.Last < s.First {
		return s, vlanRange("VLANs %d-%d are written backwards", s.First, s.Last)
	}
	return s, nil
}

// parseVLAN reads one id.
func parseVLAN(text string) (int, error) {
	text = strings.TrimSpace(text)
	id, err := strconv.Atoi(text)
	if err != nil || strings.ContainsAny(text, "+-") {
		return 0, vlanRange("%.32q is no VLAN id", text)
	}
	return id, checkVLAN(id)
}

func checkVLAN(id int) error {
	if id < MinVLAN || id > MaxVLAN {
		return vlanRange("VLAN %d is outside %d-%d", id, MinVLAN, MaxVLAN)
	}
	return nil
}

func vlanRange(format string, args ...any) error {
	return &Error{Kind: VLANRange, Err: fmt.Errorf(format, args...), Hint: "write ids of 1-4094 and ranges of them, like 1-100,200"}
}

// String is "7", or "7-9".
func (s VLANSpan) String() string {
	if s.First == s.Last {
		return strconv.Itoa(s.First)
	}
	return strconv.Itoa(s.First) + "-" + strconv.Itoa(s.Last)
}

func (s VLANSpan) compare(other VLANSpan) int {
	return cmp.Or(cmp.Compare(s.First, other.First), cmp.Compare(s.Last, other.Last))
}

// merged brings spans into order and joins those that touch.
func merged(spans []VLANSpan) VLANSet {
	slices.SortFunc(spans, VLANSpan.compare)
	var set VLANSet
	for _, s := range spans {
		s.First, s.Last = max(s.First, MinVLAN), min(s.Last, MaxVLAN)
		switch n := len(set); {
		case s.First > s.Last:
		case n > 0 && s.First <= set[n-1].Last+1:
			set[n-1].Last = max(set[n-1].Last, s.Last)
		default:
			set = append(set, s)
		}
	}
	return set
}

// String is what ParseVLANSet reads; "" for the empty set.
func (v VLANSet) String() string {
	words := make([]string, 0, len(v))
	for _, s := range v {
		words = append(words, s.String())
	}
	return strings.Join(words, ",")
}

// MarshalText writes String.
func (v VLANSet) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText is ParseVLANSet.
func (v *VLANSet) UnmarshalText(text []byte) (err error) {
	*v, err = ParseVLANSet(string(text))
	return err
}

// Contains reports whether the VLAN is in the set.
func (v VLANSet) Contains(id int) bool {
	return slices.ContainsFunc(v, func(s VLANSpan) bool { return s.First <= id && id <= s.Last })
}

// Equal reports whether both sets are the same.
func (v VLANSet) Equal(other VLANSet) bool { return slices.Equal(v, other) }

// Len is the number of VLANs.
func (v VLANSet) Len() (n int) {
	for _, s := range v {
		n += s.Last - s.First + 1
	}
	return n
}

// All yields the VLANs in order.
func (v VLANSet) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for _, s := range v {
			for id := s.First; id <= s.Last; id++ {
				if !yield(id) {
					return
				}
			}
		}
	}
}

// Union is every VLAN of either set.
func (v VLANSet) Union(other VLANSet) VLANSet {
	if len(other) == 0 {
		return v
	}
	return merged(slices.Concat(v, other))
}

// Minus is every VLAN of v that is not in other.
func (v VLANSet) Minus(other VLANSet) (rest VLANSet) {
	for _, s := range v {
		for _, o := range other {
			if o.Last < s.First || o.First > s.Last {
				continue
			}
			if o.First > s.First {
				rest = append(rest, VLANSpan{s.First, o.First - 1})
			}
			s.First = o.Last + 1
		}
		if s.First <= s.Last {
			rest = append(rest, s)
		}
	}
	return rest
}
