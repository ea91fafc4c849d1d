package main

import (
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
no event
`

const wantReport = `    a_test.go:3: want 1, got 2
FAIL  p  1.5s
q.go:1: syntax error
FAIL  q  0.0s
ok    r  2.0s
no event
skipped: TestC: needs CONFIG_BONDING
1 passed, 2 failed, 1 skipped
`

func TestReport(t *testing.T) {
	var out strings.Builder
	r := &report{out: &out, output: map[test][]string{}, failedIn: map[string]bool{}}
	if err := r.read(strings.NewReader(run)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantReport, out.String()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}
