package engine

import (
	"context"
	"errors"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// DefineNetworkRequest is a libvirt network to define.
type DefineNetworkRequest struct {
	XML string `json:"xml"`
}

// DefinedNetwork is what became of it.
type DefinedNetwork struct {
	// Stale says that a network of the name is active as it was defined before. It becomes the
	// new one when it is stopped and started, which VMs on it do not notice.
	Stale bool `json:"stale,omitempty"`
}

// DefineNetwork defines and starts a libvirt network. Only a patchbayd that is connected to
// libvirtd can; the engine itself knows no libvirt, and fails with CapabilityMissing.
func (e *Engine) DefineNetwork(context.Context, DefineNetworkRequest) (DefinedNetwork, error) {
	return DefinedNetwork{}, fault("libvirt network define", "", &vswitch.Error{
		Kind: vswitch.CapabilityMissing, Err: errors.New("patchbayd does not run, and it is what talks to libvirt"),
		Hint: "start it with `systemctl start patchbayd`, or run `patchbay libvirt network NAME >net.xml; virsh net-define net.xml`",
	})
}
