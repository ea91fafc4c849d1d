package store

import (
	"os"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// mappings counts how often this process has mapped a file.
func mappings(t *testing.T, path string) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(maps), path+"\n")
}

// A process that ends soon leaves its mappings, but not without bound, and nobody waits
// for it: neither itself nor others who open the files.
func TestBriefProcessLeavesItsMappings(t *testing.T) {
	f := newFixture(t)
	f.updateConfig(t, func(tx *Tx) error {
		return tx.PutSwitch(SwitchRecord{Switch: vswitch.Switch{Name: "prod", Type: vswitch.Internal}, Number: 1})
	})
	c := testConfig(f.dirs)
	c.BootID, c.Brief = "boot-1", true
	brief := New(c)
	for i := range 50 {
		id := "pb" + strings.Repeat("x", i+1)
		if err := brief.Update(func(tx *Tx) error { return attach(tx, id, "prod") }); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, len(checkConsistent(t, f.Store)), i+1) // by one that closes
		f.update(t, func(tx *Tx) error { return tx.PutFact("turn", i) })
	}
	if n := mappings(t, f.runFile()); n < 8 || n > 16 {
		t.Errorf("%d mappings of the run file are left", n)
	}
}
