package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/patchbay-net/patchbay/core/engine"
)

// BenchmarkStartVM tells what a VM of four NICs waits for: the reservations of its ports, and
// their binding, one by one and at once.
func BenchmarkStartVM(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("needs root: makes network namespaces")
	}
	ctx, e := context.Background(), benchedHost(b)
	var reqs []engine.ReservePortRequest
	var binds []engine.BindPortRequest
	for i := range 4 {
		req := reserveWeb(fmt.Sprintf("p%d", i))
		req.Switch, req.MAC[5] = "lan", byte(0x10+i)
		reqs = append(reqs, req)
		binds = append(binds, engine.BindPortRequest{Owner: req.Owner, Netdev: fmt.Sprintf("vnet%d", i)})
	}
	links, err := netlink.NewHandle()
	if err != nil {
		b.Fatal(err)
	}
	defer links.Close()
	bridge, err := links.LinkByName("pb-lan")
	if err != nil {
		b.Fatal(err)
	}
	took := map[string][]time.Duration{}
	timed := func(what string, do func() error) {
		start := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		took[what] = append(took[what], time.Since(start))
	}
	for i := range b.N {
		for n, req := range reqs {
			timed("reserve", func() error { _, err := e.ReservePort(ctx, req); return err })
			mac := req.MAC.TapMAC()
			at := netlink.LinkAttrs{Name: binds[n].Netdev, HardwareAddr: mac[:]}
			tap := &netlink.Tuntap{LinkAttrs: at, Mode: netlink.TUNTAP_MODE_TAP}
			if err := errors.Join(links.LinkAdd(tap), links.LinkSetMaster(tap, bridge)); err != nil {
				b.Fatal(err)
			}
		}
		if i%2 == 0 {
			timed("bind", func() error { _, err := e.BindPorts(ctx, binds); return err })
		} else {
			timed("bindSingly", func() error {
				for _, req := range binds {
					if _, err := e.BindPort(ctx, req); err != nil {
						return err
					}
				}
				return nil
			})
		}
		for _, req := range binds {
			tap, err := links.LinkByName(req.Netdev)
			if err := errors.Join(err, links.LinkDel(tap)); err != nil {
				b.Fatal(err)
			}
		}
		if err := e.ReleaseDomain(ctx, webUUID); err != nil {
			b.Fatal(err)
		}
	}
	for what, all := range took {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), what+"-µs")
	}
}
