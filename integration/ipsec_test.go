package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
	"github.com/patchbay-net/patchbay/integration/ike"
)

// tunnelled is a host whose switch is on a team of two NICs that take 33 SAs each, with an IKE
// daemon, and one beyond the team that it talks to.
type tunnelled struct {
	*testHost
	outside   *host.Netns
	here, far ike.Peer
}

const debugfs = "/sys/kernel/debug"

func newTunnelled(t *testing.T) *tunnelled {
	t.Helper()
	h := newHost(t)
	ok(t, unix.Mount("debugfs", debugfs, "debugfs", 0, ""))
	t.Cleanup(func() { ok(t, unix.Unmount(debugfs, 0)) })
	outside, err := h.Neighbour("outside")
	ok(t, err)
	h.script(outside, "link add sw type bridge forward_delay 0\nlink set sw up\naddr add 10.8.0.1/24 dev sw")
	for i, nic := range []string{"eth0", "eth1"} {
		h.simulated(nic, 31+i, 1, outside)
		h.script(outside, "link set "+nic+" master sw")
	}
	h.stopDaemon()
	h.install(filepath.Join(h.Root, "bin/plugins/patchbay-plugin-ipsec"), "ipsec")
	h.settings("ipsec", map[string]any{"state": filepath.Join(h.RunDir(), "ipsec")})
	h.daemon, err = h.Patchbayd("patchbayd --log-level debug", withPlugins()...)
	ok(t, err)
	h.script(h.Netns, "addr add 10.8.0.2/24 dev eth0") // which goes to the host's port
	h.patchbay("team", "add", "team0", "--members", "eth0,eth1", "--monitor", "20")
	h.patchbay("switch", "add", "wan", "--uplink", "team0")
	x := &tunnelled{testHost: h, outside: outside}
	x.past()
	x.here, x.far = ike.Start(t, h.Path, "10.8.0.2", "10.8.0.1"), ike.Start(t, outside.Path, "10.8.0.1", "10.8.0.2")
	return x
}

// past has the host send to the other end past the switch, by the member that carries: whose
// link is gone no packet is routed to. The kernel gives SAs to a NIC for nothing else.
// Patchbay takes such routes for a mistake, and mends it when next it is asked for something.
func (x *tunnelled) past() {
	x.t.Helper()
	mac := regexp.MustCompile(`ether ([0-9a-f:]+)`).FindStringSubmatch(x.run(x.outside, "ip", "link", "show", "sw"))[1]
	for i, nic := range []string{"eth0", "eth1"} {
		ok(x.t, x.Write("/proc/sys/net/ipv4/conf/"+nic+"/ignore_routes_with_linkdown", "1"))
		x.script(x.Netns, fmt.Sprintf("neigh replace 10.8.0.1 lladdr %s dev %s nud permanent\nroute replace 10.8.0.1 dev %s src 10.8.0.2 metric %d", mac, nic, nic, i+1))
	}
}

// setMost says how many SAs the NIC may hold for the host's port.
func (x *tunnelled) setMost(n int) {
	x.t.Helper()
	x.patchbay("port", "set", "pbp-wan", "--ipsec-max-sas", strconv.Itoa(n))
	x.past()
}

// held is how many SAs the drivers of eth0 and eth1 have: "2 0".
func (x *tunnelled) held() string {
	x.t.Helper()
	var counts []string
	for _, id := range []int{31, 32} {
		text, err := os.ReadFile(fmt.Sprintf("%s/netdevsim/netdevsim%d/ports/0/ipsec", debugfs, id))
		ok(x.t, err)
		counts = append(counts, regexp.MustCompile(`SA count=(\d+)`).FindStringSubmatch(string(text))[1])
	}
	return strings.Join(counts, " ")
}

// ipsec is what the host's port has: "2 of 4 on netdevsim31 LIMIT_REACHED; 2 0", with what the
// drivers have. It must be what the switch says of its NIC.
func (x *tunnelled) ipsec() string {
	x.t.Helper()
	var s []engine.SwitchOffload
	ok(x.t, x.PatchbayJSON(&s, "port", "list", "--offload"))
	isIPsec := func(f vswitch.Feature) bool { return f == vswitch.IPsec }
	f := s[0].Ports[0].Features[slices.IndexFunc(s[0].Ports[0].Features, func(f vswitch.OffloadStatus) bool { return isIPsec(f.Feature) })]
	total := s[0].Totals[slices.IndexFunc(s[0].Totals, func(o vswitch.OffloadTotal) bool { return isIPsec(o.Feature) })]
	if total.Used != f.SAsHeld || total.NIC != f.NIC {
		return fmt.Sprintf("the port has %+v, and the switch says %+v", f, total)
	}
	text := string(f.Reason)
	if f.NIC != "" {
		text = strings.TrimSpace(fmt.Sprintf("%d of %d on %s %s", f.SAsHeld, f.SAs, f.NIC, text))
	}
	return text + "; " + x.held()
}

// await waits until the status is so.
func (x *tunnelled) await(want string) {
	x.t.Helper()
	x.until(want, func() string {
		if held := "; " + x.held(); !strings.HasSuffix(want, held) {
			return held // asking patchbayd takes longer
		}
		return x.ipsec()
	})
}

// until waits until something is as wanted, looking whenever patchbayd did something.
func (x *tunnelled) until(want string, is func() string) {
	x.t.Helper()
	late := time.After(startPatience)
	for {
		more := x.daemon.More()
		got := is()
		if got == want {
			return
		}
		select {
		case <-more:
		case <-late:
			x.t.Fatalf("it is %s, want %s\npatchbayd:\n%s", got, want, x.daemon.Log())
		}
	}
}

// TestIPsecOnATeam: SAs that IKE daemons make are on the team's member that carries, up to the
// port's most and the NIC's, go to the other one at a failover, and make room at a rekey; a
// team of another mode has none. Nobody loses an SA by any of that.
func TestIPsecOnATeam(t *testing.T) {
	guest.Needs(t, guest.Netdevsim, guest.Bonding, guest.Netdev)
	x := newTunnelled(t)
	x.here.Swanctl("--initiate", "--child", "net")
	x.await("2 of 2 on netdevsim31; 2 0")
	if got := x.patchbay("switch", "show", "wan"); !strings.Contains(got, "ipsec: 2 SAs used on netdevsim31, of as many as it takes; ports may have 512") {
		t.Errorf("switch show:\n%s", got)
	}
	before, policies := x.here.Numbers(), x.run(x.Netns, "ip", "xfrm", "policy")

	x.script(x.outside, "link set eth0 down")
	x.await("2 of 2 on netdevsim32; 0 2")
	if now := x.here.Numbers(); !slices.Equal(now, before) {
		t.Errorf("before the failover there were %v, after it %v", before, now)
	}
	if now := x.run(x.Netns, "ip", "xfrm", "policy"); now != policies {
		t.Errorf("policies were\n%s\nand are\n%s", policies, now)
	}

	x.here.Swanctl("--rekey", "--child", "net")
	x.until("2 SAs, 0 of them as before", func() string {
		now := x.here.Numbers()
		old := slices.DeleteFunc(slices.Clone(now), func(n string) bool { return !slices.Contains(before, n) })
		return fmt.Sprintf("%d SAs, %d of them as before", len(now), len(old))
	})
	x.await("2 of 2 on netdevsim32; 0 2")

	x.setMost(1)
	x.here.Swanctl("--initiate", "--child", "more")
	x.await("2 of 4 on netdevsim32 LIMIT_REACHED; 0 2")
	x.setMost(100)
	x.await("4 of 4 on netdevsim32; 0 4")
	x.run(x.Netns, "sh", "-c", `for i in $(seq 1000 1035); do
		echo "xfrm state add src 10.8.0.2 dst 10.8.0.1 proto esp spi $i mode transport aead rfc4106(gcm(aes)) 0x0102030405060708090a0b0c0d0e0f1011121314 128"
	done | ip -batch -`)
	x.await("33 of 40 on netdevsim32 NO_FREE_SA; 0 33")
	x.script(x.outside, "link set eth0 up\nlink set eth1 down")
	x.await("33 of 40 on netdevsim31 NO_FREE_SA; 33 0")

	for _, mode := range []string{"static", "lacp", "active-active"} {
		x.patchbay("team", "set", "team0", "--mode", mode)
		x.await("TEAM_MODE; 0 0")
	}
	if now := x.here.Numbers(); len(now) != 40 {
		t.Errorf("in the end there are %d SAs, want 40", len(now))
	}
	if got := x.patchbay("port", "show", "pbp-wan"); !strings.Contains(got, "ipsec prefer: in software, the uplink is a team of a mode with which it does not work") {
		t.Errorf("port show:\n%s", got)
	}
}
