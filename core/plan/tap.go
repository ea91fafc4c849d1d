package plan

import (
	"fmt"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// The steps for taps that we make for others to open.
type (
	// MakeTap makes a tap, down, that stays until DeleteTap. Its mark is its alias: one of the
	// name with the same mark is fine, and of another it fails.
	MakeTap struct {
		Name, Mark string
		MAC        vswitch.MAC
		// Queues is how many who opens it may use: the kernel has to know whether that is one.
		Queues int
	}
	// DeleteTap removes a tap with that mark. One that is not there is fine, and one with
	// another mark stays.
	DeleteTap struct{ Name, Mark string }
)

func (MakeTap) step()   {}
func (DeleteTap) step() {}

func (s MakeTap) String() string {
	queues := ""
	if s.Queues > 1 {
		queues = " multi_queue"
	}
	return fmt.Sprintf("ip tuntap add dev %s mode tap vnet_hdr%s && ip link set %s address %s alias %q", s.Name, queues, s.Name, s.MAC, s.Mark)
}

func (s DeleteTap) String() string { return "ip link del " + s.Name }
