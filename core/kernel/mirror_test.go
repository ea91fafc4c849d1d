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

const mirrorBridge = "pb-lab"

func mirrorsSeen(t *testing.T, k Kernel, scope plan.Mirrors) plan.Mirrors {
	t.Helper()
	seen, err := k.Observe(context.Background(), plan.State{Mirrors: map[string]plan.Mirrors{mirrorBridge: scope}})
	if err != nil {
		t.Fatal(err)
	}
	return seen.Mirrors[mirrorBridge]
}

func reachMirrors(t *testing.T, k Kernel, want plan.Mirrors) {
	t.Helper()
	desired := plan.State{Mirrors: map[string]plan.Mirrors{mirrorBridge: want}}
	observed, err := k.Observe(context.Background(), desired)
	if err == nil {
		err = k.Apply(context.Background(), plan.Diff(desired, observed))
	}
	if err != nil {
		t.Fatalf("%v; observed %+v", err, observed)
	}
}

// elsewhere is Linux in another namespace.
type elsewhere struct {
	Kernel
	ns *os.File
}

func (e elsewhere) Observe(ctx context.Context, scope plan.State) (seen plan.State, err error) {
	err = inNetns(e.ns, func() error {
		l := NewLinux()
		seen, err = l.Observe(ctx, scope)
		return errors.Join(err, l.Close())
	})
	return seen, err
}

func (e elsewhere) Apply(ctx context.Context, steps []plan.Step) error {
	return inNetns(e.ns, func() error {
		l := NewLinux()
		return errors.Join(l.Apply(ctx, steps), l.Close())
	})
}

// onBoth runs a test with Linux, in a namespace of its own, and with the Fake; change does
// to either what a stranger may.
func onBoth(t *testing.T, run func(t *testing.T, k Kernel, change func(command string))) {
	t.Run("linux", func(t *testing.T) {
		ns := newNS(t)
		sh(t, ns, "for i in 1 2 3 4; do ip link add p$i type veth peer name q$i; ip link set p$i up; done")
		run(t, elsewhere{ns: ns}, func(command string) { sh(t, ns, "ip link "+command) })
		if left := sh(t, ns, "nft list tables; tc qdisc show | grep clsact || true"); left != "" {
			t.Errorf("left behind: %s", left)
		}
	})
	t.Run("fake", func(t *testing.T) {
		f := NewFake(FakeConfig{Capabilities: Capabilities{Mirroring: true}})
		add := func(name string) { f.AddNetdev(Netdev{Name: name, Kind: "veth", MTU: 1500, Ethernet: true, Up: true}) }
		for i := range 4 {
			add(fmt.Sprint("p", i+1))
		}
		run(t, f, func(command string) {
			var name string
			if n, _ := fmt.Sscanf(command, "delete %s", &name); n == 1 {
				f.RemoveNetdev(name)
			} else if n, _ := fmt.Sscanf(command, "add %s", &name); n == 1 {
				add(name)
			}
		})
		if len(f.mirrors) > 0 {
			t.Errorf("left behind: %v", f)
		}
	})
}

// What is observed and what steps do is the same on Linux and in the Fake.
func TestMirrorsComeAndGo(t *testing.T) {
	onBoth(t, func(t *testing.T, k Kernel, change func(string)) {
		expect := func(what string, scope, want plan.Mirrors) {
			t.Helper()
			if diff := cmp.Diff(want, mirrorsSeen(t, k, scope)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		both := plan.Mirrors{"p1": {Destinations: []string{"p3", "p4"}}, "p2": {Destinations: []string{"p3", "p4"}}}
		expect("nothing", both, nil)
		reachMirrors(t, k, both)
		expect("both", both, both)
		one := plan.Mirrors{"p1": {Destinations: []string{"p3"}}}
		expect("otherwise than wanted", one, plan.Mirrors{"p1": {Altered: true}, "p2": {Altered: true}})
		expect("of another switch", nil, plan.Mirrors{"p1": {Altered: true}, "p2": {Altered: true}})
		reachMirrors(t, k, one)
		expect("one", one, one)
		reachMirrors(t, k, both)

		change("delete p4")
		expect("a destination that is gone is not missed", both, both)
		change("add p4 type veth peer name q4")
		altered := plan.Mirrors{"p1": {Altered: true}, "p2": {Altered: true}}
		expect("another destination of its name is", both, altered)
		reachMirrors(t, k, both)
		expect("made again", both, both)

		change("delete p1")
		expect("a source that is gone", both, plan.Mirrors{"p1": {Absent: true, Altered: true}, "p2": both["p2"]})
		reachMirrors(t, k, both) // nothing to do
		if err := k.Apply(t.Context(), []plan.Step{plan.MakeMirror{Bridge: mirrorBridge, Netdev: "p1", Destinations: []string{"p3"}}}); err != nil {
			t.Errorf("a mirror of nothing: %v", err)
		}
		reachMirrors(t, k, nil)
		expect("none is left", nil, nil)
		expect("of what is not there", plan.Mirrors{"p1": one["p1"]}, plan.Mirrors{"p1": {Absent: true}})
		for range 2 {
			if err := k.Apply(t.Context(), []plan.Step{plan.DeleteMirror{Bridge: mirrorBridge, Netdev: "p2"}}); err != nil {
				t.Errorf("what is not there goes: %v", err)
			}
		}
	})
}

func TestMirrorIsRepaired(t *testing.T) {
	ns := newNS(t)
	sh(t, ns, "for i in 1 2 3; do ip link add p$i type veth peer name q$i; ip link set p$i up; done")
	l := elsewhere{ns: ns}
	want := plan.Mirrors{"p1": {Destinations: []string{"p2", "p3"}}}
	reachMirrors(t, l, want)
	for _, harm := range []string{
		"nft flush ruleset", "nft 'delete table bridge " + plan.MirrorTable(mirrorBridge, "p1") + "'", "tc qdisc del dev p1 clsact",
		"tc filter del dev p1 ingress pref 49151", "tc filter del dev p1 egress pref 49150",
		"tc filter add dev p1 ingress pref 49151 u32 match u32 0 0 action mirred egress mirror dev lo continue",
		"tc filter del dev p1 egress pref 49150; tc filter add dev p1 egress pref 49150 u32 match u32 0 0 action mirred egress redirect dev p2",
	} {
		sh(t, ns, harm)
		if seen := mirrorsSeen(t, l, want); cmp.Equal(seen, want) {
			t.Errorf("%s is not seen: %+v", harm, seen)
		}
		reachMirrors(t, l, want)
		if seen := mirrorsSeen(t, l, want); !cmp.Equal(seen, want) {
			t.Errorf("%s is not repaired: %+v", harm, seen)
		}
	}
	words := plan.MakeMirror{Bridge: mirrorBridge, Netdev: "p1", Destinations: []string{"p2", "p3"}}.String()
	sh(t, ns, "nft flush ruleset; tc qdisc del dev p1 clsact\n"+words)
	if seen := mirrorsSeen(t, l, want); !cmp.Equal(seen, want) {
		t.Errorf("what it says it does is not what it does: %+v", seen)
	}
	sh(t, ns, "tc filter add dev p1 egress pref 7 u32 match u32 0 0 classid :1") // of somebody else
	reachMirrors(t, l, nil)
	if got := sh(t, ns, "tc filter show dev p1 ingress; tc filter show dev p1 egress; nft list tables"); !strings.Contains(got, "pref 7") || strings.Contains(got, "pref 4915") || strings.Contains(got, "table") {
		t.Errorf("left: %s", got)
	}
}

// Every frame that sources send and receive comes to every destination once, whole and in
// order, whatever the bridge thinks of the destination; nobody else gets any, and none
// comes back.
func TestMirrorCopies(t *testing.T) { testMirrorCopies(t, "") }

// So do those of a source whose owner's frames are held back by a limit, each before that,
// and those that a port with a limit sends to a source.
func TestMirrorCopiesWhatIsHeldBack(t *testing.T) {
	for _, limited := range []string{"p1", "p2"} {
		t.Run(limited, func(t *testing.T) { testMirrorCopies(t, limited) })
	}
}

func testMirrorCopies(t *testing.T, limited string) {
	l := newLab(t, 5, vswitch.Group(1))
	// 1 is a source, 3 and 4 get copies; 4 is on a bridge of its own, and may send nothing.
	sh(t, l.host, `ip link add pb-far type bridge stp_state 0 forward_delay 0 mcast_snooping 0
		ip link set pb-far up
		ip link set p4 master pb-far
		for p in p3 p4; do ip link set $p type bridge_slave learning off flood off mcast_flood off bcast_flood off; done
		for n in 1 2 5; do bridge fdb add 02:00:00:00:00:0$n dev p$n master static; done
		bridge link set dev p3 isolated on`)
	if limited != "" {
		step := plan.SetLimits{Port: limited, Limits: plan.Limits{Via: "pq-lab", Alias: "patchbay:limit switch=lab"}, Group: vswitch.Group(1)}
		step.Limits.From = plan.ShapeOf(vswitch.Limit{Max: 1e9}, vswitch.DefaultMTU)
		if err := (elsewhere{ns: l.host}).Apply(t.Context(), []plan.Step{step}); err != nil {
			t.Fatal(err)
		}
	}
	reachMirrors(t, elsewhere{ns: l.host}, plan.Mirrors{"p1": {Destinations: []string{"p3", "p4"}}})
	var guests []*listener
	for _, g := range l.guests {
		guests = append(guests, listen(t, g, "eth0"))
	}
	one, other := guests[0], guests[1]
	fence(t, one, other)
	before := copiesOf(t, l, "p1").Copies
	var want [][]byte
	pass := func(from, to *listener, f []byte) {
		t.Helper()
		from.send(t, f)
		to.await(t, "a frame", func(b []byte) bool { return bytes.Equal(withoutTag(b), withoutTag(f)) })
		want = append(want, f)
	}
	for i := range 20 {
		pass(one, other, ethernet(macOf(2), macOf(1), 0x88b5, fmt.Appendf(nil, "copied, sent %d", i)))
		pass(other, one, ethernet(macOf(1), macOf(2), 0x88b5, fmt.Appendf(nil, "copied, received %d", i)))
	}
	pass(one, other, ethernet(broadcastMAC, macOf(1), 0x88b5, []byte("copied, to all")))
	pass(one, other, ethernet(macOf(2), macOf(1), 0x88b5, append([]byte("copied, long"), make([]byte, 1400)...)))
	pass(one, other, slices.Insert(ethernet(macOf(2), macOf(1), 0x88b5, []byte("copied, tagged")), 12, 0x81, 0, 0x60, 0x2a))
	other.send(t, ethernet(macOf(5), macOf(2), 0x88b5, []byte("copied by nobody")))
	pass(one, other, ethernet(macOf(2), macOf(1), 0x88b5, []byte("copied, the last")))
	for n, g := range map[string]*listener{"p3": guests[2], "p4": guests[3]} {
		g.await(t, "the last copy", containing("copied, the last"))
		var got [][]byte
		for _, f := range g.frames {
			if bytes.Contains(f, []byte("copied")) {
				got = append(got, withoutTag(f))
			}
		}
		if diff := cmp.Diff(tagless(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", n, diff)
		}
	}
	if n := copiesOf(t, l, "p1").Copies - before; n != 2*uint64(len(want)) {
		t.Errorf("%d copies are counted of %d frames for two", n, len(want))
	}
	if guests[4].heard(containing("copied, sent")) {
		t.Error("a port that is no destination gets copies")
	}
	// What a destination sends is no business of the source's, and is copied to nobody.
	guests[2].send(t, ethernet(macOf(5), macOf(3), 0x88b5, []byte("of a destination")))
	fence(t, one, other)
	if guests[3].heard(containing("of a destination")) {
		t.Error("what a destination sends is copied")
	}
	sh(t, l.host, "ip link set p4 down")
	one.send(t, ethernet(macOf(2), macOf(1), 0x88b5, []byte("to one of two")))
	other.await(t, "what is copied to one", containing("to one of two"))
	if c := copiesOf(t, l, "p1"); c.Lost == 0 {
		t.Errorf("nothing is lost for a destination that is down: %+v", c)
	}
}

func copiesOf(t *testing.T, l *lab, netdev string) MirrorCounters {
	t.Helper()
	var all map[string]MirrorCounters
	within(t, l.host, func() (err error) {
		k := NewLinux()
		defer func() { _ = k.Close() }()
		all, err = k.MirrorCounters(t.Context(), netdev, "nowhere")
		return err
	})
	if len(all) != 1 {
		t.Fatalf("got %v", all)
	}
	return all[netdev]
}

func tagless(frames [][]byte) (all [][]byte) {
	for _, f := range frames {
		all = append(all, withoutTag(f))
	}
	return all
}

// withoutTag is a frame as a packet socket shows it without PACKET_AUXDATA.
func withoutTag(f []byte) []byte {
	if f[12] == 0x81 && f[13] == 0 {
		return slices.Concat(f[:12], f[16:])
	}
	return f
}

func TestMirrorNeedsTheKernel(t *testing.T) {
	f := NewFake(FakeConfig{Netdevs: []Netdev{{Name: "p1"}}})
	err := f.Apply(t.Context(), []plan.Step{plan.MakeMirror{Bridge: mirrorBridge, Netdev: "p1"}})
	if !errors.Is(err, vswitch.CapabilityMissing) {
		t.Errorf("got %v", err)
	}
}
