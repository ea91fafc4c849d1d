package steering

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/kernel/ethtool"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/conformance"
)

const nicID = "0000:3b:00.0"

// usual is a NIC with 8 queues and room for 64 rules, which are off.
func usual() ethtool.FakeNIC {
	return ethtool.FakeNIC{
		Adapter: ethtool.Adapter{Index: 3, Netdev: "eth0", Address: nicID, Link: true}, Driver: "ice",
		Queues: 8, Rules: ethtool.Rules{Slots: 64}, Table: make([]uint32, 16), Counted: map[int]uint64{},
	}
}

// unable is one whose driver has no rules.
func unable() ethtool.FakeNIC {
	return ethtool.FakeNIC{Adapter: ethtool.Adapter{Index: 9, Netdev: "eth9", Address: "0000:99:00.0", Port: "p1"}, Driver: "igb", Queues: 4, NTuple: ethtool.Switch{Fixed: true}}
}

// bench is a provider with NICs in memory.
type bench struct {
	*Provider
	t     *testing.T
	fake  *ethtool.Fake
	state string
}

func newBench(t *testing.T, nics ...ethtool.FakeNIC) *bench {
	t.Helper()
	b := &bench{t: t, fake: ethtool.NewFake(nics...), state: filepath.Join(t.TempDir(), "vmq.json")}
	b.start()
	return b
}

// start makes a provider that finds what the one before left.
func (b *bench) start() {
	b.t.Helper()
	b.Provider = newProvider("test", func() (hardware, error) { return b.fake, nil })
	if err := b.Configure(b.t.Context(), sdk.Config{keyState: b.state}); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = b.Close() }) // again, after some tests
}

// request is what port n wants.
func request(n int) sdk.Request {
	return sdk.Request{
		Ref: sdk.Ref{Port: fmt.Sprintf("p%d", n), Feature: vswitch.VMQ}, NIC: nicID, Generation: 1,
		MAC: vswitch.MAC{0x02, 0x50, 0x42, 0, 0, byte(n)}, Owner: vswitch.OwnerContainer,
	}
}

func (b *bench) ensure(r sdk.Request) sdk.Grant {
	b.t.Helper()
	g, err := b.Ensure(b.t.Context(), r)
	if err != nil {
		b.t.Fatalf("ensure %s: %v", r.Port, err)
	}
	return g
}

func (b *bench) release(n int) {
	b.t.Helper()
	r := request(n)
	if err := b.Release(b.t.Context(), r.Ref, 100); err != nil {
		b.t.Fatalf("release %s: %v", r.Port, err)
	}
}

// expect demands that the NIC is like this.
func (b *bench) expect(want ethtool.FakeNIC) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.fake.NIC("eth0"), cmpopts.IgnoreUnexported(ethtool.FakeNIC{}), cmpopts.EquateEmpty()); diff != "" {
		b.t.Error(diff)
	}
}

// grants are those that are listed, as "port queue".
func (b *bench) grants() []string {
	b.t.Helper()
	all, err := b.Grants(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	var words []string
	for _, g := range all {
		words = append(words, fmt.Sprint(g.Port, " ", g.Queue))
	}
	return words
}

func (b *bench) capability() vswitch.Capability {
	b.t.Helper()
	var c vswitch.Capability
	enough := errors.New("enough")
	if err := b.WatchInventory(b.t.Context(), func(i sdk.Inventory) error { c = i.NICs[0].Capabilities.VMQ; return enough }); !errors.Is(err, enough) {
		b.t.Fatal(err)
	}
	return c
}

func rule(n, queue int, location uint32) ethtool.Rule {
	return ethtool.Rule{Location: location, MAC: request(n).MAC, Plain: true, Queue: queue}
}

func TestConformance(t *testing.T) {
	crowded := usual()
	crowded.NTuple, crowded.Table = ethtool.Switch{On: true, Fixed: true}, nil
	crowded.Rules = ethtool.Rules{Slots: 6, Placed: true, All: []ethtool.Rule{{Location: 0, Queue: 2}, {Location: 4, Queue: ethtool.NoQueue}}}
	for name, n := range map[string]ethtool.FakeNIC{"rules are off": usual(), "crowded": crowded} {
		t.Run(name, func(t *testing.T) {
			fake := ethtool.NewFake(n, unable())
			config := []byte(fmt.Sprintf(`{%q: %q}`, keyState, filepath.Join(t.TempDir(), "vmq.json")))
			conformance.Test(t, conformance.InMemory(func() sdk.Provider {
				return newProvider("test", func() (hardware, error) { return fake, nil })
			}), conformance.Options{Config: config})
			b := bench{t: t, fake: fake}
			if n.Table != nil {
				n.Table = ownTable(len(n.Table), n.Queues)
			}
			b.expect(n)
		})
	}
}

// The same over the wire, with NICs that are new with every process: what a plugin finds
// after a driver was bound anew.
func TestConformanceOfProgram(t *testing.T) {
	conformance.Test(t, thisProgram(t), conformance.Options{Config: []byte(fmt.Sprintf(`{%q: %q}`, keyState, filepath.Join(t.TempDir(), "vmq.json")))})
}

// A port's frames go to its queue, everybody else's to the others, and in the end the NIC
// is as it was.
func TestQueuesOfPorts(t *testing.T) {
	b := newBench(t, usual())
	tagged := request(2)
	tagged.VLAN = 42
	if one, two := b.ensure(request(1)), b.ensure(tagged); one.Queue != 7 || two.Queue != 6 {
		t.Errorf("queues %d and %d", one.Queue, two.Queue)
	}
	want := usual()
	want.NTuple.On = true
	want.Table = []uint32{0, 1, 2, 3, 4, 5, 0, 1, 0, 1, 2, 3, 4, 5, 2, 3}
	two := rule(2, 6, 62)
	two.VLAN = 42
	want.Rules.All = []ethtool.Rule{rule(1, 7, 63), two}
	b.expect(want)
	if c := b.capability(); c != (vswitch.Capability{Capacity: 7}) {
		t.Errorf("capability %+v", c)
	}

	b.release(1)
	want.Table = []uint32{0, 1, 2, 3, 4, 5, 0, 7, 0, 1, 2, 3, 4, 5, 1, 7}
	want.Rules.All = want.Rules.All[1:]
	b.expect(want)

	b.release(2)
	want = usual()
	want.Table = ownTable(16, 8)
	b.expect(want)
	b.fake.Alter("eth0", func(n *ethtool.FakeNIC) { n.Queues = 4 })
	want.Queues, want.Table = 4, ownTable(16, 4) // the driver goes on to adapt what is its own
	b.expect(want)
}

// What an administrator had set is kept, used, and put back: before the first port and
// meanwhile.
func TestTablesOfOthers(t *testing.T) {
	b := newBench(t, usual())
	set := func(queue uint32, from int) []uint32 {
		table := b.fake.NIC("eth0").Table
		for i := from; i < len(table); i++ {
			table[i] = queue
		}
		if err := b.fake.SetIndirection("eth0", table); err != nil {
			t.Fatal(err)
		}
		return table
	}
	found := set(7, 0)
	b.ensure(request(1))
	if got := b.fake.NIC("eth0").Table; !cmp.Equal(got, make([]uint32, 16)) {
		t.Errorf("without the only queue there is queue 0: %v", got)
	}
	b.release(1)
	if got := b.fake.NIC("eth0").Table; !cmp.Equal(got, found) {
		t.Errorf("put back as %v", got)
	}
	b.ensure(request(1))
	meanwhile := set(3, 4)
	b.ensure(request(2))
	b.release(1)
	b.release(2)
	if got := b.fake.NIC("eth0").Table; !cmp.Equal(got, meanwhile) {
		t.Errorf("what was set meanwhile is put back as %v", got)
	}
}

// Rules of others stay, their queues are not shared, and what they take is told.
func TestRulesOfOthers(t *testing.T) {
	n := usual()
	n.NTuple.On = true
	n.Rules = ethtool.Rules{Slots: 4, All: []ethtool.Rule{rule(9, 7, 3), {Location: 1, Queue: ethtool.NoQueue}}}
	b := newBench(t, n)
	if c := b.capability(); c != (vswitch.Capability{Capacity: 4, Foreign: 2}) {
		t.Errorf("capability %+v", c)
	}
	if g := b.ensure(request(1)); g.Queue != 6 {
		t.Errorf("queue %d", g.Queue)
	}
	b.ensure(request(2))
	if c := b.capability(); c != (vswitch.Capability{Capacity: 4, Foreign: 2}) {
		t.Errorf("with grants capability %+v", c)
	}
	_, err := b.Ensure(t.Context(), request(3))
	if sdk.ReasonOf(err) != vswitch.NoFreeFilter {
		t.Errorf("a rule too many: %v", err)
	}
	b.release(1)
	if _, err = b.Ensure(t.Context(), request(9)); sdk.ReasonOf(err) != vswitch.Refused {
		t.Errorf("an address that has a rule: %v", err)
	}
	b.release(2)
	n.Table = ownTable(16, 8)
	b.expect(n)
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*ethtool.FakeNIC)
		want   vswitch.Reason
		then   vswitch.Reason // what the inventory says afterwards
	}{
		"no rules by address": {func(n *ethtool.FakeNIC) { n.Refuse = unix.EOPNOTSUPP }, vswitch.NoDriverSupport, vswitch.NoDriverSupport},
		"no room":             {func(n *ethtool.FakeNIC) { n.Refuse = unix.ENOSPC }, vswitch.NoFreeFilter, ""},
		"something else":      {func(n *ethtool.FakeNIC) { n.Refuse = unix.EINVAL }, vswitch.Refused, ""},
		"another rule":        {func(n *ethtool.FakeNIC) { n.Forgetful = true }, vswitch.Refused, ""},
		"one queue":           {func(n *ethtool.FakeNIC) { n.Queues = 1 }, vswitch.NoDriverSupport, vswitch.NoDriverSupport},
		"no rules at all":     {func(n *ethtool.FakeNIC) { n.Ruleless = true }, vswitch.NoDriverSupport, vswitch.NoDriverSupport},
		"nowhere for rules":   {func(n *ethtool.FakeNIC) { n.Rules.Slots = 0 }, vswitch.NoDriverSupport, vswitch.NoDriverSupport},
		"rules are off":       {func(n *ethtool.FakeNIC) { n.NTuple.Fixed = true }, vswitch.NoDriverSupport, vswitch.NoDriverSupport},
	} {
		t.Run(name, func(t *testing.T) {
			n := usual()
			c.change(&n)
			b := newBench(t, n)
			_, err := b.Ensure(t.Context(), request(1))
			if got := sdk.ReasonOf(err); got != c.want {
				t.Errorf("reason %q of %v", got, err)
			}
			if got := b.capability().Missing; got != c.then {
				t.Errorf("then %q is missing", got)
			}
			if grants := b.grants(); len(grants) > 0 {
				t.Errorf("granted: %v", grants)
			}
			n.Table = ownTable(16, n.Queues)
			b.expect(n)
		})
	}
}

// A driver whose rules cannot match a VLAN gets one that does without.
func TestRuleWithoutVLAN(t *testing.T) {
	n := usual()
	n.NoVLAN = true
	b := newBench(t, n)
	r := request(1)
	r.VLAN = 42
	b.ensure(r)
	if got := b.fake.NIC("eth0").Rules.All; !cmp.Equal(got, []ethtool.Rule{rule(1, 7, 63)}) {
		t.Errorf("rules %+v", got)
	}
	if got := b.ensure(r); got.Queue != 7 {
		t.Errorf("again: %+v", got)
	}
	_ = b.Close() // which only lets go of the file
	b.start()
	if got := b.grants(); !cmp.Equal(got, []string{"p1 7"}) {
		t.Errorf("after a restart: %v", got)
	}
}

// An address of the port's that changes is steered to the queue that the port has.
func TestAnotherAddress(t *testing.T) {
	b := newBench(t, usual())
	b.ensure(request(1))
	b.ensure(request(2))
	r := request(1)
	r.Generation, r.MAC = 2, vswitch.MAC{0x02, 0x50, 0x42, 0, 1, 1}
	if g := b.ensure(r); g.Queue != 7 || g.Generation != 2 {
		t.Errorf("granted %+v", g)
	}
	want := rule(1, 7, 63)
	want.MAC = r.MAC
	if got := b.fake.NIC("eth0").Rules.All; !cmp.Equal(got, []ethtool.Rule{rule(2, 6, 62), want}) {
		t.Errorf("rules %+v", got)
	}
}

// What a NIC is called does not depend on its netdev's name unless there is nothing else.
func TestNamesOfNICs(t *testing.T) {
	got := identify([]ethtool.Adapter{
		{Netdev: "eth0", Address: "0000:3b:00.0", Port: "p0"},
		{Netdev: "eth1", Address: "0000:3b:00.1", Port: "p1"},
		{Netdev: "eth2", Address: "0000:5e:00.0"},
		{Netdev: "eth3", Address: "0000:5e:00.0"},
		{Netdev: "eth4", Address: "0000:5e:00.0", Port: "p2"},
	})
	if diff := cmp.Diff([]string{"0000:3b:00.0", "0000:3b:00.1", "0000:5e:00.0/eth2", "0000:5e:00.0/eth3", "0000:5e:00.0/p2"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestCounters(t *testing.T) {
	n := usual()
	n.Counted[7] = 12
	b := newBench(t, n)
	b.ensure(request(1))
	got, err := b.Counters(t.Context(), request(1).Ref)
	if err != nil || got["rx_packets"] != 12 {
		t.Errorf("%v, %v", got, err)
	}
}

// What happens to a NIC by itself is told, and grants say what is true.
func TestEvents(t *testing.T) {
	for name, c := range map[string]struct {
		do     func(*ethtool.Fake)
		events []sdk.EventKind
		left   []string
	}{
		"a rule is deleted": {func(f *ethtool.Fake) {
			f.Alter("eth0", func(n *ethtool.FakeNIC) { n.Rules.All = n.Rules.All[1:] })
		}, []sdk.EventKind{sdk.GrantLost}, []string{"p2 6"}},
		"rules are turned off": {func(f *ethtool.Fake) {
			f.Alter("eth0", func(n *ethtool.FakeNIC) { n.NTuple.On, n.Rules.All = false, nil })
		}, []sdk.EventKind{sdk.GrantLost, sdk.GrantLost}, nil},
		"the driver is bound anew": {func(f *ethtool.Fake) {
			f.Alter("eth0", func(n *ethtool.FakeNIC) { n.Index, n.Rules.All, n.NTuple.On = 4, nil, false })
		}, []sdk.EventKind{sdk.NICReset, sdk.GrantLost, sdk.GrantLost}, nil},
		"the NIC goes": {func(f *ethtool.Fake) { f.Alter("eth0", nil) }, []sdk.EventKind{sdk.NICReset, sdk.GrantLost, sdk.GrantLost}, nil},
		"the link goes, and a queue comes": {func(f *ethtool.Fake) {
			f.Alter("eth0", func(n *ethtool.FakeNIC) { n.Link = false; n.Queues = 9 })
		}, nil, []string{"p1 7", "p2 6"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, usual())
			b.ensure(request(1))
			b.ensure(request(2))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			inventories := make(chan sdk.Inventory, 10)
			listening := b.events.add() // as WatchEvents does, before anything happens
			go func() {
				_ = b.WatchInventory(ctx, func(i sdk.Inventory) error { inventories <- i; return nil }) // until ctx ends
			}()
			<-inventories
			c.do(b.fake)
			if len(c.events) > 0 {
				<-listening.ready // which may stand for several
			}
			if c.events == nil {
				if i := <-inventories; i.NICs[0].Link {
					t.Errorf("the link is there: %+v", i)
				}
			}
			if got := b.grants(); !cmp.Equal(got, c.left) { // looks again, so that all is said by now
				t.Errorf("left: %v", got)
			}
			var kinds []sdk.EventKind
			for _, e := range b.events.pending(listening) {
				kinds = append(kinds, e.Kind)
			}
			if !cmp.Equal(kinds, c.events) {
				t.Errorf("events %v", kinds)
			}
		})
	}
}

// More queues than before are for everybody, except for those that ports hold.
func TestQueuesAreAdded(t *testing.T) {
	b := newBench(t, usual())
	b.ensure(request(1))
	b.fake.Alter("eth0", func(n *ethtool.FakeNIC) { n.Queues = 10 })
	if got := b.grants(); !cmp.Equal(got, []string{"p1 7"}) {
		t.Errorf("grants %v", got)
	}
	if got, want := b.fake.NIC("eth0").Table, []uint32{0, 1, 2, 3, 4, 5, 6, 0, 8, 9, 0, 1, 2, 3, 4, 5}; !cmp.Equal(got, want) {
		t.Errorf("table %v", got)
	}
}

// A driver whose reset loses the table gets it again.
func TestTableIsLost(t *testing.T) {
	b := newBench(t, usual())
	b.ensure(request(1))
	want := b.fake.NIC("eth0").Table
	b.fake.Alter("eth0", func(n *ethtool.FakeNIC) { n.Table = ownTable(16, 8) })
	b.ensure(request(1))
	if got := b.fake.NIC("eth0").Table; !cmp.Equal(got, want) {
		t.Errorf("table %v", got)
	}
}
