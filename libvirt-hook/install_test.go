package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Libvirt finds the hook in each directory, as one file, and nothing is left when it is
// taken away but what is somebody else's.
func TestInstall(t *testing.T) {
	const script = "../packaging/libvirt/hooks"
	hooks := filepath.Join(t.TempDir(), "hooks")
	program := filepath.Join(t.TempDir(), "program")
	files := func() (found []string) {
		all, err := filepath.Glob(hooks + "/*/*")
		if err != nil {
			t.Fatal(err)
		}
		hidden, err := filepath.Glob(hooks + "/.*")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range slices.Concat(all, hidden) {
			rel, err := filepath.Rel(hooks, f)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, rel)
		}
		return found
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(script, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	var first os.FileInfo
	for _, text := range []string{"one", "two"} { // the second time over the first
		if err := os.WriteFile(program, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		run("install", program, hooks)
		want := []string{"lxc.d/50-patchbay", "network.d/50-patchbay", "qemu.d/50-patchbay"}
		if diff := cmp.Diff(want, files()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		for i, name := range want {
			file := filepath.Join(hooks, name)
			got, err := os.ReadFile(file)
			if err != nil || string(got) != text {
				t.Errorf("%s is %q, %v", name, got, err)
			}
			info, err := os.Stat(file)
			if err != nil || info.Mode() != 0o755 {
				t.Fatalf("%s: %v, %v", name, info.Mode(), err)
			}
			if i == 0 {
				if first != nil && os.SameFile(first, info) {
					t.Error("the file was written to while libvirt may run it")
				}
				first = info
			} else if !os.SameFile(first, info) {
				t.Errorf("%s is a file of its own", name)
			}
		}
	}
	other := filepath.Join(hooks, "qemu.d/60-other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run("uninstall", hooks)
	if diff := cmp.Diff([]string{"qemu.d/60-other"}, files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	run("uninstall", filepath.Join(hooks, "nowhere"))
}
