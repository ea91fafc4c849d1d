package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// tablesPresent fails with vswitch.Drifted unless the tables are there, whatever
// is in them, in the namespace of the socket; without NAT the one for bridges is enough.
// It is part of every attach, and so one send.
func tablesPresent(c *rtnl, s plan.RequireRules) error {
	families := []uint8{unix.NFPROTO_BRIDGE, unix.NFPROTO_INET}
	if s.NoNAT {
		families = families[:1]
	}
	var requests []request
	for _, family := range families {
		requests = append(requests, request{
			NetlinkRequest: nftRequest(unix.NFT_MSG_GETTABLE, family, 0, nameAttr(unix.NFTA_TABLE_NAME, tableName)),
			explain:        explainTables,
		})
	}
	return c.do(requests)
}

func explainTables(err error) error {
	if !isAbsent(err) {
		return noNftables(err)
	}
	return &vswitch.Error{
		Kind: vswitch.Drifted, Object: "nftables",
		Err:  fmt.Errorf("the tables %s are gone: %w", tableName, unix.ENOENT),
		Hint: "run `patchbay switch add` with the switch's own definition, which repairs them",
	}
}
