// Command patchbay (bin/cni/patchbay) is Patchbay's CNI plugin: it attaches
// containers to virtual switches as the CNI specification 0.3.1 to 1.1.0 asks.
//
// It translates and decides nothing: a configuration becomes an
// engine.AttachRequest, an attachment becomes a CNI result.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/patchbay-net/patchbay/core/api"
)

// buildVersion is set by the linker.
var buildVersion = "dev"

func main() {
	p := plugin{client: api.Open()}
	err := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: p.add, Del: p.del, Check: p.check, GC: p.gc, Status: p.status,
	}, version.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0"), "CNI plugin patchbay "+buildVersion)
	if err == nil {
		return
	}
	err.Msg = plain(err.Msg)
	if err := err.Print(); err != nil {
		fmt.Fprintln(os.Stderr, "patchbay:", err)
	}
	os.Exit(1)
}

// plugin serves CNI's verbs with a client.
type plugin struct{ client *api.Client }

// plain takes Go's types out of the library's own messages, which it gives about
// what it reads before we do.
func plain(msg string) string {
	before, after, cut := strings.Cut(msg, "json: cannot unmarshal ")
	value, target, into := strings.Cut(after, " into Go ")
	if !cut || !into {
		return msg
	}
	if field, inside := strings.CutPrefix(target, "struct field "); inside {
		path, _, _ := strings.Cut(field, " of type ")
		return before + path[strings.LastIndex(path, ".")+1:] + ": here is " + found(value)
	}
	return before + "here is " + found(value) + ", expected is an object"
}
