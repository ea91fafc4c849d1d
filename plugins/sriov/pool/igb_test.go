package pool_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/plugins/sriov/pool"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/conformance"
)

// TestIGB is all that needs VFs: those of igb, in one guest. Its NICs are cabled n0 to n1 and
// n2 to n3.
func TestIGB(t *testing.T) {
	guest.Needs(t, guest.NICs)
	run(t, "modprobe", "igbvf")
	for _, name := range []string{"n0", "n1", "n2", "n3"} {
		run(t, "ip", "link", "set", name, "up")
	}
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"conforms in memory", conformsInMemory},
		{"conforms as a program", conformsAsProgram},
	} {
		begun := time.Now()
		t.Run(c.name, c.test)
		t.Logf("%s: %s", c.name, time.Since(begun).Round(10*time.Millisecond))
	}
}

func conformsInMemory(t *testing.T) {
	target := conformance.InMemory(func() sdk.Provider { return pool.New(nic.Open(), "test") })
	conformance.Test(t, target, conformance.Options{Config: config(t, "n0", 2)})
}

func conformsAsProgram(t *testing.T) {
	target, err := conformance.Program(filepath.Join("../../../bin/plugins", "patchbay-plugin-sriov"), nil)
	if err != nil {
		t.Fatal(err)
	}
	conformance.Test(t, target, conformance.Options{Config: config(t, "n2", 2)})
}

// config is a configuration for one NIC, with a record of its own.
func config(t *testing.T, nic string, vfs int) []byte {
	return fmt.Appendf(nil, `{"nics": [%q], "vfs": %d, "record": %q}`, nic, vfs, filepath.Join(t.TempDir(), "sriov.json"))
}

// run runs a program that has to succeed, and says what it printed.
func run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}
