// Package recorded holds what real libvirt daemons have handed to their hooks: every call of
// some thirty scenarios, by 9.0.0 and by 11.3.0. It is for tests.
package recorded

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

//go:embed hooks-*.tar.gz
var archives embed.FS

// Versions are those of libvirt that were recorded.
func Versions() []string { return []string{"9.0.0", "11.3.0"} }

// Call is one start of a hook.
type Call struct {
	Scenario string // what was done: "hotplug-network"
	File     string // of the payload
	Host     string // "h1"; of a migration "src" and "dst"
	Hook     string // "network", "qemu", "lxc"
	Args     []string
	Stdin    []byte
	// Taps are the netdevs of guests at that moment, each with the bridge that it is in.
	Taps map[string]string
}

// Name is how tests call it.
func (c Call) Name() string {
	return c.Scenario + "/" + strings.TrimSuffix(c.File, ".xml")
}

// Calls returns the calls of a version in order, but for those of the daemon's own hook.
func Calls(t testing.TB, version string) []Call {
	t.Helper()
	files, err := unpack("hooks-" + version + ".tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	var calls []Call
	scenario := ""
	for line := range strings.Lines(string(files["INDEX.md"])) {
		line = strings.TrimSpace(line)
		if name, is := strings.CutPrefix(line, "## "); is {
			scenario = name
		}
		c, is, err := parse(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if !is || c.Hook == "daemon" {
			continue
		}
		c.Scenario = scenario
		if c.Stdin = files[c.File]; len(c.Stdin) == 0 {
			t.Fatalf("%s has no payload", c.File)
		}
		calls = append(calls, c)
	}
	return calls
}

// parse reads a row of the index: number, host, hook, arguments, file, taps.
func parse(line string) (c Call, is bool, err error) {
	fields := strings.Split(line, "|")
	const columns = 8
	if len(fields) != columns || !strings.Contains(fields[4], "`") {
		return c, false, nil
	}
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	c = Call{Host: fields[2], Hook: fields[3], File: fields[5], Taps: make(map[string]string)}
	for i, word := range strings.Split(fields[4], "`") {
		if i%2 == 1 {
			c.Args = append(c.Args, word)
		}
	}
	if len(c.Args) != 4 {
		return c, true, fmt.Errorf("%d arguments", len(c.Args))
	}
	for pair := range strings.SplitSeq(fields[6], ";") {
		if tap, bridge, found := strings.Cut(pair, " -> "); found {
			c.Taps[tap] = bridge
		}
	}
	return c, true, nil
}

func unpack(name string) (map[string][]byte, error) {
	packed, err := archives.ReadFile(name)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		const most = 1 << 20
		text, err := io.ReadAll(io.LimitReader(r, most))
		if err != nil {
			return nil, err
		}
		files[strings.TrimPrefix(h.Name, "./")] = text
	}
}
