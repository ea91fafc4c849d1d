// Package node_test tries the plugin that is not written in Go.
package node_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/patchbay-net/patchbay/sdk/conformance"
)

func TestConformance(t *testing.T) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: %v", program, err)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "goplugin.js", "patchbay-plugin-example-node"} {
		data, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "proto"), os.DirFS("../../sdk/proto")); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	target, err := conformance.Program(filepath.Join(dir, "patchbay-plugin-example-node"), nil)
	if err != nil {
		t.Fatal(err)
	}
	conformance.Test(t, target, conformance.Options{})
}
