package integration_test

import (
	"fmt"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// saying is what libvirt says to a hook, after something that it has done.
type saying struct {
	driver, object, operation string
	stdin                     func() string
	before                    func()
}

// TestHookKilled kills the hook, as by kill -9, at every point of each of its calls in turn.
// Libvirt calls it again, or gives the VM up and says so: either way nothing is left, and a VM
// that starts has its port.
func TestHookKilled(t *testing.T) {
	th := newHost(t)
	th.stopDaemon()
	h := newHooked(th, "bin/faults")
	h.must("network", "prod", "start", h.networkXML())
	created := saying{"network", "prod", "port-created", func() string { return h.portXML("") }, func() {}}
	start := saying{"qemu", "web01", "start", func() string { return domainXML(true, "") }, h.plug}
	deleted := saying{"network", "prod", "port-deleted", created.stdin, h.unplug}
	stopped := saying{"qemu", "web01", "stopped", func() string { return domainXML(false, "") }, h.unplug}
	for _, c := range []saying{created, start, stopped} { // the first guard makes a table that stays
		c.before()
		h.must(c.driver, c.object, c.operation, c.stdin())
	}
	clean, err := h.Snapshot()
	ok(t, err)
	for _, x := range []struct {
		life    []saying // the last one is killed
		atLeast int
	}{
		{[]saying{created}, 2},
		{[]saying{created, start}, 4},
		{[]saying{created, start, deleted}, 3},
		{[]saying{created, start, stopped}, 3},
	} {
		victim := x.life[len(x.life)-1]
		for _, again := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/again=%t", victim.operation, again), func(t *testing.T) {
				h := &hooked{testHost: &testHost{Host: h.Host, t: t}, hooks: h.hooks, sw: h.sw}
				points := 0
				for h.livesAndDies(x.life, points+1, again) {
					points++
				}
				if left, err := h.Snapshot(); err != nil || len(left.Since(clean)) > 0 {
					t.Errorf("left: %v, %v", left.Since(clean), err)
				}
				if points < x.atLeast {
					t.Errorf("killed %d times only: the build has no faults", points)
				}
				t.Logf("killed at each of %d points", points)
			})
		}
	}
}

// livesAndDies leads a VM through a life whose last call is killed at the point, and to its
// end. It reports whether there was such a point.
func (h *hooked) livesAndDies(life []saying, point int, again bool) (killed bool) {
	h.t.Helper()
	last := life[len(life)-1]
	for _, c := range life[:len(life)-1] {
		c.before()
		h.must(c.driver, c.object, c.operation, c.stdin())
	}
	last.before()
	r := h.call(last.driver, last.object, last.operation, last.stdin(), fmt.Sprintf("PATCHBAY_DIE_AT=%d", point))
	if killed = r.code < 0; !killed && r.code != 0 {
		h.t.Fatalf("point %d, %s: exit status %d, %s", point, last.operation, r.code, r.stderr)
	}
	if again {
		h.must(last.driver, last.object, last.operation, last.stdin())
		if all := h.vmPorts(); last.operation == "start" && (len(all) != 1 || all[0].VM.Stage != vswitch.VMActive) {
			h.t.Fatalf("point %d: %+v", point, all)
		}
	}
	if last.operation == "start" {
		h.unplug()
	}
	h.must("qemu", "web01", "stopped", domainXML(false, ""))
	h.must("network", "prod", "port-deleted", h.portXML(""))
	h.must("qemu", "web01", "release", domainXML(false, ""))
	if all := h.vmPorts(); len(all) > 0 {
		h.t.Fatalf("point %d leaves %+v", point, all)
	}
	return killed
}
