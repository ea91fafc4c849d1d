// Command patchbay-plugin-vmq gives ports hardware queues of their own on any NIC whose
// Linux driver steers frames by their destination: docs/vmq.md.
package main

import (
	"github.com/patchbay-net/patchbay/plugins/vmq/steering"
	"github.com/patchbay-net/patchbay/sdk"
)

// version is set by the linker.
var version = "unknown"

func main() { sdk.Serve(steering.New(version)) }
