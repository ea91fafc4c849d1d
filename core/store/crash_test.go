package store

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func widePool(t testing.TB, f *fixture) {
	t.Helper()
	f.updateConfig(t, func(tx *Tx) error {
		return tx.SetMACRange(vswitch.MACRange{First: vswitch.MAC{0x0a, 0x50, 0x42}, Last: vswitch.MAC{0x0a, 0x50, 0x42, 0xff, 0xff, 0xff}})
	})
}

func TestConcurrentGoroutines(t *testing.T) {
	f := newFixture(t)
	widePool(t, f)
	const goroutines, each = 8, 40
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				id := fmt.Sprintf("p%d-%d", g, i)
				if err := f.Update(func(tx *Tx) error { return attach(tx, id, "prod") }); err != nil {
					t.Error(err)
				}
				if err := f.View(func(tx *Tx) error { _, err := tx.Port(id); return err }); err != nil {
					t.Error(err)
				}
				if i%2 == 0 {
					if err := f.Update(func(tx *Tx) error { return tx.DeletePort(id) }); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	wantEqual(t, len(checkConsistent(t, f.Store)), goroutines*each/2)
}

// A reader that finds no lock file sees whole transactions all the same.
func TestConcurrentReaderWithoutLockFile(t *testing.T) {
	f := newFixture(t)
	widePool(t, f)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 100 {
			if err := f.Update(func(tx *Tx) error { return attach(tx, fmt.Sprint("p", i), "prod") }); err != nil {
				t.Error(err)
			}
		}
	})
	reader := New(testConfig(f.dirs))
	reader.lockPath = filepath.Join(f.dirs.Run, "none")
	for last := 0; last < 100; {
		n := len(checkConsistent(t, reader))
		if n < last || t.Failed() {
			t.Fatalf("%d ports after %d", n, last)
		}
		last = n
	}
	wg.Wait()
}

// The first transactions of a boot race to make the run file.
func TestConcurrentFirstUse(t *testing.T) {
	for range 10 {
		f := newFixture(t)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				if err := f.Update(func(tx *Tx) error { return attach(tx, fmt.Sprint("p", g), "prod") }); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		wantEqual(t, len(checkConsistent(t, f.Store)), 8)
	}
}

// Processes that attach and detach are killed in the middle of it, several times
// over one store. What they were told is done, is; and nothing is half done.
func TestKilledProcesses(t *testing.T) {
	base := t.TempDir()
	f := &fixture{dirs: dirsIn(base)}
	f.Store = New(testConfig(f.dirs))
	widePool(t, f)
	const rounds, processes = 6, 4
	var mu sync.Mutex
	told := map[string]bool{} // port: is it attached
	for round := range rounds {
		var wg sync.WaitGroup
		for p := range processes {
			cmd, out := process(t, "attach", base, fmt.Sprintf("r%dp%d-", round, p))
			wg.Go(func() {
				lines := 5 + 7*p + 3*round
				for out.Scan() {
					verb, id, _ := strings.Cut(out.Text(), " ")
					mu.Lock()
					told[id] = verb == "attached"
					mu.Unlock()
					if lines--; lines == 0 {
						_ = cmd.Process.Kill()
					}
				}
			})
		}
		wg.Wait()
		ports := checkConsistent(t, f.Store)
		missing := 0
		for id, attached := range told {
			if _, found := ports[id]; attached && !found {
				missing++ // a detach that was done and not told of: at most one per process
			} else if !attached && found {
				t.Errorf("%s is back", id)
			}
		}
		if most := (round + 1) * processes; missing > most {
			t.Errorf("%d ports are gone that were told to be attached, at most %d can be", missing, most)
		}
	}
	if len(told) == 0 {
		t.Fatal("no process attached anything")
	}
}
