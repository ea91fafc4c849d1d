package ethtool

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

var someMAC = vswitch.MAC{0x02, 0x50, 0x42, 0, 0, 7}

// What is built is what is read back: the kernel hands rules out as it got them.
func TestRulesReadAsBuilt(t *testing.T) {
	for _, want := range []Rule{
		{Location: 63, MAC: someMAC, Plain: true, Queue: 3},
		{Location: anyLocation, MAC: someMAC, VLAN: 4094, Plain: true},
	} {
		if diff := cmp.Diff(want, parseRule(want.build())); diff != "" {
			t.Error(diff)
		}
	}
}

// Rules that others made are told apart from ours, and what they steer is known.
func TestRulesOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		change func([]byte)
		want   Rule
	}{
		"TCP":               {func(b []byte) { b[atFlow] = 0x01 }, Rule{Queue: 3}},
		"part of a MAC":     {func(b []byte) { b[atHeaderMask+5] = 0 }, Rule{Queue: 3}},
		"a source too":      {func(b []byte) { b[atHeaderMask+6] = 0xff }, Rule{MAC: someMAC, VLAN: 42, Queue: 3}},
		"an ethertype":      {func(b []byte) { b[atHeaderMask+12] = 0xff }, Rule{MAC: someMAC, VLAN: 42, Queue: 3}},
		"a priority":        {func(b []byte) { b[atExtMask+inExtTCI] = 0xe0 }, Rule{MAC: someMAC, Queue: 3}},
		"VLAN 0":            {func(b []byte) { b[atExt+inExtTCI+1] = 0 }, Rule{MAC: someMAC, Queue: 3}},
		"user data":         {func(b []byte) { b[atExtMask+inExtData+7] = 1 }, Rule{MAC: someMAC, VLAN: 42, Queue: 3}},
		"frames dropped":    {func(b []byte) { order.PutUint64(b[atCookie:], 1<<64-1) }, Rule{MAC: someMAC, VLAN: 42, Plain: true, Queue: NoQueue}},
		"frames for a VF":   {func(b []byte) { order.PutUint64(b[atCookie:], 1<<32) }, Rule{MAC: someMAC, VLAN: 42, Plain: true, Queue: NoQueue}},
		"an RSS context":    {func(b []byte) { b[atFlow+3] |= 0x20 }, Rule{Queue: 3}},
		"a MAC of its own":  {func(b []byte) { b[atFlow+3] |= 0x40 }, Rule{Queue: 3}},
		"nothing but bytes": {func(b []byte) { clear(b) }, Rule{}},
	} {
		t.Run(name, func(t *testing.T) {
			b := Rule{MAC: someMAC, VLAN: 42, Queue: 3}.build()
			c.change(b)
			if diff := cmp.Diff(c.want, parseRule(b)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFreeLocations(t *testing.T) {
	for _, c := range []struct {
		have Rules
		want uint32
		err  error
	}{
		{Rules{Slots: 4}, 3, nil},
		{Rules{Slots: 4, All: []Rule{{Location: 3}, {Location: 1}}}, 2, nil},
		{Rules{Slots: 1, All: []Rule{{Location: 0}}}, 0, unix.ENOSPC},
		{Rules{Slots: 4, Placed: true}, anyLocation, nil},
	} {
		got, err := c.have.free()
		if got != c.want || Full(err) != (c.err != nil) {
			t.Errorf("%+v: location %d, %v", c.have, got, err)
		}
	}
}

// The names are those of drivers in Linux 6.12.
func TestCountersOfAQueue(t *testing.T) {
	names := []string{
		"rx_packets", "rx_queue_3_packets", "rx_queue_3_bytes", "rx_queue_3_drops", "tx_queue_3_packets", "rx_queue_13_packets", // igb
		"rx-4.packets", "tx-4.packets", "veb.tc_4_rx_packets", // i40e
		"rx5_packets", "rx5_bytes", "rx5_csum_none", "tx5_packets", // mlx5
		"[6]: rx_ucast_packets", "[6]: rx_mcast_packets", "rx-7.rx_packets", // bnxt, sfc
	}
	b := make([]byte, 8+8*len(names))
	for i := range names {
		order.PutUint64(b[8+8*i:], uint64(100+i))
	}
	for queue, want := range map[int]map[string]uint64{
		3: {"rx_packets": 101, "rx_bytes": 102}, 4: {"rx_packets": 106}, 5: {"rx_packets": 109, "rx_bytes": 110}, 6: {"rx_packets": 113}, 7: {"rx_packets": 115}, 8: {},
	} {
		if diff := cmp.Diff(want, parseStats(b, names, queue)); diff != "" {
			t.Errorf("queue %d: %s", queue, diff)
		}
	}
}

// This machine's loopback has a driver, without any of what NICs have.
func TestLoopback(t *testing.T) {
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // a socket that nothing was written to
	if s, err := c.NTuple("lo"); err != nil || s != (Switch{Fixed: true}) {
		t.Errorf("rules: %+v, %v", s, err)
	}
	if _, err := c.Rules("lo"); !Unsupported(err) {
		t.Errorf("rules: %v", err)
	}
	if table, err := c.Indirection("lo"); table != nil || err != nil {
		t.Errorf("indirection: %v, %v", table, err)
	}
	if _, err := c.Driver("no-such-netdev"); !Gone(err) {
		t.Errorf("a netdev that there is not: %v", err)
	}
	if _, err := c.Driver("a-name-that-is-longer-than-names-are"); !Gone(err) {
		t.Errorf("a name that is too long: %v", err)
	}
}

// No answer makes a reader fail, or tells of more than there is.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{})
	f.Add(Rule{MAC: someMAC, VLAN: 42, Queue: 3}.build())
	f.Add(indirection(getIndirection, []uint32{0, 1, 2, 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseQueueStats(b)
		_ = aboutNICs(b)
		_ = verdict(b)
		if a, ok := parseAdapter(b); ok && (a.Netdev == "" || a.Address == "") {
			t.Errorf("a NIC without a name: %+v", a)
		}
		// The kernel answers into as many bytes as it was given.
		b = append(b, make([]byte, nfcSize)...)
		r := parseRule(b)
		if r.Queue < NoQueue || r.VLAN < 0 || r.VLAN > vlanMask || r.Plain && r.MAC == (vswitch.MAC{}) && b[atHeaderMask] == 0 {
			t.Errorf("%+v", r)
		}
		if n := len(parseLocations(b)); 4*n > len(b) {
			t.Errorf("%d locations", n)
		}
		if n := len(parseIndirection(b)); 4*n > len(b) {
			t.Errorf("%d entries", n)
		}
		names := parseNames(b)
		_ = parseStats(b, names, 3)
		_ = parseFeature(b, int(b[0]))
	})
}
