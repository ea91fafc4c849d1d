package steering

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/kernel/ethtool"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/conformance"
	"github.com/patchbay-net/patchbay/sdk/host"
	"github.com/patchbay-net/patchbay/sdk/plugintest"
)

// TestMain is a plugin's main function where the host starts this test's program.
func TestMain(m *testing.M) {
	plugintest.Main(m, func() {
		fake := ethtool.NewFake(usual(), unable())
		sdk.Serve(newProvider("test", func() (hardware, error) { return fake, nil }))
	})
}

func thisProgram(t *testing.T) conformance.Target {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), sdk.ExecutablePrefix+"vmq")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	limits := host.DefaultLimits()
	limits.Start = time.Minute // a busy machine takes longer than patchbayd has patience
	target, err := conformance.ProgramWithin(path, limits, nil)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// deaf is NICs of which nobody hears.
type deaf struct {
	*ethtool.Fake
	why error
}

func (d deaf) Watch(context.Context, func(), func()) error { return d.why }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
