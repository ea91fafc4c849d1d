package kernel

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
)

// sizeofNhMsg is the size of struct nhmsg.
const sizeofNhMsg = 8

// nhmsg asks for nexthop objects of every family.
type nhmsg struct{}

func (nhmsg) Len() int { return sizeofNhMsg }

func (nhmsg) Serialize() []byte { return make([]byte, sizeofNhMsg) }

func (s *survey) nexthops() error { return s.list(unix.RTM_GETNEXTHOP, nhmsg{}, s.nexthop) }

func (s *survey) nexthop(b []byte) (plan.Item, bool) {
	all := parts(b, sizeofNhMsg)
	if v := valueOf(all, unix.NHA_OIF); len(v) < 4 || int(number(v)) != s.index {
		return plan.Item{}, false
	}
	gateway := addrOf(valueOf(all, unix.NHA_GATEWAY))
	words := fmt.Sprintf("id %d", number(valueOf(all, unix.NHA_ID)))
	if gateway.IsValid() {
		words += " via " + gateway.String()
	}
	flags := nl.NativeEndian().Uint32(b[4:]) & unix.RTNH_F_ONLINK
	nl.NativeEndian().PutUint32(b[4:], flags)
	all = zero(all, unix.NHA_OIF)
	b[1], b[3] = 0, 0 // the scope, which the kernel finds out, and nothing
	m := message(b[:sizeofNhMsg], all)
	return plan.Item{
		Kind: plan.ItemNexthop, Key: digest(m), Words: words + " dev %", Message: m,
		Gateway: gateway, Onlink: flags != 0,
	}, true
}
