package kernel

import (
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/plan"
)

// hostOnNIC is a host with all that it can have on a NIC.
const hostOnNIC = `
sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0
ip link set lo up
ip link add eth0 address 02:00:00:00:05:05 type veth peer name far
ip link add eth9 type veth peer name far9
ip link set far up
ip link set far9 up
ip link set eth9 up
ip link set eth0 up
ip addr add 10.6.0.5/24 dev eth9
ip addr add 10.1.0.5/24 brd + dev eth0
ip addr add 10.1.0.6/24 brd + dev eth0 label eth0:1 valid_lft 3600 preferred_lft 1800
ip addr add 10.2.0.5/24 dev eth0 noprefixroute scope link
ip addr add 10.7.0.5/24 dev eth0 metric 77
ip addr add 10.3.0.1 peer 10.3.0.2/32 dev eth0
ip -6 addr add 2001:db8:1::5/64 dev eth0 nodad valid_lft 7200 preferred_lft 3600 noprefixroute
ip -6 addr add 2001:db8:1::505/64 dev eth0 nodad mngtmpaddr valid_lft 9000 preferred_lft 8000
ip -6 addr add 2001:db8:2::1 peer 2001:db8:2::2/128 dev eth0 nodad
ip route add default via 10.1.0.1 metric 100 proto static
ip route add default via 10.1.0.1 metric 600 proto dhcp src 10.1.0.6
ip route add 10.9.0.0/16 via 10.1.0.1 dev eth0 src 10.1.0.6 mtu lock 1300 advmss 1200 initcwnd 20
ip route add 10.8.0.0/16 via 192.0.2.1 dev eth0 onlink
ip route add 10.2.0.0/24 dev eth0 scope link table 100
ip route add default via 10.1.0.1 dev eth0 table 1000
ip route add 10.50.0.0/16 nexthop via 10.1.0.1 dev eth0 weight 1 nexthop via 10.1.0.2 dev eth0 weight 2
ip route add 10.52.0.0/16 nexthop via 10.1.0.1 dev eth0 nexthop via 10.6.0.1 dev eth9
ip nexthop add id 7 via 10.1.0.1 dev eth0
ip route add 10.51.0.0/16 nhid 7
ip rule add from 10.1.0.6 lookup 100 pref 1000
ip rule add iif eth0 lookup 100 pref 1001
ip rule add oif eth0 fwmark 3/7 lookup 1000 pref 1002
ip -6 rule add iif eth0 lookup 100 pref 1001
ip -6 route add default via fe80::1 dev eth0 metric 1024 expires 1800 proto ra pref high
ip -6 route add 2001:db8:1::/64 dev eth0 metric 50
ip -6 route add 2001:db8:9::/48 via 2001:db8:1::1 dev eth0
ip -6 route add 2001:db8:a::/48 nexthop via 2001:db8:1::1 dev eth0 nexthop via 2001:db8:1::2 dev eth0
ip neigh add 10.1.0.77 lladdr 02:00:00:00:77:77 dev eth0 nud permanent
ip neigh add 10.1.0.78 lladdr 02:00:00:00:77:78 dev eth0 nud stale
ip neigh add proxy 10.1.0.79 dev eth0
ip -6 neigh add 2001:db8:1::77 lladdr 02:00:00:00:77:77 dev eth0 nud permanent
ip link add pbh-s address 02:00:00:00:05:05 type veth peer name pbp-s
ip link set pbh-s addrgenmode none up
ip link set pbp-s addrgenmode none up
`

// dump is what `ip` shows of the host, without what passes by itself.
func (l *linuxLab) dump() []string {
	out := sh(l.t, l.host, `ip -4 -d addr show; ip -6 -d addr show; ip -d route show table all; ip -6 -d route show table all
ip rule; ip -6 rule; ip nexthop; ip neigh show nud permanent; ip neigh show proxy; ip -6 neigh show proxy`)
	for _, r := range [][2]string{
		{`(valid_lft|preferred_lft|expires) [0-9]+sec`, "$1 T"},
		{`(proto ra .*metric) 102[456]`, "$1 M"}, // see besideAdvertised
		{`qdisc.*`, ""},
		{`(?m)^[0-9]+: `, ""},
		{` +\n`, "\n"},
		{`(?m)^ *link/.*\n`, ""},
		{`(?m)^ *(veth|bridge).*\n`, ""},
	} {
		out = regexp.MustCompile(r[0]).ReplaceAllString(out, r[1])
	}
	return slices.Sorted(slices.Values(strings.Split(out, "\n")))
}

func (l *linuxLab) addressing(netdev string) (a plan.Addressing) {
	l.t.Helper()
	err := l.do(func(k *Linux) (err error) {
		a, err = k.Addressing(context.Background(), netdev)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

// move takes what the host has from a netdev to another.
func (l *linuxLab) move(a plan.Addressing, from, to string) []plan.Step {
	l.t.Helper()
	desired := plan.State{Hosts: map[string]plan.Addressing{to: {Items: a.Items}, from: {}}}
	had := plan.State{Hosts: map[string]plan.Addressing{from: {Items: a.Items}}}
	steps := plan.Diff(desired, l.observe(plan.Union(desired, had)))
	if err := l.apply(steps...); err != nil {
		l.t.Fatalf("%v\nplan:\n%s", err, words(steps))
	}
	desired.Hosts[to] = plan.Addressing{Items: a.Lasting().Items}
	if again := plan.Diff(desired, l.observe(plan.Union(desired, had))); len(again) > 0 {
		l.t.Fatalf("the second plan is not empty:\n%s\nafter:\n%s", words(again), words(steps))
	}
	return steps
}

func TestHostMovesAndComesBack(t *testing.T) {
	l := newLinuxLab(t, 0)
	sh(t, l.host, hostOnNIC)
	before := l.dump()
	a := l.addressing("eth0")
	l.move(a, "eth0", "pbh-s")
	if left := l.addressing("eth0"); len(left.Items) > 0 {
		t.Errorf("left on the NIC: %+v", left.Items)
	}
	there := slices.Sorted(slices.Values(strings.Split(strings.ReplaceAll(strings.Join(l.dump(), "\n"), "pbh-s", "eth0"), "\n")))
	if diff := cmp.Diff(global(before), global(there)); diff != "" {
		t.Errorf("on our netdev it is not what it was on the NIC (-NIC +ours):\n%s", diff)
	}
	l.move(l.addressing("pbh-s"), "pbh-s", "eth0")
	if diff := cmp.Diff(before, l.dump()); diff != "" {
		t.Errorf("and back is not the same (-before +after):\n%s", diff)
	}
}

// global leaves out the netdevs themselves and what each has that is up.
func global(dump []string) []string {
	own := regexp.MustCompile(`^\S+@|ff00::/8|fe80::/64|fe80::[^ ]*ff:fe`)
	return slices.DeleteFunc(slices.Clone(dump), own.MatchString)
}

// FuzzItemMessage puts a netdev into messages as a broken run file may hold them.
func FuzzItemMessage(f *testing.F) {
	f.Add(uint8(0), []byte{}, "eth0")
	f.Add(uint8(1), make([]byte, 64), "pbh-lan")
	f.Add(uint8(3), append(make([]byte, 12), 12, 0, 9, 0, 8, 0, 0, 0, 0, 0, 0, 0), "eth0")
	kinds := []plan.ItemKind{plan.ItemNeighbour, plan.ItemAddress, plan.ItemNexthop, plan.ItemRoute, plan.ItemRule, plan.ItemResidue}
	prefixes := []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")}
	f.Fuzz(func(_ *testing.T, n uint8, message []byte, netdev string) {
		for _, p := range prefixes {
			i := plan.Item{Kind: kinds[int(n)%len(kinds)], Prefix: p, Dev: "eth0", Message: message}
			for _, r := range append(carryMessages(i, netdev, 7), dropMessage(i, netdev, 7)) {
				_ = r.Serialize()
			}
		}
	})
}

// A NIC may be unplugged before it gets its settings back.
func TestSettingsOfANetdevThatIsGone(t *testing.T) {
	l := newLinuxLab(t, 0)
	gone := plan.SetSettings{Netdev: "gone", Settings: map[string]string{"ipv4/rp_filter": "1", "ipv6/addr_gen_mode": "0"}}
	if err := l.apply(gone); err != nil {
		t.Error(err)
	}
}
