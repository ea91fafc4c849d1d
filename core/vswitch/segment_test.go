package vswitch_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestNextSegment(t *testing.T) {
	sizes := vswitch.SegmentSizes{Root: 2, Spoofing: 1, Further: 3}
	everywhere := slices.Repeat([]int{3}, vswitch.MaxSegments)
	for name, c := range map[string]struct {
		load     vswitch.Load
		spoofing bool
		next     int
		full     bool
		wanted   int
	}{
		"empty":                {next: 0, wanted: 0},
		"room on the root":     {load: vswitch.Load{Root: 1}, next: 0},
		"root full":            {load: vswitch.Load{Root: 2}, next: 1, wanted: 1},
		"root overfull":        {load: vswitch.Load{Root: 900}, next: 1, wanted: 1},
		"hole on the root":     {load: vswitch.Load{Root: 1, Further: []int{3, 1}}, next: 0, wanted: 2},
		"hole on a segment":    {load: vswitch.Load{Root: 2, Further: []int{2, 3}}, next: 1, wanted: 2},
		"all full":             {load: vswitch.Load{Root: 2, Further: []int{3, 3}}, next: 3, wanted: 3},
		"empty one in between": {load: vswitch.Load{Root: 2, Further: []int{0, 3}}, next: 1, wanted: 2},
		"full at last":         {load: vswitch.Load{Root: 2, Further: everywhere}, full: true, wanted: vswitch.MaxSegments},
		"spoofer":              {load: vswitch.Load{Root: 2}, spoofing: true, next: 0, wanted: 1},
		"too many spoofers":    {load: vswitch.Load{Spoofing: 1}, spoofing: true, full: true},
	} {
		t.Run(name, func(t *testing.T) {
			next, err := c.load.Next(sizes, c.spoofing)
			if next != c.next || errors.Is(err, vswitch.SwitchFull) != c.full || (err != nil) != c.full {
				t.Errorf("next is segment %d, %v", next, err)
			}
			if c.full && vswitch.HintOf(err) == "" {
				t.Errorf("no hint: %v", err)
			}
			if got := c.load.Wanted(sizes); got != c.wanted {
				t.Errorf("wants %d further segments, not %d", got, c.wanted)
			}
		})
	}
}

// The sizes leave the root room for everything that is on it.
func TestSegmentSizesFitABridge(t *testing.T) {
	const bridge, uplinkHostAndRelay = 1023, 3
	s := vswitch.DefaultSegmentSizes()
	if n := s.Root + s.Spoofing + vswitch.MaxSegments + uplinkHostAndRelay; n > bridge {
		t.Errorf("%d ports on the root", n)
	}
	const trunkAndRelays = 3
	if n := s.Further + trunkAndRelays; n > bridge {
		t.Errorf("%d ports on a segment", n)
	}
}

func TestSpareSegment(t *testing.T) {
	sizes := vswitch.SegmentSizes{Root: 8, Spoofing: 1, Further: 8}
	for name, c := range map[string]struct {
		load vswitch.Load
		made int
		want bool
	}{
		"none":             {vswitch.Load{Root: 1}, 0, false},
		"in use":           {vswitch.Load{Root: 1, Further: []int{1}}, 1, false},
		"needed soon":      {vswitch.Load{Root: 7}, 1, false},
		"not needed":       {vswitch.Load{Root: 5}, 1, true},
		"room below":       {vswitch.Load{Root: 8, Further: []int{5}}, 2, true},
		"little room":      {vswitch.Load{Root: 8, Further: []int{7}}, 2, false},
		"next port's":      {vswitch.Load{Root: 8}, 1, false},
		"of a larger past": {vswitch.Load{Root: 100, Further: []int{1}}, 2, true},
	} {
		if got := c.load.Spare(sizes, c.made); got != c.want {
			t.Errorf("%s: spare is %v", name, got)
		}
	}
}

func TestSegmentNames(t *testing.T) {
	if got := vswitch.SegmentName("lan", 0); got != vswitch.BridgeName("lan") {
		t.Errorf("segment 0 is %s", got)
	}
	seen := make(map[string]string)
	for _, sw := range []string{"lan", "l", "1-lan", "a-switch-with-a-long-name", "a-switch-with-a-long-nam", "production.east"} {
		for k := 0; k <= vswitch.MaxSegments; k++ {
			names := []string{vswitch.SegmentName(sw, k), vswitch.HostPortName(sw), vswitch.HostPortSwitchEnd(sw)}
			if k > 0 {
				a, b := vswitch.TrunkNames(sw, k)
				c, d := vswitch.RelayNames(sw, k)
				names = append(names, a, b, c, d)
			}
			for i, n := range names {
				who := fmt.Sprint(sw, k, i)
				if i == 1 || i == 2 {
					who = fmt.Sprint(sw, i)
				}
				if err := vswitch.ValidateNetdevName(n); err != nil || seen[n] != "" && seen[n] != who {
					t.Fatalf("%s is a netdev of %s and of %s, %v", n, who, seen[n], err)
				}
				seen[n] = who
			}
		}
	}
}
