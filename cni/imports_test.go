package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

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
		if slices.Contains(fields[1:], runner) && fields[0] != "github.com/patchbay-net/patchbay/cni" {
			t.Errorf("%s imports %s", fields[0], runner)
		}
	}
	if !strings.Contains(string(out), runner) {
		t.Error("the list lacks even what other IPAM plugins need")
	}
}
