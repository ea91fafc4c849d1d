package steering

import (
	"context"
	"os"
	"testing"

	"github.com/patchbay-net/patchbay/core/kernel/ethtool"
)

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
