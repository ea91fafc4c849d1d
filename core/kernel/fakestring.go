package kernel

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// String draws the state in the words of `ip`, `bridge`, `nft` and `sysctl`,
// sorted: the host first, then each namespace, the rules and forwarding.
//
//	host
//	  pb-lan: bridge 0e:00:00:00:00:01 mtu 1500 up alias "patchbay:bridge switch=lan"
//	  pbp1: veth eth0@/run/netns/a 0e:00:00:00:00:02 mtu 1500 up master pb-lan group 0x50420001
//	    bridge link learning off flood off locked on
//	    bridge fdb 0a:50:42:00:00:01 static sticky
//	netns /run/netns/a
//	  eth0: veth pbp1@host 0a:50:42:00:00:01 mtu 1500 up
//	    inet 10.0.0.2/24
//	    route default via 10.0.0.1
//	nft table patchbay
//	  quiet { 0x50420001 }
//	sysctl
//	  net.ipv4.ip_forward = 1
func (f *Fake) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	f.host.draw(&b, "host")
	for _, path := range slices.Sorted(maps.Keys(f.netns)) {
		f.netns[path].draw(&b, "netns "+path)
	}
	f.drawRules(&b)
	f.drawSpreads(&b)
	f.drawMirrors(&b)
	if f.onward != (plan.Families{}) {
		b.WriteString("sysctl\n")
		line(&b, f.onward.IPv4, "net.ipv4.ip_forward = 1")
		line(&b, f.onward.IPv6, "net.ipv6.conf.all.forwarding = 1")
	}
	return b.String()
}

func line(b *strings.Builder, show bool, format string, args ...any) {
	if show {
		fmt.Fprintf(b, "  "+format+"\n", args...)
	}
}

func (ns *fakeNetns) draw(b *strings.Builder, title string) {
	b.WriteString(title + "\n")
	for _, name := range slices.Sorted(maps.Keys(ns.links)) {
		ns.links[name].draw(b)
	}
	for _, name := range slices.Sorted(maps.Keys(ns.rules)) {
		for _, i := range ns.rules[name] {
			line(b, ns.links[name] == nil, "%s %s [detached]", i.Kind, i.On(name))
		}
	}
}

func (l *fakeLink) draw(b *strings.Builder) {
	line(b, true, "%s: %s", l.Name, strings.Join(l.words(), " "))
	if l.master != nil {
		muted := ""
		for _, flag := range []struct {
			word string
			set  bool
		}{{" isolated on", l.isolated}, {" bcast_flood off", l.noBroadcast}, {" mcast_flood off", l.noMulticast}} {
			if flag.set {
				muted += flag.word
			}
		}
		line(b, true, "  bridge link learning %s flood %s locked %s%s", onOff(l.learning), onOff(l.flood), onOff(l.locked), muted)
		line(b, !l.vlans.IsZero(), "  bridge vlan %s", vlanWords(l.vlans))
		l.drawEntries(b)
	}
	for _, mac := range l.letIn {
		line(b, true, "  filter %s self", mac)
	}
	l.drawLimits(b)
	l.drawShares(b)
	byFamily := func(a, b plan.Address) int { return cmp.Compare(a.Prefix.Addr().BitLen(), b.Prefix.Addr().BitLen()) }
	for _, a := range slices.SortedStableFunc(slices.Values(l.addresses), byFamily) { // as `ip addr` does
		family := "inet"
		if a.Prefix.Addr().Is6() {
			family = "inet6"
		}
		line(b, true, "  %s %s", family, a.Prefix)
	}
	for _, i := range l.all() {
		line(b, true, "  %s %s", i.Kind, i.On(l.Name))
	}
	for _, name := range slices.Sorted(maps.Keys(l.settings)) {
		line(b, l.settings[name] != "0", "  sysctl %s = %s", name, l.settings[name])
	}
	for _, id := range slices.SortedFunc(maps.Keys(l.ns.routes), compareRoutes) {
		if r := l.ns.routes[id]; r.link == l {
			line(b, true, "  route %s", r.words())
		}
	}
}

// drawEntries leaves out of an address's VLANs those that go without saying.
func (l *fakeLink) drawEntries(b *strings.Builder) {
	vlans := make(map[vswitch.MAC][]int)
	for e, port := range l.master.fdb {
		if port == l {
			vlans[e.MAC] = append(vlans[e.MAC], e.VLAN)
		}
	}
	for _, mac := range slices.SortedFunc(maps.Keys(vlans), func(a, b vswitch.MAC) int { return cmp.Compare(a.String(), b.String()) }) {
		in := ""
		if set := vswitch.VLANs(slices.DeleteFunc(vlans[mac], func(id int) bool { return id == 0 })...); len(set) > 0 {
			in = " vlan " + set.String()
		}
		line(b, true, "  bridge fdb %s static sticky%s", mac, in)
	}
}

func vlanWords(m vswitch.Membership) string {
	words := []string{fmt.Sprintf("pvid %d untagged %s", m.PVID, m.Untagged)}
	if len(m.Tagged) > 0 {
		words = append(words, "tagged "+m.Tagged.String())
	}
	return strings.Join(words, " ")
}

func (l *fakeLink) words() []string {
	var words []string
	if l.Kind != "" {
		words = append(words, l.Kind)
	}
	if l.peer != nil {
		place := l.peer.ns.path
		if place == "" {
			place = "host"
		}
		words = append(words, l.peer.Name+"@"+place)
	}
	if !l.MAC.IsZero() {
		words = append(words, l.MAC.String())
	}
	words = append(words, fmt.Sprintf("mtu %d", l.MTU))
	if l.Up {
		words = append(words, "up")
	} else {
		words = append(words, "down")
	}
	if l.options.VLANFiltering {
		words = append(words, "vlan_filtering")
	}
	if l.options.Member {
		words = append(words, "member")
	}
	if l.master != nil {
		words = append(words, "master "+l.master.Name)
	}
	if l.group != 0 {
		words = append(words, fmt.Sprintf("group %#x", l.group))
	}
	if l.Kind == "bond" {
		words = append(words, l.bondWords())
	}
	if l.isMember() && l.member.prio != 0 {
		words = append(words, fmt.Sprintf("prio %d", l.member.prio))
	}
	if l.Alias != "" {
		words = append(words, fmt.Sprintf("alias %q", l.Alias))
	}
	return words
}

func compareRoutes(a, b plan.RouteID) int {
	return cmp.Or(cmp.Compare(a.Dst.Addr().BitLen(), b.Dst.Addr().BitLen()), cmp.Compare(a.Table, b.Table),
		a.Dst.Addr().Compare(b.Dst.Addr()), cmp.Compare(a.Dst.Bits(), b.Dst.Bits()), cmp.Compare(a.Priority, b.Priority))
}

func (r fakeRoute) words() string {
	dst := r.Dst.String()
	if r.Dst.Bits() == 0 {
		dst = "default"
	}
	words := []string{dst}
	if r.Gateway.IsValid() {
		words = append(words, "via "+r.Gateway.String())
	}
	if r.Table != nil {
		words = append(words, fmt.Sprintf("table %d", *r.Table))
	}
	if *r.Scope == scopeLink {
		words = append(words, "scope link")
	}
	for _, option := range []struct {
		word  string
		value int
	}{{"metric", r.Priority}, {"mtu", r.MTU}, {"advmss", r.AdvMSS}} {
		if option.value != 0 {
			words = append(words, fmt.Sprintf("%s %d", option.word, option.value))
		}
	}
	return strings.Join(words, " ")
}

func (f *Fake) drawRules(b *strings.Builder) {
	f.drawGuards(b)
	f.drawACLs(b)
	r := f.rules
	if !r.Base {
		return
	}
	b.WriteString("nft table patchbay\n")
	for _, dev := range slices.Sorted(maps.Keys(r.Masquerade)) {
		line(b, r.Masquerade[dev].IPv4, "masquerade4 { %s }", dev)
		line(b, r.Masquerade[dev].IPv6, "masquerade6 { %s }", dev)
	}
	for _, group := range slices.Sorted(maps.Keys(r.Quiet)) {
		line(b, true, "quiet { %#x }", group)
	}
	for _, group := range slices.Sorted(maps.Keys(r.Router)) {
		line(b, true, "router { %#x : %s }", group, r.Router[group])
	}
	for _, mac := range slices.SortedFunc(maps.Keys(r.Host), func(a, b vswitch.MAC) int { return bytes.Compare(a[:], b[:]) }) {
		line(b, true, "host { %s }", mac)
	}
	for _, dev := range slices.Sorted(maps.Keys(r.Guard)) {
		line(b, true, "guard { %s . %s }", dev, r.Guard[dev])
	}
	for _, dev := range slices.Sorted(maps.Keys(r.Apart)) {
		line(b, true, "apart { %s }", dev)
	}
	for _, dev := range slices.Sorted(maps.Keys(r.Priority)) {
		line(b, true, "priority { %s }", dev)
	}
	for _, set := range []struct {
		name   string
		inlets map[plan.Inlet]bool
	}{{"apart_in", r.ApartIn}, {"closed", r.Closed}} {
		for _, at := range slices.SortedFunc(maps.Keys(set.inlets), func(a, b plan.Inlet) int {
			return cmp.Or(cmp.Compare(a.Netdev, b.Netdev), cmp.Compare(a.VLAN, b.VLAN))
		}) {
			line(b, true, "%s { %s . %d }", set.name, at.Netdev, at.VLAN)
		}
	}
}

func (f *Fake) drawGuards(b *strings.Builder) {
	if !f.rules.GuardBase {
		return
	}
	b.WriteString("nft table patchbay_guards\n")
	for _, dev := range slices.Sorted(maps.Keys(f.rules.Guards)) {
		g := f.rules.Guards[dev]
		line(b, g.DHCP, "dhcp { %s }", dev)
		line(b, g.Router, "router { %s }", dev)
		line(b, g.Storm > 0, "storm { %s limit rate over %d/second }", dev, g.Storm)
		line(b, g.Bound != "", "bound { %s to %s }", dev, g.Bound)
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
