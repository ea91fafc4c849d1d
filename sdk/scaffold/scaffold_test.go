package scaffold_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk/conformance"
	"github.com/patchbay-net/patchbay/sdk/scaffold"
)

// What is written builds, passes its own test, and conforms as a program.
func TestScaffoldConforms(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "acme")
	o := scaffold.Options{Name: "acme-2", Module: "example.com/acme/patchbay-plugin-acme-2", Dir: dir, SDKDir: root}
	if _, err := scaffold.Write(o); err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o600) // tidy needs no network then
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mod", "tidy"}, {"vet", "./..."}, {"test", "./..."}, {"build", "-o", "patchbay-plugin-acme-2", "."}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	target, err := conformance.Program(filepath.Join(dir, "patchbay-plugin-acme-2"), nil)
	if err != nil {
		t.Fatal(err)
	}
	conformance.Test(t, target, conformance.Options{})
	if _, err := scaffold.Write(o); !errors.Is(err, vswitch.AlreadyExists) {
		t.Errorf("a second time: %v", err)
	}
}

func TestScaffoldRefuses(t *testing.T) {
	for name, o := range map[string]scaffold.Options{
		"a name in capitals":    {Name: "ACME", Module: "example.com/a"},
		"no name":               {Module: "example.com/a"},
		"a module of two":       {Name: "acme", Module: "example.com/a b"},
		"a module of elsewhere": {Name: "acme", Module: "../a"},
	} {
		o.Dir = filepath.Join(t.TempDir(), "x")
		if _, err := scaffold.Write(o); !errors.Is(err, vswitch.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
