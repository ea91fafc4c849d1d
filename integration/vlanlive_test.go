package integration_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

const vlanGuest = `{"cniVersion":"1.1.0","name":"net-%s","plugins":[{"type":"patchbay","switch":"wan","vlan":%q,"ipam":{"type":"patchbay","ranges":[[{"subnet":"192.0.2.0/24","rangeStart":"192.0.2.%d"}]]}}]}`

// TestVLANsChangeLive changes what a port does with VLANs while datagrams go to and fro
// between others on the switch, in other VLANs and by the uplink, and on a VLAN that the
// port itself stays in. None of them is lost, but for the moment in which the untagged traffic
// has to make room. The port hears its new peers when the verb returns, and no more of the
// old ones.
func TestVLANsChangeLive(t *testing.T) {
	guest.Needs(t, guest.VLANs, guest.VLANDevs)
	h := newHost(t)
	outside := h.outside("eth1")
	h.script(outside, "addr add 192.0.2.1/24 dev wan")
	h.patchbay("switch", "add", "wan", "--uplink", "eth1", "--host-access=false")
	guests, addresses := make(map[string]*host.Container), make(map[string]netip.Addr)
	for i, g := range []struct{ name, vlan string }{
		{"x", "10"},
		{"ten", "10"},
		{"twenty", "20"},
		{"promiscuous", "promiscuous 100 101"},
		{"plain", "untagged"},
		{"plain2", "untagged"},
		{"thirty", "30"},
		{"thirty2", "30"},
	} {
		n := h.network(fmt.Sprintf(vlanGuest, g.name, g.vlan, 10+i))
		c, r := h.attached(n, g.name)
		t.Cleanup(func() { ok(t, n.Del(c)) })
		guests[g.name], addresses[g.name] = c, netip.MustParsePrefix(r.IPs[0].Address.String()).Addr()
	}
	h.script(guests["x"].Netns, "link add link eth0 name eth0.30 type vlan id 30\nlink set eth0.30 up\naddr add 10.30.0.1/24 dev eth0.30")
	h.script(guests["thirty"].Netns, "addr add 10.30.0.2/24 dev eth0")

	const moved = 50 // datagrams, a quarter of a second's
	others := make(map[string]*host.Pulse)
	begin := func(name string, from, to *host.Netns, dst netip.Addr) {
		t.Helper()
		p, err := from.Pulse(to, dst, 5*time.Millisecond)
		ok(t, err)
		t.Cleanup(func() { ok(t, p.Close()) })
		others[name] = p
	}
	begin("untagged", guests["plain"].Netns, guests["plain2"].Netns, addresses["plain2"])
	begin("by the uplink", outside, guests["plain"].Netns, addresses["plain"])
	begin("VLAN 30", guests["thirty"].Netns, guests["thirty2"].Netns, addresses["thirty2"])
	for _, step := range []struct{ change, hears, lost string }{
		{"20", "twenty", "ten"},
		{"10", "ten", "twenty"},
		{"trunk 30 native 10", "ten", "twenty"},
		{"trunk 30 native 20", "twenty", "ten"},
		{"trunk 30-40 native 10", "ten", "twenty"},
		{"isolated 100 101", "promiscuous", "ten"},
		{"untagged --isolated", "plain", "promiscuous"},
		{"4094", "", "plain"}, // where the untagged traffic was: it moves
		{"untagged", "plain", ""},
	} {
		var reached error
		outages := h.during(others, step.change, func() {
			vlan, isolated := strings.CutSuffix(step.change, " --isolated")
			h.patchbay("port", "set", "x", "--vlan", vlan, fmt.Sprintf("--isolated=%t", isolated))
			if step.hears != "" { // a second time is asked for an address after a second
				reached = guests["x"].Ping(addresses[step.hears], time.Second)
			}
		})
		for name, o := range outages {
			if moves := step.change == "4094" && (name == "untagged" || name == "by the uplink"); o.Lost > 0 && !moves || o.Lost > moved {
				t.Errorf("%s: %d datagrams lost %s", step.change, o.Lost, name)
			}
		}
		t.Logf("%s: %v", step.change, outages)
		if reached != nil {
			t.Errorf("%s: %s does not answer at once: %v", step.change, step.hears, reached)
		}
		if step.lost != "" {
			if err := guests["x"].Ping(addresses[step.lost], silence); err == nil {
				t.Errorf("%s: %s still answers", step.change, step.lost)
			}
		}
		switch step.change { // between the two the port stays in VLAN 30
		case "trunk 30 native 10":
			begin("the trunk's own", guests["thirty"].Netns, guests["x"].Netns, netip.MustParseAddr("10.30.0.1"))
		case "trunk 30-40 native 10":
			delete(others, "the trunk's own")
		}
	}
}

// during does something while datagrams go to and fro, and tells what was lost.
func (h *testHost) during(pulses map[string]*host.Pulse, what string, do func()) map[string]host.Outage {
	h.t.Helper()
	outages := make(map[string]host.Outage)
	for name, p := range pulses {
		inner := do
		do = func() {
			o, err := p.During(inner, patience)
			outages[name] = o
			if err != nil {
				h.t.Errorf("%s: %s: %v", what, name, err)
			}
		}
	}
	do()
	return outages
}
