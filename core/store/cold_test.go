package store

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/store/storetest"
)

// coldAttach prints how long the first transaction of a process takes, in ns.
func coldAttach(dirs Dirs, name string) error {
	n, err := strconv.Atoi(name)
	if err != nil {
		return err
	}
	// A CNI plugin has read its configuration by then and printed none yet.
	var config struct {
		Name    string            `json:"name"`
		IPAM    map[string]any    `json:"ipam"`
		Servers []netip.Addr      `json:"servers"`
		Args    map[string]string `json:"args"`
	}
	err = json.Unmarshal([]byte(`{"name":"x","ipam":{"a":[1,"b"]},"servers":["10.0.0.1"],"args":{"K":"v"}}`), &config)
	if err != nil {
		return err
	}
	start := time.Now()
	err = New(benchConfig(dirs)).Update(func(tx *Tx) error { return attachBench(tx, n) })
	fmt.Println(time.Since(start).Nanoseconds())
	return err
}

// BenchmarkColdAttach is BenchmarkAttachTransaction in a new process each time,
// where nothing is warm: no code page, no JSON encoder.
func BenchmarkColdAttach(b *testing.B) {
	for _, ports := range []int{0, 5000} {
		b.Run(fmt.Sprintf("ports=%d", ports), func(b *testing.B) {
			base := storetest.Dir(b)
			benchFill(b, dirsIn(base), ports)
			var took []int64
			for n := 0; b.Loop(); n++ {
				cmd, out := process(b, "cold", base, strconv.Itoa(ports+n))
				if !out.Scan() {
					b.Fatal("no answer")
				}
				ns, err := strconv.ParseInt(out.Text(), 10, 64)
				if err != nil {
					b.Fatal(err)
				}
				_ = cmd.Wait()
				took = append(took, ns)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2])/1000, "µs-median")
			b.ReportMetric(0, "ns/op") // the process itself is not the store's
		})
	}
}
