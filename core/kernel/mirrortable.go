package kernel

import (
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
)

// mirrorTable is the table that tells of a port whose frames filters copy: a dump of tables
// finds all of them, which one of filters does not. A copy is sent by the destination's
// netdev itself, past the bridge, and is copied to nobody: no port is both.
func mirrorTable(bridge, netdev string) ruleTable {
	return ruleTable{name: plan.MirrorTable(bridge, netdev), family: unix.NFPROTO_BRIDGE}
}
