// Package trouble has tests that end in all ways, for the tests of the runner.
package trouble

import (
	"fmt"
	"os"
	"testing"
)

func TestPasses(t *testing.T) { t.Log("as it should") }

func TestFails(t *testing.T) { t.Error("as it should not") }

func TestHangs(*testing.T) { select {} }

func TestExits(*testing.T) {
	fmt.Println("the last words")
	os.Exit(7)
}

// TestCrashes takes the guest's kernel with it.
func TestCrashes(t *testing.T) {
	fmt.Println("the last words")
	if os.Getenv("PATCHBAY_GUEST") == "" {
		t.Fatal("this is no guest")
	}
	for _, s := range []struct{ file, text string }{{"/proc/sys/kernel/sysrq", "1"}, {"/proc/sysrq-trigger", "c"}} {
		if err := os.WriteFile(s.file, []byte(s.text), 0); err != nil {
			t.Fatal(err)
		}
	}
}
