// Command patchbay-libvirt-hook is libvirt's hook for networks and domains that are on
// switches of Patchbay. libvirt runs it as /etc/libvirt/hooks/network.d/50-patchbay, and
// likewise in qemu.d and lxc.d.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/patchbay-net/patchbay/core/api"
	"github.com/patchbay-net/patchbay/libvirt-hook/handover"
	"github.com/patchbay-net/patchbay/libvirt-hook/hook"
)

// buildVersion is set by the linker.
var buildVersion = "dev"

// main comes when patchbayd has not carried out the call: see package handover.
func main() {
	left := handover.Left
	if left.Call.Driver == "" {
		usage()
		os.Exit(2)
	}
	rest := time.Duration(left.Begun+handover.Deadline-handover.Now()) * time.Microsecond
	time.AfterFunc(rest, func() { handover.End(left.Call, handover.Late()) })
	client := api.Open()
	if left.Alone {
		client = api.OpenAlone()
	}
	handover.End(left.Call, hook.Serve(context.Background(), client, left.Call))
}

func usage() {
	fmt.Fprintf(os.Stderr, `patchbay-libvirt-hook %s: libvirt runs it for its networks and domains, as
/etc/libvirt/hooks/network.d/50-patchbay, and in qemu.d and lxc.d; see docs/libvirt.md.

To see what it would say, with the XML on standard input:
  patchbay-libvirt-hook network|qemu|lxc NAME OPERATION [SUB-OPERATION [EXTRA]]
`, buildVersion)
}
