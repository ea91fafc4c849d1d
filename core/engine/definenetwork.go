package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// DefineNetworkRequest is the definition of a libvirt network.
type DefineNetworkRequest struct {
	Name string `json:"name"`
	XML  string `json:"xml"`
}

// DefinedNetwork tells what came of a definition.
type DefinedNetwork struct {
	Name string `json:"name"`
	// Stale says that the network runs as it was defined before, until it is restarted.
	Stale bool `json:"stale,omitempty"`
}

// DefineNetwork has libvirt define a network and start it, now and whenever libvirt starts. A
// patchbayd that is connected to libvirt can: the engine by itself does not know libvirt, and
// fails with CapabilityMissing.
func (e *Engine) DefineNetwork(_ context.Context, req DefineNetworkRequest) (DefinedNetwork, error) {
	return DefinedNetwork{Name: req.Name}, &vswitch.Error{
		Kind: vswitch.CapabilityMissing, Op: "libvirt network define", Object: req.Name, Err: errors.New("no patchbayd is connected to libvirt here"),
		Hint: fmt.Sprintf("start patchbayd beside libvirtd, or run `patchbay libvirt network SWITCH --name %s | virsh net-define /dev/stdin && virsh net-start %[1]s`", vswitch.ShellWords(req.Name)),
	}
}
