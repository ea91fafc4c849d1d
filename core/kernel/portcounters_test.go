package kernel

import (
	"context"
	"os"
	"testing"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func portCounters(t *testing.T, ns *os.File) (all map[string]PortCounters) {
	t.Helper()
	within(t, ns, func() (err error) {
		l := NewLinux()
		defer func() { _ = l.Close() }()
		all, err = l.PortCounters(context.Background())
		return err
	})
	return all
}

func TestPortCounters(t *testing.T) {
	l := newLab(t, 2, vswitch.Group(1))
	g1, g2 := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
	before := portCounters(t, l.host)
	frame := ethernet(macOf(2), macOf(1), 0x88b5, make([]byte, 86))
	const sent = 7
	for range sent {
		g1.send(t, frame)
	}
	fence(t, g1, g2)
	after := portCounters(t, l.host)
	grown := func(netdev string) (rx, tx, rxBytes, txBytes uint64) {
		a, b := after[netdev], before[netdev]
		return a.RxPackets - b.RxPackets, a.TxPackets - b.TxPackets, a.RxBytes - b.RxBytes, a.TxBytes - b.TxBytes
	}
	// The fence adds a frame each way, and IPv6 may add its own.
	if rx, _, bytes, _ := grown("p1"); rx < sent || bytes < sent*uint64(len(frame)) || rx > 3*sent {
		t.Errorf("the sender's port has received %d packets, %d bytes", rx, bytes)
	}
	if _, tx, _, bytes := grown("p2"); tx < sent || bytes < sent*uint64(len(frame)) || tx > 3*sent {
		t.Errorf("the receiver's port has sent %d packets, %d bytes", tx, bytes)
	}
}

// What a guard has counted outlives a change of another one.
func TestGuardDropsOutliveOtherGuards(t *testing.T) {
	ns := newNS(t)
	drops := func() GuardDrops { return portCounters(t, ns)["lo"].Guards }
	change := func(from, to plan.Guards) {
		t.Helper()
		apply(t, ns, plan.SetRules{Remove: plan.Rules{Guards: map[string]plan.Guards{"lo": from}}, Add: plan.Rules{Guards: map[string]plan.Guards{"lo": to}}})
	}
	one := plan.Guards{DHCP: true, Router: true, Storm: 5}
	apply(t, ns, guarding(map[string]plan.Guards{"lo": one}))
	sh(t, ns, `nft 'delete element bridge patchbay_guards dhcp { lo }; add element bridge patchbay_guards dhcp { lo counter packets 9 bytes 900 }
		delete element bridge patchbay_guards router { lo }; add element bridge patchbay_guards router { lo counter packets 4 bytes 900 }'`)
	if got := drops(); got != (GuardDrops{DHCP: 9, Router: 4}) {
		t.Fatalf("got %+v", got)
	}
	next := plan.Guards{DHCP: true, Storm: 6}
	change(one, next)
	if got := drops(); got != (GuardDrops{DHCP: 9}) {
		t.Errorf("after a change: %+v", got)
	}
	fake := NewFake(FakeConfig{Netdevs: []Netdev{{Name: "lo"}}, Capabilities: Capabilities{GuardRules: true, Mirroring: true}})
	fakeStep := func(s plan.Step) {
		t.Helper()
		if err := fake.Apply(t.Context(), []plan.Step{s}); err != nil {
			t.Fatal(err)
		}
	}
	fakeStep(guarding(map[string]plan.Guards{"lo": one}))
	fake.SetCounters("lo", PortCounters{Guards: GuardDrops{DHCP: 9, Router: 4, Storm: 3}})
	fakeStep(plan.SetRules{Remove: plan.Rules{Guards: map[string]plan.Guards{"lo": one}}, Add: plan.Rules{Guards: map[string]plan.Guards{"lo": next}}})
	if got, err := fake.PortCounters(t.Context()); err != nil || got["lo"].Guards != (GuardDrops{DHCP: 9}) {
		t.Errorf("the fake's after a change: %+v, %v", got, err)
	}
}
