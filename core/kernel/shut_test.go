package kernel

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TestStrangersAreShut: a netdev that somebody has put into a bridge of ours, as libvirt does
// with a tap, neither hears anybody nor is heard until it is a port of ours.
func TestStrangersAreShut(t *testing.T) {
	withAndWithout(t, func(t *testing.T, rules bool) {
		l := newLab(t, 4, vswitch.Group(1))
		sh(t, l.host, "ip link set p3 group 0; ip link set p4 group 0")
		if rules {
			apply(t, l.host, plan.SetRules{Add: plan.Rules{Base: true}})
		}
		g1, g2, stranger := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0"), listen(t, l.guests[2], "eth0")
		second := listen(t, l.guests[3], "eth0")
		unknown := macOf(9) // an address that the bridge would learn
		stranger.send(t, ethernet(macOf(1), macOf(3), 0x88b5, []byte("unicast of a stranger")))
		stranger.send(t, ethernet(broadcastMAC, unknown, 0x88b5, []byte("broadcast of a stranger")))
		g2.send(t, ethernet(macOf(3), macOf(2), 0x88b5, []byte("unicast to a stranger")))
		g2.send(t, ethernet(broadcastMAC, macOf(2), 0x88b5, []byte("broadcast of a guest")))
		g1.await(t, "a guest's broadcast", containing("broadcast of a guest"))
		fence(t, g2, g1)
		verdict(t, "unicast of a stranger", rules, g1, containing("unicast of a stranger"))
		verdict(t, "broadcast of a stranger", rules, g1, containing("broadcast of a stranger"))
		verdict(t, "unicast to a stranger", rules, stranger, containing("unicast to a stranger"))
		verdict(t, "broadcast to a stranger", rules, stranger, containing("broadcast of a guest"))
		// By now the kernel knows of both that they are beside ports.
		stranger.send(t, ethernet(macOf(4), macOf(3), 0x88b5, []byte("unicast between strangers")))
		second.send(t, ethernet(broadcastMAC, macOf(4), 0x88b5, []byte("broadcast between strangers")))
		verdict(t, "unicast between strangers", rules, second, containing("unicast between strangers"))
		verdict(t, "broadcast between strangers", rules, stranger, containing("broadcast between strangers"))
		if !rules {
			return
		}
		p := plan.Port{Name: "p3", Bridge: "pb-lab", Group: vswitch.Group(1), MTU: 1500, Up: true, FDB: []vswitch.MAC{vswitch.MAC(macOf(3))}}
		within(t, l.host, func() error { return NewLinux().Apply(context.Background(), []plan.Step{plan.SetPort{Port: p}}) })
		stranger.send(t, ethernet(broadcastMAC, macOf(3), 0x88b5, []byte("broadcast of a port")))
		g1.await(t, "broadcast of who is a port now", containing("broadcast of a port"))
		if learnt := sh(t, l.host, "bridge fdb show brport p3 dynamic"); learnt != "" {
			t.Errorf("what it said before is known still: %s", learnt)
		}
	})
}

// BenchmarkStrangersAreShut measures what a frame between two guests pays for the rules that
// shut strangers out: with the table as it is, without those rules, and without any table. The
// labs take turns, a thousand frames each.
//
//	go test ./core/kernel -run '^$' -bench StrangersAreShut -benchtime 200x
func BenchmarkStrangersAreShut(b *testing.B) {
	type contender struct {
		name string
		from *listener
		took time.Duration
	}
	var all []*contender
	open := bridgeTable()
	at := slices.IndexFunc(open.chains, func(c ruleChain) bool { return c.name == "forward" })
	open.chains[at].rules = func() [][]expression {
		rules := forwardRules()
		return slices.Concat(rules[:1], rules[6:])
	}
	for _, c := range []struct {
		name  string
		table *ruleTable
	}{{"none", nil}, {"open", &open}, {"shut", new(ruleTable)}} {
		l := newLab(b, 2, vswitch.Group(1))
		if c.name == "shut" {
			*c.table = bridgeTable()
		}
		if c.table != nil {
			within(b, l.host, func() error { return tryTable(*c.table) })
		}
		all = append(all, &contender{name: c.name, from: listenFor(b, l.guests[0], "eth0", 0)})
	}
	frame := ethernet(macOf(2), macOf(1), unix.ETH_P_IP, make([]byte, 64))
	const burst = 1000
	for b.Loop() {
		for _, c := range all {
			start := time.Now()
			for range burst {
				c.from.send(b, frame)
			}
			c.took += time.Since(start)
		}
	}
	b.ReportMetric(0, "ns/op")
	for _, c := range all {
		b.ReportMetric(float64(c.took.Nanoseconds())/float64(b.N*burst), fmt.Sprintf("%s-ns/frame", c.name))
	}
}
