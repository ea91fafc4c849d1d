package integration_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// The same switch for the plugin.
const segList = `{"cniVersion":"1.1.0","name":"net1","plugins":[{"type":"patchbay","switch":"seg",
	"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.0.0.0/16"}],[{"subnet":"fd00::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}]}`

// TestFiveThousandPorts puts 5000 containers, each with a namespace of its own, on one
// switch. The first and the last reach each other, the host and the outside; an ADD by
// the plugin stays as quick as it was; and the switch goes with thousands of
// ports in seconds.
func TestFiveThousandPorts(t *testing.T) {
	const many = 5000
	if testing.Short() {
		t.Skip("takes a minute")
	}
	guest.Needs(t, guest.Bridged)
	h := newHost(t)
	_, err := h.Patchbay("mac", "pool", "set", "--first", "0a:77:00:00:00:00", "--last", "0a:77:00:00:ff:ff")
	ok(t, err)
	outside := outsideOf(h)
	h.filtersBridged()
	defer h.run(h.Netns, "nft", "delete table inet tracks")
	e := engineOn(h, vswitch.SegmentSizes{})
	ok(t, h.Do(func() error {
		_, err := e.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: internalSeg()})
		return err
	}))
	n := h.network(segList)
	subnets := []string{"10.0.0.0/16", "fd00::/64"}
	first := attachTo(h, site{e, "seg", subnets}, "first", false)

	start := time.Now()
	before := available(t)
	adds := map[int]float64{0: h.timedAdds(n, 0)}
	all := h.crowd(e, 0, 999)
	adds[1000] = h.timedAdds(n, 1000)
	middle := attachTo(h, site{e, "seg", subnets}, "middle", false)
	all = append(all, h.crowd(e, len(all), many-2)...)
	adds[many] = h.timedAdds(n, many)
	last := attachTo(h, site{e, "seg", subnets}, "last", false)
	t.Logf("%d ports after %.0f s; %.2f MB for each container (other work on the machine counts too)",
		many, time.Since(start).Seconds(), float64(before-available(t))/many/1e6)
	t.Logf("ADD by the plugin, p50: %.1f ms with no port, %.1f (x %.2f) with 1000, %.1f (x %.2f) with %d",
		adds[0], adds[1000], adds[1000]/adds[0], adds[many], adds[many]/adds[0], many)
	if last.port.Segment < 19 {
		t.Errorf("the last port is on segment %d", last.port.Segment)
	}

	talk(t, h, first, last)
	talk(t, h, middle, last)
	reaches(t, first.Netns, linkLocal(h, last)+"%eth0")
	for _, g := range []attachedGuest{first, middle, last} {
		reaches(t, g.Netns, "10.0.0.1")
		reaches(t, g.Netns, "fd00::1")
		reaches(t, h.Netns, g.v4.String())
		reaches(t, h.Netns, g.v6.String())
		masqueraded(t, g, outside, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"))
	}
	out, err := h.Patchbay("status")
	ok(t, err)
	if strings.Contains(out, "DRIFT") {
		t.Errorf("status: %s", out)
	}

	start = time.Now()
	first.detach(h, e)
	middle.detach(h, e)
	last.detach(h, e)
	one := all[len(all)-1000:]
	h.workers(32, len(one), func(i int) error { return e.Detach(context.Background(), ownerOf(one[i])) })
	t.Logf("%d detached one by one, 32 at a time, in %.1f s", len(one), time.Since(start).Seconds())
	h.deletedAtOnce(len(all) - len(one))
}

// deletedAtOnce deletes the switch with all its ports.
func (h *testHost) deletedAtOnce(ports int) {
	h.t.Helper()
	var shown struct{ Ports, Segments int }
	ok(h.t, h.PatchbayJSON(&shown, "switch", "show", "seg"))
	// A container that was held up as it was made, on a busy machine, has a place among those
	// that came later, and holds a segment of theirs.
	highest := 0
	for _, p := range h.ports() {
		highest = max(highest, p.Segment)
	}
	if want := 1 + max((ports+249)/250, highest); shown.Ports != ports || shown.Segments > want {
		h.t.Errorf("the switch has not shrunk: %+v, and should have %d ports and at most %d segments; the highest with a port is %d", shown, ports, want, highest)
	}
	start := time.Now()
	_, err := h.Patchbay("switch", "delete", "seg", "--force")
	ok(h.t, err)
	took := time.Since(start)
	h.t.Logf("deleted with %d ports in %.1f s", ports, took.Seconds())
	if limit := 40 * time.Second; took > limit { // one by one it would be 16 ms for each
		h.t.Errorf("deleting %d ports took %s", ports, took)
	}
	for name := range strings.Lines(h.run(h.Netns, "ip", "-o", "link", "show")) {
		if strings.Contains(name, ": pb") {
			h.t.Fatalf("left: %s", name)
		}
	}
}

// crowd attaches containers until there are so many.
func (h *testHost) crowd(e *engine.Engine, have, want int) []*host.Container {
	h.t.Helper()
	start := time.Now()
	all := make([]*host.Container, want-have)
	var making, attaching atomic.Int64
	h.workers(4, len(all), func(i int) error {
		begin := time.Now()
		c, err := h.Container(fmt.Sprintf("c%d", have+i))
		if err != nil {
			return err
		}
		made := time.Now()
		all[i] = c
		_, err = e.Attach(context.Background(), engine.AttachRequest{
			Owner: ownerOf(c), Switch: "seg",
			Ranges: []vswitch.IPRangeSet{{{Subnet: netip.MustParsePrefix("10.0.0.0/16")}}, {{Subnet: netip.MustParsePrefix("fd00::/64")}}},
			Routes: []vswitch.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0")}, {Dst: netip.MustParsePrefix("::/0")}},
		})
		making.Add(int64(made.Sub(begin)))
		attaching.Add(int64(time.Since(made)))
		return err
	})
	each := func(total *atomic.Int64) float64 { return float64(total.Load()) / float64(len(all)) / 1e6 }
	h.t.Logf("%d containers more in %.1f s: each %.1f ms for its namespace and %.1f ms to be attached, 4 at a time",
		len(all), time.Since(start).Seconds(), each(&making), each(&attaching))
	return all
}

// timedAdds is the median time of an ADD by the plugin, in ms.
func (h *testHost) timedAdds(n *host.Network, level int) float64 {
	h.t.Helper()
	var ms []float64
	for i := range 31 {
		c := h.container(fmt.Sprintf("timed-%d-%d", level, i))
		start := time.Now()
		_, err := n.Add(c)
		ms = append(ms, float64(time.Since(start))/float64(time.Millisecond))
		ok(h.t, err)
		ok(h.t, n.Del(c))
		ok(h.t, c.Close())
	}
	slices.Sort(ms)
	return ms[len(ms)/2]
}

// linkLocal is the address that a guest has made itself, known to nobody else.
func linkLocal(h *testHost, g attachedGuest) string {
	h.t.Helper()
	fields := strings.Fields(h.run(g.Netns, "ip", "-o", "-6", "addr", "show", "dev", "eth0", "scope", "link"))
	for i, f := range fields {
		if f == "inet6" {
			return strings.TrimSuffix(fields[i+1], "/64")
		}
	}
	h.t.Fatalf("no link-local address: %v", fields)
	return ""
}

// available is the machine's free memory, in bytes.
func available(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/meminfo")
	ok(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, "MemAvailable:"); found {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			ok(t, err)
			return kb << 10
		}
	}
	t.Fatal("no MemAvailable in /proc/meminfo")
	return 0
}
