// Command patchbay-plugin-ipsec has NICs encrypt for ports: the security associations (SAs)
// of a port's owner, up to as many as the port may have, whatever program negotiated them.
// It serves every NIC whose driver has the kernel's ESP offload. See docs/ipsec.md.
package main

import (
	"github.com/patchbay-net/patchbay/plugins/ipsec/offload"
	"github.com/patchbay-net/patchbay/sdk"
)

// version is set at build time.
var version = "unknown"

func main() { sdk.Serve(offload.New(version)) }
