package engine_test

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
)

// BenchmarkAttachWithLimits tells what limits cost an Attach and a Detach: without one, with
// one to the owner, and with both, by turns on one switch.
func BenchmarkAttachWithLimits(b *testing.B) {
	guest.Needs(b, guest.TBF, guest.IFB)
	ctx, e := context.Background(), benchedHost(b)
	path := newNetns(b)
	kinds := []struct {
		name    string
		in, out vswitch.Bits
	}{{"none", 0, 0}, {"in", 10e6, 0}, {"both", 10e6, 10e6}}
	attach, detach := make([][]time.Duration, len(kinds)), make([][]time.Duration, len(kinds))
	for range b.N {
		for i, k := range kinds {
			req := limited(0, k.in, k.out)
			req.Owner.Netns = path
			start := time.Now()
			if _, err := e.Attach(ctx, req); err != nil {
				b.Fatal(err)
			}
			attached := time.Now()
			if err := e.Detach(ctx, req.Owner); err != nil {
				b.Fatal(err)
			}
			attach[i], detach[i] = append(attach[i], attached.Sub(start)), append(detach[i], time.Since(attached))
		}
	}
	median := func(d []time.Duration) float64 { slices.Sort(d); return float64(d[len(d)/2].Microseconds()) }
	for i, k := range kinds {
		b.ReportMetric(median(attach[i]), k.name+"-attach-µs")
		b.ReportMetric(median(detach[i]), k.name+"-detach-µs")
	}
}

// benchedHost is a host of its own with an internal switch lan. The benchmark's thread is in
// another namespace from now on.
func benchedHost(b *testing.B) *engine.Engine {
	b.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		b.Fatal(err)
	}
	e := engine.New(engine.Config{Kernel: kernel.NewLinux(), Store: store.New(store.Config{Dirs: store.Dirs{State: b.TempDir(), Run: b.TempDir()}, MachineID: "machine"})})
	if _, err := e.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "lan", Type: vswitch.Internal}}); err != nil {
		b.Fatal(err)
	}
	return e
}
