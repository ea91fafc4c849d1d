package vswitch_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestParseSpan(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.5":                          "10.0.0.5",
		"10.0.0.20-10.0.0.30":               "10.0.0.20-10.0.0.30",
		"10.0.0.20-10.0.0.20":               "10.0.0.20",
		"10.0.0.16/28":                      "10.0.0.16-10.0.0.31",
		"10.0.0.21/28":                      "10.0.0.16-10.0.0.31",
		"10.0.0.1/32":                       "10.0.0.1",
		"0.0.0.0/0":                         "0.0.0.0-255.255.255.255",
		"fd00::/64":                         "fd00::-fd00::ffff:ffff:ffff:ffff",
		"fd00::1-fd00::2":                   "fd00::1-fd00::2",
		"::ffff:10.0.0.5":                   "10.0.0.5",
		"::ffff:10.0.0.5-10.0.0.6":          "10.0.0.5-10.0.0.6",
		"::ffff:10.0.0.5-::ffff:10.0.0.255": "10.0.0.5-10.0.0.255",
	} {
		s, err := vswitch.ParseSpan(in)
		if err != nil || s.String() != want {
			t.Errorf("ParseSpan(%q) = %s, %v; want %s", in, s, err, want)
			continue
		}
		if !s.Contains(s.First) || !s.Contains(s.Last) || s.Contains(s.First.Prev()) || s.Contains(s.Last.Next()) {
			t.Errorf("%s: Contains does not agree with its ends", s)
		}
		if back, err := vswitch.ParseSpan(s.String()); err != nil || back != s {
			t.Errorf("%s is read back as %s, %v", s, back, err)
		}
	}
	for _, in := range []string{
		"", "-", "10.0.0", "10.0.0.0/33", "10.0.0.2-10.0.0.1", "10.0.0.1-fd00::1", "::1-::ffff:1.2.3.4", "10.0.0.1-", "-10.0.0.1",
		"10.0.0.1-10.0.0.2-10.0.0.3", "fe80::1%eth0", "fe80::1%eth0-fe80::2", "fe80::1-fe80::2%eth0", "10.0.0.1 - 10.0.0.2", strings.Repeat("1", 10000),
	} {
		if s, err := vswitch.ParseSpan(in); err == nil || len(err.Error()) > 200 {
			t.Errorf("ParseSpan(%.40q) = %s, %v", in, s, err)
		}
	}
}

func spans(t testing.TB, all ...string) []vswitch.Span {
	t.Helper()
	var out []vswitch.Span
	for _, s := range all {
		span, err := vswitch.ParseSpan(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, span)
	}
	return out
}

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func noGateway(netip.Addr) (netip.Addr, bool) { return netip.Addr{}, false }

func TestIPRangeWithDefaults(t *testing.T) {
	lan := vswitch.Switch{Gateway: prefixes("10.0.0.254/24", "fd00::fe/64")}
	for name, c := range map[string]struct {
		in         vswitch.IPRange
		gatewayFor func(netip.Addr) (netip.Addr, bool)
		want       string // start, end, gateway
	}{
		"/24":                      {vswitch.IPRange{Subnet: prefixes("10.0.0.0/24")[0]}, noGateway, "10.0.0.1 10.0.0.254 10.0.0.1"},
		"host bits":                {vswitch.IPRange{Subnet: prefixes("10.0.0.77/24")[0]}, noGateway, "10.0.0.1 10.0.0.254 10.0.0.1"},
		"/30":                      {vswitch.IPRange{Subnet: prefixes("10.0.0.0/30")[0]}, noGateway, "10.0.0.1 10.0.0.2 10.0.0.1"},
		"/31":                      {vswitch.IPRange{Subnet: prefixes("10.0.0.0/31")[0]}, noGateway, "10.0.0.0 10.0.0.1 10.0.0.0"},
		"/64":                      {vswitch.IPRange{Subnet: prefixes("fd00::/64")[0]}, noGateway, "fd00::1 fd00::ffff:ffff:ffff:ffff fd00::1"},
		"/127":                     {vswitch.IPRange{Subnet: prefixes("fd00::/127")[0]}, noGateway, "fd00:: fd00::1 fd00::"},
		"the switch's gateway":     {vswitch.IPRange{Subnet: prefixes("10.0.0.0/24")[0]}, lan.GatewayFor, "10.0.0.1 10.0.0.254 10.0.0.254"},
		"another subnet's gateway": {vswitch.IPRange{Subnet: prefixes("10.0.1.0/24")[0]}, lan.GatewayFor, "10.0.1.1 10.0.1.254 10.0.1.1"},
		"given":                    {vswitch.IPRange{Subnet: prefixes("10.0.0.0/24")[0], Start: addr("10.0.0.5"), End: addr("10.0.0.9"), Gateway: addr("10.0.0.77")}, lan.GatewayFor, "10.0.0.5 10.0.0.9 10.0.0.77"},
		"nothing":                  {vswitch.IPRange{}, lan.GatewayFor, "invalid IP invalid IP invalid IP"},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.in.WithDefaults(c.gatewayFor)
			if got := fmt.Sprint(r.Start, " ", r.End, " ", r.Gateway); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if err := r.Validate(); (err == nil) != r.Subnet.IsValid() {
				t.Errorf("Validate: %v", err)
			}
		})
	}
}

func TestIPRangeValidate(t *testing.T) {
	bad := is(vswitch.IPRangeInvalid)
	r := func(subnet, start, end, gateway string, exclude ...string) vswitch.IPRange {
		return vswitch.IPRange{Subnet: prefixes(subnet)[0], Start: addr(start), End: addr(end), Gateway: addr(gateway), Exclude: spans(t, exclude...)}
	}
	for _, c := range []struct {
		name string
		r    vswitch.IPRange
		want []vswitch.Kind
		says string
	}{
		{name: "plain", r: r("10.0.0.0/24", "10.0.0.1", "10.0.0.254", "10.0.0.1", "10.0.0.5", "192.168.0.1")},
		{name: "gateway elsewhere", r: r("fd00::/64", "fd00::1", "fd00::9", "fe80::1")},
		{name: "no subnet", r: vswitch.IPRange{}, want: bad, says: "subnet is missing"},
		{name: "mapped subnet", r: vswitch.IPRange{Subnet: netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.0"), 120)}, want: bad, says: "no prefix"},
		{name: "host bits", r: r("10.0.0.1/24", "10.0.0.1", "10.0.0.9", "10.0.0.1"), want: bad, says: "write 10.0.0.0/24"},
		{name: "one address", r: r("10.0.0.1/32", "10.0.0.1", "10.0.0.1", "10.0.0.1"), want: bad, says: "use /31 or wider"},
		{name: "start outside", r: r("10.0.0.0/24", "10.0.1.1", "10.0.1.2", "10.0.0.1"), want: is(vswitch.IPRangeInvalid, vswitch.IPRangeInvalid), says: "rangeStart 10.0.1.1 is outside"},
		{name: "backwards", r: r("10.0.0.0/24", "10.0.0.9", "10.0.0.8", "10.0.0.1"), want: bad, says: "lies before"},
		{name: "gateway of the other family", r: r("10.0.0.0/24", "10.0.0.1", "10.0.0.9", "fd00::1"), want: bad, says: "other family"},
		{name: "mapped gateway", r: r("fd00::/64", "fd00::1", "fd00::9", "::ffff:10.0.0.1"), want: bad, says: "other family"},
		{name: "gateway with a zone", r: r("fd00::/64", "fd00::1", "fd00::9", "fe80::1%eth0"), want: bad, says: "zone"},
		{name: "no gateway", r: r("fd00::/64", "fd00::1", "fd00::9", ""), want: bad, says: "gateway"},
		{name: "exclusion of the other family", r: r("10.0.0.0/24", "10.0.0.1", "10.0.0.9", "10.0.0.1", "fd00::1"), want: bad, says: "exclusion fd00::1"},
		{name: "too many exclusions", r: r("10.0.0.0/24", "10.0.0.1", "10.0.0.9", "10.0.0.1", strings.Split(strings.Repeat("10.0.0.5 ", 1025), " ")[:1025]...), want: bad, says: "the limit is 1024"},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, c.r.Validate(), c.want, c.says) })
	}
}

func TestIPRangeSpans(t *testing.T) {
	for _, c := range []struct {
		name, subnet, start, end, gateway string
		exclude                           []string
		want                              string
	}{
		{name: "/24", subnet: "10.0.0.0/24", want: "[10.0.0.2-10.0.0.254]"},
		{name: "gateway in the middle", subnet: "10.0.0.0/29", gateway: "10.0.0.3", want: "[10.0.0.1-10.0.0.2 10.0.0.4-10.0.0.6]"},
		{name: "gateway at the end", subnet: "10.0.0.0/29", gateway: "10.0.0.6", want: "[10.0.0.1-10.0.0.5]"},
		{name: "gateway elsewhere", subnet: "10.0.0.0/30", gateway: "10.1.0.1", want: "[10.0.0.1-10.0.0.2]"},
		{name: "range with both ends of the subnet", subnet: "10.0.0.0/30", start: "10.0.0.0", end: "10.0.0.3", want: "[10.0.0.2]"},
		{name: "/30", subnet: "10.0.0.0/30", want: "[10.0.0.2]"},
		{name: "/31", subnet: "10.0.0.0/31", want: "[10.0.0.1]"},
		{name: "/31 with the gateway elsewhere", subnet: "10.0.0.0/31", gateway: "10.1.0.1", want: "[10.0.0.0-10.0.0.1]"},
		{name: "/32", subnet: "10.0.0.1/32", gateway: "10.1.0.1", want: "[10.0.0.1]"},
		{name: "/127", subnet: "fd00::/127", want: "[fd00::1]"},
		{name: "/64", subnet: "fd00::/64", want: "[fd00::2-fd00::ffff:ffff:ffff:ffff]"},
		{name: "last address of all", subnet: "255.255.255.254/31", exclude: []string{"255.255.255.255"}, gateway: "10.0.0.1", want: "[255.255.255.254]"},
		{name: "exclusions at the ends", subnet: "10.0.0.0/28", exclude: []string{"10.0.0.14", "10.0.0.0-10.0.0.2"}, want: "[10.0.0.3-10.0.0.13]"},
		{name: "exclusions overlap", subnet: "10.0.0.0/28", exclude: []string{"10.0.0.4-10.0.0.9", "10.0.0.5", "10.0.0.8-10.0.0.10"}, want: "[10.0.0.2-10.0.0.3 10.0.0.11-10.0.0.14]"},
		{name: "exclusions touch", subnet: "10.0.0.0/28", exclude: []string{"10.0.0.4", "10.0.0.5", "10.0.0.6/31"}, want: "[10.0.0.2-10.0.0.3 10.0.0.8-10.0.0.14]"},
		{name: "exclusion outside", subnet: "10.0.0.0/30", exclude: []string{"192.168.0.0/16"}, want: "[10.0.0.2]"},
		{name: "all excluded", subnet: "10.0.0.0/28", exclude: []string{"10.0.0.0/24"}, want: "[]"},
		{name: "nothing but the gateway", subnet: "10.0.0.0/28", start: "10.0.0.1", end: "10.0.0.1", want: "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := vswitch.IPRange{Subnet: prefixes(c.subnet)[0], Start: addr(c.start), End: addr(c.end), Gateway: addr(c.gateway), Exclude: spans(t, c.exclude...)}.WithDefaults(noGateway)
			if got := fmt.Sprint(r.Spans()); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if diff := cmp.Diff(spans(t, c.exclude...), r.Exclude, comparable); diff != "" {
				t.Errorf("Spans changed the exclusions:\n%s", diff)
			}
		})
	}
}

func TestIPRangeSet(t *testing.T) {
	set := vswitch.IPRangeSet{
		vswitch.IPRange{Subnet: prefixes("10.0.0.0/30")[0]}.WithDefaults(noGateway),
		vswitch.IPRange{Subnet: prefixes("10.0.1.0/30")[0]}.WithDefaults(noGateway),
	}
	if got := fmt.Sprint(set.Spans()); got != "[10.0.0.2 10.0.1.2]" {
		t.Errorf("spans: %s", got)
	}
	if r, ok := set.RangeOf(addr("10.0.1.2")); !ok || r.Subnet != set[1].Subnet {
		t.Errorf("RangeOf: %v, %v", r, ok)
	}
	if _, ok := set.RangeOf(addr("10.0.2.2")); ok {
		t.Error("RangeOf finds a range for an address of none")
	}
}

func TestValidateIPRangeSets(t *testing.T) {
	r := func(subnet string) vswitch.IPRange {
		return vswitch.IPRange{Subnet: prefixes(subnet)[0]}.WithDefaults(noGateway)
	}
	var many []vswitch.IPRangeSet
	for i := range vswitch.MaxIPRanges + 1 {
		many = append(many, vswitch.IPRangeSet{r(fmt.Sprintf("10.%d.0.0/24", i))})
	}
	part := func(start, end string) vswitch.IPRange {
		return vswitch.IPRange{Subnet: prefixes("10.0.0.0/24")[0], Start: addr(start), End: addr(end), Gateway: addr("10.0.0.1")}
	}
	bad := is(vswitch.IPRangeInvalid)
	for _, c := range []struct {
		name string
		sets []vswitch.IPRangeSet
		want []vswitch.Kind
		says string
	}{
		{name: "none"},
		{name: "two families", sets: []vswitch.IPRangeSet{{r("10.0.0.0/24"), r("10.0.1.0/24")}, {r("fd00::/64")}}},
		{name: "parts of a subnet", sets: []vswitch.IPRangeSet{{part("10.0.0.2", "10.0.0.9"), part("10.0.0.10", "10.0.0.19")}}},
		{name: "as many as can be", sets: many[1:]},
		{name: "empty set", sets: []vswitch.IPRangeSet{{}}, want: bad, says: "ranges[0]"},
		{name: "families mixed", sets: []vswitch.IPRangeSet{{r("10.0.0.0/24"), r("fd00::/64")}}, want: bad, says: "one family"},
		{name: "overlap in a set", sets: []vswitch.IPRangeSet{{part("10.0.0.2", "10.0.0.9"), part("10.0.0.9", "10.0.0.19")}}, want: bad, says: "overlaps"},
		{name: "overlap of sets", sets: []vswitch.IPRangeSet{{r("10.0.0.0/24")}, {r("10.0.0.0/16")}}, want: bad, says: "overlaps"},
		{name: "invalid range", sets: []vswitch.IPRangeSet{{vswitch.IPRange{}}, {r("10.0.0.0/24")}}, want: bad, says: "subnet is missing"},
		{name: "too many", sets: many, want: bad, says: "the limit is 64"},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, vswitch.ValidateIPRangeSets(c.sets), c.want, c.says) })
	}
}

func TestIPRangeJSON(t *testing.T) {
	in := `{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.5","gateway":"10.0.0.1","exclude":["10.0.0.9","10.0.0.16/28"]}`
	var r vswitch.IPRange
	if err := json.Unmarshal([]byte(in), &r); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(r)
	if want := strings.Replace(in, "10.0.0.16/28", "10.0.0.16-10.0.0.31", 1); err != nil || string(out) != want {
		t.Errorf("got %s, %v; want %s", out, err, want)
	}
	err = json.Unmarshal([]byte(`{"subnet":"10.0.0.0/24","rangestart":"10.0.0.5"}`), &r)
	if !errors.Is(err, vswitch.Invalid) || !strings.Contains(err.Error(), `did you mean "rangeStart"?`) {
		t.Errorf("got %v", err)
	}
}

// FuzzIPRangeSpans compares Spans with asking address by address.
func FuzzIPRangeSpans(f *testing.F) {
	f.Add("10.0.0.0/28", "", "", "", "10.0.0.4-10.0.0.9", "10.0.0.5")
	f.Add("10.0.0.0/31", "", "", "10.0.0.1", "", "")
	f.Add("255.255.255.0/24", "255.255.255.9", "255.255.255.255", "", "255.255.255.254/31", "255.255.255.0-255.255.255.12")
	f.Add("fd00::/64", "fd00::5", "", "fe80::1", "fd00::/65", "fd00::8000:0:0:0")
	f.Add("fd00::/124", "", "", "", "fd00::3", "::1-::ffff:1.2.3.4")
	f.Add("", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, subnet, start, end, gateway, exclude1, exclude2 string) {
		var r vswitch.IPRange
		r.Subnet, _ = netip.ParsePrefix(subnet)
		r.Start, _ = netip.ParseAddr(start)
		r.End, _ = netip.ParseAddr(end)
		r.Gateway, _ = netip.ParseAddr(gateway)
		for _, x := range []string{exclude1, exclude2} {
			if s, err := vswitch.ParseSpan(x); err == nil {
				if s.First.Is4() != s.Last.Is4() || s.Last.Less(s.First) {
					t.Fatalf("ParseSpan(%q) = %s", x, s)
				}
				r.Exclude = append(r.Exclude, s)
			}
		}
		r = r.WithDefaults(noGateway)
		if r.Validate() != nil {
			return
		}
		free := r.Spans()
		for i, s := range free {
			if s.Last.Less(s.First) || s.First.Less(r.Start) || r.End.Less(s.Last) || s.Contains(r.Gateway) {
				t.Fatalf("%+v: span %s", r, s)
			}
			if i > 0 && !free[i-1].Last.Less(s.First) {
				t.Fatalf("%+v: spans %s and %s", r, free[i-1], s)
			}
			for _, x := range r.Exclude {
				if s.Contains(x.First) || s.Contains(x.Last) || x.Contains(s.First) || x.Contains(s.Last) {
					t.Fatalf("%+v: span %s holds some of %s", r, s, x)
				}
			}
		}
		if width := r.Subnet.Addr().BitLen() - r.Subnet.Bits(); width <= 10 {
			oneByOne(t, r, free)
		}
	})
}

func oneByOne(t *testing.T, r vswitch.IPRange, free []vswitch.Span) {
	t.Helper()
	width := r.Subnet.Addr().BitLen() - r.Subnet.Bits()
	for a := r.Subnet.Addr(); a.IsValid() && r.Subnet.Contains(a); a = a.Next() {
		want := !a.Less(r.Start) && !r.End.Less(a) && a != r.Gateway
		isLast := !a.Next().IsValid() || !r.Subnet.Contains(a.Next())
		if width > 1 && (a == r.Subnet.Addr() || a.Is4() && isLast) {
			want = false
		}
		for _, x := range r.Exclude {
			want = want && !x.Contains(a)
		}
		got := 0
		for _, s := range free {
			if s.Contains(a) {
				got++
			}
		}
		if want && got != 1 || !want && got != 0 {
			t.Fatalf("%+v: %s is in %d of %s, wanted: %v", r, a, got, free, want)
		}
	}
}
