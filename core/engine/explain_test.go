package engine_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// A switch that has grown tells of its segments, and a port of the one it is on.
func TestExplainSegments(t *testing.T) {
	ctx := context.Background()
	l := newSmallLab(t)
	for i := range 6 {
		l.mustAttach(request(i))
	}
	x, err := l.Explain(ctx, engine.ExplainRequest{Name: "prod"})
	must(t, err)
	at := slices.IndexFunc(x.Parts, func(p engine.Part) bool { return strings.HasPrefix(p.What, "segment ") })
	if at < 0 {
		t.Fatalf("no segment is told of: %+v", x.Parts)
	}
	trunk, _ := vswitch.TrunkNames("prod", 1)
	relay, _ := vswitch.RelayNames("prod", 1)
	said := x.Parts[at].Why + strings.Join(x.Parts[at].Commands, "\n")
	for _, word := range []string{vswitch.SegmentName("prod", 1), trunk, relay} {
		if !strings.Contains(said, word) {
			t.Errorf("%s is not told of in %s", word, said)
		}
	}
	port, _, err := l.Attached(ctx, owner(5))
	must(t, err)
	x, err = l.Explain(ctx, engine.ExplainRequest{Name: port.ID})
	must(t, err)
	trunk, _ = vswitch.TrunkNames("prod", port.Segment)
	if !slices.ContainsFunc(x.Parts, func(p engine.Part) bool {
		return p.What == "entry on "+trunk && len(p.Commands) == 1 && strings.Contains(p.Commands[0], port.MAC.String())
	}) {
		t.Errorf("the entry on %s is not told of: %+v", trunk, x.Parts)
	}
}

// A port in VLANs tells which, and what keeps it from others is told for what it is.
func TestExplainVLANs(t *testing.T) {
	l := newLab(t)
	l.mustAdd(wan())
	req := inVLAN(t, 0, "isolated 100 101")
	port := l.mustAttach(req).Port
	wantExplained(t, l, port.ID,
		[]string{"its VLANs (isolated 100 101) and in no other", "bridge vlan add dev " + port.Netdev + " vid 101 pvid", "apart { " + port.Netdev + " }"},
		[]string{"cannot lock a port"})
	wantExplained(t, l, "wan", []string{"apart_in { nic0 . 101 }", "bridge vlan add dev nic0 vid 100-101"}, nil)
}

// What the rules of an active/active team are for is told with the team.
func TestExplainSpread(t *testing.T) {
	l, _ := spreadLab(t)
	wantExplained(t, l, "team0", []string{"nft 'add table netdev patchbay-team0;", "add element netdev patchbay-team0 mute { nic2 }", "VLAN id and priority"}, nil)
}

// wantExplained looks for words in all that is told of something.
func wantExplained(t *testing.T, l *lab, name string, want, unwanted []string) {
	t.Helper()
	x, err := l.Explain(context.Background(), engine.ExplainRequest{Name: name})
	must(t, err)
	said := fmt.Sprintf("%+v", x)
	for _, w := range want {
		if !strings.Contains(said, w) {
			t.Errorf("%s: no %q in %s", name, w, said)
		}
	}
	for _, w := range unwanted {
		if strings.Contains(said, w) {
			t.Errorf("%s: %q in %s", name, w, said)
		}
	}
}
