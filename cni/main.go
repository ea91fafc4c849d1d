// Command patchbay (bin/cni/patchbay) is Patchbay's CNI plugin: it attaches
// containers to virtual switches as the CNI specification 0.3.1 to 1.1.0 asks.
//
// It translates and decides nothing: a configuration becomes an
// engine.AttachRequest, an attachment becomes a CNI result.
package main

import (
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/patchbay-net/patchbay/core/api"
)

// buildVersion is set by the linker.
var buildVersion = "dev"

func main() {
	p := plugin{client: api.Open()}
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add: p.add, Del: p.del, Check: p.check, GC: p.gc, Status: p.status,
	}, version.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0"), "CNI plugin patchbay "+buildVersion)
}

// plugin serves CNI's verbs with a client.
type plugin struct{ client *api.Client }
