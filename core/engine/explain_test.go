package engine_test

import (
	"context"
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
