package integration_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
)

// onWAN is a network on a switch that is there.
func onWAN(keys string) string {
	return `{"cniVersion":"1.1.0","name":"net1","plugins":[{"type":"patchbay","switch":"wan",
		"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.9.0.0/24"}]]}` + keys + `}]}`
}

// TestMinimums: a container is promised a part of the uplink by its network's configuration
// and by a verb, with the host's own port; what the uplink does not have is refused, and what
// somebody does to the classes is put right.
func TestMinimums(t *testing.T) {
	guest.Needs(t, guest.HTB)
	h := newHost(t)
	h.outside("eth1") // a veth, which tells that it carries 10 Gbit/s
	h.patchbay("switch", "add", "wan", "--uplink", "eth1", "--min-bandwidth-mode", "absolute")
	n := h.network(onWAN(`,"bandwidth":{"min":{"rate":"2G"}}`))
	a, _ := h.attached(n, "a")
	wants := func(words ...string) {
		t.Helper()
		got := h.run(h.Netns, "tc", "class", "show", "dev", "eth1")
		for _, w := range words {
			if !strings.Contains(got, w) {
				t.Errorf("%q is not in\n%s", w, got)
			}
		}
	}
	wants("rate 10Gbit ceil 10Gbit", "rate 2Gbit ceil 10Gbit", "rate 1Gbit ceil 10Gbit")
	port := h.ports()[0].ID
	h.patchbay("port", "set", port, "--min-rate", "3G")
	h.patchbay("port", "set", "pbp-wan", "--min-rate", "5500M")
	h.patchbay("switch", "set", "wan", "--default-flow-rate", "1.5G")
	wants("rate 3Gbit ceil 10Gbit", "rate 5500Mbit ceil 10Gbit", "rate 1500Mbit ceil 10Gbit")
	for _, c := range []struct{ args, says []string }{
		{[]string{"port", "set", port, "--min-rate", "3.1G"}, []string{"ADMISSION", "eth1 carries 10G a second, and 10.1G are promised"}},
		{[]string{"port", "set", port, "--min-weight", "50"}, []string{"BANDWIDTH_MODE", "--min-rate"}},
		{[]string{"switch", "set", "wan", "--min-bandwidth-mode", "weight"}, []string{"IMMUTABLE", "absolute"}},
	} {
		out, err := h.Patchbay(append(c.args, "-o", "json")...)
		for _, w := range c.says {
			if err == nil || !strings.Contains(out, w) {
				t.Errorf("%v: %q is not in %v\n%s", c.args, w, err, out)
			}
		}
	}
	if got := h.patchbay("port", "show", port); !strings.Contains(got, "3G a second") {
		t.Errorf("port show does not tell of the minimum:\n%s", got)
	}
	if got := h.patchbay("explain", "wan"); !strings.Contains(got, "htb rate 3000000000bit") {
		t.Errorf("explain does not tell of tc:\n%s", got)
	}
	if got := h.patchbay("export"); !strings.Contains(got, "minBandwidth: {mode: absolute, defaultFlow: 1500000000}") {
		t.Errorf("export does not tell of it:\n%s", got)
	}
	for _, harm := range []string{"tc qdisc del dev eth1 root", "tc filter del dev eth1 parent 5043:", "tc class change dev eth1 classid 5043:10 htb rate 1mbit"} {
		if h.daemon == nil {
			h.run(h.Netns, strings.Fields(harm)...)
			h.patchbay("restore")
		} else {
			lines := h.daemon.Lines()
			h.run(h.Netns, strings.Fields(harm)...)
			_, err := h.daemon.Await(lines, patience, "msg=repaired", "switch=wan", "eth1 was")
			ok(t, err)
		}
		wants("rate 3Gbit ceil 10Gbit", "rate 5500Mbit ceil 10Gbit", "rate 1500Mbit ceil 10Gbit")
	}
	h.wantWhole()
	ok(t, n.Del(a))
	h.patchbay("port", "set", "pbp-wan", "--min-rate", "0")
	if got := h.run(h.Netns, "tc", "qdisc", "show", "dev", "eth1"); strings.Contains(got, "htb") {
		t.Errorf("left: %s", got)
	}
}

// TestMinimumsOfATeam: each member of a team is shared, also one that joins later, and the
// frames of a guest go by the guest's class; a member that leaves has its own queue again.
func TestMinimumsOfATeam(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.HTB)
	h, _ := teamed(t, 3)
	h.patchbay("team", "add", "team0", "--members", "eth0,eth1", "--lab")
	h.patchbay("switch", "add", "wan", "--uplink", "team0", "--min-bandwidth-mode", "absolute")
	n := h.network(strings.Replace(teamGuests, `"switch":"wan"`, `"switch":"wan","bandwidth":{"min":{"rate":"2G"}}`, 1))
	a, _ := h.attached(n, "a")
	shared := func(nic string) bool {
		t.Helper()
		return strings.Contains(h.run(h.Netns, "tc", "class", "show", "dev", nic), "rate 2Gbit ceil 10Gbit")
	}
	if !shared("eth0") || !shared("eth1") || shared("team0") {
		t.Error("not each member is shared, and nothing else")
	}
	reaches(t, a.Netns, "192.0.2.1")
	if got := h.run(h.Netns, "tc", "-s", "class", "show", "dev", "eth0", "classid", "5043:10"); strings.Contains(got, "Sent 0 bytes") {
		t.Errorf("nothing went by the guest's class:\n%s", got)
	}
	var stats []engine.PortStats
	ok(t, json.Unmarshal([]byte(h.patchbay("port", "stats", "--switch", "wan", "-o", "json")), &stats))
	for _, s := range stats {
		guest := s.Owner.Kind == vswitch.OwnerContainer
		if s.Uplink == nil || s.Uplink.DefaultFlow == guest || guest && s.Uplink.Bytes == 0 {
			t.Errorf("port stats tells of the uplink %+v for %s", s.Uplink, s.Owner)
		}
	}
	h.patchbay("team", "set", "team0", "--members", "eth1,eth2")
	if shared("eth0") || !shared("eth1") || !shared("eth2") {
		t.Error("with another member it is not each that is shared")
	}
	h.wantUndrifted()
	ok(t, n.Del(a))
	if shared("eth1") || shared("eth2") {
		t.Error("left")
	}
}
