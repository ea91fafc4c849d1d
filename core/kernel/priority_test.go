package kernel

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// tagOf is a tag of a type with priority, mark for dropping and VLAN.
func tagOf(kind, tci uint16) []byte {
	return []byte{byte(kind >> 8), byte(kind), byte(tci >> 8), byte(tci)}
}

// What owners say about how urgent a frame is goes no further than their port, unless it
// may. All else of the frame stays as it is.
func TestPriorityIsReset(t *testing.T) {
	for name, c := range map[string]struct {
		tags []byte
		want []byte // of p1, whose owner may set no priority
	}{
		"no tag":                   {},
		"a VLAN":                   {tagOf(0x8100, 0x002a), tagOf(0x8100, 0x002a)},
		"a VLAN with priority":     {tagOf(0x8100, 0xe02a), tagOf(0x8100, 0x002a)},
		"the last VLAN":            {tagOf(0x8100, 0x2ffe), tagOf(0x8100, 0x0ffe)},
		"only a priority":          {tagOf(0x8100, 0x6000), tagOf(0x8100, 0x0000)},
		"to be dropped first":      {tagOf(0x8100, 0x102a), tagOf(0x8100, 0x002a)},
		"a provider's":             {tagOf(0x88a8, 0xb02a), tagOf(0x88a8, 0x002a)},
		"two, and the outer's":     {slices.Concat(tagOf(0x88a8, 0xa02a), tagOf(0x8100, 0xe007)), slices.Concat(tagOf(0x88a8, 0x002a), tagOf(0x8100, 0xe007))},
		"two alike, and the outer": {slices.Concat(tagOf(0x8100, 0xa02a), tagOf(0x8100, 0xe007)), slices.Concat(tagOf(0x8100, 0x002a), tagOf(0x8100, 0xe007))},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 3, vswitch.Group(1))
			apply(t, l.host, plan.SetRules{Add: plan.Rules{Base: true, NoNAT: true, Priority: map[string]bool{"p3": true}}})
			for n, want := range map[byte][]byte{1: c.want, 3: c.tags} {
				end := captureOf(t, l.guests[1], CaptureRequest{Netdev: "eth0"})
				frame := func(tags []byte, text string) []byte {
					f := ethernet(macOf(2), macOf(n), 0x88b5, append([]byte(text), make([]byte, 60)...))
					return slices.Insert(f, 12, tags...)
				}
				from := listen(t, l.guests[n-1], "eth0")
				from.send(t, frame(c.tags, "marked"))
				from.send(t, frame(nil, "the end"))
				heard, _ := end()
				heard = slices.DeleteFunc(heard, func(f heardFrame) bool { return !strings.Contains(f.Data, "marked") })
				if len(heard) != 1 {
					t.Fatalf("of p%d came %d frames", n, len(heard))
				}
				if diff := cmp.Diff(fmt.Sprintf("%x", frame(want, "marked")), fmt.Sprintf("%x", heard[0].Data)); diff != "" {
					t.Errorf("of p%d (-want +got):\n%s", n, diff)
				}
			}
		})
	}
}

// A kernel without the fix writes over the first bytes of the packet instead: the rule then
// gives them back, and changes nothing at all.
func TestPriorityResetHarmsNoFrame(t *testing.T) {
	l := newLab(t, 2, vswitch.Group(1))
	within(t, l.host, func() error {
		return tryTable(ruleTable{name: "old", family: unix.NFPROTO_BRIDGE, sets: []ruleSet{tagSet(), {name: setPriority, key: ifName}}, chains: []ruleChain{{
			name: "prerouting", kind: chainFilter, hook: unix.NF_INET_PRE_ROUTING, priority: bridgeFirst,
			rules: func() [][]expression {
				return [][]expression{rule(inSet(load(ether(etherType, 2)), setTags), resetPriority(network(0, 2)))}
			},
		}}})
	})
	end := captureOf(t, l.guests[1], CaptureRequest{Netdev: "eth0"})
	from := listen(t, l.guests[0], "eth0")
	f := slices.Insert(ethernet(macOf(2), macOf(1), 0x88b5, append([]byte("marked"), make([]byte, 60)...)), 12, tagOf(0x8100, 0xe02a)...)
	from.send(t, f)
	from.send(t, ethernet(macOf(2), macOf(1), 0x88b5, []byte("the end")))
	heard, _ := end()
	if !slices.ContainsFunc(heard, func(h heardFrame) bool { return h.Data == string(f) }) {
		t.Errorf("%q has not come as it was, but %v", f, heard)
	}
	if !strings.Contains(sh(t, l.host, "nft list table bridge old"), "counter packets 1 ") {
		t.Error("the rule did not see the frame")
	}
}
