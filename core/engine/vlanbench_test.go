package engine_test

import (
	"context"
	"fmt"
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

// filtered is one of those that take turns: a switch, and what is attached to it.
type filtered struct {
	*engine.Engine
	name string
	req  engine.AttachRequest
	took []time.Duration
}

// BenchmarkAttachWithVLANs tells what VLAN filtering costs an Attach: the same port on a
// bridge that does not filter, untagged on one that does, and in VLAN 10, by turns, with
// few and with many ports there. docs/performance.md has the table.
func BenchmarkAttachWithVLANs(b *testing.B) {
	guest.Needs(b, guest.VLANs)
	for _, ports := range []int{1, 500} {
		b.Run(fmt.Sprintf("ports=%d", ports), func(b *testing.B) {
			runtime.LockOSThread()
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				b.Fatal(err)
			}
			all := filteredContenders(b, ports)
			order := slices.Clone(all)
			for b.Loop() {
				for _, c := range order {
					c.once(b)
				}
				slices.Reverse(order) // who comes behind whom may matter
			}
			for _, c := range all {
				b.ReportMetric(median(c.took), c.name+"-µs")
				b.ReportMetric(median(c.took)/median(all[0].took), c.name+"-ratio")
			}
		})
	}
}

func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Microseconds())
}

func filteredContenders(b *testing.B, ports int) (all []*filtered) {
	b.Helper()
	plain := engine.AttachRequest{Owner: owner(0)}
	plain.Owner.Netns = newNetns(b)
	inTen := plain
	inTen.VLAN = ptr(vswitch.AccessVLAN(10))
	for _, x := range []struct {
		name string
		k    kernel.Kernel
		req  engine.AttachRequest
	}{{"off", unfiltering{kernel.NewLinux()}, plain}, {"on", kernel.NewLinux(), plain}, {"vlan", kernel.NewLinux(), inTen}} {
		c := &filtered{name: x.name, req: x.req}
		c.Engine = engine.New(engine.Config{Kernel: x.k, Store: store.New(store.Config{Dirs: store.Dirs{State: b.TempDir(), Run: b.TempDir()}, MachineID: x.name})})
		c.req.Switch, c.req.Owner.ID = x.name, x.name
		s := internal()
		s.Name, s.Gateway, s.Masquerade = x.name, nil, vswitch.Masquerade{}
		if _, err := c.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: s}); err != nil {
			b.Fatal(err)
		}
		c.fill(b, ports)
		all = append(all, c)
	}
	return all
}

// fill attaches ports that stay, and with them the VLAN.
func (c *filtered) fill(b *testing.B, ports int) {
	b.Helper()
	pool := vswitch.MACRange{First: vswitch.MAC{0x0a, 0x50, 0x42}, Last: vswitch.MAC{0x0a, 0x50, 0x42, 0, 0x0f, 0xff}}
	if _, err := c.SetMACPool(context.Background(), pool); err != nil {
		b.Fatal(err)
	}
	ns := newNetns(b)
	for i := range ports {
		keep := c.req
		keep.Owner.ID, keep.Owner.Endpoint, keep.Owner.Netns = fmt.Sprintf("keep%s%d", c.name, i), fmt.Sprintf("%s%d", c.name, i), ns
		if _, err := c.Attach(context.Background(), keep); err != nil {
			b.Fatal(err)
		}
	}
}

func (c *filtered) once(b *testing.B) {
	b.Helper()
	start := time.Now()
	_, err := c.Attach(context.Background(), c.req)
	c.took = append(c.took, time.Since(start))
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Detach(context.Background(), c.req.Owner); err != nil {
		b.Fatal(err)
	}
}
