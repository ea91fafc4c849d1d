package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// impatiently makes calls that end after a while, whether they are answered or not.
func (t *trial) impatiently(wait time.Duration, r sdk.Request) {
	ctx, cancel := context.WithTimeout(t.ctx, wait)
	defer cancel()
	for what, err := range map[string]error{
		"ensure":          second(t.Ensure(ctx, r)),
		"release":         t.Release(ctx, r.Ref, r.Generation),
		"list grants":     second(t.Grants(ctx)),
		"watch inventory": t.WatchInventory(ctx, func(sdk.Inventory) error { return nil }),
	} {
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			t.fail("%s whose caller went away fails with %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// openFiles is how many files a process has open; 0 of none.
func openFiles(pid int) int {
	if pid == 0 {
		return 0
	}
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)) // without /proc nothing is found
	return len(files)
}

// has says whether the plugin claims an optional interface.
func (r *runner) has(ext sdk.Extension) bool { return slices.Contains(r.description.Extensions, ext) }

// gated demands that what is not claimed is not served.
func (t *trial) gated(ext sdk.Extension, err error) {
	t.refused(err, fmt.Sprintf("%s, which the description does not name,", ext), vswitch.CapabilityMissing)
}

func switchPath(t *trial, o offer) {
	r := t.request(o)
	if !t.runner.has(sdk.ExtPaths) {
		t.gated(sdk.ExtPaths, t.SwitchPath(t.ctx, r.Ref, sdk.PathSoftware))
		return
	}
	t.refused(t.SwitchPath(t.ctx, r.Ref, sdk.PathSoftware), "a grant that there is not", vswitch.NotFound)
	g := t.ensure(r)
	for _, to := range []sdk.Path{sdk.PathSoftware, sdk.PathSoftware, sdk.PathHardware, sdk.PathHardware} {
		t.must(t.SwitchPath(t.ctx, r.Ref, to), "switch to %s", to)
		t.expect(g)
	}
	t.must(t.SwitchPath(t.ctx, r.Ref, sdk.PathSoftware), "switch to software")
	t.release(r.Ref, r.Generation)
}

func counters(t *trial, o offer) {
	r := t.request(o)
	if !t.runner.has(sdk.ExtCounters) {
		t.gated(sdk.ExtCounters, second(t.Counters(t.ctx, r.Ref)))
		return
	}
	t.refused(second(t.Counters(t.ctx, r.Ref)), "a grant that there is not", vswitch.NotFound)
	t.ensure(r)
	first, err := t.Counters(t.ctx, r.Ref)
	t.must(err, "read counters")
	then, err := t.Counters(t.ctx, r.Ref)
	t.must(err, "read counters again")
	for name, n := range first {
		if later, there := then[name]; !there || later < n {
			t.fail("counter %s was %d, and then %d (there: %t)", name, n, later, there)
		}
	}
}

// featuresApart demands that a port's features come and go by themselves.
func (r *runner) featuresApart(t *trial) {
	i := slices.IndexFunc(r.offers, func(o offer) bool { return o.feature != r.offers[0].feature })
	if i < 0 {
		t.skip("no NICs with two free features are there to try it with")
	}
	one, other := t.request(r.offers[0]), t.request(r.offers[i])
	other.Port, other.MAC = one.Port, one.MAC
	g := t.ensure(one)
	t.ensure(other)
	t.release(other.Ref, other.Generation)
	t.absent(other.Ref, "after its release")
	t.expect(g)
}

// unserved asks a NIC for a feature that it does not have.
func (r *runner) unserved(t *trial) {
	for _, n := range t.inventory().NICs {
		for _, f := range vswitch.Features() {
			c := n.Capabilities.Of(f)
			if c.Missing == "" && c != (vswitch.Capability{}) {
				continue
			}
			q := t.request(offer{nic: n.ID, feature: f})
			_, err := t.Ensure(t.ctx, q)
			t.refused(err, fmt.Sprintf("%s of NIC %s, which does not have it,", f, n.ID), vswitch.CapabilityMissing)
			if sdk.ReasonOf(err) == "" {
				t.fail("%s of NIC %s is refused without a reason: %v", f, n.ID, err)
			}
			t.absent(q.Ref, "after a request that failed")
			return
		}
	}
	t.skip("every NIC has every feature")
}

func (r *runner) probe(t *trial) {
	if !r.has(sdk.ExtProbe) {
		t.gated(sdk.ExtProbe, t.Probe(t.ctx))
		return
	}
	for range 2 {
		t.must(t.Probe(t.ctx), "probe")
	}
}

// listenFor is how long a check listens to what should go on for ever.
const listenFor = 300 * time.Millisecond

func (r *runner) events(t *trial) {
	ctx, cancel := context.WithTimeout(t.ctx, listenFor)
	defer cancel()
	err := t.WatchEvents(ctx, func(sdk.Event) error { return nil })
	if !r.has(sdk.ExtEvents) {
		t.gated(sdk.ExtEvents, err)
		return
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.fail("events end by themselves: %v", err)
	}
}

// endTime is what a process has to end, in which it is asked and not killed.
const endTime = 2500 * time.Millisecond

func processEnds(t *trial) {
	begun := time.Now()
	s := t.session
	t.session = nil
	if s.stop(); time.Since(begun) > endTime {
		t.fail("it was asked to end, and did so after %s", time.Since(begun).Round(time.Millisecond))
	}
}
