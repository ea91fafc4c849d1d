package kernel

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// BenchmarkPolicies measures what a frame pays on its way from one guest to another for an
// ACL of ten rules of its own port, of a thousand others and of both, for a limit, for a
// mirror, for the priority of its tag, and for being counted by its source. The labs take
// turns, a thousand frames each.
//
//	go test ./core/kernel -run '^$' -bench Policies -benchtime 200x
func BenchmarkPolicies(b *testing.B) {
	var ten []string
	for i := range 10 {
		ten = append(ten, fmt.Sprintf("deny out tcp to 10.%d.0.0/16 port 25 weight %d", i, i+10))
	}
	list := aclFrom(b, ten...)
	others := make(map[string]plan.ACL)
	for i := range 1000 {
		others[fmt.Sprintf("x%d", i)] = list
	}
	all := maps.Clone(others)
	all["p1"] = list
	rules := func(acls map[string]plan.ACL) []plan.Step { return []plan.Step{listing(acls)} }
	base := []plan.Step{plan.SetRules{Add: plan.Rules{Base: true, NoNAT: true}}}
	limit := plan.SetLimits{Port: "p1", Limits: plan.Limits{Via: "pq-lab", Alias: "patchbay:limit switch=lab"}, Group: vswitch.Group(1)}
	limit.Limits.From = plan.ShapeOf(vswitch.Limit{Max: 100e9}, vswitch.DefaultMTU)
	mirror := plan.MakeMirror{Bridge: "pb-lab", Netdev: "p1", Destinations: []string{"p3"}}
	var contenders []*contender
	for _, c := range []struct {
		name  string
		steps []plan.Step
	}{
		{"none", nil},
		{"acl", rules(map[string]plan.ACL{"p1": list})},
		{"others-acls", rules(others)},
		{"all-acls", rules(all)},
		{"limit", []plan.Step{limit}},
		{"mirror", []plan.Step{mirror}},
		{"tables", base},
		{"uncounted", base},
	} {
		l := newLab(b, 3, vswitch.Group(1))
		if err := (elsewhere{ns: l.host}).Apply(b.Context(), c.steps); err != nil {
			b.Fatal(err)
		}
		if c.name == "uncounted" {
			sh(b, l.host, `nft delete rule bridge patchbay prerouting handle $(nft -a list chain bridge patchbay prerouting | sed -n 's/.*jump sources # handle //p')`)
		}
		contenders = append(contenders, &contender{name: c.name, from: listenFor(b, l.guests[0], "eth0", 0)})
	}
	frame := packet4(unix.IPPROTO_TCP, netip.MustParseAddr("10.1.0.1"), make([]byte, 64))
	copy(frame, slices.Concat(macSlice(2), macSlice(1)))
	b.Run("untagged", func(b *testing.B) { takeTurns(b, contenders, frame) })
	tagged := slices.Insert(slices.Clone(frame), 12, tagOf(unix.ETH_P_8021Q, 0xe02a)...)
	b.Run("tagged", func(b *testing.B) { takeTurns(b, contenders, tagged) })
}
