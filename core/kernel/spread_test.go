package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// spreadNetdevs makes a team as far as its table goes: "team0" is a bridge in place of a
// bond, with the members m0 and m1, a guest's port g, and the other end of each, ending
// in "x", in the same namespace.
func spreadNetdevs(t *testing.T) *os.File {
	t.Helper()
	ns := newNS(t)
	script := "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6\n" + // nobody speaks unasked
		"ip link add team0 type bridge forward_delay 0 mcast_snooping 0\nip link set team0 up\n"
	for _, name := range []string{"m0", "m1", "g"} {
		script += fmt.Sprintf("ip link add %s type veth peer name %sx\nip link set %s master team0\nip link set %s up\nip link set %sx up\n", name, name, name, name, name)
	}
	sh(t, ns, script)
	return ns
}

func sampleSpread() plan.Spread {
	return plan.Spread{Team: "team0", Members: []string{"m0", "m1"}, Source: macOf(7)}.With("m0")
}

func sampleOwn() map[plan.Own]bool {
	return map[plan.Own]bool{
		{Team: "team0", MAC: macOf(1)}:                     true,
		{Team: "team0", MAC: macOf(2), VLAN: 10}:           true,
		{Team: "team0", MAC: macOf(3), VLAN: plan.AnyVLAN}: true,
	}
}

func applyAt(t *testing.T, ns *os.File, steps ...plan.Step) {
	t.Helper()
	within(t, ns, func() error { return NewLinux().Apply(context.Background(), steps) })
}

func observeAt(t *testing.T, ns *os.File, scope plan.State) (seen plan.State) {
	t.Helper()
	within(t, ns, func() (err error) {
		seen, err = NewLinux().Observe(context.Background(), scope)
		return err
	})
	return seen
}

func TestSpreadGolden(t *testing.T) {
	ns := spreadNetdevs(t)
	applyAt(t, ns, plan.MakeSpread{Spread: sampleSpread()}, plan.SetRules{Add: plan.Rules{Own: sampleOwn()}})
	golden(t, "spread.nft", sh(t, ns, "nft -s list table netdev patchbay-team0"))
}

// A table is made, changed and removed any number of times, and whatever somebody does
// to it is seen.
func TestSpreadIsMadeAndMended(t *testing.T) {
	ns := spreadNetdevs(t)
	want := plan.State{Spreads: map[string]plan.Spread{"team0": sampleSpread()}, Rules: plan.Rules{Own: sampleOwn()}}
	if diff := cmp.Diff(plan.State{}, observeAt(t, ns, want)); diff != "" {
		t.Errorf("before (-want +got):\n%s", diff)
	}
	err := inNetns(ns, func() error {
		return NewLinux().Apply(context.Background(), []plan.Step{plan.SetRules{Add: plan.Rules{Own: sampleOwn()}}})
	})
	if !errors.Is(err, vswitch.Drifted) {
		t.Errorf("own addresses without a table: %v", err)
	}
	applyAt(t, ns, plan.SetRules{Remove: plan.Rules{Own: sampleOwn()}}, plan.DeleteSpread{Team: "team0"}) // of nothing
	for range 2 {
		applyAt(t, ns, plan.Diff(want, observeAt(t, ns, want))...)
		applyAt(t, ns, plan.MakeSpread{Spread: sampleSpread()}, plan.SetRules{Add: plan.Rules{Own: sampleOwn()}})
		if diff := cmp.Diff(want, observeAt(t, ns, want)); diff != "" {
			t.Errorf("after making (-want +got):\n%s", diff)
		}
	}
	for _, script := range []string{
		"nft delete table netdev patchbay-team0",
		"nft flush chain netdev patchbay-team0 in-m1",
		"nft flush chain netdev patchbay-team0 out",
		"nft flush chain netdev patchbay-team0 by-m1",
		"nft delete chain netdev patchbay-team0 by-m0",
		"nft delete chain netdev patchbay-team0 in-m0",
		"nft flush set netdev patchbay-team0 mute",
		"nft flush map netdev patchbay-team0 designated",
		"nft flush set netdev patchbay-team0 own",
		"nft flush set netdev patchbay-team0 own_vlan",
		"nft add element netdev patchbay-team0 mute { m0 }",
		"nft insert rule netdev patchbay-team0 in-m0 accept",
		"nft flush ruleset",
		"ip link del m1\nip link add m1 type veth peer name m1x",
		"ip link del team0\nip link add team0 type bridge",
	} {
		sh(t, ns, script)
		steps := plan.Diff(want, observeAt(t, ns, want))
		if len(steps) == 0 && !strings.HasPrefix(script, "ip link") { // from Linux 6.16 on a chain waits for its netdev
			t.Errorf("%s: not seen", script)
		}
		applyAt(t, ns, steps...)
		if diff := cmp.Diff(want, observeAt(t, ns, want)); diff != "" {
			t.Errorf("%s: after mending (-want +got):\n%s", script, diff)
		}
	}
	want.Spreads["team0"] = sampleSpread().With("m1")
	if steps := plan.Diff(want, observeAt(t, ns, want)); len(steps) != 1 {
		t.Errorf("another designated member: %v", steps)
	} else {
		applyAt(t, ns, steps...)
	}
	if diff := cmp.Diff(want, observeAt(t, ns, want)); diff != "" {
		t.Errorf("another designated member (-want +got):\n%s", diff)
	}
	if all := observeAt(t, ns, plan.State{Rules: plan.Rules{Own: map[plan.Own]bool{{Team: "team0"}: true}}}); !cmp.Equal(all.Rules.Own, sampleOwn()) {
		t.Errorf("all of a team: %v", all.Rules.Own)
	}
	applyAt(t, ns, plan.Diff(plan.State{}, observeAt(t, ns, want))...)
	if got := sh(t, ns, "nft list ruleset"); got != "" {
		t.Errorf("left behind:\n%s", got)
	}
}

func TestSpreadNeedsItsNetdevs(t *testing.T) {
	ns := spreadNetdevs(t)
	s := sampleSpread()
	s.Members = append(s.Members, "m9")
	err := inNetns(ns, func() error { return NewLinux().Apply(context.Background(), []plan.Step{plan.MakeSpread{Spread: s}}) })
	if !errors.Is(err, vswitch.NotFound) {
		t.Errorf("a member that is not there: %v", err)
	}
}

// Each rule drops what it is for, and nothing else.
func TestSpreadDrops(t *testing.T) {
	ns := spreadNetdevs(t)
	applyAt(t, ns, plan.MakeSpread{Spread: sampleSpread()}, plan.SetRules{Add: plan.Rules{Own: sampleOwn()}})
	guest, in := listen(t, ns, "gx"), map[string]*listener{"m0": listen(t, ns, "m0x"), "m1": listen(t, ns, "m1x")}
	all := vswitch.MAC(broadcastMAC)
	for _, tt := range []struct {
		name, at string
		to, from vswitch.MAC
		vlan     int
		passes   bool
	}{
		{"broadcast by the designated member", "m0", all, macOf(20), 0, true},
		{"broadcast by another", "m1", all, macOf(20), 0, false},
		{"multicast by another", "m1", vswitch.MAC{1, 0, 0x5e, 1, 1, 1}, macOf(20), 10, false},
		{"unicast by another", "m1", macOf(30), macOf(21), 0, true},
		{"a guest's own, reflected", "m0", all, macOf(1), 0, false},
		{"a guest's address in a VLAN where it is not", "m0", all, macOf(1), 10, true},
		{"of a VLAN, reflected", "m0", all, macOf(2), 10, false},
		{"with a priority, reflected", "m0", all, macOf(2), 10 | 5<<13, false},
		{"of a VLAN, in another one", "m0", all, macOf(2), 11, true},
		{"of a VLAN, without a tag", "m0", all, macOf(2), 0, true},
		{"a trunk's own, reflected", "m0", all, macOf(3), 99, false},
		{"a trunk's own without a tag", "m0", all, macOf(3), 0, false},
	} {
		mark := []byte("frame: " + tt.name + strings.Repeat(".", 46))
		frame := ethernet(tt.to, tt.from, 0x88b5, mark)
		if tt.vlan != 0 {
			frame = withTag(frame, tt.vlan)
		}
		in[tt.at].send(t, frame)
		fence(t, in["m0"], guest)
		if got := guest.heard(func(f []byte) bool { return bytes.Contains(f, mark) }); got != tt.passes {
			t.Errorf("%s: heard %t", tt.name, got)
		}
	}
}

// What is for somebody is heard by the member that his last frame has left by, in each VLAN,
// and by any while he has sent none.
func TestUnicastIsHeardOnce(t *testing.T) {
	ns := spreadNetdevs(t)
	applyAt(t, ns, plan.MakeSpread{Spread: sampleSpread()}, plan.SetRules{Add: plan.Rules{Own: map[plan.Own]bool{
		{Team: sampleSpread().Team, MAC: macOf(1), VLAN: plan.NoVLAN}: true, {Team: sampleSpread().Team, MAC: macOf(1), VLAN: 10}: true,
		{Team: sampleSpread().Team, MAC: macOf(3), VLAN: plan.AnyVLAN}: true,
	}}})
	guest, in, by := listen(t, ns, "gx"), make(map[string]*listener), make(map[string]*listener)
	for _, m := range []string{"m0", "m1"} {
		in[m], by[m] = listen(t, ns, m+"x"), listen(t, ns, m)
	}
	tagged := func(frame []byte, vlan int) []byte {
		if vlan != 0 {
			return withTag(frame, vlan)
		}
		return frame
	}
	for i, tt := range []struct {
		leaves string // by which a frame of his leaves before
		vlan   int
		hears  map[string]bool // by VLAN and member
	}{
		{"", 0, map[string]bool{"0 m0": true, "0 m1": true, "10 m0": true, "10 m1": true}},
		{"m0", 0, map[string]bool{"0 m0": true, "0 m1": false, "10 m0": true, "10 m1": true}},
		{"m0", 0, map[string]bool{"0 m0": true, "0 m1": false, "10 m0": true, "10 m1": true}},
		{"m1", 10, map[string]bool{"0 m0": true, "0 m1": false, "10 m0": false, "10 m1": true}},
		{"m1", 0, map[string]bool{"0 m0": false, "0 m1": true, "10 m0": false, "10 m1": true}},
		{"m0", 10 | 3<<13, map[string]bool{"0 m0": false, "0 m1": true, "10 m0": true, "10 m1": false}},
	} {
		for range 2 { // the kernel may miss one while it makes more room
			if tt.leaves != "" {
				by[tt.leaves].send(t, tagged(ethernet(macOf(40), macOf(1), 0x88b5, make([]byte, 46)), tt.vlan))
			}
		}
		for _, vlan := range []int{0, 10} {
			for _, m := range []string{"m0", "m1"} {
				mark := fmt.Appendf(nil, "%d: in %d by %s%s", i, vlan, m, strings.Repeat(".", 46))
				in[m].send(t, tagged(ethernet(macOf(1), macOf(20), 0x88b5, mark), vlan))
				fence(t, in["m0"], guest)
				want := tt.hears[fmt.Sprint(vlan, " ", m)]
				if got := guest.heard(func(f []byte) bool { return bytes.Contains(f, mark) }); got != want {
					t.Errorf("%s: heard %t", mark, got)
				}
			}
		}
	}
	for mac, own := range map[byte]bool{2: false, 3: true} { // who is not the host's own is heard by every member
		for _, vlan := range []int{0, 10} {
			for range 2 {
				by["m0"].send(t, tagged(ethernet(macOf(40), macOf(mac), 0x88b5, make([]byte, 46)), vlan))
			}
			mark := fmt.Appendf(nil, "to %d in %d by m1%s", mac, vlan, strings.Repeat(".", 46))
			in["m1"].send(t, tagged(ethernet(macOf(mac), macOf(20), 0x88b5, mark), vlan))
			fence(t, in["m0"], guest)
			if got := guest.heard(func(f []byte) bool { return bytes.Contains(f, mark) }); got == own {
				t.Errorf("%s: heard %t", mark, got)
			}
		}
	}
}

// Reports leave by the designated member from the team's own address; all else goes where
// it would.
func TestReportsAreSteered(t *testing.T) {
	ns := spreadNetdevs(t)
	sh(t, ns, "ip link add uplink type veth peer name uplinkx\nip link set uplink up\nip link set uplinkx up")
	s := plan.Spread{Team: "uplink", Members: []string{"m0", "m1"}, Source: macOf(7)}
	out, plain := listen(t, ns, "m1x"), listen(t, ns, "uplinkx")
	guest := listen(t, ns, "uplink")
	for _, tt := range []struct {
		name  string
		frame []byte
		steer bool
	}{
		{"IGMP", igmpQuery(macOf(1)), true},
		{"MLD", mldQuery(macOf(1)), true},
		{"MLD in a VLAN", withTag(mldQuery(macOf(1)), 10), true},
		{"RARP", rarp(macOf(1)), false},
	} {
		applyAt(t, ns, plan.MakeSpread{Spread: s.With("m0")}, plan.SetDesignated{Spread: s.With("m1")})
		guest.send(t, tt.frame)
		at, from := plain, vswitch.MAC(macOf(1))
		if tt.steer {
			at, from = out, macOf(7)
		}
		at.await(t, tt.name, func(f []byte) bool {
			return vswitch.MAC(f[6:12]) == from && bytes.Equal(f[:6], tt.frame[:6]) && bytes.HasSuffix(f, tt.frame[20:])
		})
	}
}

func TestQueries(t *testing.T) {
	ns := spreadNetdevs(t)
	heard := listen(t, ns, "gx")
	vlans := vswitch.VLANs(20)
	applyAt(t, ns, plan.QueryGroups{Source: macOf(7), Queries: []plan.Query{{Netdev: "gone"}, {Netdev: "g", VLANs: vlans}}})
	for name, want := range map[string][]byte{
		"IGMP": igmpQuery(macOf(7)), "IGMP in the VLAN": igmpQuery(macOf(7)), "MLD": mldQuery(macOf(7)),
	} {
		heard.await(t, name, func(f []byte) bool { return bytes.Equal(f, want) })
	}
	if n := len(slices.DeleteFunc(heard.frames, func(f []byte) bool { return !bytes.Equal(f, igmpQuery(macOf(7))) })); n != 2 {
		heard.await(t, "the query with a tag", func(f []byte) bool { return bytes.Equal(f, igmpQuery(macOf(7))) })
	}
}
