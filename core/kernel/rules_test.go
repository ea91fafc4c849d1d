package kernel

import (
	"errors"
	goflag "flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

var update = goflag.Bool("update", false, "write the golden files")

// sampleRules hold one of everything.
func sampleRules() plan.Rules {
	return plan.Rules{
		Base:       true,
		Masquerade: map[string]plan.Families{"pbh-a": {IPv4: true, IPv6: true}, "pbh-b": {IPv6: true}},
		Quiet:      map[uint32]bool{vswitch.Group(1): true, vswitch.Group(2): true},
		Router:     map[uint32]vswitch.MAC{vswitch.Group(1): macOf(9)},
		Host:       map[vswitch.MAC]bool{macOf(9): true},
		Guard:      map[string]vswitch.MAC{"pbport1": macOf(1), "pbport2": macOf(2)},
	}
}

func apply(t *testing.T, ns *os.File, step plan.SetRules) {
	t.Helper()
	netfilterWithin(t, ns, func(c *rtnl) error { return applyRules(c, step) })
}

func observe(t *testing.T, ns *os.File, scope plan.Rules) (seen plan.Rules) {
	t.Helper()
	netfilterWithin(t, ns, func(c *rtnl) (err error) {
		seen, err = observeRules(c, scope)
		return err
	})
	return seen
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestRulesGolden(t *testing.T) {
	ns := newNS(t)
	apply(t, ns, plan.SetRules{Add: plan.Rules{Base: true}})
	golden(t, "rules-empty.nft", sh(t, ns, "nft -s list ruleset"))
	apply(t, ns, plan.SetRules{Add: sampleRules()})
	golden(t, "rules-full.nft", sh(t, ns, "nft -s list ruleset"))
}

func TestRulesAreIdempotent(t *testing.T) {
	ns := newNS(t)
	all := sampleRules()
	if diff := cmp.Diff(plan.Rules{}, observe(t, ns, all)); diff != "" {
		t.Errorf("before (-want +got):\n%s", diff)
	}
	apply(t, ns, plan.SetRules{Remove: all}) // of nothing
	for range 2 {
		apply(t, ns, plan.SetRules{Add: all})
		if diff := cmp.Diff(all, observe(t, ns, all)); diff != "" {
			t.Errorf("after adding (-want +got):\n%s", diff)
		}
	}
	elements := all
	elements.Base = false
	for range 2 {
		apply(t, ns, plan.SetRules{Remove: elements})
		if diff := cmp.Diff(plan.Rules{Base: true}, observe(t, ns, all)); diff != "" {
			t.Errorf("after removing (-want +got):\n%s", diff)
		}
	}
	for range 2 {
		apply(t, ns, plan.SetRules{Remove: plan.Rules{Base: true}})
		if got := sh(t, ns, "nft list ruleset"); got != "" {
			t.Errorf("left behind:\n%s", got)
		}
	}
}

// TestRulesWithoutNAT: where the kernel cannot hold the table for masquerade, the other
// one is made, observed, altered and removed by itself; where it can, both come back.
func TestRulesWithoutNAT(t *testing.T) {
	ns := newNS(t)
	some := sampleRules()
	some.NoNAT, some.Masquerade = true, nil
	apply(t, ns, plan.SetRules{Add: some})
	if got := sh(t, ns, "nft list tables"); got != "table bridge patchbay\n" {
		t.Errorf("tables: %s", got)
	}
	if diff := cmp.Diff(some, observe(t, ns, some)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	netfilterWithin(t, ns, func(c *rtnl) error { return tablesPresent(c, plan.RequireRules{NoNAT: true}) })
	netfilterWithin(t, ns, func(c *rtnl) error {
		if err := tablesPresent(c, plan.RequireRules{}); !errors.Is(err, vswitch.Drifted) {
			t.Errorf("both tables: %v", err)
		}
		return nil
	})
	both := sampleRules()
	if seen := observe(t, ns, both); seen.Base {
		t.Error("one table passes for both")
	}
	apply(t, ns, plan.SetRules{Add: both})
	if diff := cmp.Diff(both, observe(t, ns, both)); diff != "" {
		t.Errorf("with NAT again (-want +got):\n%s", diff)
	}
	apply(t, ns, plan.SetRules{Remove: some})
	if got := sh(t, ns, "nft list ruleset"); got != "" {
		t.Errorf("left behind:\n%s", got)
	}
}

func TestRulesObserveOnlyTheScope(t *testing.T) {
	ns := newNS(t)
	apply(t, ns, plan.SetRules{Add: sampleRules()})
	scope := plan.Rules{
		Masquerade: map[string]plan.Families{"pbh-b": {IPv4: true}, "pbh-c": {IPv4: true}},
		Quiet:      map[uint32]bool{vswitch.Group(2): true, vswitch.Group(3): true},
		Guard:      map[string]vswitch.MAC{"pbport1": macOf(7)},
	}
	want := plan.Rules{
		Masquerade: map[string]plan.Families{"pbh-b": {IPv6: true}},
		Quiet:      map[uint32]bool{vswitch.Group(2): true},
		Guard:      map[string]vswitch.MAC{"pbport1": macOf(1)},
	}
	if diff := cmp.Diff(want, observe(t, ns, scope)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRulesReplaceValues(t *testing.T) {
	ns := newNS(t)
	all := sampleRules()
	apply(t, ns, plan.SetRules{Add: all})
	next := plan.Rules{
		Masquerade: map[string]plan.Families{"pbh-a": {IPv4: true}},
		Router:     map[uint32]vswitch.MAC{vswitch.Group(1): macOf(8)},
		Guard:      map[string]vswitch.MAC{"pbport1": macOf(6)},
	}
	for _, step := range plan.Diff(plan.State{Rules: next}, plan.State{Rules: observe(t, ns, next)}) {
		apply(t, ns, step.(plan.SetRules))
	}
	if diff := cmp.Diff(next, observe(t, ns, next)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if ruleset := sh(t, ns, "nft list set bridge patchbay allowed"); strings.Contains(ruleset, "02:00:00:00:00:01") {
		t.Errorf("the port may still send from its former address:\n%s", ruleset)
	}
}

// replaceRule is a command that puts another rule in the place of the one that
// matches a pattern.
func replaceRule(family, chain, pattern, rule string) string {
	return fmt.Sprintf("nft replace rule %[1]s patchbay %[2]s handle "+
		"$(nft -a list chain %[1]s patchbay %[2]s | sed -n 's/.*%[3]s.* # handle //p') '%[4]s'", family, chain, pattern, rule)
}

func TestRulesDamage(t *testing.T) {
	all := sampleRules()
	tests := map[string]struct {
		script string
		lost   bool // elements went with it
	}{
		"everything flushed":   {"nft flush ruleset", true},
		"bridge table deleted": {"nft delete table bridge patchbay", true},
		"inet table deleted":   {"nft delete table inet patchbay", true},
		"table flushed":        {"nft flush table bridge patchbay", false},
		"chain flushed":        {"nft flush chain bridge patchbay input", false},
		"nat chain flushed":    {"nft flush chain inet patchbay postrouting", false},
		"table put to sleep":   {"nft add table bridge patchbay '{ flags dormant; }'", false},
		"rule added":           {"nft add rule bridge patchbay input accept", false},
		"rule inserted":        {"nft insert rule bridge patchbay prerouting accept", false},
		"rule replaced":        {replaceRule("bridge", "output", "drop", "drop"), false},
		"verdict replaced":     {replaceRule("bridge", "output", "drop", "oifgroup 1346502656/16 counter accept"), false},
		"mask replaced":        {replaceRule("bridge", "output", "drop", "oifgroup 1346502656/17 counter drop"), false},
		"match replaced":       {replaceRule("bridge", "output", "drop", "iifgroup 1346502656/16 counter drop"), false},
		"match turned round":   {replaceRule("bridge", "prerouting", "guarded", "iifname @guarded iifname . ether saddr @allowed counter drop"), false},
		"set replaced":         {replaceRule("bridge", "prerouting", "daddr @hosts", "ether type ip ether daddr @hosts notrack"), false},
		"masquerade replaced":  {replaceRule("inet", "postrouting", "224", "meta nfproto ipv4 iifname @masquerade4 oifname != @masquerade4 ip daddr != 224.0.0.0/4 masquerade random"), false},
		"chain added":          {"nft add chain bridge patchbay another", false},
		"policy changed":       {"nft 'add chain bridge patchbay forward { policy drop; }'", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ns := newNS(t)
			apply(t, ns, plan.SetRules{Add: all})
			const list = "nft -s list table bridge patchbay; nft -s list table inet patchbay"
			pristine := sh(t, ns, list)
			sh(t, ns, tt.script)
			seen := observe(t, ns, all)
			if seen.Base {
				t.Fatal("the tables pass as whole")
			}
			want := all
			if tt.lost {
				want = seen
				want.Base = true
			} else if seen.Base = true; !cmp.Equal(all, seen) {
				t.Errorf("elements should have stayed readable:\n%s", cmp.Diff(all, seen))
			}
			apply(t, ns, plan.SetRules{Add: plan.Rules{Base: true}}) // somebody else's switch repairs it
			if diff := cmp.Diff(want, observe(t, ns, all)); diff != "" {
				t.Errorf("after repair (-want +got):\n%s", diff)
			}
			apply(t, ns, plan.SetRules{Add: all})
			if diff := cmp.Diff(pristine, sh(t, ns, list)); diff != "" {
				t.Errorf("ruleset (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConstantSetCannotChange(t *testing.T) {
	ns := newNS(t)
	apply(t, ns, plan.SetRules{Add: plan.Rules{Base: true}})
	before := sh(t, ns, "nft list ruleset")
	sh(t, ns, "! nft 'delete element bridge patchbay reports { 131 }'; ! nft flush set bridge patchbay reports")
	if diff := cmp.Diff(before, sh(t, ns, "nft list ruleset")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRulesLeaveOthersAlone(t *testing.T) {
	ns := newNS(t)
	sh(t, ns, `nft 'add table bridge other; add set bridge other quiet { type ifname; elements = { "a" }; }'
		nft 'add chain bridge other input { type filter hook input priority 0; }; add rule bridge other input counter'
		nft 'add table inet firewall; add chain inet firewall postrouting { type nat hook postrouting priority srcnat; }'
		nft 'add rule inet firewall postrouting oifname "eth9" masquerade'
		nft 'add table ip patchbay; add chain ip patchbay x'`)
	before := sh(t, ns, "nft list ruleset")
	all := sampleRules()
	apply(t, ns, plan.SetRules{Add: all})
	sh(t, ns, "nft flush chain bridge patchbay input")
	apply(t, ns, plan.SetRules{Add: all})
	apply(t, ns, plan.SetRules{Remove: plan.Rules{Base: true}})
	if diff := cmp.Diff(before, sh(t, ns, "nft list ruleset")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRulesManyElements(t *testing.T) {
	ns := newNS(t)
	many := plan.Rules{Base: true, Guard: make(map[string]vswitch.MAC)}
	for i := range 3000 {
		many.Guard[vswitch.HostPortName(string(rune('a'+i%26))+strings.Repeat("x", i/26%13)+string(rune('a'+i/338)))] = vswitch.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
	}
	apply(t, ns, plan.SetRules{Add: many})
	sh(t, ns, "nft flush table bridge patchbay")
	apply(t, ns, plan.SetRules{Add: plan.Rules{Base: true}})
	if diff := cmp.Diff(many, observe(t, ns, many)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRulesRefuseNamesThatCannotBe(t *testing.T) {
	ns := newNS(t)
	for _, name := range []string{"", "a name", strings.Repeat("x", 16), "a/b"} {
		netfilterWithin(t, ns, func(c *rtnl) error {
			if err := applyRules(c, plan.SetRules{Add: plan.Rules{Base: true, Guard: map[string]vswitch.MAC{name: macOf(1)}}}); err == nil {
				t.Errorf("%q was taken", name)
			}
			return nil
		})
	}
}

func BenchmarkObserveBase(b *testing.B) {
	ns := newNS(b)
	netfilterWithin(b, ns, func(c *rtnl) error {
		if err := applyRules(c, plan.SetRules{Add: sampleRules()}); err != nil {
			return err
		}
		for b.Loop() {
			if seen, err := observeRules(c, plan.Rules{Base: true, Quiet: map[uint32]bool{vswitch.Group(1): true}}); err != nil || !seen.Base {
				b.Fatal(err)
			}
		}
		return nil
	})
}

func BenchmarkAddElement(b *testing.B) {
	ns := newNS(b)
	netfilterWithin(b, ns, func(c *rtnl) error {
		if err := applyRules(c, plan.SetRules{Add: plan.Rules{Base: true}}); err != nil {
			return err
		}
		n := 0
		for b.Loop() {
			n++
			guard := map[string]vswitch.MAC{fmt.Sprintf("pb%d", n): {2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}}
			if err := applyRules(c, plan.SetRules{Add: plan.Rules{Guard: guard}}); err != nil {
				return err
			}
		}
		return nil
	})
}
