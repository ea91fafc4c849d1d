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

// unfiltering is a kernel that is taken for one without VLAN filtering.
type unfiltering struct{ kernel.Kernel }

func (k unfiltering) Capabilities(ctx context.Context) (kernel.Capabilities, error) {
	caps, err := k.Kernel.Capabilities(ctx)
	caps.VLANFiltering = false
	return caps, err
}

// BenchmarkAttachWithVLANs tells what VLAN filtering costs an Attach: the same port on a
// bridge that does not filter, untagged on one that does, and in VLAN 10, by turns.
func BenchmarkAttachWithVLANs(b *testing.B) {
	guest.Needs(b, guest.VLANs)
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	req := engine.AttachRequest{Owner: owner(0), VLAN: ptr(vswitch.AccessVLAN(10))}
	req.Owner.Netns = newNetns(b)
	plain := req
	plain.VLAN = nil
	type contender struct {
		*engine.Engine
		name string
		req  engine.AttachRequest
		took []time.Duration
	}
	var all []*contender
	for _, c := range []struct {
		name string
		k    kernel.Kernel
		req  engine.AttachRequest
	}{{"off", unfiltering{kernel.NewLinux()}, plain}, {"on", kernel.NewLinux(), plain}, {"vlan", kernel.NewLinux(), req}} {
		e := engine.New(engine.Config{Kernel: c.k, Store: store.New(store.Config{Dirs: store.Dirs{State: b.TempDir(), Run: b.TempDir()}, MachineID: c.name})})
		c.req.Switch, c.req.Owner.ID = c.name, c.name
		s := internal()
		s.Name, s.Gateway, s.Masquerade = c.name, nil, vswitch.Masquerade{}
		if _, err := e.AddSwitch(ctx, engine.AddSwitchRequest{Switch: s}); err != nil {
			b.Fatal(err)
		}
		keep := c.req // so that the VLAN stays carried
		keep.Owner.ID, keep.Owner.Endpoint = "keep"+c.name, "keep"+c.name
		if _, err := e.Attach(ctx, keep); err != nil {
			b.Fatal(err)
		}
		all = append(all, &contender{Engine: e, name: c.name, req: c.req})
	}
	for range b.N {
		for _, c := range all {
			start := time.Now()
			_, err := c.Attach(ctx, c.req)
			c.took = append(c.took, time.Since(start))
			if err != nil {
				b.Fatal(err)
			}
			if err := c.Detach(ctx, c.req.Owner); err != nil {
				b.Fatal(err)
			}
		}
	}
	median := func(d []time.Duration) float64 { slices.Sort(d); return float64(d[len(d)/2].Microseconds()) }
	for _, c := range all {
		b.ReportMetric(median(c.took), c.name+"-µs")
		b.ReportMetric(median(c.took)/median(all[0].took), c.name+"-ratio")
	}
}
