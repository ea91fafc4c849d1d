package integration_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/integration/host"
)

// internal is a list with one Internal switch and addresses of both families.
func internal(version string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":"net1","plugins":[{"type":"patchbay",
		"switch":{"name":"prod","type":"internal","gateway":["10.0.0.1/24","fd00::1/64"]},
		"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]],
			"routes":[{"dst":"0.0.0.0/0","mtu":1400,"advmss":1300,"priority":7},{"dst":"::/0"}]},
		"capabilities":{"mac":true,"ips":true,"ipRanges":true}}]}`, version)
}

// TestVersions goes through all verbs in every version of the specification.
func TestVersions(t *testing.T) {
	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			h := newHost(t)
			n := h.network(internal(version))
			if _, err := n.Validate(); err != nil {
				t.Fatalf("VERSION: %v", err)
			}
			if version == "1.1.0" {
				ok(t, n.Status())
			}
			c := h.container("one")
			raw, err := n.AddRaw(c)
			ok(t, err)
			if raw.Version() != version {
				t.Errorf("result of version %s, want %s", raw.Version(), version)
			}
			text, err := json.Marshal(raw)
			ok(t, err)
			checkFields(t, version, string(text))
			r, err := types100.NewResultFromResult(raw)
			ok(t, err)
			if diff := cmp.Diff([]string{"10.0.0.2/24", "fd00::2/64"}, addresses(r)); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
			reaches(t, c.Netns, "10.0.0.1")
			reaches(t, c.Netns, "fd00::1")
			reaches(t, h.Netns, "10.0.0.2")
			if version != "0.3.1" {
				ok(t, n.Check(c))
			}
			if version == "1.1.0" {
				ok(t, n.GC(c))
				reaches(t, c.Netns, "10.0.0.1")
			}
			ok(t, n.Del(c))
			ok(t, n.Del(c))
		})
	}
}

// checkFields demands what version 1.1.0 adds to results there, and only there.
func checkFields(t *testing.T, version, result string) {
	t.Helper()
	for _, field := range []string{`"mtu":1500`, `"mtu":1400`, `"advmss":1300`, `"priority":7`} {
		if has := strings.Contains(result, field); has != (version == "1.1.0") {
			t.Errorf("%s in a result of version %s: %v\n%s", field, version, has, result)
		}
	}
	// 0.3.1 and 0.4.0 say of each address which family it is of.
	if has := strings.Contains(result, `"version":"4"`); has != strings.HasPrefix(version, "0.") {
		t.Errorf("\"version\" in addresses of version %s: %v\n%s", version, has, result)
	}
}

// TestResult looks at all that an ADD reports and at all that it made.
func TestResult(t *testing.T) {
	h := newHost(t)
	n := h.network(internal("1.1.0"))
	c, r := h.attached(n, "one")
	var inside *types100.Interface
	for i, nic := range r.Interfaces {
		if nic.Sandbox == "" {
			if out := h.run(h.Netns, "ip", "-o", "link", "show", nic.Name); !strings.Contains(out, nic.Mac) {
				t.Errorf("interface %s with MAC %s is reported, but the host has: %s", nic.Name, nic.Mac, out)
			}
			continue
		}
		inside = nic
		for _, ip := range r.IPs {
			if ip.Interface == nil || *ip.Interface != i {
				t.Errorf("address %v belongs to interface %v, want %d", ip.Address, ip.Interface, i)
			}
		}
	}
	if inside == nil || inside.Name != "eth0" || inside.Sandbox != c.NetNS || inside.Mtu != 1500 {
		t.Fatalf("container's interface: %+v, want eth0 in %s with MTU 1500", inside, c.NetNS)
	}
	link := h.run(c.Netns, "ip", "-o", "link", "show", "eth0")
	for _, want := range []string{inside.Mac, "mtu 1500", "state UP"} {
		if !strings.Contains(link, want) {
			t.Errorf("eth0 lacks %q: %s", want, link)
		}
	}
	route := h.run(c.Netns, "ip", "-4", "route", "show", "default")
	for _, want := range []string{"via 10.0.0.1", "mtu 1400", "advmss 1300", "metric 7"} {
		if !strings.Contains(route, want) {
			t.Errorf("default route lacks %q: %s", want, route)
		}
	}
	if out := h.run(c.Netns, "ip", "-6", "route", "show", "default"); !strings.Contains(out, "via fd00::1") {
		t.Errorf("IPv6 default route: %s", out)
	}
	ok(t, n.Del(c))
	if out, err := c.Run("ip", "link", "show", "eth0"); err == nil {
		t.Errorf("eth0 after DEL: %s", out)
	}
}

// TestIPv6AtOnce: an address of ours needs no duplicate address detection.
func TestIPv6AtOnce(t *testing.T) {
	h := newHost(t)
	n := h.network(internal("1.1.0"))
	c, _ := h.attached(n, "one")
	out := h.run(c.Netns, "ip", "-6", "addr", "show", "dev", "eth0", "scope", "global")
	if !strings.Contains(out, "fd00::2/64") || strings.Contains(out, "tentative") {
		t.Errorf("want fd00::2 and not tentative: %s", out)
	}
	reaches(t, c.Netns, "fd00::1")
	ok(t, n.Del(c))
}

// TestMTU: the switch's MTU holds for every end, and a port may have a smaller one.
func TestMTU(t *testing.T) {
	h := newHost(t)
	list := strings.Replace(private(""), `"type":"private"`, `"type":"private","mtu":1400`, 1)
	n := h.network(list)
	one, _ := h.attached(n, "one")
	small := h.network(strings.Replace(list, `"type":"patchbay",`, `"type":"patchbay","mtu":1300,`, 1))
	two, _ := h.attached(small, "two")
	for _, x := range []struct {
		c    *host.Container
		want string
	}{{one, "mtu 1400"}, {two, "mtu 1300"}} {
		if out := h.run(x.c.Netns, "ip", "-o", "link", "show", "eth0"); !strings.Contains(out, x.want) {
			t.Errorf("%s: want %s: %s", x.c.ContainerID, x.want, out)
		}
	}
	ok(t, n.Del(one))
	ok(t, small.Del(two))
}

// TestVLANRefused: where the kernel has no VLAN filtering, a switch with a VLAN is
// refused by name and not made without it.
func TestVLANRefused(t *testing.T) {
	h := newHost(t)
	var status struct{ Capabilities struct{ VLANFiltering bool } }
	ok(t, h.PatchbayJSON(&status, "status"))
	if status.Capabilities.VLANFiltering {
		t.Skip("this kernel has CONFIG_BRIDGE_VLAN_FILTERING: nothing to refuse")
	}
	c := h.container("one")
	withVLAN := strings.Replace(config("1.1.0", ""), `"type":"internal"`, `"type":"internal","vlan":7`, 1)
	r := h.exec(withVLAN, "CNI_COMMAND=ADD", "CNI_CONTAINERID=one", "CNI_NETNS="+c.NetNS, "CNI_IFNAME=eth0")
	if r.Code < 100 || r.Code == 999 || !strings.Contains(r.stdout, "VLAN") {
		t.Errorf("want a code of the plugin's own and the VLAN named: %s", r.stdout)
	}
	if out, err := h.Patchbay("switch", "show", "prod"); err == nil {
		t.Errorf("the switch was made all the same: %s", out)
	}
}
