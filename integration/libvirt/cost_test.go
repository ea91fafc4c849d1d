package libvirt_test

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// The goal is 1.1 times. It is not shown yet on a machine that is quiet, where 1.23 was measured
// before taps were left to the hook; this keeps it from becoming worse.
const startBar = 1.4

// TestStartCost: what the hooks add to the start of a virtual machine with four NICs.
func TestStartCost(t *testing.T) {
	s := sitesAlone(t, machine.Libvirt9, "a")[0]
	s.patchbay("switch", "add", "lan", "--type", "private")
	s.network("lan")
	var nics []string
	for i := range 4 {
		nics = append(nics, nic("lan", fmt.Sprintf("ua-%d", i), fmt.Sprintf("52:54:00:00:01:%02x", i)))
	}
	s.define("vm1", nics...)
	ok(t, s.Do(func() error { return os.Mkdir("/etc/away", 0o755) }))
	hooked := true
	turn := func(on bool) {
		t.Helper()
		for _, driver := range hooks() {
			from, to := "/etc/away/"+driver, hookPath(driver)
			if !on {
				from, to = to, from
			}
			if hooked != on {
				ok(t, s.Do(func() error { return os.Rename(from, to) }))
			}
		}
		hooked = on
	}
	took := map[bool][]time.Duration{}
	var ratios []float64
	for i := range 9 {
		for _, on := range []bool{i%2 == 0, i%2 != 0} { // who comes second finds warmer caches
			turn(on)
			if !on { // nor does patchbayd look at the taps
				ok(t, s.daemon.Process.Signal(syscall.SIGSTOP))
			}
			begun := time.Now()
			s.virsh("start", "vm1")
			took[on] = append(took[on], time.Since(begun))
			ok(t, s.daemon.Process.Signal(syscall.SIGCONT))
			s.virsh("destroy", "vm1")
			s.empty("destroyed")
		}
		ratios = append(ratios, float64(took[true][i])/float64(took[false][i]))
	}
	median := func(on bool) time.Duration {
		slices.Sort(took[on])
		return took[on][len(took[on])/2]
	}
	slices.Sort(ratios)
	ratio := ratios[len(ratios)/2] // of pairs: a machine that is busy for a while slows both of one
	t.Logf("4 NICs: %v with hooks, %v without: %.2f times", median(true).Round(time.Millisecond), median(false).Round(time.Millisecond), ratio)
	if ratio > startBar {
		t.Errorf("%.2f times, the bar is %.1f", ratio, startBar)
	}
}
