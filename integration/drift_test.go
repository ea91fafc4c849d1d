package integration_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/host"
)

// promptly is how soon patchbayd has repaired what somebody changed.
const promptly = time.Second

// driftHost is a host with a daemon, a switch of each type and a container on each.
type driftHost struct {
	*testHost
	networks map[string]*host.Network
	guests   map[string]*host.Container
	ports    map[string]portRecord // by switch
}

// wired is a list with an External switch on eth0.
const wired = `{"cniVersion":"1.1.0","name":"net3","plugins":[{"type":"patchbay",
	"switch":{"name":"lan","type":"external","uplink":"eth0"},
	"ipam":{"type":"patchbay","ranges":[[{"subnet":"192.0.2.0/24","rangeStart":"192.0.2.10"}]]}}]}`

func newDriftHost(t *testing.T) *driftHost {
	t.Helper()
	h := &driftHost{
		testHost: newHost(t), networks: map[string]*host.Network{}, guests: map[string]*host.Container{}, ports: map[string]portRecord{},
	}
	if h.daemon == nil {
		h.startDaemon()
	}
	h.outside("eth0")
	for name, list := range map[string]string{"prod": internal("1.1.0"), "box": private(`,"dhcpGuard":true,"addressGuard":true`), "lan": wired} {
		h.networks[name] = h.network(list)
		h.guests[name], _ = h.attached(h.networks[name], "c-"+name)
	}
	for _, p := range h.testHost.ports() {
		h.ports[p.Switch] = p
	}
	return h
}

func (h *driftHost) end() {
	h.t.Helper()
	for name, n := range h.networks {
		ok(h.t, n.Del(h.guests[name]))
	}
}

// picture is what the kernel has of the host's switches, as commands show it,
// without numbers that change when a netdev is made anew.
func (h *driftHost) picture() string {
	h.t.Helper()
	var b strings.Builder
	bridges := map[string]bool{}
	for _, sw := range []string{"prod", "box", "lan"} {
		bridges["pb-"+sw] = true
		p := h.ports[sw]
		for _, dev := range []string{"pb-" + sw, p.Netdev} {
			fmt.Fprintln(&b, settings(h.run(h.Netns, "ip", "-d", "-o", "link", "show", dev)))
		}
		fmt.Fprintln(&b, settings(h.run(h.Netns, "bridge", "-d", "link", "show", "dev", p.Netdev)))
		for line := range strings.Lines(h.run(h.Netns, "bridge", "fdb", "show", "br", "pb-"+sw)) {
			if strings.Contains(line, " static") {
				fmt.Fprintln(&b, strings.TrimSpace(line))
			}
		}
	}
	for line := range strings.Lines(h.run(h.Netns, "ip", "-o", "addr", "show", "dev", "pbh-prod", "scope", "global")) {
		_, line, _ = strings.Cut(line, ":") // without its number
		fmt.Fprintln(&b, strings.TrimSpace(line))
	}
	ruleset, err := h.Ruleset()
	ok(h.t, err)
	fmt.Fprintln(&b, ruleset)
	lines := strings.Split(b.String(), "\n")
	slices.Sort(lines) // a netdev that is made anew comes last in lists
	return strings.Join(lines, "\n")
}

// settings drops what differs from one netdev to the next of the same settings.
func settings(line string) string {
	var kept []string
	words := strings.Fields(line)
	for i := 0; i < len(words); i++ {
		switch w := words[i]; w {
		case "tc", "hello_timer", "tcn_timer", "topology_change_timer", "gc_timer", "message_age_timer", "forward_delay_timer", "hold_timer",
			"designated_port", "port_id", "port_no", "link-netnsid", "link-netns", "designated_root", "designated_bridge", "root_port", "carrier_changes":
			i++
		default:
			if !strings.HasSuffix(w, ":") {
				kept = append(kept, w)
			}
		}
	}
	return strings.Join(kept, " ")
}

// TestDrift changes something behind Patchbay's back, in every way that a switch or
// a port can be changed. Patchbayd has put it back within a second, says so in the
// log and in `patchbay status`, and traffic flows.
func TestDrift(t *testing.T) {
	h := newDriftHost(t)
	prod := h.ports["prod"]
	h.patchbay("port", "acl", "add", prod.ID, "deny out to 10.99.0.0/16")
	before := h.picture()
	for _, x := range []struct {
		name  string
		harm  []string // a command line each
		about string   // what the log says it repaired
		words string
	}{
		{"port deleted", []string{"ip link del " + prod.Netdev}, "port=" + prod.ID, "was gone"},
		{"port down", []string{"ip link set " + prod.Netdev + " down"}, "port=" + prod.ID, "was down"},
		{"port out of its bridge", []string{"ip link set " + prod.Netdev + " nomaster"}, "port=" + prod.ID, "was out of its bridge"},
		{"port in another bridge", []string{"ip link set " + prod.Netdev + " master pb-box"}, "port=" + prod.ID, "was in bridge pb-box"},
		{"port's MTU", []string{"ip link set " + prod.Netdev + " mtu 1300"}, "port=" + prod.ID, "had MTU 1300"},
		{"port's MAC", []string{"ip link set " + prod.Netdev + " address 02:00:00:00:00:99"}, "port=" + prod.ID, "had MAC address"},
		{"port floods", []string{"bridge link set dev " + prod.Netdev + " flood on"}, "port=" + prod.ID, "flag flood on"},
		{"port learns", []string{"bridge link set dev " + prod.Netdev + " learning on"}, "port=" + prod.ID, "flag learning on"},
		{"port unlocked", []string{"bridge link set dev " + prod.Netdev + " locked off"}, "port=" + prod.ID, "flag locked off"},
		{"port isolated", []string{"bridge link set dev " + prod.Netdev + " isolated on"}, "port=" + prod.ID, "flag isolated on"},
		{"forwarding entry deleted", []string{"bridge fdb del " + prod.MAC + " dev " + prod.Netdev + " master static"}, "port=" + prod.ID, "forwarding entry"},
		{"forwarding entry moved", []string{"bridge fdb replace " + prod.MAC + " dev pbp-prod master static sticky"}, "port=" + prod.ID, "forwarding entry"},
		{"port's alias", []string{"ip link set " + prod.Netdev + " alias mine"}, "port=" + prod.ID, "alias"},
		{"port's group", []string{"ip link set " + prod.Netdev + " group 7"}, "port=" + prod.ID, "group"},
		{"bridge down", []string{"ip link set pb-prod down"}, "switch=prod", "was down"},
		{"bridge's MTU", []string{"ip link set pb-prod mtu 1400"}, "switch=prod", "had MTU 1400"},
		{"bridge's MAC", []string{"ip link set pb-prod address 02:00:00:00:00:98"}, "switch=prod", "MAC address"},
		{"bridge snoops", []string{"ip link set pb-prod type bridge mcast_snooping 1"}, "switch=prod", "snooping"},
		{"bridge with STP", []string{"ip link set pb-prod type bridge stp_state 1"}, "switch=prod", "STP"},
		{"bridge deleted", []string{"ip link del pb-box"}, "switch=box", "bridge pb-box was gone"},
		{"host port deleted", []string{"ip link del pbh-prod"}, "switch=prod", "was gone"},
		{"host port down", []string{"ip link set pbh-prod down"}, "switch=prod", "pbh-prod"},
		{"gateway deleted", []string{"ip addr del 10.0.0.1/24 dev pbh-prod"}, "switch=prod", "had lost address 10.0.0.1/24"},
		{"ruleset flushed", []string{"nft flush ruleset"}, "switch=", "nftables"},
		{"set flushed", []string{"nft flush set bridge patchbay quiet"}, "switch=", "nftables"},
		{"table deleted", []string{"nft delete table bridge patchbay"}, "switch=", "nftables"},
		{"guard deleted", []string{"nft delete element bridge patchbay_guards dhcp { " + h.ports["box"].Netdev + " }"}, "switch=", "nftables"},
		{"guards deleted", []string{"nft delete table bridge patchbay_guards"}, "switch=", "table of guards"},
		{"ACL flushed", []string{"nft flush map bridge patchbay_acl out"}, "switch=", "nftables"},
		{"table of ACLs deleted", []string{"nft delete table bridge patchbay_acl"}, "switch=", "nftables"},
		{"uplink released", []string{"ip link set eth0 nomaster"}, "switch=lan", "was out of its bridge"},
		{"uplink learns", []string{"bridge link set dev eth0 learning on"}, "switch=lan", "flag learning on"},
		{"uplink down", []string{"ip link set eth0 down"}, "switch=lan", "was down"},
	} {
		t.Run(x.name, func(t *testing.T) {
			n := h.daemon.Lines()
			start := time.Now()
			for _, line := range x.harm {
				h.run(h.Netns, strings.Fields(line)...)
			}
			line, err := h.daemon.Await(n, patience, "msg=repaired", x.about, x.words)
			took := time.Since(start)
			ok(t, err)
			if took > promptly {
				t.Errorf("repaired after %s, want %s: %s", took, promptly, line)
			}
			h.same(t, before)
			reaches(t, h.guests["prod"].Netns, "10.0.0.1")
		})
	}
	h.told(t)
	h.end()
}

// same waits until all is as it was: one change may take two rounds.
func (h *driftHost) same(t *testing.T, before string) {
	t.Helper()
	deadline := time.Now().Add(promptly)
	for {
		n := h.daemon.Lines()
		now := h.picture()
		if now == before {
			return
		}
		if _, err := h.daemon.Await(n, time.Until(deadline), "msg=repaired"); err != nil {
			t.Fatalf("not as it was:\n%s", difference(before, now))
		}
	}
}

func difference(before, now string) string {
	var b strings.Builder
	was, is := strings.Split(before, "\n"), strings.Split(now, "\n")
	for _, line := range was {
		if !slices.Contains(is, line) {
			fmt.Fprintln(&b, "-", line)
		}
	}
	for _, line := range is {
		if !slices.Contains(was, line) {
			fmt.Fprintln(&b, "+", line)
		}
	}
	return b.String()
}

// told demands that `patchbay status` lists repairs.
func (h *driftHost) told(t *testing.T) {
	t.Helper()
	var s struct {
		Daemon struct {
			PID     int
			Repairs []struct {
				Object string
				What   []string
			}
			Unrepaired []struct{ Object, Reason string }
		}
	}
	ok(t, h.PatchbayJSON(&s, "status"))
	if s.Daemon.PID != h.daemon.Process.Pid || len(s.Daemon.Repairs) < 10 {
		t.Errorf("status tells of patchbayd: %+v", s.Daemon)
	}
	if len(s.Daemon.Unrepaired) > 0 {
		t.Errorf("not repaired: %+v", s.Daemon.Unrepaired)
	}
	out, err := h.Patchbay("status")
	ok(t, err)
	if !strings.Contains(out, "Repaired") || !strings.Contains(out, "was down") {
		t.Errorf("status tells no repair:\n%s", out)
	}
}
