package engine_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// BenchmarkAttachWithPolicy tells what an ACL of ten rules costs an Attach and a Detach, by
// turns with ports that have none, and beside some that have one.
func BenchmarkAttachWithPolicy(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("needs root: makes network namespaces")
	}
	for _, others := range []int{0, 300} {
		b.Run(fmt.Sprint("others=", others), func(b *testing.B) { attachWithPolicy(b, others) })
	}
}

func attachWithPolicy(b *testing.B, others int) {
	ctx, e := context.Background(), benchedHost(b)
	if _, err := e.SetMACPool(ctx, vswitch.MACRange{First: vswitch.MAC{2, 1}, Last: vswitch.MAC{2, 1, 0, 0, 255, 255}}); err != nil {
		b.Fatal(err)
	}
	texts := func(extra ...string) []vswitch.ACLRule {
		var all []string
		for i := range 10 - len(extra) {
			all = append(all, fmt.Sprintf("deny out tcp to 10.%d.0.0/16 port 25 weight %d", i, i+10))
		}
		return aclRules(b, append(all, extra...)...)
	}
	var all []*policyContender
	for _, c := range []struct {
		name   string
		rules  []vswitch.ACLRule
		guards bool
	}{{name: "none"}, {name: "ten", rules: texts()}, {name: "stateful", rules: texts("allow out weight 2 stateful", "deny in weight 1")}, {name: "guards", guards: true}} {
		req := engine.AttachRequest{Owner: owner(0), Switch: "lan", Policy: vswitch.PolicyChange{ACL: &c.rules}}
		if c.guards {
			req.Policy = allGuards()
			req.Addresses = []vswitch.Address{{Prefix: netip.MustParsePrefix("10.5.0.9/24")}}
		}
		req.Owner.ID, req.Owner.Netns = c.name, newNetns(b)
		all = append(all, &policyContender{name: c.name, req: req})
	}
	netns := newNetns(b)
	for i := range others {
		req := all[1].req
		req.Owner.ID, req.Owner.Endpoint, req.Owner.Netns = fmt.Sprint("other", i), fmt.Sprint("eth", i), netns
		if _, err := e.Attach(ctx, req); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for range b.N {
		for _, c := range all {
			start := time.Now()
			_, err := e.Attach(ctx, c.req)
			attached := time.Now()
			if err != nil {
				b.Fatal(err)
			}
			if err := e.Detach(ctx, c.req.Owner); err != nil {
				b.Fatal(err)
			}
			c.attach, c.detach = append(c.attach, attached.Sub(start)), append(c.detach, time.Since(attached))
		}
	}
	median := func(d []time.Duration) float64 { slices.Sort(d); return float64(d[len(d)/2].Microseconds()) }
	for _, c := range all {
		b.ReportMetric(median(c.attach), c.name+"-attach-µs")
		b.ReportMetric(median(c.detach), c.name+"-detach-µs")
	}
}

type policyContender struct {
	name           string
	req            engine.AttachRequest
	attach, detach []time.Duration
}
