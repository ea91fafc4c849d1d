package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// This file is what reading and writing nftables have in common.

// dumpRules sends a dump request; one that was torn is errRulesetMoved.
func dumpRules(c *rtnl, r request) error {
	switch err := c.do([]request{r}); {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINTR) || isAbsent(err):
		return errRulesetMoved
	default:
		return fmt.Errorf("read nftables rules: %w", err)
	}
}

// dialNetfilter opens a socket to nftables in the namespace of the calling thread.
func dialNetfilter() (*rtnl, error) {
	c, err := dialNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, noNftables(err)
	}
	return c, nil
}

// nftRequest is a message to nftables that is answered and acknowledged.
func nftRequest(message int, family uint8, flags int, attrs ...attribute) *nl.NetlinkRequest {
	return nftMessage(message, family, flags|unix.NLM_F_ACK, attrs)
}

func nftMessage(message int, family uint8, flags int, attrs []attribute) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|message, flags)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: unix.NFNETLINK_V0})
	for _, a := range attrs {
		r.AddData(a)
	}
	return r
}

// nftAttributes iterates over what follows struct nfgenmsg.
func nftAttributes(b []byte) func(func(uint16, []byte) bool) {
	return attributes(b[min(len(b), nl.SizeofNfgenmsg):])
}

func bigEndian(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

// generationOf reads the number of the ruleset's last change.
func generationOf(answer []byte) uint32 { return nftNumber(answer, unix.NFTA_GEN_ID) }

// usesOf reads how many chains and sets a table has.
func usesOf(answer []byte) int { return int(nftNumber(answer, unix.NFTA_TABLE_USE)) }

// asleep reads whether somebody has put a table to sleep: all of it is there, and no hook
// calls it.
func asleep(answer []byte) bool {
	return nftNumber(answer, unix.NFTA_TABLE_FLAGS)&unix.NFT_TABLE_F_DORMANT != 0
}

func nftNumber(answer []byte, wanted uint16) uint32 {
	for kind, v := range nftAttributes(answer) {
		if kind == wanted {
			return bigEndian(v)
		}
	}
	return 0
}
