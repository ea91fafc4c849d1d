package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const run = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: want 1, got 2\n"}
{"Action":"fail","Package":"p","Test":"TestA","Elapsed":0.1}
{"Action":"pass","Package":"p","Test":"TestB","Elapsed":0.1}
{"Action":"output","Package":"p","Test":"TestC","Output":"=== RUN   TestC\n"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:9: needs CONFIG_BONDING\n"}
{"Action":"output","Package":"p","Test":"TestC","Output":"--- SKIP: TestC (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestC","Elapsed":0}
{"Action":"fail","Package":"p","Elapsed":1.5}
{"Action":"build-output","ImportPath":"q","Output":"q.go:1: syntax error\n"}
{"Action":"fail","Package":"q","Elapsed":0}
{"Action":"pass","Package":"r","Elapsed":2}
{"Action":"run","Package":"s","Test":"TestD"}
{"Action":"output","Package":"s","Test":"TestD","Output":"    d_test.go:1: so far\n"}
{"Action":"output","Package":"s","Output":"panic: test timed out\n"}
{"Action":"fail","Package":"s","Elapsed":9}
no event
`

const wantReport = `    a_test.go:3: want 1, got 2
FAIL  p  1.5s
q.go:1: syntax error
FAIL  q  0.0s
ok    r  2.0s
    d_test.go:1: so far
--- FAIL: TestD did not end
panic: test timed out
FAIL  s  9.0s
no event
skipped: p.TestC: needs CONFIG_BONDING
1 passed, 3 failed, 1 skipped
`

func TestReport(t *testing.T) {
	var out strings.Builder
	r := newReport(&out)
	if err := r.read(strings.NewReader(run)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantReport, out.String()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// TestLongOutput: of a test that said much, the last lines tell what was wrong.
func TestLongOutput(t *testing.T) {
	var run, want strings.Builder
	says := func(text string) {
		line, err := json.Marshal(event{Action: "output", Package: "p", Test: "TestA", Output: text})
		if err != nil {
			t.Fatal(err)
		}
		run.Write(append(line, '\n'))
		want.WriteString(text)
	}
	says("    a_test.go:3: want 1, got 2\n")
	says("    a_test.go:9: the log:\n")
	for range long {
		says("        12:00 all is well\n")
	}
	want.WriteString("    in short: a_test.go:3: want 1, got 2\n    in short: a_test.go:9: the log:\n")
	says("--- FAIL: TestA (0.10s)\n")
	run.WriteString(`{"Action":"fail","Package":"p","Test":"TestA","Elapsed":0.1}`)
	want.WriteString("0 passed, 1 failed, 0 skipped\n")
	var out strings.Builder
	if err := newReport(&out).read(strings.NewReader(run.String())); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), out.String()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// TestRemoveSkips: what a guest passed is not skipped, and nothing else is lost.
func TestRemoveSkips(t *testing.T) {
	file := filepath.Join(t.TempDir(), "skipped")
	const before = "engine.TestA: left to a guest: no VLANs\nengine.TestB: left to a guest: no VLANs\nkernel.TestA: left to a guest: no VLANs\nengine.TestC: takes a minute\n"
	if err := os.WriteFile(file, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := removeSkips(file, []string{"engine.TestA", "engine.TestC"}); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const want = "engine.TestB: left to a guest: no VLANs\nkernel.TestA: left to a guest: no VLANs\nengine.TestC: takes a minute\n"
	if diff := cmp.Diff(want, string(after)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := removeSkips(file+"-none", nil); err != nil {
		t.Error(err)
	}
}
