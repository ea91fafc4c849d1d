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

// rtaNexthopID is RTA_NH_ID; rtaExpires is RTA_EXPIRES, in seconds, which the kernel tells
// in RTA_CACHEINFO.
const (
	rtaNexthopID = 30
	rtaExpires   = 23
)

// routeFlags are the flags of a route or a hop that its maker gave it; the others are
// the kernel's (dead, linkdown, offloaded), and it refuses to hear some of them.
const routeFlags = unix.RTNH_F_ONLINK | unix.RTNH_F_PERVASIVE

// routes reads those that go by the netdev, alone or among others. Routes of a nexthop
// object follow it and are none of ours, nor are those that the kernel makes for
// addresses, but for what it may leave behind.
func (s *survey) routes() error {
	others := make(map[string]int)
	ids := make(map[string]string) // of the items, by their keys
	start := len(s.items)
	err := s.list(unix.RTM_GETROUTE, nl.NewRtMsg(), func(b []byte) (plan.Item, bool) {
		if len(b) < unix.SizeofRtMsg || b[0] != unix.AF_INET && b[0] != unix.AF_INET6 || flagsOf(b)&unix.RTM_F_CLONED != 0 {
			return plan.Item{}, false
		}
		all := parts(b, unix.SizeofRtMsg)
		id := routeIdentity(b, all)
		others[id]++
		i, ok := s.route(b, all)
		if ok {
			ids[i.Key] = id
		}
		return i, ok
	})
	for n := range s.items[start:] {
		i := &s.items[start+n]
		i.Shared = others[ids[i.Key]] > 1
	}
	return err
}

// routeIdentity is by what `ip route replace` finds the route that it replaces.
func routeIdentity(b []byte, all []part) string {
	return fmt.Sprint(b[0], b[1], b[2], b[3], routeTable(b, all)) + digest(slices.Concat(valueOf(all, unix.RTA_DST), []byte{0}, valueOf(all, unix.RTA_SRC), []byte{0}, valueOf(all, unix.RTA_PRIORITY)))
}

func flagsOf(route []byte) uint32 { return nl.NativeEndian().Uint32(route[8:]) }

func routeTable(b []byte, all []part) int {
	if v := valueOf(all, unix.RTA_TABLE); v != nil {
		return int(number(v))
	}
	return int(b[4])
}

func (s *survey) route(b []byte, all []part) (plan.Item, bool) {
	if valueOf(all, rtaNexthopID) != nil || !s.bindsTo(all) {
		return plan.Item{}, false
	}
	i := plan.Item{Kind: plan.ItemRoute, Gateway: addrOf(valueOf(all, unix.RTA_GATEWAY)), Source: addrOf(valueOf(all, unix.RTA_PREFSRC))}
	i.Prefix, i.Advertised = routePrefix(b, all), b[5] == unix.RTPROT_RA
	table := routeTable(b, all)
	if b[5] == unix.RTPROT_KERNEL {
		if b[0] != unix.AF_INET6 || b[7] != unix.RTN_UNICAST || table == unix.RT_TABLE_LOCAL || i.Prefix.Addr().IsMulticast() {
			return i, false
		}
		if i.Prefix.Addr().IsLinkLocalUnicast() {
			return i, false // any netdev has it that is up, also one that the host has just left
		}
		i.Kind = plan.ItemResidue
	}
	expires := expiry(valueOf(all, unix.RTA_CACHEINFO))
	i.Fleeting = expires > 0
	all = without(all, unix.RTA_CACHEINFO)
	i.Words = s.routeWords(b, all, i)
	nl.NativeEndian().PutUint32(b[8:], flagsOf(b)&routeFlags)
	i.Onlink = flagsOf(b)&unix.RTNH_F_ONLINK != 0
	for n, a := range all {
		switch a.kind {
		case unix.RTA_OIF:
			all[n].value = make([]byte, 4)
		case unix.RTA_MULTIPATH:
			eachHop(a.value, func(hop []byte) {
				hop[2] &= routeFlags
				if number32(hop[4:]) == s.index {
					clear(hop[4:8])
				} else {
					i.Fleeting = true
				}
			})
		}
	}
	i.Message = message(b[:unix.SizeofRtMsg], all)
	i.Key = digest(i.Message)
	if i.Advertised { // it may be there with another metric: see besideAdvertised
		i.Key = digest(message(b[:unix.SizeofRtMsg], without(all, unix.RTA_PRIORITY)))
	}
	if expires > 0 {
		i.Message = append(i.Message, uint32Attribute(rtaExpires, expires).Serialize()...)
	}
	return i, true
}

func routePrefix(b []byte, all []part) netip.Prefix {
	dst := addrOf(valueOf(all, unix.RTA_DST))
	switch {
	case dst.IsValid():
	case b[0] == unix.AF_INET6:
		dst = netip.IPv6Unspecified()
	default:
		dst = netip.IPv4Unspecified()
	}
	return netip.PrefixFrom(dst, int(b[1]))
}

// bindsTo reports whether a route names the netdev.
func (s *survey) bindsTo(all []part) bool {
	if v := valueOf(all, unix.RTA_OIF); v != nil && int(number(v)) == s.index {
		return true
	}
	found := false
	eachHop(valueOf(all, unix.RTA_MULTIPATH), func(hop []byte) { found = found || number32(hop[4:]) == s.index })
	return found
}

// eachHop walks over the struct rtnexthop of a route with several.
func eachHop(b []byte, see func(hop []byte)) {
	for len(b) >= unix.SizeofRtNexthop {
		size := int(nl.NativeEndian().Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			return
		}
		see(b[:size])
		b = b[min(len(b), (size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
	}
}

// besideAdvertised is the message of a route that a router has advertised, with a metric
// worse by one. The kernel cannot renew a route that it has not made itself; where one of
// the same metric is in its way, it ignores the whole advertisement, and addresses and
// routes run out. So it makes its own, and this one goes when its time is over.
func besideAdvertised(m []byte) []byte {
	return eachPart(m, unix.SizeofRtMsg, func(a *part) {
		if a.kind == unix.RTA_PRIORITY && len(a.value) == 4 {
			a.value = nl.Uint32Attr(number(a.value) + 1)
		}
	})
}

// expiry is rta_expires of struct rta_cacheinfo, in whole seconds, at least 1 of what
// expires at all.
func expiry(cacheinfo []byte) int {
	const userHZ = 100
	if len(cacheinfo) < 12 {
		return 0
	}
	ticks := int(int32(nl.NativeEndian().Uint32(cacheinfo[8:])))
	if ticks <= 0 {
		return 0
	}
	return max(1, ticks/userHZ)
}

func (s *survey) routeWords(b []byte, all []part, i plan.Item) string {
	words := []string{i.Prefix.String()}
	if i.Prefix.Bits() == 0 {
		words[0] = "default"
	}
	if b[0] == unix.AF_INET6 {
		words = slices.Insert(words, 0, "-6")
	}
	if i.Gateway.IsValid() {
		words = append(words, "via", i.Gateway.String())
	}
	if valueOf(all, unix.RTA_MULTIPATH) == nil {
		words = append(words, "dev %")
	}
	eachHop(valueOf(all, unix.RTA_MULTIPATH), func(hop []byte) {
		words = append(words, "nexthop")
		if gateway := addrOf(valueOf(parts(hop, unix.SizeofRtNexthop), unix.RTA_GATEWAY)); gateway.IsValid() {
			words = append(words, "via", gateway.String())
		}
		if number32(hop[4:]) == s.index {
			words = append(words, "dev %")
		} else {
			words = append(words, fmt.Sprintf("dev if%d", number32(hop[4:])))
		}
		words = append(words, fmt.Sprintf("weight %d", int(hop[3])+1))
	})
	if t := routeTable(b, all); t != plan.MainTable {
		words = append(words, fmt.Sprintf("table %d", t))
	}
	if v := valueOf(all, unix.RTA_PRIORITY); v != nil {
		words = append(words, fmt.Sprintf("metric %d", number(v)))
	}
	if i.Source.IsValid() {
		words = append(words, "src", i.Source.String())
	}
	return strings.Join(append(words, fmt.Sprintf("proto %d", b[5])), " ")
}
