package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/patchbay-net/patchbay/integration/host"
)

// install copies all programs that are measured below dir, as an installation does, and
// returns what is the root of a tree for package host. The linker writes its output page
// by page, and so it lies in memory: the kernel maps it page by page then at every start,
// which takes a plugin half a millisecond more than one that was copied.
func install(dir string) (root string, err error) {
	built, err := host.Root()
	if err != nil {
		return "", err
	}
	root = filepath.Join(dir, "installed")
	for _, name := range []string{"patchbay", "patchbayd", "cni/patchbay", "tools/cni/bridge", "tools/cni/host-local"} {
		if err := installFile(filepath.Join(built, "bin", name), filepath.Join(root, "bin", name)); err != nil {
			return "", fmt.Errorf("%w; run `make build deps`", err)
		}
	}
	return root, nil
}

func installFile(from, to string) error {
	program, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.WriteFile(to, program, 0o700)
}
