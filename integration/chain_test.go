package integration_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// chained is a list with other plugins behind ours.
func chained(behind string) string {
	return fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net1","plugins":[{"type":"patchbay",
		"switch":{"name":"prod","type":"internal","gateway":["10.0.0.1/24"],"masquerade":true},
		"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.0.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},%s]}`, behind)
}

// TestPortmap: a connection to a port of the host, from outside, reaches the
// container.
func TestPortmap(t *testing.T) {
	h := newHost(t)
	outside := h.outside("eth0")
	h.run(h.Netns, "ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
	h.run(outside, "ip", "addr", "add", "192.0.2.1/24", "dev", "wan")
	n := h.network(chained(`{"type":"portmap","backend":"nftables","capabilities":{"portMappings":true}}`))
	h.portmapStays(n)
	c := h.container("web")
	c.CapabilityArgs = port8080()
	r, err := n.Add(c)
	ok(t, err)
	addr, _ := netip.AddrFromSlice(r.IPs[0].Address.IP.To4())
	s, err := c.Serve(netip.AddrPortFrom(addr, 80))
	ok(t, err)
	defer func() { ok(t, s.Close()) }()
	seen, err := outside.Ask(netip.MustParseAddrPort("192.0.2.2:8080"), patience)
	if err != nil || seen.Addr().String() != "192.0.2.1" {
		t.Errorf("the container saw %v (%v), want the client 192.0.2.1", seen, err)
	}
	ok(t, n.Check(c))
	ok(t, n.Del(c))
	if seen, err := outside.Ask(netip.MustParseAddrPort("192.0.2.2:8080"), silence); err == nil {
		t.Errorf("the port answers after DEL, and saw %v", seen)
	}
}

// port8080 maps the host's port 8080 to the container's port 80.
func port8080() map[string]any {
	return map[string]any{"portMappings": []any{map[string]any{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}}}
}

// portmapStays accepts the tables and base chains that portmap never removes, as
// one ADD and DEL leaves them.
func (h *testHost) portmapStays(n *host.Network) {
	h.t.Helper()
	c := h.container("portmap")
	c.CapabilityArgs = port8080()
	_, err := n.Add(c)
	ok(h.t, err)
	ok(h.t, n.Del(c))
	now, err := h.Snapshot()
	ok(h.t, err)
	for _, item := range now {
		if strings.HasPrefix(item, "rules: ") && !strings.Contains(item, " patchbay: ") {
			h.before = append(h.before, item)
		}
	}
}

// TestBandwidth: the reference plugin finds our host side and shapes it.
func TestBandwidth(t *testing.T) {
	guest.Needs(t, guest.TBF)
	h := newHost(t)
	n := h.network(chained(`{"type":"bandwidth","capabilities":{"bandwidth":true}}`))
	c := h.container("one")
	c.CapabilityArgs = map[string]any{"bandwidth": map[string]any{"ingressRate": 8_000_000, "ingressBurst": 8_000_000}}
	_, err := n.Add(c)
	ok(t, err)
	if out := h.run(h.Netns, "tc", "qdisc", "show", "dev", h.ports()[0].Netdev); !strings.Contains(out, "tbf") || !strings.Contains(out, "8Mbit") {
		t.Errorf("no shaping at our end: %s", out)
	}
	reaches(t, c.Netns, "10.0.0.1")
	ok(t, n.Check(c))
	ok(t, n.Del(c))
}

// TestTuning: sysctls and flags of the container's netdev, set behind us, are no
// drift of ours.
func TestTuning(t *testing.T) {
	h := newHost(t)
	n := h.network(chained(fmt.Sprintf(`{"type":"tuning","sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"},"allmulti":true,"dataDir":%q}`, h.Dir+"/tuning")))
	c, _ := h.attached(n, "one")
	filter, err := c.Read("/proc/sys/net/ipv4/conf/eth0/arp_filter")
	if err != nil || filter != "1" {
		t.Errorf("arp_filter is %q (%v)", filter, err)
	}
	ok(t, n.Check(c))
	reaches(t, c.Netns, "10.0.0.1")
	ok(t, n.Del(c))
}

// TestAdoptedNetdev: a prevResult with a host-side netdev, a virtual machine's
// tap, is attached as it is and let go by DEL.
func TestAdoptedNetdev(t *testing.T) {
	guest.Needs(t, guest.TUN)
	h := newHost(t)
	h.keeps = append(h.keeps, "tap0")
	h.run(h.Netns, "ip", "tuntap", "add", "dev", "tap0", "mode", "tap")
	c := h.container("vm")
	prev := `,"prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"tap0"}]}`
	env := []string{"CNI_CONTAINERID=vm", "CNI_NETNS=" + c.NetNS, "CNI_IFNAME=eth0"}
	r := h.exec(config("1.1.0", prev), append(env, "CNI_COMMAND=ADD")...)
	if r.code != 0 {
		t.Fatalf("ADD: %s", r.stdout)
	}
	var result types100.Result
	ok(t, json.Unmarshal([]byte(r.stdout), &result))
	if len(result.IPs) != 1 || len(result.Interfaces) == 0 || result.Interfaces[0].Name != "tap0" {
		t.Errorf("result: %s", r.stdout)
	}
	if out := h.run(h.Netns, "ip", "-o", "link", "show", "tap0"); !strings.Contains(out, "master pb-prod") {
		t.Errorf("tap0 is not on the switch: %s", out)
	}
	if out, err := c.Run("ip", "link", "show", "eth0"); err == nil {
		t.Errorf("a pair was made beside the tap: %s", out)
	}
	check := h.exec(config("1.1.0", `,"prevResult":`+r.stdout), append(env, "CNI_COMMAND=CHECK")...)
	if check.code != 0 {
		t.Errorf("CHECK: %s", check.stdout)
	}
	for range 2 {
		if r := h.exec(config("1.1.0", ""), append(env, "CNI_COMMAND=DEL")...); r.code != 0 {
			t.Errorf("DEL: %s", r.stdout)
		}
	}
	if out := h.run(h.Netns, "ip", "-o", "link", "show", "tap0"); strings.Contains(out, "master") {
		t.Errorf("tap0 is still on the switch: %s", out)
	}
}
