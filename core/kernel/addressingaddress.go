package kernel

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
)

// addresses puts IPv6's the other way round: the kernel shows the newest first.
func (s *survey) addresses() error {
	start := len(s.items)
	if err := s.list(unix.RTM_GETADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC), s.address); err != nil {
		return err
	}
	var v4, v6 []plan.Item
	for _, i := range s.items[start:] {
		if i.Prefix.Addr().Is4() {
			v4 = append(v4, i)
		} else {
			v6 = append(v6, i)
		}
	}
	slices.Reverse(v6)
	s.items = append(append(s.items[:start], v4...), v6...)
	return nil
}

func (s *survey) address(b []byte) (plan.Item, bool) {
	if len(b) < unix.SizeofIfAddrmsg || number32(b[4:]) != s.index || b[0] != unix.AF_INET && b[0] != unix.AF_INET6 {
		return plan.Item{}, false
	}
	all := parts(b, unix.SizeofIfAddrmsg)
	local, peer := addrOf(valueOf(all, unix.IFA_LOCAL)), addrOf(valueOf(all, unix.IFA_ADDRESS))
	if !local.IsValid() {
		local = peer
	}
	prefix := netip.PrefixFrom(local, int(b[1]))
	if !prefix.IsValid() {
		return plan.Item{}, false
	}
	words := []string{prefix.String()}
	if peer.IsValid() && peer != local {
		words = []string{local.String(), "peer", netip.PrefixFrom(peer, int(b[1])).String()}
	}
	i := plan.Item{Kind: plan.ItemAddress, Key: strings.Join(words, " "), Prefix: prefix}
	words = append(words, "dev %")
	if text(valueOf(all, unix.IFA_LABEL)) == s.dev {
		all = without(all, unix.IFA_LABEL) // the default, the netdev's name
	} else if v := valueOf(all, unix.IFA_LABEL); v != nil {
		words = append(words, "label", text(v))
	}
	i.Secondary = local.Is4() && addressFlags(b, all)&unix.IFA_F_SECONDARY != 0
	if local.Is6() {
		i.Temporary = addressFlags(b, all)&unix.IFA_F_TEMPORARY != 0
		words = append(words, "nodad")
	}
	if v := valueOf(all, unix.IFA_CACHEINFO); len(v) >= 8 && number32(v[4:]) != forever {
		i.Fleeting = true
		words = append(words, fmt.Sprintf("valid_lft %d preferred_lft %d", number32(v[4:]), number32(v)))
	}
	clear(b[4:8])
	i.Words, i.Message = strings.Join(words, " "), message(b[:unix.SizeofIfAddrmsg], all)
	return i, true
}

// forever is INFINITY_LIFE_TIME of net/addrconf.h.
const forever = 0xffffffff

func addressFlags(b []byte, all []part) uint32 {
	if v := valueOf(all, unix.IFA_FLAGS); len(v) >= 4 {
		return number(v)
	}
	return uint32(b[2])
}
