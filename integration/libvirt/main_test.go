package libvirt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// Downloads come first: a sandbox has no network.
func TestMain(m *testing.M) {
	if os.Getenv(guest.Env) == "" && !host.Inside() {
		if err := machine.Fetch(context.Background(), os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(host.Main(m.Run))
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newMachines makes machines that share a directory.
func newMachines(t *testing.T, v machine.Version, names ...string) (all []*machine.Machine) {
	t.Helper()
	if !host.Inside() {
		t.Skip("needs root: network namespaces")
	}
	dir, err := os.MkdirTemp("", "lv") // paths of sockets are short
	ok(t, err)
	t.Cleanup(func() { ok(t, errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.RemoveAll(dir))) })
	for _, name := range names {
		m, err := machine.New(t.Context(), machine.Config{Name: name, Version: v, Share: dir})
		ok(t, err)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("libvirtd of %s:\n%.20000s", name, m.Log())
			}
			ok(t, m.Close())
		})
		all = append(all, m)
	}
	return all
}
