package kernel

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/plan"
)

// BenchmarkACLRules tells what a list costs that a port is given, by how many rules of
// nftables and expressions it makes: to spell it alone, to give and to take it.
//
//	go test ./core/kernel -run '^$' -bench ACLRules -benchtime 100x
func BenchmarkACLRules(b *testing.B) {
	for _, stateful := range []bool{false, true} {
		for _, n := range []int{1, 10, 20} {
			b.Run(fmt.Sprintf("%d,stateful=%v", n, stateful), func(b *testing.B) {
				var texts []string
				for i := range n {
					texts = append(texts, fmt.Sprintf("deny out tcp to 10.%d.0.0/16 port 25 weight %d", i, i+10))
				}
				if stateful {
					texts = append(texts, "allow out weight 2 stateful", "deny in weight 1")
				}
				benchACL(b, aclFrom(b, texts...))
			})
		}
	}
}

func benchACL(b *testing.B, acl plan.ACL) {
	took := make(map[string][]time.Duration)
	timed := func(what string, do func() error) {
		began := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		took[what] = append(took[what], time.Since(began))
	}
	list := plan.Rules{ACLs: map[string]plan.ACL{"p1": acl}}
	var p portACL
	netfilterWithin(b, newNS(b), func(c *rtnl) error {
		if err := applyRules(c, plan.SetRules{Add: plan.Rules{ACLBase: true}}); err != nil {
			return err
		}
		for range b.N {
			timed("spell", func() (err error) { p, err = portACLOf("p1", acl); return err })
			timed("give", func() error { return applyRules(c, plan.SetRules{Add: list}) })
			timed("take", func() error { return applyRules(c, plan.SetRules{Remove: list}) })
		}
		return nil
	})
	rules, expressions := 0, 0
	for _, c := range p.chains {
		rules += len(c.rules)
		for _, r := range c.rules {
			expressions += len(r.exprs)
		}
	}
	b.ReportMetric(float64(rules), "rules")
	b.ReportMetric(float64(expressions), "expressions")
	for what, all := range took {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/4].Microseconds()), what+"-µs") // a quarter: others are at work
	}
}
