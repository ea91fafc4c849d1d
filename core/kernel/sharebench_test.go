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

// manyShares has so many ports share the far end of a pair by weight, macOf(1) among them.
func manyShares(ports int) plan.Sharing {
	s := plan.Sharing{Default: 1, Ports: make(map[vswitch.MAC]uint64)}
	for i := range ports {
		mac := vswitch.MAC(macOf(byte(i + 1)))
		mac[4] = byte(i >> 8)
		s.Ports[mac] = 50
	}
	return s
}

// sharedPair is a host whose bridge has a guest and, for an uplink, one end of a pair.
func sharedPair(b *testing.B) (*lab, Kernel) {
	l := newLab(b, 1, 0)
	sh(b, l.host, `ip link add up0 numtxqueues 1 numrxqueues 1 master pb-lab type veth peer name far
		ip link set up0 up; ip link set far up
		bridge fdb add 02:00:00:00:01:00 dev up0 master static`)
	return l, elsewhere{NewLinux(), l.host}
}

func reachShares(b *testing.B, k Kernel, want plan.Sharing) {
	desired := plan.State{Shares: map[string]plan.Sharing{"up0": want}}
	seen, err := k.Observe(context.Background(), desired)
	if err == nil {
		err = k.Apply(context.Background(), plan.Diff(desired, seen))
	}
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkSharesOfAnother measures what one port more costs that has a minimum: each
// other's part changes.
//
//	go test ./core/kernel -run '^$' -bench SharesOfAnother -benchtime 20x
func BenchmarkSharesOfAnother(b *testing.B) {
	for _, ports := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(ports), func(b *testing.B) {
			_, k := sharedPair(b)
			reachShares(b, k, manyShares(ports))
			for i := range b.N {
				reachShares(b, k, manyShares(ports+1-i%2))
			}
		})
	}
}

// BenchmarkSharedFrames measures what a frame pays on its way from a guest to an uplink: that
// is not shared, by one port, and by a thousand. The labs take turns, a thousand frames each.
//
//	go test ./core/kernel -run '^$' -bench SharedFrames -benchtime 200x
func BenchmarkSharedFrames(b *testing.B) {
	const burst = 1000
	type contender struct {
		name string
		from *listener
		took []time.Duration
	}
	var all []*contender
	for _, ports := range []int{0, 1, 1000} {
		l, k := sharedPair(b)
		reachShares(b, k, manyShares(ports))
		all = append(all, &contender{name: fmt.Sprint(ports), from: listenFor(b, l.guests[0], "eth0", 0)})
	}
	frame := ethernet([6]byte{2, 0, 0, 0, 1, 0}, macOf(1), 0x88b5, make([]byte, 50))
	for range b.N {
		for _, c := range all {
			began := time.Now()
			for range burst {
				if _, err := unix.Write(c.from.fd, frame); err != nil {
					b.Fatal(err)
				}
			}
			c.took = append(c.took, time.Since(began))
		}
	}
	b.ReportMetric(0, "ns/op")
	for _, c := range all {
		b.ReportMetric(median(c.took).Seconds()*1e9/burst, "ns/frame-"+c.name)
	}
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
