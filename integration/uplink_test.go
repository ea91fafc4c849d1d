package integration_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/integration/host"
)

// hostNIC is what the host has on its only NIC, and router what is at the other end.
const (
	hostNIC = `
addr add 192.0.2.5/24 brd + dev eth0
addr add 192.0.2.6/24 brd + dev eth0 label eth0:1 valid_lft 3600 preferred_lft 1800
addr add 198.51.100.5/24 dev eth0 noprefixroute scope link
addr add 2001:db8:1::5/64 dev eth0 nodad valid_lft 7200 preferred_lft 3600
route add default via 192.0.2.1 metric 100 proto static
route add 203.0.113.0/25 via 192.0.2.1 dev eth0 src 192.0.2.6 mtu lock 1300 advmss 1200
route add 203.0.113.128/25 nexthop via 192.0.2.1 dev eth0 weight 1 nexthop via 192.0.2.2 dev eth0 weight 2
route add default via 192.0.2.1 dev eth0 table 100
rule add from 192.0.2.6 lookup 100 pref 1000
rule add iif eth0 lookup 100 pref 1001
-6 route add default via 2001:db8:1::1 dev eth0 metric 1024
neigh add 192.0.2.77 lladdr 02:00:00:00:77:77 dev eth0 nud permanent`
	router = `
addr add 192.0.2.1/24 dev wan
addr add 2001:db8:1::1/64 dev wan nodad
addr add 203.0.113.1/32 dev lo
-6 addr add 2001:db8:9::1/128 dev lo nodad`
)

func (h *testHost) script(n *host.Netns, script string) {
	h.t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(script), "\n") {
		h.run(n, append([]string{"ip"}, strings.Fields(line)...)...)
	}
}

// things is what the host has, as `ip` shows it, but for what passes by itself.
func (h *testHost) things() []string {
	h.t.Helper()
	var all []string
	for _, argv := range [][]string{
		{"-4", "-d", "addr"},
		{"-6", "-d", "addr"},
		{"-d", "route", "show", "table", "all"},
		{"-6", "-d", "route", "show", "table", "all"},
		{"rule"},
		{"-6", "rule"},
		{"nexthop"},
		{"neigh", "show", "nud", "permanent"},
	} {
		all = append(all, strings.Split(h.run(h.Netns, append([]string{"ip"}, argv...)...), "\n")...)
	}
	for i, l := range all {
		for _, x := range [][2]string{{`(valid_lft|preferred_lft|expires) \d+sec`, "$1"}, {`^\d+: `, ""}, {` qdisc .*`, ""}, {`^ +(link/|veth|bridge).*`, ""}, {` tentative$`, ""}, {` +$`, ""}} {
			l = regexp.MustCompile(x[0]).ReplaceAllString(l, x[1])
		}
		all[i] = l
	}
	slices.Sort(all)
	return all
}

// homed is a host that lives on eth0, and the network that it lives in.
func homed(t *testing.T) (h *testHost, outside *host.Netns) {
	t.Helper()
	h = newHost(t)
	outside = h.outside("eth0")
	ok(t, h.Write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0"))
	h.run(h.Netns, "ip", "link", "set", "eth0", "down")
	h.run(h.Netns, "ip", "link", "set", "eth0", "up")
	h.script(outside, router)
	h.script(h.Netns, hostNIC)
	return h, outside
}

// streams are connections from and to the host, of both families, one of them from a
// secondary address by a route of its own.
func streams(t *testing.T, h *testHost, outside *host.Netns) map[string]*host.Stream {
	t.Helper()
	all := make(map[string]*host.Stream)
	for name, x := range map[string]struct {
		from, to *host.Netns
		src, dst string
	}{
		"in":          {outside, h.Netns, "192.0.2.1", "192.0.2.5"},
		"in by IPv6":  {outside, h.Netns, "2001:db8:1::1", "2001:db8:1::5"},
		"out":         {h.Netns, outside, "192.0.2.5", "192.0.2.1"},
		"out routed":  {h.Netns, outside, "192.0.2.6", "203.0.113.1"},
		"out by IPv6": {h.Netns, outside, "2001:db8:1::5", "2001:db8:9::1"},
	} {
		s, err := x.from.Connect(netip.MustParseAddr(x.src), x.to, netip.MustParseAddr(x.dst))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Cleanup(func() { ok(t, s.Close()) })
		all[name] = s
	}
	return all
}

// probes are datagrams to and from the host, of both families.
func probes(t *testing.T, h *testHost, outside *host.Netns) map[string]*host.Stream {
	t.Helper()
	all := make(map[string]*host.Stream)
	for name, x := range map[string]struct {
		from, to *host.Netns
		dst      string
	}{
		"in": {outside, h.Netns, "192.0.2.5"}, "in by IPv6": {outside, h.Netns, "2001:db8:1::5"},
		"out": {h.Netns, outside, "203.0.113.1"}, "out by IPv6": {h.Netns, outside, "2001:db8:9::1"},
	} {
		s, err := x.from.Probe(x.to, netip.MustParseAddr(x.dst))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Cleanup(func() { ok(t, s.Close()) })
		all[name] = s
	}
	return all
}

// TestInterruption measures for how long the network is silent for the host while a
// switch takes its NIC, and gives it back.
func TestInterruption(t *testing.T) {
	h, outside := homed(t)
	all := probes(t, h, outside)
	var none, add, del []time.Duration
	for range 7 {
		interruption(t, "nothing", all)
		_, _ = h.Patchbay("switch", "show", "lan") // there is none: what starting the program costs
		none = append(none, interruption(t, "nothing", all))
		out, err := h.Patchbay("switch", "add", "lan", "--uplink", "eth0")
		if err != nil {
			t.Fatal(err, out)
		}
		add = append(add, interruption(t, "add", all))
		out, err = h.Patchbay("switch", "delete", "lan")
		if err != nil {
			t.Fatal(err, out)
		}
		del = append(del, interruption(t, "delete", all))
	}
	slices.Sort(none)
	slices.Sort(add)
	slices.Sort(del)
	t.Logf("longest silence, median and worst of %d: while nothing happens %v, %v; add %v, %v; delete %v, %v", len(add),
		none[len(none)/2], none[len(none)-1], add[len(add)/2], add[len(add)-1], del[len(del)/2], del[len(del)-1])
}

// interruption is the longest silence on any stream. All of them must live.
func interruption(t *testing.T, after string, all map[string]*host.Stream) (longest time.Duration) {
	t.Helper()
	for name, s := range all {
		gap, err := s.Longest()
		if err != nil {
			t.Errorf("after %s, connection %s: %v", after, name, err)
		}
		longest = max(longest, gap)
	}
	if longest > time.Second {
		t.Errorf("%s interrupted the host for %v", after, longest)
	}
	return longest
}

// TestConnectionsSurviveTheSwitch takes the host's only NIC for a switch under live
// connections and gives it back; what the host has is the same before and after.
func TestConnectionsSurviveTheSwitch(t *testing.T) {
	h, outside := homed(t)
	before := h.things()
	all := streams(t, h, outside)
	for range 3 {
		interruption(t, "nothing", all)
		out, err := h.Patchbay("switch", "add", "lan", "--uplink", "eth0")
		if err != nil {
			t.Fatal(err, out)
		}
		reaches(t, outside, "192.0.2.5")
		reaches(t, outside, "2001:db8:1::5")
		reaches(t, h.Netns, "2001:db8:9::1")
		t.Logf("add: longest gap %v", interruption(t, "add", all))
		if left := h.run(h.Netns, "ip", "addr", "show", "dev", "eth0"); strings.Contains(left, "inet") {
			t.Errorf("left on the NIC: %s", left)
		}
		out, err = h.Patchbay("switch", "delete", "lan")
		if err != nil {
			t.Fatal(err, out)
		}
		reaches(t, outside, "192.0.2.5")
		reaches(t, outside, "2001:db8:1::5")
		t.Logf("delete: longest gap %v", interruption(t, "delete", all))
		if diff := cmp.Diff(before, h.things()); diff != "" {
			t.Errorf("the host is not what it was (-before +after):\n%s", diff)
		}
	}
}

// TestKilledUnderTheHost kills the CLI, as by kill -9, before each step that it takes
// to move the host to a switch, or back. The next `switch delete` brings all back.
func TestKilledUnderTheHost(t *testing.T) {
	for _, x := range []struct {
		victim []string
		next   []string // then delete, if this is not it
	}{
		{[]string{"switch", "add", "lan", "--uplink", "eth0"}, []string{"switch", "delete", "lan"}},
		{[]string{"switch", "add", "lan", "--uplink", "eth0"}, []string{"switch", "add", "lan", "--uplink", "eth0"}},
		{[]string{"switch", "delete", "lan"}, []string{"switch", "delete", "lan"}},
		{[]string{"switch", "delete", "lan"}, []string{"switch", "add", "lan", "--uplink", "eth0"}},
	} {
		t.Run(x.victim[1]+", then "+x.next[1], func(t *testing.T) {
			h, outside := homed(t)
			before := h.things()
			finished := false
			step := 1
			stride := 1
			if x.victim[1] != "add" || x.next[1] != "delete" {
				stride = 4 // the first of these goes through all
			}
			for ; !finished; step += stride {
				if x.victim[1] == "delete" {
					if out, err := h.Patchbay("switch", "add", "lan", "--uplink", "eth0"); err != nil {
						t.Fatal(err, out)
					}
				}
				finished = h.dieCLI(step, x.victim)
				if finished && x.victim[1] == "delete" {
					break
				}
				// Killed at one of the store's commits, there is no switch yet, or none any more.
				if out, err := h.Patchbay(x.next...); err != nil && !strings.Contains(err.Error(), "no such switch") {
					t.Fatalf("killed before step %d, then %v: %v: %s", step, x.next, err, out)
				}
				reaches(t, outside, "192.0.2.5")
				if x.next[1] != "delete" {
					out, err := h.Patchbay("switch", "delete", "lan")
					if err != nil {
						t.Fatalf("killed before step %d: %v: %s", step, err, out)
					}
				}
				if diff := cmp.Diff(before, h.things()); diff != "" {
					t.Fatalf("killed before step %d: the host is not what it was (-before +after):\n%s", step, diff)
				}
			}
			if step < 20 {
				t.Errorf("killed before %d steps only: the build has no faults", step)
			}
			t.Logf("killed before each of %d steps", step-1)
		})
	}
}

// dieCLI runs the CLI so that it dies before the step given, and reports whether it was
// done before that.
func (h *testHost) dieCLI(step int, args []string) bool {
	h.t.Helper()
	cli := filepath.Join(h.Root, "bin/faults/patchbay")
	out, err := h.RunEnv(append(h.Env(), fmt.Sprintf("PATCHBAY_DIE_AT=%d", step)), append([]string{cli}, args...)...)
	if err != nil && !strings.Contains(err.Error(), "killed") {
		h.t.Fatalf("%v before step %d: %v: %s", args, step, err, out)
	}
	return err == nil
}

// TestConnectionsSurviveAnotherUplink gives a switch that carries the host another NIC
// of the same network: the host stays on its port, with the other NIC's MAC address.
func TestConnectionsSurviveAnotherUplink(t *testing.T) {
	h := newHost(t)
	outside, err := h.Neighbour("outside")
	ok(t, err)
	h.script(outside, "link add wan address 02:00:00:00:00:01 type bridge forward_delay 0\nlink set wan up")
	for _, nic := range []string{"eth0", "eth1"} {
		ok(t, host.Cable(h.Netns, nic, outside, "to-"+nic))
		h.keeps = append(h.keeps, nic)
		h.run(outside, "ip", "link", "set", "to-"+nic, "master", "wan")
	}
	h.script(outside, router)
	h.script(h.Netns, hostNIC)
	if out, err := h.Patchbay("switch", "add", "lan", "--uplink", "eth0"); err != nil {
		t.Fatal(err, out)
	}
	all := streams(t, h, outside)
	for _, nic := range []string{"eth1", "eth0"} {
		interruption(t, "nothing", all)
		if out, err := h.Patchbay("switch", "set", "lan", "--uplink", nic); err != nil {
			t.Fatal(err, out)
		}
		reaches(t, outside, "192.0.2.5")
		reaches(t, outside, "2001:db8:1::5")
		t.Logf("to %s: longest gap %v", nic, interruption(t, "set --uplink "+nic, all))
	}
	if out, err := h.Patchbay("switch", "delete", "lan"); err != nil {
		t.Fatal(err, out)
	}
	reaches(t, outside, "192.0.2.5")
	interruption(t, "delete", all)
	if there := h.run(h.Netns, "ip", "addr", "show", "dev", "eth0"); !strings.Contains(there, "192.0.2.6/24") {
		t.Errorf("the host is not back on eth0: %s", there)
	}
}
