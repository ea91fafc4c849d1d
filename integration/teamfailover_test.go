package integration_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// physical is what a team of two NICs, eth0 and eth1, is plugged into: two switches that
// are joined, with a host behind the second one, or one switch with its ports in a group.
// The far end has the address 192.0.2.1.
func (h *testHost) physical(group string) *host.Netns {
	h.t.Helper()
	outside, err := h.Neighbour("physical")
	ok(h.t, err)
	for _, n := range []string{"0", "1"} {
		ok(h.t, host.Cable(h.Netns, "eth"+n, outside, "port"+n))
		h.keeps = append(h.keeps, "eth"+n)
	}
	if group != "" {
		h.script(outside, "link add far type bond miimon 20 "+group+
			"\nlink set port0 down\nlink set port1 down\nlink set port0 master far\nlink set port1 master far\nlink set far up\naddr add 192.0.2.1/24 dev far")
		return outside
	}
	h.script(outside, `link add swA type bridge forward_delay 0
link add swB type bridge forward_delay 0
link add joinA type veth peer name joinB
link add far type veth peer name farB
link set port0 master swA
link set joinA master swA
link set port1 master swB
link set joinB master swB
link set farB master swB
link set swA up
link set swB up
link set joinA up
link set joinB up
link set farB up
link set far up
addr add 192.0.2.1/24 dev far`)
	return outside
}

// patienceForFailover is long enough for any failover on any machine, and far shorter than
// what it takes switches to forget where a guest was (5 minutes).
const patienceForFailover = 30 * time.Second

// failover is a guest of a switch on a team, who only answers, and somebody outside who
// talks to him. Switches learn where the guest is from announcements and from nothing
// else: the one outside need not ask for him, and he has no IPv6, of which he would speak.
type failover struct {
	*testHost
	outside *host.Netns
	pulse   *host.Pulse
	shared  bool // both members carry at the same time
}

// measure carries an event out and tells what it has cost. A guest who does not come back
// is a failure.
func (f *failover) measure(what string, in *host.Netns, script string) host.Outage {
	f.t.Helper()
	return f.outage(f.pulse, what+" ("+script+")", func() { f.script(in, script) })
}

// outage is what a pulse misses because of an event.
func (h *testHost) outage(p *host.Pulse, what string, event func()) host.Outage {
	h.t.Helper()
	o, err := p.During(event, patienceForFailover)
	if err != nil {
		h.t.Errorf("%s: %v", what, err)
	}
	h.t.Logf("%s: %s", what, cell(o))
	return o
}

func cell(o host.Outage) string {
	return fmt.Sprintf("%v, %d lost", o.Silence.Round(time.Millisecond), o.Lost)
}

// whole carries an event out and waits until both members carry again, if they do so at
// the same time. LACP takes seconds until it lets a member into the group; while it does
// there is nothing to fail over to.
func (f *failover) whole(event func()) {
	f.t.Helper()
	lines := f.daemon.Lines()
	event()
	if f.shared {
		f.awaitWhole(lines)
	}
}

// TestTeamFailover takes each member's link away and gives it back, and takes each down
// and up, in every mode. The guest comes back each time: how soon depends on the machine, and
// is what `make failover` prints for docs/performance.md.
func TestTeamFailover(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.Netdev)
	const interval = 5 * time.Millisecond
	t.Log("| mode | nothing | link lost | link back | taken down | brought up | both links back |")
	t.Log("|---|---|---|---|---|---|---|")
	for _, mode := range []struct{ name, group string }{
		{"active-standby", ""},
		{"active-active", ""},
		{"static", "mode balance-xor xmit_hash_policy layer3+4"},
		{"lacp", "mode 802.3ad lacp_rate fast xmit_hash_policy layer3+4"},
	} {
		t.Run(mode.name, func(t *testing.T) {
			h := newHost(t)
			h.stopDaemon()
			h.startDaemon()
			f := &failover{testHost: h, outside: h.physical(mode.group), shared: mode.name != "active-standby"}
			add := func() {
				h.patchbay("team", "add", "team0", "--members", "eth0,eth1", "--mode", mode.name, "--lab")
			}
			if mode.name == "lacp" { // the only one of which a member comes later
				f.whole(add)
			} else {
				add()
			}
			h.patchbay("switch", "add", "wan", "--uplink", "team0")
			n := h.network(teamGuests)
			c := h.container("a")
			ok(t, c.Write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"))
			r, err := n.Add(c)
			ok(t, err)
			address := r.IPs[0].Address.IP.String()
			h.script(f.outside, "neigh replace "+address+" lladdr "+guestMAC(r)+" dev far nud permanent")
			f.pulse, err = f.outside.Pulse(c.Netns, netip.MustParseAddr(address), interval)
			ok(t, err)
			calm := f.measure("nothing", f.outside, "link show lo")
			var lost, back, down, up host.Outage
			for _, m := range []string{"0", "1"} {
				lost = lost.Max(f.measure("link lost", f.outside, "link set port"+m+" down"))
				f.whole(func() { back = back.Max(f.measure("link back", f.outside, "link set port"+m+" up")) })
				down = down.Max(f.measure("taken down", h.Netns, "link set eth"+m+" down"))
				f.whole(func() { up = up.Max(f.measure("brought up", h.Netns, "link set eth"+m+" up")) })
			}
			h.script(f.outside, "link set port0 down\nlink set port1 down")
			var all host.Outage
			f.whole(func() { all = f.measure("both links back", f.outside, "link set port0 up\nlink set port1 up") })
			t.Logf("| %s | %s | %s | %s | %s | %s | %s |", mode.name, cell(calm), cell(lost), cell(back), cell(down), cell(up), cell(all))
			if s := h.team("team0"); s.LastFailover == nil || f.shared && len(s.Degraded) > 0 {
				t.Errorf("after it the team is %+v", s)
			}
			if mode.name == "active-standby" {
				f.unannounced()
			}
			ok(t, f.pulse.Close())
			ok(t, n.Del(c))
			h.patchbay("switch", "delete", "wan")
			h.patchbay("team", "delete", "team0")
		})
	}
}

// guestMAC is the address of the container's end.
func guestMAC(r *types100.Result) string {
	at := slices.IndexFunc(r.Interfaces, func(i *types100.Interface) bool { return i.Sandbox != "" })
	return r.Interfaces[at].Mac
}

// unannounced shows what the announcements are for: without patchbayd a guest stays out of
// reach after a failover. When it starts, he is there.
func (f *failover) unannounced() {
	f.t.Helper()
	f.measure("link lost, for certain of the guest's", f.outside, "link set port1 down")
	f.script(f.outside, "link set port1 up") // he stays on eth0
	f.stopDaemon()
	if o, err := f.pulse.During(func() { f.script(f.outside, "link set port0 down") }, 3*time.Second); err == nil {
		f.t.Errorf("without announcements a guest was back after %v", o.Silence)
	}
	_, err := f.pulse.During(func() { f.startDaemon() }, patienceForFailover)
	ok(f.t, err)
	f.script(f.outside, "link set port0 up")
}
