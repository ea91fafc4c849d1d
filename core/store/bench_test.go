package store

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// BenchmarkAttachTransaction is the store's part of one CNI ADD, each with a
// store of its own as a process has it: look up the switch, lease a MAC and an IP
// address, record the port.
func BenchmarkAttachTransaction(b *testing.B) {
	for _, ports := range []int{0, 1000, 5000} {
		b.Run(fmt.Sprintf("ports=%d", ports), func(b *testing.B) {
			benchTransaction(b, ports, func(tx *Tx, n int) error { return attachBench(tx, ports+n) })
		})
	}
}

// BenchmarkDetachTransaction is the store's part of one CNI DEL.
func BenchmarkDetachTransaction(b *testing.B) {
	for _, ports := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("ports=%d", ports), func(b *testing.B) {
			benchTransaction(b, ports, func(tx *Tx, n int) error { return tx.DeletePort(benchPort(n).ID) })
		})
	}
}

// benchTransaction begins anew every 100 transactions, to stay near the number of
// ports that the name says, and collects garbage only then: a CNI plugin is over
// before its first collection. The median tells more than the mean on a busy host.
func benchTransaction(b *testing.B, ports int, work func(*Tx, int) error) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	template := benchDirs(b, ports)
	dirs := copyStore(b, template)
	var took []time.Duration
	for n := 0; b.Loop(); n++ {
		start := time.Now()
		if err := New(benchConfig(dirs)).Update(func(tx *Tx) error { return work(tx, n%100) }); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
		if n%100 == 99 {
			b.StopTimer()
			dirs = copyStore(b, template)
			runtime.GC()
			b.StartTimer()
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
}

func BenchmarkView(b *testing.B) {
	dirs := benchDirs(b, 5000)
	id := benchPort(77).ID
	for b.Loop() {
		err := New(benchConfig(dirs)).View(func(tx *Tx) error {
			_, err := tx.Port(id)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	dirs := benchDirs(b, 5000)
	for b.Loop() {
		err := New(benchConfig(dirs)).View(func(tx *Tx) error {
			_, err := tx.Ports()
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func attachBench(tx *Tx, n int) error {
	p := benchPort(n)
	if _, err := tx.Switch(p.Switch); err != nil {
		return err
	}
	mac, err := tx.LeaseMAC(p.ID)
	if err != nil {
		return err
	}
	set := vswitch.IPRangeSet{vswitch.IPRange{Subnet: netip.MustParsePrefix("10.0.0.0/16")}.
		WithDefaults(func(netip.Addr) (netip.Addr, bool) { return netip.Addr{}, false })}
	ip, err := tx.LeaseIP(p.Switch, set, p.ID)
	if err != nil {
		return err
	}
	p.MAC = mac
	p.Addresses = []vswitch.Address{{Prefix: netip.PrefixFrom(ip, 16), Gateway: set[0].Gateway}}
	return tx.PutPort(p)
}

func benchPort(n int) vswitch.Port {
	o := vswitch.Owner{
		Kind: vswitch.OwnerContainer, Network: "prod", Endpoint: "eth0",
		ID: fmt.Sprintf("%064x", n), Netns: fmt.Sprintf("/var/run/netns/cni-%032x", n),
	}
	return vswitch.Port{
		ID: o.PortID(), Switch: "prod", Owner: o, MTU: 1500, Netdev: o.PortID(), Created: time.Unix(1700000000, 0).UTC(),
		Routes: []vswitch.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0")}},
	}
}

func benchConfig(d Dirs) Config {
	return Config{Dirs: d, BootID: "boot", MachineID: "machine", Brief: true}
}

func benchDirs(b testing.TB, ports int) Dirs {
	d := dirsIn(storetest.Dir(b))
	benchFill(b, d, ports)
	return d
}

func benchFill(b testing.TB, d Dirs, ports int) {
	s := New(benchConfig(d))
	err := s.UpdateConfig(func(tx *Tx) error {
		err := tx.SetMACRange(vswitch.MACRange{First: vswitch.MAC{0x0a, 0x50, 0x42}, Last: vswitch.MAC{0x0a, 0x50, 0x42, 0xff, 0xff, 0xff}})
		if err != nil {
			return err
		}
		return tx.PutSwitch(SwitchRecord{Switch: vswitch.Switch{Name: "prod", Type: vswitch.Internal}, Number: 1})
	})
	for i := 0; i < ports && err == nil; i += 50 {
		err = s.Update(func(tx *Tx) error {
			for n := i; n < min(i+50, ports); n++ {
				if err := attachBench(tx, n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		b.Fatal(err)
	}
}

func copyStore(b testing.TB, from Dirs) Dirs {
	to := dirsIn(storetest.Dir(b))
	for src, dst := range map[string]string{from.State: to.State, from.Run: to.Run} {
		if err := os.CopyFS(dst, os.DirFS(src)); err != nil {
			b.Fatal(err)
		}
	}
	return to
}
