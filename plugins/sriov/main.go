// Command patchbay-plugin-sriov gives ports VFs of any NIC whose Linux driver makes them the
// usual way. docs/sriov.md is for who uses it.
package main

import (
	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/plugins/sriov/pool"
	"github.com/patchbay-net/patchbay/sdk"
)

// version is set by the linker.
var version = "unknown"

func main() { sdk.Serve(pool.New(nic.Open(), version)) }
