// Command patchbay (bin/cni/patchbay) is Patchbay's CNI plugin: it attaches
// containers to virtual switches as the CNI specification 0.3.1 to 1.1.0 asks.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/patchbay-net/patchbay/cni/handover"
	"github.com/patchbay-net/patchbay/cni/plugin"
	"github.com/patchbay-net/patchbay/core/api"
)

// buildVersion is set by the linker.
var buildVersion = "dev"

// main comes when patchbayd has not carried out the call: see package handover.
func main() {
	left := handover.Left
	if left.Call.Command == "" {
		fmt.Fprintf(os.Stderr, "CNI plugin patchbay %s: container runtimes start it, see docs/cni.md\n", buildVersion)
		return
	}
	if left.Err != nil {
		_ = types.NewError(types.ErrIOFailure, "the configuration cannot be read: "+left.Err.Error(), "").Print() // nor could this be said
		os.Exit(1)
	}
	growStack(-1)
	client := api.Open()
	if left.Alone {
		client = api.OpenAlone()
	}
	a := plugin.Serve(context.Background(), client, left.Call)
	if _, err := os.Stdout.Write(a.Out); err != nil {
		fmt.Fprintln(os.Stderr, "patchbay: the answer cannot be written:", err)
		os.Exit(1)
	}
	if a.Failed {
		os.Exit(1)
	}
}

// growStack has the runtime make the stack large at once, while there is little on it. By
// itself it would double the stack again and again, and each time look up in tables that
// are not in memory yet how to move what is on it.
//
//go:noinline
func growStack(at int) byte {
	if at < 0 {
		return 0 // the runtime has looked whether there is room; none of it is touched
	}
	var room [48 << 10]byte
	room[at] = 1
	return room[at/2]
}
