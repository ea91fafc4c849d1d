// Command patchbay (bin/cni/patchbay) is Patchbay's CNI plugin: it attaches
// containers to virtual switches as the CNI specification 0.3.1 to 1.1.0 asks.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/patchbay-net/patchbay/cni/plugin"
	"github.com/patchbay-net/patchbay/core/api"
)

// buildVersion is set by the linker.
var buildVersion = "dev"

func main() {
	c := plugin.Call{
		Command:     os.Getenv("CNI_COMMAND"),
		ContainerID: os.Getenv("CNI_CONTAINERID"),
		Netns:       os.Getenv("CNI_NETNS"),
		IfName:      os.Getenv("CNI_IFNAME"),
		Args:        os.Getenv("CNI_ARGS"),
	}
	if c.Command == "" {
		fmt.Fprintf(os.Stderr, "CNI plugin patchbay %s: container runtimes start it, see docs/cni.md\n", buildVersion)
		return
	}
	if c.Command != "VERSION" {
		var err error
		if c.Stdin, err = io.ReadAll(os.Stdin); err != nil {
			fail("the configuration cannot be read: " + err.Error())
		}
	}
	a := plugin.Serve(context.Background(), api.Open(), c)
	if _, err := os.Stdout.Write(a.Out); err != nil {
		fmt.Fprintln(os.Stderr, "patchbay: the answer cannot be written:", err)
		os.Exit(1)
	}
	if a.Failed {
		os.Exit(1)
	}
}

// fail tells the runtime that not even the question could be read.
func fail(msg string) {
	_ = types.NewError(types.ErrIOFailure, msg, "").Print() // there is no other way to say it
	os.Exit(1)
}
