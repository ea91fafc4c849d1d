// Package guest lets a test say what of the kernel it needs. On a kernel that lacks it
// the test is left to a guest, which `make test-guest` boots with a kernel that has it
// (package boot); a test that a guest has no feature for fails there.
package guest

import (
	"os"
	"testing"
)

// Env names the variable that says which kernel a guest runs: uml or qemu.
const Env = "PATCHBAY_GUEST"

// Left is how the reason begins for which a test is left to a guest.
const Left = "left to a guest"

// Needs ends the test unless the running kernel has the features: it is skipped on a
// machine, and fails in a guest. `make test-guest` finds the tests by this call, so
// they make it themselves, in their own body, with the constants of this package.
func Needs(t testing.TB, features ...Feature) {
	t.Helper()
	inGuest := os.Getenv(Env) != ""
	if os.Getuid() != 0 && !inGuest {
		t.Skipf("%s: needs root", Left)
	}
	for _, f := range features {
		err := f.Missing()
		switch {
		case err == nil:
		case inGuest:
			t.Fatalf("this guest lacks %s: %v", f, err)
		default:
			t.Skipf("%s: this kernel lacks %s: %v", Left, f, err)
		}
	}
}
