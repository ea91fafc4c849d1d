// Package storetest is for tests that need a store.
package storetest

import (
	"os"
	"testing"
)

// Dir makes a directory for one part of a store, which goes with the test. It lies in
// memory where it can: a test of what is written to a store need not wait for a disk, and
// those that kill a verb at each of its steps open thousands of stores.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "patchbay-store-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
