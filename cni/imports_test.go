package main

import (
	"flag"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// What is linked in is initialised at every start of the plugin, for every container:
// regexp with its tables costs a millisecond, net/http more. What is new here has to be
// worth it (GODEBUG=inittrace=1 tells).
func TestLinked(t *testing.T) {
	const golden = "testdata/linked"
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for name := range strings.FieldsSeq(string(out)) {
		if !strings.Contains(name, "internal") && !strings.HasPrefix(name, "vendor/") { // the standard library's own affair
			got = append(got, name)
		}
	}
	slices.Sort(got)
	if *update {
		if err := os.WriteFile(golden, []byte(strings.Join(got, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Fields(string(want)), got); diff != "" {
		t.Errorf("packages of the plugin (-want +got); measure, then `go test ./cni -update`:\n%s", diff)
	}
}

// The plugin starts no other program: of all that it is made of, only the
// library's package that runs other IPAM plugins can.
func TestNothingElseExecs(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", `{{if not .Standard}}{{.ImportPath}} {{join .Imports " "}}{{end}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const runner = "github.com/containernetworking/cni/pkg/invoke"
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if slices.Contains(fields[1:], "os/exec") && fields[0] != runner {
			t.Errorf("%s imports os/exec", fields[0])
		}
		if slices.Contains(fields[1:], runner) && fields[0] != "github.com/patchbay-net/patchbay/cni/plugin" {
			t.Errorf("%s imports %s", fields[0], runner)
		}
	}
	if !strings.Contains(string(out), runner) {
		t.Error("the list lacks even what other IPAM plugins need")
	}
}
