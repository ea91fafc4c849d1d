// Command patchbay-plugin-example is the plugin that docs/writing-a-plugin.md walks through:
// a vendor whose NICs exist in its memory only. `patchbay plugin check` passes it.
package main

import (
	"github.com/patchbay-net/patchbay/plugins/example/card"
	"github.com/patchbay-net/patchbay/sdk"
)

func main() { sdk.Serve(card.New()) }
