package handover

import (
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/patchbay-net/patchbay/core/wire"
)

// What this package imports is initialised before patchbayd is asked.
func TestLittleIsLinked(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, heavy := range []string{"unicode", "reflect", "os", "net/netip", "encoding/json", "fmt", "time", "context"} {
		if slices.Contains(strings.Fields(string(out)), heavy) {
			t.Errorf("%s is linked in", heavy)
		}
	}
}

// Where no patchbayd is the call comes back as it is, in a process that keeps still.
func TestNobodyTakesIt(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	t.Setenv(wire.RunDirEnv, t.TempDir())
	t.Setenv("CNI_COMMAND", "DEL")
	t.Setenv("CNI_CONTAINERID", "c")
	want := Rest{Call: wire.Call{Command: "DEL", ContainerID: "c"}, Alone: true} // standard input is empty in a test
	got := handOver()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := runtime.GOMAXPROCS(0); n != 1 {
		t.Errorf("%d processors", n)
	}
}
