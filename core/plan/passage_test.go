package plan_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/plan"
)

// TestPassage tells for every way that a switch may go what becomes of the host. Each
// netdev reads "NETDEV: items [settings]"; "was" is what may still be on it.
func TestPassage(t *testing.T) {
	const (
		port  = "pb-ext"
		loose = "addr_gen_mode=0 rp_filter=1"
		shut  = "addr_gen_mode=1 rp_filter=1"
	)
	address := item("10.0.0.5/24")
	route := plan.Item{Kind: plan.ItemRoute, Key: "default", Words: "default dev %", Prefix: netip.MustParsePrefix("0.0.0.0/0")}
	gateway := item("192.0.2.1/24")
	own := item("fe80::1/64")
	host := plan.Addressing{Items: []plan.Item{address, route}, Settings: settings(loose)}
	bare := plan.Addressing{Items: []plan.Item{own}, Settings: settings(loose)}
	fresh := plan.Addressing{Settings: settings("rp_filter=2")}
	left := func(nics ...string) map[string]map[string]string {
		out := make(map[string]map[string]string)
		for _, n := range nics {
			out[n] = settings(loose)
		}
		return out
	}
	on := func(uplink string, members ...string) plan.Home {
		return plan.Home{Uplink: uplink, Members: members, Port: port, Carries: true}
	}
	closed := func(uplink string) plan.Home { return plan.Home{Uplink: uplink, Carries: true} }
	came := plan.HostNote{Left: left("eth0"), Port: settings("rp_filter=1"), Items: host.Items}

	tests := []struct {
		name    string
		passage plan.Passage
		there   map[string]plan.Addressing
		want    string // "" if nothing moves
	}{
		{
			name:    "to a new switch",
			passage: plan.Passage{Is: on("eth0")},
			there:   map[string]plan.Addressing{"eth0": host},
			want: `eth0: [addr_gen_mode=1 rp_filter=1], was 10.0.0.5/24 default
pb-ext: 10.0.0.5/24 default [rp_filter=1]
before: left eth0 [addr_gen_mode=0 rp_filter=1]; from eth0; port [rp_filter=1]; 10.0.0.5/24 default
after: left eth0 [addr_gen_mode=0 rp_filter=1]; from eth0
`,
		},
		{
			name:    "a link-local address is not the host",
			passage: plan.Passage{Is: on("eth0")},
			there:   map[string]plan.Addressing{"eth0": bare},
		},
		{
			name:    "nothing of the host is on the switch",
			passage: plan.Passage{Is: plan.Home{Uplink: "eth0", Port: port}},
			there:   map[string]plan.Addressing{"eth0": host},
		},
		{
			name:    "back when the switch goes",
			passage: plan.Passage{Was: []plan.Home{on("eth0")}, Note: plan.HostNote{Left: left("eth0")}},
			there:   map[string]plan.Addressing{"eth0": {Settings: settings(shut)}, port: {Items: host.Items, Settings: settings("rp_filter=1")}},
			want: `eth0: 10.0.0.5/24 default [addr_gen_mode=0 rp_filter=1]
pb-ext: , was 10.0.0.5/24 default
before: left eth0 [addr_gen_mode=0 rp_filter=1]; port [rp_filter=1]; 10.0.0.5/24 default
after: nothing
`,
		},
		{
			name: "a gateway address is the switch's and stays behind",
			passage: plan.Passage{
				Was:  []plan.Home{{Uplink: "eth0", Port: port, Carries: true, Gateway: []netip.Prefix{gateway.Prefix}}},
				Note: plan.HostNote{Left: left("eth0")},
			},
			there: map[string]plan.Addressing{"eth0": {}, port: {Items: []plan.Item{gateway, address}}},
			want: `eth0: 10.0.0.5/24 [addr_gen_mode=0 rp_filter=1]
pb-ext: , was 10.0.0.5/24
before: left eth0 [addr_gen_mode=0 rp_filter=1]; 10.0.0.5/24
after: nothing
`,
		},
		{
			name:    "kept where the switch is closed to the host",
			passage: plan.Passage{Is: closed("eth0")},
			there:   map[string]plan.Addressing{"eth0": host},
			want: `eth0: [addr_gen_mode=1 rp_filter=1], was 10.0.0.5/24 default
before: left eth0 [addr_gen_mode=0 rp_filter=1]; from eth0; port [rp_filter=1]; 10.0.0.5/24 default
after: left eth0 [addr_gen_mode=0 rp_filter=1]; from eth0; port [rp_filter=1]; 10.0.0.5/24 default
`,
		},
		{
			name:    "out of keeping when the switch is opened",
			passage: plan.Passage{Was: []plan.Home{closed("eth0")}, Is: on("eth0"), Note: came},
			there:   map[string]plan.Addressing{"eth0": {Settings: settings(shut)}, port: fresh},
			want: `eth0: [addr_gen_mode=1 rp_filter=1], was 10.0.0.5/24 default
pb-ext: 10.0.0.5/24 default [rp_filter=1]
before: left eth0 [addr_gen_mode=0 rp_filter=1]; port [rp_filter=1]; 10.0.0.5/24 default
after: left eth0 [addr_gen_mode=0 rp_filter=1]
`,
		},
		{
			name:    "out of keeping when the switch goes",
			passage: plan.Passage{Was: []plan.Home{closed("eth0")}, Note: came},
			there:   map[string]plan.Addressing{"eth0": {Settings: settings(shut)}},
			want: `eth0: 10.0.0.5/24 default [addr_gen_mode=0 rp_filter=1]
before: left eth0 [addr_gen_mode=0 rp_filter=1]; port [rp_filter=1]; 10.0.0.5/24 default
after: nothing
`,
		},
		{
			name:    "stays on the port when the uplink is another one, and has its things too",
			passage: plan.Passage{Was: []plan.Home{on("eth0")}, Is: on("eth1"), Note: plan.HostNote{Left: left("eth0")}},
			there: map[string]plan.Addressing{
				"eth0": {Settings: settings(shut)}, port: {Items: []plan.Item{address}, Settings: settings("rp_filter=1")},
				"eth1": {Items: []plan.Item{route}, Settings: settings(loose)},
			},
			want: `eth0: [addr_gen_mode=0 rp_filter=1]
eth1: [addr_gen_mode=1 rp_filter=1], was 10.0.0.5/24 default
pb-ext: 10.0.0.5/24 default
before: left eth0 [addr_gen_mode=0 rp_filter=1]; left eth1 [addr_gen_mode=0 rp_filter=1]; 10.0.0.5/24 default
after: left eth1 [addr_gen_mode=0 rp_filter=1]
`,
		},
		{
			name:    "to the uplink that it had when the switch becomes internal",
			passage: plan.Passage{Was: []plan.Home{on("eth0")}, Is: plan.Home{Port: port}, Note: plan.HostNote{Left: left("eth0"), Former: settings("rp_filter=2")}},
			there:   map[string]plan.Addressing{"eth0": {}, port: {Items: []plan.Item{address}, Settings: settings("rp_filter=1")}},
			want: `eth0: 10.0.0.5/24 [addr_gen_mode=0 rp_filter=1]
pb-ext: [rp_filter=2], was 10.0.0.5/24
before: left eth0 [addr_gen_mode=0 rp_filter=1]; port [rp_filter=1]; former [rp_filter=2]; 10.0.0.5/24
after: nothing
`,
		},
		{
			name: "killed halfway: what is on both comes once",
			passage: plan.Passage{
				Was: []plan.Home{on("eth0")}, Is: on("eth0"),
				Note: plan.HostNote{Left: left("eth0"), Port: settings("rp_filter=1"), Items: host.Items},
			},
			there: map[string]plan.Addressing{"eth0": {Items: []plan.Item{route}}, port: {Items: []plan.Item{address}}},
			want: `eth0: [addr_gen_mode=1 rp_filter=1], was 10.0.0.5/24 default
pb-ext: 10.0.0.5/24 default [rp_filter=1]
before: left eth0 [addr_gen_mode=0 rp_filter=1]; port [rp_filter=1]; 10.0.0.5/24 default
after: left eth0 [addr_gen_mode=0 rp_filter=1]
`,
		},
		{
			name:    "from port to port, to the switch that takes the NIC over",
			passage: plan.Passage{Was: []plan.Home{on("eth0")}, Heir: "new", HeirPort: "pb-new", Note: plan.HostNote{Left: left("eth0")}},
			there:   map[string]plan.Addressing{"eth0": {Settings: settings(shut)}, port: {Items: []plan.Item{address}, Settings: settings("rp_filter=1")}},
			want: `eth0: [addr_gen_mode=1 rp_filter=1], was 10.0.0.5/24
pb-ext: , was 10.0.0.5/24
pb-new: 10.0.0.5/24 [rp_filter=1]
before: left eth0 [addr_gen_mode=0 rp_filter=1]; port [rp_filter=1]; 10.0.0.5/24
after: nothing
heir: left eth0 [addr_gen_mode=0 rp_filter=1]
`,
		},
		{
			name:    "kept where the NIC was unplugged",
			passage: plan.Passage{Was: []plan.Home{on("eth0")}, Note: plan.HostNote{Left: left("eth0")}},
			there:   map[string]plan.Addressing{port: {Items: []plan.Item{address}, Settings: settings("rp_filter=1")}},
			want: `eth0: [addr_gen_mode=1 rp_filter=1], was 10.0.0.5/24
pb-ext: , was 10.0.0.5/24
before: left eth0 [addr_gen_mode=0 rp_filter=1]; port [rp_filter=1]; 10.0.0.5/24
after: left eth0 [addr_gen_mode=0 rp_filter=1]; port [rp_filter=1]; 10.0.0.5/24
`,
		},
		{
			name: "what was kept before the boot yields to what the host has configured since",
			passage: plan.Passage{Is: closed("eth0"), Note: plan.HostNote{
				Origin: "eth0", Left: left("eth0"), Port: settings("rp_filter=1"), Items: []plan.Item{gateway}, Past: true,
			}},
			there: map[string]plan.Addressing{"eth0": {Items: []plan.Item{address}, Settings: settings("rp_filter=2")}},
			want: `eth0: [rp_filter=2], was 10.0.0.5/24
before: left eth0 [rp_filter=2]; from eth0; port [rp_filter=2]; 10.0.0.5/24
after: left eth0 [rp_filter=2]; from eth0; port [rp_filter=2]; 10.0.0.5/24
`,
		},
		{
			name:    "what was kept before the boot stays where nothing is configured",
			passage: plan.Passage{Is: closed("eth0"), Note: plan.HostNote{Left: left("eth0"), Items: host.Items, Past: true}},
			there:   map[string]plan.Addressing{"eth0": bare},
			want: `eth0: [addr_gen_mode=1 rp_filter=1], was 10.0.0.5/24 default
before: left eth0 [addr_gen_mode=0 rp_filter=1]; 10.0.0.5/24 default
after: left eth0 [addr_gen_mode=0 rp_filter=1]; 10.0.0.5/24 default
`,
		},
		{
			name:    "from the members of a team",
			passage: plan.Passage{Is: on("team0", "eth0", "eth1")},
			there:   map[string]plan.Addressing{"eth0": {Items: []plan.Item{address}, Settings: settings(loose)}, "eth1": {Items: []plan.Item{route}, Settings: settings(loose)}, "team0": bare},
			want: `eth0: [addr_gen_mode=1 rp_filter=1], was 10.0.0.5/24 default
eth1: [addr_gen_mode=1 rp_filter=1], was 10.0.0.5/24 default
pb-ext: 10.0.0.5/24 default [rp_filter=1]
team0: , was 10.0.0.5/24 default
before: left eth0 [addr_gen_mode=0 rp_filter=1]; left eth1 [addr_gen_mode=0 rp_filter=1]; from eth0; port [rp_filter=1]; 10.0.0.5/24 default
after: left eth0 [addr_gen_mode=0 rp_filter=1]; left eth1 [addr_gen_mode=0 rp_filter=1]; from eth0
`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.passage.Switch = "ext"
			got := ""
			if j, moves := tt.passage.Plan(tt.there); tt.passage.Concerned() && moves {
				got = journeyWords(j)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestPassageNetdevs(t *testing.T) {
	p := plan.Passage{
		Was: []plan.Home{{Uplink: "eth0", Port: "pb-ext"}, {Uplink: "team0", Members: []string{"eth0", "eth1"}}},
		Is:  plan.Home{Uplink: "eth2", Port: "pb-ext"},
	}
	want := []string{"eth0", "eth1", "eth2", "pb-ext", "team0"}
	if diff := cmp.Diff(want, p.Netdevs()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func item(prefix string) plan.Item {
	return plan.Item{Kind: plan.ItemAddress, Key: prefix, Words: prefix + " dev %", Prefix: netip.MustParsePrefix(prefix)}
}

// settings reads "NAME=VALUE NAME=VALUE".
func settings(words string) map[string]string {
	families := map[string]string{"rp_filter": "ipv4/", "addr_gen_mode": "ipv6/"}
	out := make(map[string]string)
	for _, w := range strings.Fields(words) {
		name, value, _ := strings.Cut(w, "=")
		out[families[name]+name] = value
	}
	return out
}

func journeyWords(j plan.Journey) string {
	var b strings.Builder
	for _, netdev := range slices.Sorted(maps.Keys(j.Desired)) {
		fmt.Fprintf(&b, "%s: %s", netdev, addressingWords(j.Desired[netdev].Items, j.Desired[netdev].Settings))
		if had := addressingWords(j.Had[netdev].Items, nil); had != "" {
			fmt.Fprintf(&b, ", was %s", had)
		}
		b.WriteByte('\n')
	}
	for _, n := range []struct {
		when string
		note plan.HostNote
	}{{"before", j.Before}, {"after", j.After}, {"heir", j.Heir}} {
		if n.when != "heir" || !n.note.Empty() {
			fmt.Fprintf(&b, "%s: %s\n", n.when, noteWords(n.note))
		}
	}
	return b.String()
}

func noteWords(n plan.HostNote) string {
	if n.Empty() {
		return "nothing"
	}
	var all []string
	add := func(what string, items []plan.Item, settings map[string]string) {
		if w := addressingWords(items, settings); w != "" {
			all = append(all, strings.TrimSpace(what+" "+w))
		}
	}
	for _, nic := range slices.Sorted(maps.Keys(n.Left)) {
		add("left "+nic, nil, n.Left[nic])
	}
	if n.Origin != "" {
		all = append(all, "from "+n.Origin)
	}
	add("port", nil, n.Port)
	add("former", nil, n.Former)
	add("", n.Items, nil)
	return strings.Join(all, "; ")
}

func addressingWords(items []plan.Item, settings map[string]string) string {
	var all []string
	for _, i := range items {
		all = append(all, i.Key)
	}
	if len(settings) > 0 {
		var s []string
		for _, name := range slices.Sorted(maps.Keys(settings)) {
			s = append(s, name[len("ipv4/"):]+"="+settings[name])
		}
		slices.Sort(s)
		all = append(all, "["+strings.Join(s, " ")+"]")
	}
	return strings.Join(all, " ")
}

// What has a time to live is not kept beyond a reboot, nor a route of its family.
func TestHostNoteLasting(t *testing.T) {
	kept4, leased4, leased6 := item("10.0.0.5/24"), item("10.0.0.6/24"), item("2001:db8::5/64")
	leased4.Fleeting, leased6.Fleeting = true, true
	way := func(key, dst string) plan.Item {
		return plan.Item{Kind: plan.ItemRoute, Key: key, Prefix: netip.MustParsePrefix(dst)}
	}
	hops := way("several hops", "0.0.0.0/0")
	hops.Fleeting = true
	nexthop := plan.Item{Kind: plan.ItemNexthop, Key: "nexthop", Gateway: netip.MustParseAddr("10.0.0.1")}
	rule := plan.Item{Kind: plan.ItemRule, Key: "rule"}
	neighbour := plan.Item{Kind: plan.ItemNeighbour, Key: "found out", Passing: true}
	for _, tt := range []struct {
		name  string
		items []plan.Item
		want  string
	}{
		{"all stays", []plan.Item{kept4, nexthop, way("v4", "0.0.0.0/0"), rule}, "10.0.0.5/24 nexthop v4 rule"},
		{"a lease of IPv4", []plan.Item{kept4, leased4, nexthop, way("v4", "0.0.0.0/0"), way("v6", "::/0")}, "10.0.0.5/24 v6"},
		{"a lease of IPv6", []plan.Item{kept4, leased6, nexthop, way("v4", "0.0.0.0/0"), way("v6", "::/0")}, "10.0.0.5/24 nexthop v4"},
		{"found out, and by another netdev", []plan.Item{neighbour, kept4, hops}, "10.0.0.5/24"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := addressingWords(plan.HostNote{Items: tt.items}.Lasting().Items, nil); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
