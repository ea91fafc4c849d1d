// Package nested_test migrates a virtual machine with a real VF between two hosts. VFs that can be
// given away, and the IOMMU for it, are emulated ones: the hosts are in a guest, and the
// virtual machine is a guest of that. `make test-migration` runs it.
package nested_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// What the guest needs is downloaded before it boots: it has no network.
func TestMain(m *testing.M) {
	if os.Getenv(guest.Env) == "" {
		if err := machine.Fetch(context.Background(), os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
