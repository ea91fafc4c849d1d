package wire_test

import (
	"testing"

	"github.com/patchbay-net/patchbay/core/wire/wiretest"
)

// What comes before the runtime cannot use it.
func TestEarlyNeedsNoRuntime(t *testing.T) {
	wiretest.NeedsNoRuntime(t, 20, "early_amd64.go", "../../cni/handover/start_amd64.go")
	wiretest.NeedsNoRuntime(t, 30, "early_amd64.go", "../../libvirt-hook/call/call.go", "../../libvirt-hook/handover/start_amd64.go", "../../libvirt-hook/handover/note.go")
}
