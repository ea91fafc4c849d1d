package kernel

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// aclFrom is a list by the texts of its rules.
func aclFrom(t testing.TB, texts ...string) plan.ACL {
	t.Helper()
	var rules []vswitch.ACLRule
	for _, text := range texts {
		r, err := vswitch.ParseACLRule(text)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	if err := vswitch.ValidateACL(rules); err != nil {
		t.Fatal(err)
	}
	return plan.ACLOf(rules)
}

func listing(all map[string]plan.ACL) plan.SetRules {
	return plan.SetRules{Add: plan.Rules{ACLBase: true, ACLs: all}}
}

// everyRule has a rule of each kind.
func everyRule(t testing.TB) plan.ACL {
	return aclFrom(t,
		"meter both remote 10.0.0.0/8", "meter both any", "deny in from 02:00:00:00:00:09", "allow both any-mac",
		"deny out to 10.2.0.0/16", "allow out to 10.2.3.4", "deny in from fd00::/8", "allow in local 10.1.0.1",
		"allow out tcp to 10.0.0.0/8 port 80-90 weight 20 stateful idle 60", "allow in udp from fd01::/64 to port 53 weight 20 stateful",
		"allow in icmp weight 11", "allow out 47 weight 3 stateful", "deny out weight 1", "deny in weight 1",
	)
}

func TestACLGolden(t *testing.T) {
	ns := newNS(t)
	apply(t, ns, listing(map[string]plan.ACL{"p1": everyRule(t)}))
	golden(t, "acls.nft", sh(t, ns, "nft -s list ruleset"))
}

func TestACLsComeAndGo(t *testing.T) {
	ns := newNS(t)
	one, two := everyRule(t), aclFrom(t, "deny in tcp to port 25 weight 1")
	scope := plan.Rules{ACLBase: true, ACLs: map[string]plan.ACL{"p1": one, "p2": two}}
	expect := func(what string, want map[string]plan.ACL) {
		t.Helper()
		got := observe(t, ns, scope)
		if diff := cmp.Diff(want, got.ACLs); diff != "" || got.ACLBase != (want != nil) {
			t.Errorf("%s: base %v (-want +got):\n%s", what, got.ACLBase, diff)
		}
	}
	add := func(dev string, acl plan.ACL) plan.SetRules {
		return plan.SetRules{Add: plan.Rules{ACLs: map[string]plan.ACL{dev: acl}}}
	}
	remove := func(dev string, acl plan.ACL) plan.SetRules {
		return plan.SetRules{Remove: plan.Rules{ACLs: map[string]plan.ACL{dev: acl}}}
	}
	if err := errorWithin(t, ns, add("p1", one)); !errors.Is(err, vswitch.Drifted) {
		t.Errorf("without the table: %v", err)
	}
	apply(t, ns, remove("p1", one)) // of nothing
	expect("nothing", nil)
	apply(t, ns, listing(map[string]plan.ACL{"p1": one}))
	empty := sh(t, ns, "nft -s list ruleset")
	for range 2 {
		apply(t, ns, add("p2", two))
		expect("both", map[string]plan.ACL{"p1": one, "p2": two})
	}
	for range 2 {
		apply(t, ns, remove("p2", two))
		expect("one", map[string]plan.ACL{"p1": one})
	}
	if diff := cmp.Diff(empty, sh(t, ns, "nft -s list ruleset")); diff != "" {
		t.Errorf("left of the other:\n%s", diff)
	}
	other := aclFrom(t, "allow out tcp weight 4 stateful idle 9", "deny in any")
	change := plan.SetRules{Remove: plan.Rules{ACLs: map[string]plan.ACL{"p1": one}}, Add: plan.Rules{ACLs: map[string]plan.ACL{"p1": other}}}
	for range 2 { // the second time what is to be removed is not there
		apply(t, ns, change)
	}
	scope.ACLs["p1"] = other
	expect("changed", map[string]plan.ACL{"p1": other})
	scope.ACLs["p1"] = one
	expect("not as wanted", map[string]plan.ACL{"p1": plan.OtherACL})
	apply(t, ns, remove("p1", plan.OtherACL))
	expect("gone, whatever it was", map[string]plan.ACL{})
	bare := sh(t, ns, "nft -s list ruleset")
	for what, believed := range map[string]plan.ACL{"another": two, "a part of it": aclFrom(t, "deny out to 10.2.0.0/16")} {
		apply(t, ns, add("p1", one))
		apply(t, ns, remove("p1", believed))
		if diff := cmp.Diff(bare, sh(t, ns, "nft -s list ruleset")); diff != "" {
			t.Errorf("left where %s was believed to be there:\n%s", what, diff)
		}
		apply(t, ns, add("p1", one))
		apply(t, ns, plan.SetRules{Remove: plan.Rules{ACLs: map[string]plan.ACL{"p1": believed}}, Add: plan.Rules{ACLs: map[string]plan.ACL{"p1": one}}})
		expect("the same again", map[string]plan.ACL{"p1": one})
		apply(t, ns, remove("p1", one))
	}
	apply(t, ns, plan.SetRules{Remove: plan.Rules{ACLBase: true}})
	if left := sh(t, ns, "nft list ruleset"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// What somebody has done to the table is seen, and mended.
func TestACLsAreMended(t *testing.T) {
	one, two := everyRule(t), aclFrom(t, "deny in tcp to port 25 weight 1")
	both := map[string]plan.ACL{"p1": one, "p2": two}
	for harm, want := range map[string]struct {
		left  map[string]plan.ACL
		whole bool
	}{
		"flush ruleset":                                                     {nil, false},
		"delete table bridge patchbay_acl":                                  {nil, false},
		"flush chain bridge patchbay_acl unreadable_ip6":                    {nil, false},
		"flush chain bridge patchbay_acl forward":                           {nil, false},
		"add table bridge patchbay_acl { flags dormant; }":                  {nil, false},
		"insert rule bridge patchbay_acl prerouting accept":                 {nil, false},
		"flush map bridge patchbay_acl in":                                  {map[string]plan.ACL{"p1": plan.OtherACL, "p2": plan.OtherACL}, true},
		"flush chain bridge patchbay_acl p2/in-MARK2":                       {map[string]plan.ACL{"p1": one, "p2": plan.OtherACL}, true},
		"insert rule bridge patchbay_acl p1/out-MARK1 accept":               {map[string]plan.ACL{"p1": plan.OtherACL, "p2": two}, true},
		"add chain bridge patchbay_acl p2/out":                              {map[string]plan.ACL{"p1": one, "p2": plan.OtherACL}, true},
		"add element bridge patchbay_acl out { p2 : jump p1/out-MARK1 }":    {map[string]plan.ACL{"p1": one, "p2": plan.OtherACL}, true},
		"add element bridge patchbay_acl out { p3 : jump p1/out-MARK1 }":    {map[string]plan.ACL{"p1": one, "p2": two}, true},
		"add set bridge patchbay_acl p2/in/sessions4-7 { type ipv4_addr; }": {map[string]plan.ACL{"p1": one, "p2": plan.OtherACL}, true},
	} {
		t.Run(harm, func(t *testing.T) {
			ns := newNS(t)
			apply(t, ns, listing(both))
			for dev, acl := range both { // chains' names end with a mark of the list
				p, err := portACLOf(dev, acl)
				if err != nil {
					t.Fatal(err)
				}
				harm = strings.ReplaceAll(harm, "MARK"+dev[1:], p.mark[1:])
			}
			sh(t, ns, "nft '"+harm+"'")
			desired, scope := plan.Rules{ACLBase: true, ACLs: both}, plan.State{Rules: plan.Rules{ACLBase: true, ACLs: both}}
			got := observe(t, ns, scope.Rules)
			if diff := cmp.Diff(want.left, got.ACLs); diff != "" || got.ACLBase != want.whole {
				t.Errorf("base %v (-want +got):\n%s", got.ACLBase, diff)
			}
			for _, s := range plan.Diff(plan.State{Rules: desired}, plan.State{Rules: got}) {
				apply(t, ns, s.(plan.SetRules))
			}
			if diff := cmp.Diff(desired, observe(t, ns, scope.Rules)); diff != "" {
				t.Errorf("not mended (-want +got):\n%s", diff)
			}
		})
	}
}

// A port whose name begins as another's has chains of its own.
func TestACLsOfPortsWithLikeNames(t *testing.T) {
	ns := newNS(t)
	acl := aclFrom(t, "deny in any")
	apply(t, ns, listing(map[string]plan.ACL{"tap": acl, "tap-in": acl, "tap.in": acl}))
	apply(t, ns, plan.SetRules{Remove: plan.Rules{ACLs: map[string]plan.ACL{"tap": plan.OtherACL}}})
	got := observe(t, ns, plan.Rules{ACLBase: true, ACLs: map[string]plan.ACL{"tap": acl, "tap-in": acl, "tap.in": acl}})
	if diff := cmp.Diff(map[string]plan.ACL{"tap-in": acl, "tap.in": acl}, got.ACLs); diff != "" {
		t.Error(diff)
	}
}

// As many rules as a port may have go into the kernel and come back.
func TestACLOfManyRules(t *testing.T) {
	ns := newNS(t)
	var texts []string
	for i := range vswitch.MaxACLRules {
		texts = append(texts, fmt.Sprintf("allow out tcp to 10.0.%d.0/24 port %d weight %d stateful", i%256, i+1, i+1))
	}
	acl := aclFrom(t, texts...)
	all := map[string]plan.ACL{"p1": acl, "p2": acl}
	apply(t, ns, listing(all))
	if diff := cmp.Diff(all, observe(t, ns, plan.Rules{ACLBase: true, ACLs: all}).ACLs); diff != "" {
		t.Error(diff)
	}
}
