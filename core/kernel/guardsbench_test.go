package kernel

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// BenchmarkGuards measures what a frame pays for guards on its way from one guest to
// another: where no port of the host has any, where its own port has none, where it has
// all, and where a thousand others have all too. The labs take turns, a thousand frames
// each.
//
//	go test ./core/kernel -run '^$' -bench Guards -benchtime 200x
func BenchmarkGuards(b *testing.B) {
	crowd := make(map[string]plan.Guards)
	for i := range 1000 {
		g := allGuards()
		g.Bound = plan.BindAddresses(macOf(1), netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}))
		crowd[fmt.Sprintf("x%d", i)] = g
	}
	with := func(dev string) map[string]plan.Guards {
		all := map[string]plan.Guards{dev: allGuards()}
		for name, g := range crowd {
			all[name] = g
		}
		return all
	}
	frames := map[string][]byte{
		"TCP over IPv4": packet4(unix.IPPROTO_TCP, netip.MustParseAddr("10.1.0.1"), make([]byte, 64)),
		"TCP over IPv6": packet6(netip.MustParseAddr("fd01::1"), netip.MustParseAddr("fd01::2"), unix.IPPROTO_TCP, make([]byte, 64)),
		"ARP":           ethernet(macOf(2), macOf(1), unix.ETH_P_ARP, arpMessage(2, macOf(1), netip.MustParseAddr("10.1.0.1"))),
	}
	var all []*contender
	for _, c := range []struct {
		name   string
		guards map[string]plan.Guards
	}{{"none", nil}, {"others", with("x")}, {"one", map[string]plan.Guards{"p1": allGuards()}}, {"all", with("p1")}} {
		l := newLab(b, 2, vswitch.Group(1))
		if c.guards != nil {
			netfilterWithin(b, l.host, func(conn *rtnl) error { return applyRules(conn, guarding(c.guards)) })
		}
		all = append(all, &contender{name: c.name, from: listenFor(b, l.guests[0], "eth0", 0)})
	}
	for kind, frame := range frames {
		copy(frame, slices.Concat(macSlice(2), macSlice(1))) // to one receiver
		b.Run(kind, func(b *testing.B) { takeTurns(b, all, frame) })
	}
}

// contender is a guest who sends.
type contender struct {
	name string
	from *listener
	took time.Duration
}

// takeTurns measures what a frame costs whom, a thousand of each in turn.
func takeTurns(b *testing.B, all []*contender, frame []byte) {
	const burst = 1000
	for _, c := range all {
		c.took = 0
	}
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
		b.ReportMetric(float64(c.took.Nanoseconds())/float64(b.N*burst), c.name+"-ns/frame")
	}
}

func macSlice(n byte) []byte { m := macOf(n); return m[:] }
