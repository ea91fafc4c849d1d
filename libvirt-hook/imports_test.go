package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// What handover imports is initialised before patchbayd is asked, for every call of every
// guest of the host: package unicode comes after most of the standard library.
func TestHandoverImportsLittle(t *testing.T) {
	linked := deps(t, "./handover")
	for _, heavy := range []string{"unicode", "reflect", "net", "net/netip", "encoding/json", "encoding/xml", "fmt", "strings", "bytes", "context"} {
		if slices.Contains(linked, heavy) {
			t.Errorf("%s is linked in", heavy)
		}
	}
}

// The hook runs no other program, and speaks to libvirt by nothing but its exit status.
func TestNothingElseRuns(t *testing.T) {
	for _, name := range deps(t, ".") {
		if name == "os/exec" || name == "libvirt.org/go/libvirt" || name == "runtime/cgo" {
			t.Errorf("%s is linked in", name)
		}
	}
}

func deps(t *testing.T, of string) []string {
	t.Helper()
	c := exec.Command("go", "list", "-deps", of)
	c.Env = append(c.Environ(), "CGO_ENABLED=0")
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}
