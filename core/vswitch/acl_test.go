package vswitch

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func aclRules(t testing.TB, texts ...string) []ACLRule {
	t.Helper()
	var rules []ACLRule
	for _, text := range texts {
		r, err := ParseACLRule(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		rules = append(rules, r)
	}
	return rules
}

func texts(rules []ACLRule) (all []string) {
	for _, r := range rules {
		all = append(all, r.String())
	}
	return all
}

func TestParseACLRule(t *testing.T) {
	for text, want := range map[string]string{ // how String writes it; "" for the same
		"deny out tcp to 10.0.0.0/8 port 25 weight 10":            "",
		"allow in from fd00::/8":                                  "",
		"meter both remote 10.0.0.0/8":                            "",
		"meter both 10.0.0.0/8":                                   "meter both remote 10.0.0.0/8",
		"allow in local 10.0.0.1":                                 "allow in to 10.0.0.1",
		"allow in 10.0.0.1/32":                                    "allow in from 10.0.0.1",
		"deny out any":                                            "",
		"deny out":                                                "deny out any",
		"deny out any-mac":                                        "deny out to any-mac",
		"deny in from 02-00-00-00-00-01":                          "deny in from 02:00:00:00:00:01",
		"allow in tcp port 80 weight 1":                           "allow in tcp to port 80 weight 1",
		"allow out udp port 80-80 weight 1":                       "allow out udp to port 80 weight 1",
		"allow out 47 weight 1 stateful idle 5":                   "",
		"allow out 6 weight 1":                                    "allow out tcp weight 1",
		"allow in weight 3 to 10.0.0.1 tcp from port 1-9 port 80": "allow in tcp to 10.0.0.1 port 80 from port 1-9 weight 3",
		"deny out ::/0":                                           "deny out to ::/0",
		"allow in from any":                                       "allow in any",
		"allow in remote any":                                     "allow in any",
	} {
		r, err := ParseACLRule(text)
		if want == "" {
			want = text
		}
		if err != nil || r.String() != want {
			t.Errorf("%q: %q, %v, want %q", text, r, err, want)
		}
		again, err := ParseACLRule(r.String())
		if err != nil || again != r {
			t.Errorf("%q: read again it is %q, %v", r, again, err)
		}
	}
}

func TestACLRuleRefusals(t *testing.T) {
	for text, want := range map[string]struct {
		kind Kind
		says string
	}{
		"":                                            {Invalid, "does not begin with"},
		"drop out any":                                {Invalid, "does not begin with"},
		"deny inbound any":                            {Invalid, "does not begin with"},
		"deny out nonsense":                           {Invalid, "no word of a rule"},
		"deny out to":                                 {Invalid, "missing at the end"},
		"deny out to 10.0.0.1/8":                      {Invalid, "10.0.0.0/8"},
		"deny out to ::ffff:10.0.0.1":                 {Invalid, "10.0.0.1"},
		"deny out to fe80::1%eth0":                    {Invalid, "zone"},
		"deny out to 00:00:00:00:00:00":               {Invalid, "nobody's"},
		"deny out to 10.0.0.1 to 10.0.0.2":            {Invalid, "twice"},
		"deny out any 10.0.0.2":                       {Invalid, "twice"},
		"deny out tcp udp weight 1":                   {Invalid, "twice"},
		"deny out weight 1 weight 2":                  {Invalid, "twice"},
		"deny out from 10.0.0.1 to 10.0.0.2":          {Invalid, "one address"},
		"deny out tcp":                                {Invalid, "have a weight"},
		"deny out udp port 53":                        {Invalid, "have a weight"},
		"allow out stateful":                          {Invalid, "have a weight"},
		"meter out 02:00:00:00:00:01":                 {Invalid, "meters are for addresses of IP"},
		"meter in any-mac":                            {Invalid, "meters are for addresses of IP"},
		"meter in weight 1":                           {Invalid, "no weight"},
		"deny out tcp weight 1 stateful":              {Invalid, "only what is allowed"},
		"allow both weight 1":                         {Invalid, "one direction"},
		"allow both tcp port 80 weight 1":             {Invalid, "side"},
		"allow out weight 0":                          {Invalid, "from 1 on"},
		"allow out weight 65536":                      {Range, "65535"},
		"allow out weight -1":                         {Range, "65535"},
		"allow out weight x":                          {Invalid, "from 1 on"},
		"allow out weight 1 idle 5":                   {Invalid, "no sessions"},
		"allow out weight 1 stateful idle 86401":      {Range, "86400"},
		"allow out icmp port 1 weight 1":              {Invalid, "ports are of tcp and udp"},
		"allow out port 1 weight 1":                   {Invalid, "ports are of tcp and udp"},
		"allow out tcp port 0 weight 1":               {Invalid, "1 to 65535"},
		"allow out tcp port 9-1 weight 1":             {Invalid, "1 to 65535"},
		"allow out tcp port 65536 weight 1":           {Invalid, "1 to 65535"},
		"allow out 256 weight 1":                      {Invalid, "no word of a rule"},
		"allow out icmp to fd00::1 weight 1":          {Invalid, "icmpv6"},
		"allow out icmpv6 to 10.0.0.1 weight 1":       {Invalid, "icmp"},
		"allow out to 10.0.0.1 from fd00::1 weight 1": {Invalid, "families"},
		"allow out to any-mac weight 1":               {Invalid, "not about MAC"},
	} {
		_, err := ParseACLRule(text)
		if KindOf(err) != want.kind || err == nil || !strings.Contains(err.Error(), want.says) {
			t.Errorf("%q: %v (%s), want %s about %q", text, err, KindOf(err), want.kind, want.says)
		}
	}
}

func TestValidateACL(t *testing.T) {
	for name, c := range map[string]struct {
		rules  []string
		kind   Kind
		fields []string
	}{
		"none":                         {nil, "", nil},
		"allowed beside each other":    {[]string{"deny out to 10.0.0.0/8", "allow out to 10.0.0.0/9", "deny in from 10.0.0.0/8", "meter out to 10.0.0.0/8", "deny out from 10.0.0.0/8"}, "", nil},
		"the same":                     {[]string{"deny out any", "deny out any"}, AlreadyExists, []string{"acl[1]"}},
		"both and one of its ways":     {[]string{"deny in any", "deny both any"}, AlreadyExists, []string{"acl[1]"}},
		"another action":               {[]string{"deny out to 10.0.0.1", "allow out to 10.0.0.1"}, AlreadyExists, []string{"acl[1]"}},
		"the same with state":          {[]string{"allow out weight 1", "allow out weight 1 stateful"}, AlreadyExists, []string{"acl[1]"}},
		"two meters":                   {[]string{"meter out any", "meter out any"}, AlreadyExists, []string{"acl[1]"}},
		"extended, another weight":     {[]string{"allow out weight 1", "deny out weight 2"}, "", nil},
		"extended, another way":        {[]string{"allow out weight 1", "deny in weight 1"}, "", nil},
		"overlapping addresses":        {[]string{"allow out to 10.0.0.0/8 weight 1", "deny out to 10.1.0.0/16 weight 1"}, Ambiguous, []string{"acl[1].weight"}},
		"other addresses":              {[]string{"allow out to 10.0.0.0/9 weight 1", "deny out to 10.128.0.0/9 weight 1"}, "", nil},
		"overlapping ports":            {[]string{"allow out tcp to port 1-9 weight 1", "deny out tcp to port 9-10 weight 1"}, Ambiguous, []string{"acl[1].weight"}},
		"other ports":                  {[]string{"allow out tcp to port 1-9 weight 1", "deny out tcp to port 10 weight 1"}, "", nil},
		"ports of the two sides":       {[]string{"allow out tcp to port 1 weight 1", "deny out tcp from port 2 weight 1"}, Ambiguous, []string{"acl[1].weight"}},
		"other protocols":              {[]string{"allow out tcp weight 1", "deny out udp weight 1", "deny out 47 weight 1"}, "", nil},
		"any protocol and one":         {[]string{"allow out tcp weight 1", "deny out to 10.0.0.1 weight 1"}, Ambiguous, []string{"acl[1].weight"}},
		"families by address":          {[]string{"allow out to 0.0.0.0/0 weight 1", "deny out to ::/0 weight 1"}, "", nil},
		"families on different sides":  {[]string{"allow out to 10.0.0.0/8 weight 1", "deny out from fd00::/8 weight 1"}, "", nil},
		"families by protocol":         {[]string{"allow out icmp weight 1", "deny out to ::/0 weight 1"}, "", nil},
		"three of one weight, one not": {[]string{"allow in tcp weight 7", "allow in udp weight 7", "deny in weight 7"}, Ambiguous, []string{"acl[2].weight", "acl[2].weight"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := ValidateACL(aclRules(t, c.rules...))
			var fields []string
			for _, e := range leaves(err) {
				fields = append(fields, e.Field)
				if e.Kind != c.kind {
					t.Errorf("%v is %s, want %s", e, e.Kind, c.kind)
				}
			}
			if diff := cmp.Diff(c.fields, fields); diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// leaves are the errors that are joined in err.
func leaves(err error) (all []*Error) {
	var joined interface{ Unwrap() []error }
	var e *Error
	switch {
	case err == nil:
	case errors.As(err, &e) && err == error(e): //nolint:errorlint // itself, not one that it wraps
		all = append(all, e)
	case errors.As(err, &joined):
		for _, inner := range joined.Unwrap() {
			all = append(all, leaves(inner)...)
		}
	}
	return all
}

// A definition that did not go by the parser is told with all that is wrong with it.
func TestValidateACLTellsAll(t *testing.T) {
	var rules []ACLRule
	err := json.Unmarshal([]byte(`[
		{"direction": "up", "action": "drop"},
		{"direction": "out", "action": "deny", "weight": 1, "stateful": true, "idleTimeout": -1, "remotePort": 25},
		"allow in any"
	]`), &rules)
	if err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, e := range leaves(ValidateACL(rules)) {
		fields = append(fields, e.Field)
	}
	want := []string{"acl[0].action", "acl[0].direction", "acl[1].idleTimeout", "acl[1].remotePort", "acl[1].stateful"}
	if slices.Sort(fields); !slices.Equal(fields, want) {
		t.Errorf("fields %v, want %v", fields, want)
	}
}

func TestACLRuleJSON(t *testing.T) {
	for _, text := range []string{"deny out tcp to 10.0.0.0/8 port 25 weight 10", "allow in udp from fd00::/8 port 1-9 to port 53 weight 2 stateful idle 7", "meter both any", "deny in from 02:00:00:00:00:01", "deny out to any-mac"} {
		r := aclRules(t, text)[0]
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var again ACLRule
		if err := json.Unmarshal(data, &again); err != nil || again != r {
			t.Errorf("%s: read again it is %+v, %v", data, again, err)
		}
		data, _ = json.Marshal(text)
		if err := json.Unmarshal(data, &again); err != nil || again != r {
			t.Errorf("%s: %+v, %v", data, again, err)
		}
	}
	for data, says := range map[string]string{
		`{"direction": "out", "action": "deny", "remot": "any"}`:     `did you mean "remote"`,
		`{"direction": "out", "action": "deny", "remote": "x"}`:      "no IP address",
		`{"direction": "out", "action": "deny", "protocol": 300}`:    "1 to 255",
		`{"direction": "out", "action": "deny", "localPort": "9-1"}`: "1 to 65535",
		`7`: "neither a text nor an object",
	} {
		var r ACLRule
		if err := json.Unmarshal([]byte(data), &r); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want it to say %q", data, err, says)
		}
	}
}

func TestOrderACL(t *testing.T) {
	rules := aclRules(t,
		"deny in weight 1", "allow in tcp weight 30", "allow both any", "deny in from 0.0.0.0/0", "allow in from 10.0.0.0/8", "deny in to 10.0.0.0/8", "deny in from fd00::/64",
		"deny in from 02:00:00:00:00:01", "allow in any-mac", "allow in from 10.1.0.0/16", "meter in any", "meter both 10.0.0.0/8", "deny out any-mac", "deny in udp weight 20",
	)
	want := ACLOrder{
		Meters: aclRules(t, "meter both 10.0.0.0/8", "meter in any"),
		Ports: aclRules(t, "deny in from 02:00:00:00:00:01", "deny in from fd00::/64", "allow in from 10.1.0.0/16", "deny in to 10.0.0.0/8", "allow in from 10.0.0.0/8",
			"deny in from 0.0.0.0/0", "allow both any", "allow in any-mac"),
		Extended: aclRules(t, "allow in tcp weight 30", "deny in udp weight 20", "deny in weight 1"),
	}
	got := OrderACL(rules, ACLIn)
	for part, pair := range map[string][2][]ACLRule{"meters": {want.Meters, got.Meters}, "ports": {want.Ports, got.Ports}, "extended": {want.Extended, got.Extended}} {
		if diff := cmp.Diff(texts(pair[0]), texts(pair[1])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", part, diff)
		}
	}
	if o := OrderACL(rules, ACLOut); len(o.Meters) != 1 || len(o.Ports) != 2 || len(o.Extended) != 0 {
		t.Errorf("out: %+v", o)
	}
	backwards := slices.Clone(rules)
	slices.Reverse(backwards)
	if !SameACL(rules, backwards) || SameACL(rules, rules[1:]) || SameACL(nil, rules) || !SameACL(nil, []ACLRule{}) {
		t.Error("lists are the same in any order, and only then")
	}
}

func TestAddAndDeleteACL(t *testing.T) {
	rules := aclRules(t, "deny out any")
	more, err := AddACL(rules, aclRules(t, "deny in any")[0])
	if err != nil || len(more) != 2 || len(rules) != 1 {
		t.Fatal(more, err)
	}
	if _, err := AddACL(more, more[0]); KindOf(err) != AlreadyExists {
		t.Error("twice:", err)
	}
	less, err := DeleteACL(more, more[0])
	if err != nil || len(less) != 1 || less[0] != more[1] || len(more) != 2 {
		t.Error(less, err)
	}
	if _, err := DeleteACL(less, more[0]); KindOf(err) != NotFound || HintOf(err) == "" {
		t.Error("deleted twice:", err)
	}
	var many []ACLRule
	for i := range MaxACLRules/2 + 1 {
		many = append(many, aclRules(t, fmt.Sprintf("deny both 10.0.0.%d", i))...)
	}
	if err := ValidateACL(many[1:]); err != nil {
		t.Error(err)
	}
	if err := ValidateACL(many); KindOf(err) != Range {
		t.Error("too many:", err)
	}
}

func FuzzParseACLRule(f *testing.F) {
	for _, text := range []string{
		"deny out tcp to 10.0.0.0/8 port 25 weight 10", "allow in from fd00::/8", "meter both 10.0.0.0/8", "allow out 47 weight 1 stateful idle 5",
		"deny in from 02:00:00:00:00:01", "deny out any-mac", "allow in tcp from 10.0.0.1 port 1-9 to port 80 weight 3", "deny out to fe80::1%a",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseACLRule(text)
		if err != nil {
			if KindOf(err) == KernelFailed {
				t.Errorf("%q: an error without a kind: %v", text, err)
			}
			return
		}
		again, err := ParseACLRule(r.String())
		if err != nil || again != r {
			t.Errorf("%q is written %q, which is %+v, %v", text, r, again, err)
		}
		if len(r.String()) > 200 {
			t.Errorf("%q is written in %d bytes", text, len(r.String()))
		}
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &again); err != nil || again != r {
			t.Errorf("%s is read as %+v, %v", data, again, err)
		}
		if !r.overlaps(r) && r.Extended() {
			t.Errorf("%q does not match what it matches", r)
		}
	})
}
