package kernel

import (
	"testing"

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
