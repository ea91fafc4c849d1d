// Package plugintest is for tests whose own program is a plugin too.
package plugintest

import (
	"os"
	"syscall"
	"testing"

	"github.com/patchbay-net/patchbay/sdk"
)

// raceKey holds the settings of the race detector.
const raceKey = "GORACE"

// Main is TestMain of such tests. Where a host has started the program it is what serve
// makes of it, otherwise it runs the tests.
//
// At its end a program with the race detector waits for a second for races that are still
// to come, and a check of conformance starts a plugin some sixty times: the plugin goes at
// once, as one without the detector does. A host keeps its environment to itself, and the
// detector reads it before Go begins, so the program starts once more for that.
func Main(m *testing.M, serve func()) {
	if os.Getenv(sdk.CookieKey) == "" {
		os.Exit(m.Run())
	}
	if os.Getenv(raceKey) == "" {
		// Where this fails it is a plugin too, and one that waits.
		_ = syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), raceKey+"=atexit_sleep_ms=0"))
	}
	serve()
}
