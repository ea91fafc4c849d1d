package kernel

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// maxItems bounds what the host may have on a NIC that we move: a table of the whole
// internet's routes is no work for one stroke.
const maxItems = 4096

// Addressing returns what the host has on one netdev.
func (l *Linux) Addressing(ctx context.Context, netdev string) (plan.Addressing, error) {
	var a plan.Addressing
	err := l.host(func(c *rtnl) (err error) {
		a, err = c.addressing(netdev)
		return err
	})
	if err == nil {
		err = ctx.Err()
	}
	return a, err
}

// addressing reads all that names a netdev. The lists are read one after the other:
// what changes meanwhile is missed, or seen twice in the verification.
func (c *rtnl) addressing(netdev string) (plan.Addressing, error) {
	link, err := c.link(netdev)
	if isAbsent(err) {
		return plan.Addressing{}, noNetdev(netdev)
	}
	if err != nil {
		return plan.Addressing{}, err
	}
	s := survey{conn: c, dev: netdev, index: link.index}
	for _, read := range []func() error{s.neighbours, s.addresses, s.nexthops, s.routes, s.rules} {
		if err := read(); err != nil {
			return plan.Addressing{}, fmt.Errorf("what the host has on %s: %w", netdev, err)
		}
	}
	if len(s.items) > maxItems {
		return plan.Addressing{}, &vswitch.Error{
			Kind: vswitch.UplinkInUse, Err: fmt.Errorf("the host has %d addresses, routes and rules on NIC %s, and no more than %d can be moved", len(s.items), netdev, maxItems),
			Hint: "name another NIC",
		}
	}
	settings, err := readSettings(netdev)
	return plan.Addressing{Items: s.items, Settings: settings}.With(plan.Addressing{}), err
}

// survey collects the items of one netdev.
type survey struct {
	conn  *rtnl
	dev   string
	index int
	items []plan.Item
}

// list hands every message of a dump to see, which returns an item or none. A kernel
// that lacks what is asked for has none of it.
func (s *survey) list(message int, header nl.NetlinkRequestData, see func([]byte) (plan.Item, bool)) error {
	r := nl.NewNetlinkRequest(message, unix.NLM_F_DUMP)
	r.AddData(header)
	var found []plan.Item
	err := s.conn.dump(r, func() { found = nil }, func(b []byte) {
		if i, ok := see(slices.Clone(b)); ok {
			i.Dev = s.dev
			found = append(found, i)
		}
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil
	}
	s.items = append(s.items, found...)
	return err
}

// part is one netlink attribute of a message that we take apart.
type part struct {
	kind  uint16
	value []byte
}

// parts are the attributes behind a header.
func parts(b []byte, header int) (all []part) {
	if len(b) < header {
		return nil
	}
	for kind, v := range attributes(b[header:]) {
		all = append(all, part{kind, v})
	}
	return all
}

// message puts a header and attributes together again.
func message(header []byte, all []part) []byte {
	out := slices.Clone(header)
	for _, a := range all {
		out = append(out, nl.NewRtAttr(int(a.kind), a.value).Serialize()...)
	}
	return out
}

func valueOf(all []part, kind uint16) []byte {
	for _, a := range all {
		if a.kind == kind {
			return a.value
		}
	}
	return nil
}

func without(all []part, kinds ...uint16) []part {
	return slices.DeleteFunc(all, func(a part) bool { return slices.Contains(kinds, a.kind) })
}

// digest makes a key of a message.
func digest(b []byte) string {
	h := fnv.New128a()
	_, _ = h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}

func addrOf(v []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(v)
	return a
}

func number32(b []byte) int { return int(nl.NativeEndian().Uint32(b)) }

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

// neighbours are the ones that somebody configured, and copies of those that the
// kernel knows: whoever has them need not ask.
func (s *survey) neighbours() error {
	for _, n := range []neighbour{{family: unix.AF_INET}, {family: unix.AF_INET6}, {family: unix.AF_INET, flags: unix.NTF_PROXY}, {family: unix.AF_INET6, flags: unix.NTF_PROXY}} {
		if err := s.list(unix.RTM_GETNEIGH, n, s.neighbour); err != nil {
			return err
		}
	}
	return nil
}

func (s *survey) neighbour(b []byte) (plan.Item, bool) {
	if len(b) < unix.SizeofNdMsg || number32(b[4:]) != s.index {
		return plan.Item{}, false
	}
	state := nl.NativeEndian().Uint16(b[8:])
	all := without(parts(b, unix.SizeofNdMsg), unix.NDA_CACHEINFO, unix.NDA_PROBES)
	dst, lladdr := addrOf(valueOf(all, unix.NDA_DST)), valueOf(all, unix.NDA_LLADDR)
	words := fmt.Sprintf("%s lladdr %s dev %%", dst, hardware(lladdr))
	i := plan.Item{Kind: plan.ItemNeighbour}
	const known = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE
	switch {
	case !dst.IsValid() || dst.IsMulticast():
		return i, false
	case b[10]&unix.NTF_PROXY != 0:
		i.Words = fmt.Sprintf("proxy %s dev %%", dst)
	case state&unix.NUD_PERMANENT != 0:
		i.Words = words + " nud permanent"
	case state&known != 0 && len(lladdr) > 0:
		nl.NativeEndian().PutUint16(b[8:], unix.NUD_STALE)
		i.Words, i.Passing = words+" nud stale", true
	default:
		return i, false
	}
	clear(b[4:8])
	i.Message = message(b[:unix.SizeofNdMsg], all)
	i.Key = digest(i.Message)
	if i.Passing {
		i.Key = dst.String()
	}
	return i, true
}

func hardware(lladdr []byte) string {
	if len(lladdr) == len(vswitch.MAC{}) {
		return vswitch.MAC(lladdr).String()
	}
	return hex.EncodeToString(lladdr)
}

// sizeofNhMsg is the size of struct nhmsg.
const sizeofNhMsg = 8

// nhmsg asks for nexthop objects of every family.
type nhmsg struct{}

func (nhmsg) Len() int          { return sizeofNhMsg }
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

// zero clears the number of the netdev in an attribute.
func zero(all []part, kind uint16) []part {
	for i, a := range all {
		if a.kind == kind {
			all[i].value = make([]byte, len(a.value))
		}
	}
	return all
}

// ruleHeader is struct fib_rule_hdr, asked for of every family.
type ruleHeader struct{}

func (ruleHeader) Len() int          { return unix.SizeofRtMsg }
func (ruleHeader) Serialize() []byte { return make([]byte, unix.SizeofRtMsg) }

func (s *survey) rules() error { return s.list(unix.RTM_GETRULE, ruleHeader{}, s.rule) }

// The attributes of a rule that name a netdev, linux/fib_rules.h.
const (
	fraIifName  = 3
	fraPriority = 6
	fraOifName  = 17
	fraTable    = 15
	// What the kernel says of a rule, not its maker: FIB_RULE_UNRESOLVED,
	// FIB_RULE_IIF_DETACHED, FIB_RULE_OIF_DETACHED.
	ruleStates = 4 | 8 | 16
)

// anyName stands for the netdev's name in a rule.
const anyName = "%"

func (s *survey) rule(b []byte) (plan.Item, bool) {
	all := parts(b, unix.SizeofRtMsg)
	words := fmt.Sprintf("pref %d", number(valueOf(all, fraPriority)))
	names := false
	for n, a := range all {
		word := map[uint16]string{fraIifName: "iif", fraOifName: "oif"}[a.kind]
		if word == "" {
			continue
		}
		name := text(a.value)
		if name == s.dev {
			names, name = true, anyName
			all[n].value = nl.ZeroTerminated(name)
		}
		words += " " + word + " " + name
	}
	if !names {
		return plan.Item{}, false
	}
	words += fmt.Sprintf(" lookup %d", number(valueOf(all, fraTable)))
	if b[0] == unix.AF_INET6 {
		words = "-6 " + words
	}
	flags := nl.NativeEndian().Uint32(b[8:]) &^ ruleStates
	nl.NativeEndian().PutUint32(b[8:], flags)
	m := message(b[:unix.SizeofRtMsg], all)
	return plan.Item{Kind: plan.ItemRule, Key: digest(m), Words: words, Message: m}, true
}

// readSettings reads what net.ipv4.conf and net.ipv6.conf have on a netdev, in the
// namespace of the calling thread.
func readSettings(netdev string) (map[string]string, error) {
	settings := make(map[string]string)
	for _, family := range []string{"ipv4", "ipv6"} {
		dir := filepath.Join("/proc/sys/net", family, "conf", netdev)
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := family + "/" + e.Name()
			if info, err := e.Info(); err != nil || info.Mode()&0o200 == 0 || bound(name) {
				continue
			}
			value, err := sysctl(filepath.Join(dir, e.Name()))
			if err != nil { // one that has no value yet cannot be read (stable_secret)
				continue
			}
			settings[name] = value
		}
	}
	return settings, nil
}

// bound settings belong to a netdev, not to what the host has there.
func bound(name string) bool { return name == "ipv6/mtu" }

// settingAddrGenMode is how the kernel makes up IPv6 link-local addresses: a write to
// its file makes them at once, so we set it by netlink.
const settingAddrGenMode = "ipv6/addr_gen_mode"

// setSettings writes settings in the namespace of the calling thread.
func (a *applier) setSettings(step int, s plan.SetSettings) error {
	if mode, ok := s.Settings[settingAddrGenMode]; ok {
		r := request{NetlinkRequest: addrGenMode(s.Netdev, mode), step: step, absent: true} // the netdev may have been unplugged
		if err := a.queue("", r); err != nil {
			return err
		}
	}
	return a.outside(func() error {
		for name, value := range s.Settings {
			family, file, _ := strings.Cut(name, "/")
			if name == settingAddrGenMode {
				continue
			}
			err := setSysctl(filepath.Join("/proc/sys/net", family, "conf", s.Netdev, file), value)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

func addrGenMode(netdev, mode string) *nl.NetlinkRequest {
	r := byName(unix.RTM_NEWLINK, 0, netdev, noHeader())
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	var value uint8
	_, _ = fmt.Sscan(mode, &value)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(inet6AddrGenMode, nl.Uint8Attr(value))
	r.AddData(spec)
	return r
}
