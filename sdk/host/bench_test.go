package host_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/host"
)

// benchOptions run this test's own program, some 20 MB, as a plugin that works.
func benchOptions(b *testing.B) host.Options {
	b.Helper()
	dir, err := os.MkdirTemp("", "pb")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(dir, sdk.ExecutablePrefix+"works")
	if err := os.Symlink(self, path); err != nil {
		b.Fatal(err)
	}
	e, err := host.ExecutableAt(path)
	if err != nil {
		b.Fatal(err)
	}
	return host.Options{Executable: e, Vouched: true, RunDir: dir, Log: slog.New(slog.DiscardHandler)}
}

// BenchmarkStart is from nothing to the answer of a first call, with AutoMTLS, and the end.
func BenchmarkStart(b *testing.B) {
	o := benchOptions(b)
	run := func(b *testing.B) {
		for b.Loop() {
			p := host.Open(o)
			if _, err := p.Grants(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			p.Close()
			b.StartTimer()
		}
	}
	b.Run("plain", run)
	f, err := os.Open(o.Executable.Path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		b.Fatal(err)
	}
	o.Checksums = host.Checksums{filepath.Base(o.Executable.Path): hex.EncodeToString(sum.Sum(nil))}
	b.Run("checksum", run)
}

// BenchmarkCall is a call to a plugin that runs.
func BenchmarkCall(b *testing.B) {
	call := func(p sdk.Provider) func(*testing.B) {
		return func(b *testing.B) {
			r := request("pb1")
			for b.Loop() {
				if _, err := p.Ensure(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	p := host.Open(benchOptions(b))
	b.Cleanup(p.Close)
	if _, err := p.Grants(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Run("process", call(p))
	client, shut, err := host.InMemory(&habit{name: "works", says: "works"}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(shut)
	b.Run("memory", call(client))
}
