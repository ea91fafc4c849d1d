package integration_test

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestBinary: the plugin is one file that runs on any Linux, and a small one.
func TestBinary(t *testing.T) {
	h := newHost(t)
	file := filepath.Join(h.Root, "bin/cni/patchbay")
	info, err := os.Stat(file)
	ok(t, err)
	if most := int64(12_000_000); info.Size() > most {
		t.Errorf("%s has %d bytes, the limit is %d", file, info.Size(), most)
	}
	f, err := elf.Open(file)
	ok(t, err)
	defer func() { ok(t, f.Close()) }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s has a segment %v: it needs shared libraries", file, p.Type)
		}
	}
}

// TestNoOtherProgram: with our own IPAM there is nothing to find in PATH and
// CNI_PATH.
func TestNoOtherProgram(t *testing.T) {
	h := newHost(t)
	c := h.container("one")
	empty := []string{"PATH=", "CNI_PATH=" + t.TempDir()}
	add := h.exec(config("1.1.0", ""), append(verb(c, "ADD"), empty...)...)
	if add.code != 0 {
		t.Fatalf("ADD: %s", add.stdout)
	}
	reaches(t, c.Netns, "10.0.0.1")
	for _, x := range []struct{ verb, more string }{
		{"CHECK", `,"prevResult":` + add.stdout},
		{"STATUS", ""},
		{"GC", `,"cni.dev/valid-attachments":[{"containerID":"one","ifname":"eth0"}]`},
		{"DEL", ""},
	} {
		if r := h.exec(config("1.1.0", x.more), append(verb(c, x.verb), empty...)...); r.code != 0 {
			t.Errorf("%s: %s", x.verb, r.stdout)
		}
	}
}

// TestAbout: whoever runs the plugin by hand is told what it is.
func TestAbout(t *testing.T) {
	h := newHost(t)
	for _, args := range [][]string{nil, {"-h"}, {"--version"}} {
		var out, errs bytes.Buffer
		c := exec.Command(filepath.Join(h.Root, "bin/cni/patchbay"), args...)
		c.Env, c.Stdout, c.Stderr = []string{}, &out, &errs
		if err := c.Run(); err != nil || out.Len() > 0 || !bytes.Contains(errs.Bytes(), []byte("CNI plugin patchbay")) {
			t.Errorf("%v: %v, %q, %q", args, err, &out, &errs)
		}
	}
}
