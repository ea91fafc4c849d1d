package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// safeDir is a directory that nobody else can put files into: t.TempDir may be in one
// where everybody can.
func safeDir(t *testing.T) string {
	t.Helper()
	home, _ := os.UserHomeDir()
	for _, parent := range []string{home, "/run", "/var/tmp", os.TempDir()} {
		dir, err := os.MkdirTemp(parent, "patchbay-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		if ownedAbove(filepath.Join(dir, "x")) == nil {
			return dir
		}
	}
	t.Fatal("this machine has no directory that others cannot write to")
	return ""
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func TestWhoMayHaveChangedAnExecutable(t *testing.T) {
	const text = "#!/bin/true\n"
	sum := sha256.Sum256([]byte(text))
	const file = sdk.ExecutablePrefix + "x"
	for name, c := range map[string]struct {
		change  func(t *testing.T, dir string)
		sums    Checksums
		vouched bool
		cause   string // "" for one that may be started
	}{
		"nobody":                     {},
		"whoever is in its group":    {change: func(t *testing.T, dir string) { write(t, dir+"/"+file, text, 0o775) }, cause: "may write to it"},
		"everybody":                  {change: func(t *testing.T, dir string) { write(t, dir+"/"+file, text, 0o757) }, cause: "may write to it"},
		"everybody, and vouched":     {change: func(t *testing.T, dir string) { write(t, dir+"/"+file, text, 0o757) }, vouched: true},
		"another user":               {change: func(t *testing.T, dir string) { chown(t, dir+"/"+file) }, cause: "belongs to user 65534"},
		"another user's directory":   {change: func(t *testing.T, dir string) { chown(t, dir) }, cause: "belongs to user 65534"},
		"everybody in its directory": {change: func(t *testing.T, dir string) { chmod(t, dir, 0o777) }, cause: "may write to it"},
		"everybody in what it is linked to": {change: func(t *testing.T, dir string) {
			other := filepath.Join(dir, "other")
			if err := errors.Join(os.Mkdir(other, 0o755), os.Rename(dir+"/"+file, other+"/"+file), os.Symlink(other+"/"+file, dir+"/"+file)); err != nil {
				t.Fatal(err)
			}
			chmod(t, other, 0o777)
		}, cause: "may write to it"},
		"nobody, with its checksum":     {sums: Checksums{file: hex.EncodeToString(sum[:])}},
		"somebody, by the checksum":     {sums: Checksums{file: strings.Repeat("0", 64)}, cause: "its SHA-256 is"},
		"vouched, but for the checksum": {sums: Checksums{file: strings.Repeat("0", 64)}, vouched: true, cause: "its SHA-256 is"},
		"not on the list":               {sums: Checksums{}, cause: "no checksum of it is listed"},
		"it cannot be executed":         {change: func(t *testing.T, dir string) { write(t, dir+"/"+file, text, 0o644) }, cause: "not executable"},
		"it is not there":               {change: func(t *testing.T, dir string) { _ = os.Remove(dir + "/" + file) }, cause: "no such file"},
		"it is a directory":             {change: func(t *testing.T, dir string) { _ = os.Remove(dir + "/" + file); _ = os.Mkdir(dir+"/"+file, 0o755) }, cause: "not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := safeDir(t)
			write(t, dir+"/"+file, text, 0o755)
			if c.change != nil {
				c.change(t, dir)
			}
			e, err := ExecutableAt(dir + "/" + file)
			if err != nil {
				t.Fatal(err)
			}
			f, err := e.open(c.sums, c.vouched)
			if err == nil {
				defer f.Close() //nolint:errcheck // it was only read
			}
			if (err == nil) != (c.cause == "") || err != nil && (!errors.Is(err, vswitch.PluginUntrusted) || !strings.Contains(err.Error(), c.cause)) {
				t.Errorf("%v, want %q", err, c.cause)
			}
		})
	}
}

func chown(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files of another user")
	}
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestReadChecksums(t *testing.T) {
	dir := safeDir(t)
	path := filepath.Join(dir, "plugins.sha256")
	if sums, err := ReadChecksums(path); sums != nil || err != nil {
		t.Errorf("of no file: %v, %v", sums, err)
	}
	sum := strings.Repeat("ab", 32)
	write(t, path, fmt.Sprintf("# ours\n\n%s  patchbay-plugin-a\n%s */opt/x/patchbay-plugin-b\n", sum, sum), 0o644)
	sums, err := ReadChecksums(path)
	if err != nil || len(sums) != 2 || sums["patchbay-plugin-a"] != sum || sums["patchbay-plugin-b"] != sum {
		t.Errorf("%v, %v", sums, err)
	}
	write(t, path, "patchbay-plugin-a\n", 0o644)
	if _, err := ReadChecksums(path); !errors.Is(err, vswitch.PluginUntrusted) || !strings.Contains(err.Error(), "line 1") {
		t.Error(err)
	}
	write(t, path, "", 0o666)
	if _, err := ReadChecksums(path); !errors.Is(err, vswitch.PluginUntrusted) {
		t.Errorf("a list that everybody can write: %v", err)
	}
}

func TestFind(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	write(t, first+"/patchbay-plugin-b", "", 0o755)
	write(t, first+"/README", "", 0o644)
	write(t, second+"/patchbay-plugin-a", "", 0o755)
	write(t, second+"/patchbay-plugin-b", "", 0o755)
	found, err := Find(first, filepath.Join(first, "missing"), second)
	if err != nil || fmt.Sprint(found) != fmt.Sprintf("[{a %s/patchbay-plugin-a} {b %s/patchbay-plugin-b}]", second, first) {
		t.Errorf("%v, %v", found, err)
	}
	if _, err := ExecutableAt("/usr/bin/driver"); !errors.Is(err, vswitch.Invalid) {
		t.Error(err)
	}
}
