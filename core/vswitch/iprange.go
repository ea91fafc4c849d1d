package vswitch

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// IPRange is a range of addresses as host-local writes it. Start, End and
// Gateway may be left out: the first and last usable address of the subnet, and
// the switch's gateway in it or else its first address.
type IPRange struct {
	Subnet  netip.Prefix `json:"subnet"`
	Start   netip.Addr   `json:"rangeStart,omitzero"`
	End     netip.Addr   `json:"rangeEnd,omitzero"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
	// Exclude lists what is never handed out: addresses, subnets, or first-last.
	Exclude []Span `json:"exclude,omitempty"`
}

// Span is an inclusive run of addresses of one family. In JSON it is
// "10.0.0.5", "10.0.0.16/28" or "10.0.0.20-10.0.0.30".
type Span struct{ First, Last netip.Addr }

// Limits on what a configuration may ask of IPAM.
const (
	MaxIPRanges   = 64
	maxExclusions = 1024
)

// ParseSpan reads what a Span is in JSON.
func ParseSpan(s string) (Span, error) {
	if first, last, ok := strings.Cut(s, "-"); ok {
		a, err1 := netip.ParseAddr(first)
		b, err2 := netip.ParseAddr(last)
		a, b = a.Unmap(), b.Unmap()
		if err1 != nil || err2 != nil || a.Is4() != b.Is4() || b.Less(a) || a.Zone()+b.Zone() != "" {
			return Span{}, fmt.Errorf("%.80q is not a span of addresses like 10.0.0.20-10.0.0.30", s)
		}
		return Span{a, b}, nil
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return Span{p.Masked().Addr(), lastOf(p)}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return Span{}, fmt.Errorf("%.80q is not an address, a subnet or a span", s)
	}
	return Span{a.Unmap(), a.Unmap()}, nil
}

// String is the shortest of ParseSpan's spellings that is not a subnet.
func (s Span) String() string {
	if s.First == s.Last {
		return s.First.String()
	}
	return s.First.String() + "-" + s.Last.String()
}

// MarshalText writes String.
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads with ParseSpan.
func (s *Span) UnmarshalText(text []byte) error {
	parsed, err := ParseSpan(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// Contains reports whether a lies in the span.
func (s Span) Contains(a netip.Addr) bool {
	return a.Is4() == s.First.Is4() && !a.Less(s.First) && !s.Last.Less(a)
}

// IPRangeSet serves one address: from the first of its ranges that has one.
type IPRangeSet []IPRange

// WithDefaults fills in what an IPRange may leave out. gatewayFor tells a
// switch's own gateway in a subnet.
func (r IPRange) WithDefaults(gatewayFor func(netip.Addr) (netip.Addr, bool)) IPRange {
	r.Subnet = r.Subnet.Masked()
	first, last := usable(r.Subnet)
	if !r.Start.IsValid() {
		r.Start = first
	}
	if !r.End.IsValid() {
		r.End = last
	}
	if !r.Gateway.IsValid() {
		if g, ok := gatewayFor(first); ok {
			r.Gateway = g
		} else {
			r.Gateway = first
		}
	}
	return r
}

// Validate reports every problem of a range whose defaults are filled in.
func (r IPRange) Validate() error {
	var p problems
	object := "range " + r.Subnet.String()
	if !r.Subnet.IsValid() || r.Subnet.Addr().Is4In6() {
		p.add(IPRangeInvalid, "range", "subnet is missing or no prefix like 10.0.0.0/24")
		return p.join()
	}
	if r.Subnet != r.Subnet.Masked() {
		p.add(IPRangeInvalid, object, "host bits are set; write %s", r.Subnet.Masked())
	}
	if a := r.Subnet.Addr(); a.IsMulticast() || a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() && a.Is6() {
		p.add(IPRangeInvalid, object, "no subnet of addresses that containers can have")
	}
	if r.Subnet.Addr().BitLen()-r.Subnet.Bits() < 1 {
		p.add(IPRangeInvalid, object, "too small for a gateway and a container; use /%d or wider", r.Subnet.Addr().BitLen()-1)
	}
	for _, end := range []struct {
		key  string
		addr netip.Addr
	}{{"rangeStart", r.Start}, {"rangeEnd", r.End}} {
		if !r.Subnet.Contains(end.addr) {
			p.add(IPRangeInvalid, object, "%s %s is outside the subnet", end.key, end.addr)
		}
	}
	if r.Gateway.Is4() != r.Subnet.Addr().Is4() || !r.Gateway.IsValid() || r.Gateway.Is4In6() {
		p.add(IPRangeInvalid, object, "gateway %s is of the other family", r.Gateway)
	} else if r.Gateway.Zone() != "" {
		p.add(IPRangeInvalid, object, "gateway %s has a zone, which is a matter of the owner's netdev", r.Gateway)
	}
	if r.End.Less(r.Start) {
		p.add(IPRangeInvalid, object, "rangeEnd %s lies before rangeStart %s", r.End, r.Start)
	}
	if len(r.Exclude) > maxExclusions {
		p.add(IPRangeInvalid, object, "%d exclusions, the limit is %d", len(r.Exclude), maxExclusions)
	}
	for _, x := range r.Exclude {
		if x.First.Is4() != r.Subnet.Addr().Is4() {
			p.add(IPRangeInvalid, object, "exclusion %s is of the other family", x)
		}
	}
	return p.join()
}

// Spans is what the range may hand out: from Start to End without the network's
// and broadcast address, the gateway and the exclusions. In order, disjoint.
func (r IPRange) Spans() []Span {
	first, last := usable(r.Subnet)
	whole := Span{maxAddr(r.Start, first), minAddr(r.End, last)}
	if whole.Last.Less(whole.First) {
		return nil
	}
	taken := append(slices.Clone(r.Exclude), Span{r.Gateway, r.Gateway})
	slices.SortFunc(taken, func(a, b Span) int { return a.First.Compare(b.First) })
	var free []Span
	next := whole.First
	for _, t := range taken {
		if t.Last.Less(next) || t.First.Is4() != next.Is4() {
			continue
		}
		if whole.Last.Less(t.First) {
			break
		}
		if next.Less(t.First) {
			free = append(free, Span{next, t.First.Prev()})
		}
		next = t.Last.Next()
		if !next.IsValid() || whole.Last.Less(next) {
			return free
		}
	}
	return append(free, Span{next, whole.Last})
}

// Spans joins the spans of the set's ranges.
func (s IPRangeSet) Spans() []Span {
	var spans []Span
	for _, r := range s {
		spans = append(spans, r.Spans()...)
	}
	return spans
}

// RangeOf returns the range of the set that addr belongs to.
func (s IPRangeSet) RangeOf(addr netip.Addr) (IPRange, bool) {
	for _, r := range s {
		if r.Subnet.Contains(addr) {
			return r, true
		}
	}
	return IPRange{}, false
}

// ValidateIPRangeSets demands complete, disjoint ranges of one family per set.
func ValidateIPRangeSets(sets []IPRangeSet) error {
	var p problems
	var seen []IPRange
	for i, set := range sets {
		if len(set) == 0 {
			p.add(IPRangeInvalid, fmt.Sprintf("ranges[%d]", i), "the set is empty")
		}
		free := 0
		for _, r := range set {
			if err := r.Validate(); err != nil {
				p = append(p, err)
				free++
				continue
			}
			free += len(r.Spans())
			if r.Subnet.Addr().Is4() != set[0].Subnet.Addr().Is4() {
				p.add(IPRangeInvalid, "range "+r.Subnet.String(), "ranges of one set are of one family; put the other family in a set of its own")
			}
			for _, other := range seen {
				if !r.End.Less(other.Start) && !other.End.Less(r.Start) && r.Start.Is4() == other.Start.Is4() {
					p.add(IPRangeInvalid, "range "+r.Subnet.String(), "overlaps range %s-%s", other.Start, other.End)
				}
			}
			seen = append(seen, r)
		}
		if free == 0 && len(set) > 0 {
			p.add(IPRangeInvalid, fmt.Sprintf("ranges[%d]", i), "the gateway and the exclusions leave no address")
		}
	}
	if len(seen) > MaxIPRanges {
		p.add(IPRangeInvalid, "ranges", "%d ranges, the limit is %d", len(seen), MaxIPRanges)
	}
	return p.join()
}

// UnmarshalJSON reads a range and refuses keys it does not know.
func (r *IPRange) UnmarshalJSON(data []byte) error {
	type plain IPRange
	return UnmarshalStrict(data, (*plain)(r))
}

var _ json.Unmarshaler = (*IPRange)(nil)

// usable is the first and last address of a subnet that a host may have, zero
// for an invalid one.
func usable(p netip.Prefix) (first, last netip.Addr) {
	if !p.IsValid() {
		return first, last
	}
	p = p.Masked()
	first, last = p.Addr(), lastOf(p)
	if p.Addr().BitLen()-p.Bits() <= 1 { // RFC 3021, RFC 6164: both ends of a point-to-point link
		return first, last
	}
	first = first.Next()
	if first.Is4() {
		last = last.Prev()
	}
	return first, last
}

// lastOf is the highest address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr()
	raw := a.AsSlice()
	for i := p.Bits(); i < a.BitLen(); i++ {
		raw[i/8] |= 1 << (7 - i%8)
	}
	last, _ := netip.AddrFromSlice(raw)
	return last
}

func minAddr(a, b netip.Addr) netip.Addr {
	if b.Less(a) {
		return b
	}
	return a
}

func maxAddr(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return b
	}
	return a
}
