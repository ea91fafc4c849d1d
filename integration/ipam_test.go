package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/integration/host"
)

// delegating is a list whose addresses come from another plugin.
func delegating(ipam string) string {
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net1","plugins":[{"type":"patchbay",
		"switch":{"name":"prod","type":"internal","gateway":["10.0.0.1/24"]},"ipam":%s}]}`, ipam)
}

func TestDelegatedIPAM(t *testing.T) {
	t.Run("host-local", func(t *testing.T) {
		h := newHost(t)
		n := h.network(delegating(hostLocal(h, `[{"dst":"0.0.0.0/0"}]`)))
		ok(t, n.Status())
		c, r := h.attached(n, "one")
		if diff := cmp.Diff([]string{"10.0.0.2/24"}, addresses(r)); diff != "" {
			t.Errorf("addresses (-want +got):\n%s", diff)
		}
		reaches(t, c.Netns, "10.0.0.1")
		if out := h.run(c.Netns, "ip", "route", "show", "default"); !strings.Contains(out, "via 10.0.0.1") {
			t.Errorf("default route: %s", out)
		}
		ok(t, n.Check(c))
		ok(t, n.Del(c))
		noHostLocalLease(t, h)
	})
	t.Run("static", func(t *testing.T) {
		h := newHost(t)
		n := h.network(delegating(`{"type":"static","addresses":[{"address":"10.0.0.77/24","gateway":"10.0.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`))
		c, r := h.attached(n, "one")
		if diff := cmp.Diff([]string{"10.0.0.77/24"}, addresses(r)); diff != "" {
			t.Errorf("addresses (-want +got):\n%s", diff)
		}
		reaches(t, c.Netns, "10.0.0.1")
		ok(t, n.Del(c))
	})
	t.Run("ADD again keeps the lease", func(t *testing.T) {
		h := newHost(t)
		n := h.network(delegating(hostLocal(h, `[]`)))
		c, first := h.attached(n, "one")
		again, err := n.Add(c)
		ok(t, err)
		if diff := cmp.Diff(addresses(first), addresses(again)); diff != "" {
			t.Errorf("addresses of the same attachment:\n%s", diff)
		}
		two, r := h.attached(n, "two")
		if diff := cmp.Diff([]string{"10.0.0.3/24"}, addresses(r)); diff != "" {
			t.Errorf("addresses of another container (-want +got):\n%s", diff)
		}
		reaches(t, c.Netns, "10.0.0.3")
		ok(t, n.GC(c)) // host-local frees what libcni does not list
		ok(t, n.Del(two))
		ok(t, n.Del(c))
		noHostLocalLease(t, h)
	})
	t.Run("failed ADD frees the lease", func(t *testing.T) {
		h := newHost(t)
		n := h.network(delegating(hostLocal(h, impossibleRoute)))
		c := h.container("one")
		if _, err := n.Add(c); err == nil {
			t.Fatal("a route by an unreachable gateway was added")
		}
		noHostLocalLease(t, h) // before any DEL
		ok(t, n.Del(c))
	})
	t.Run("no such plugin", func(t *testing.T) {
		h := newHost(t)
		n := h.network(delegating(`{"type":"no-such-ipam"}`))
		c := h.container("one")
		if _, err := n.Add(c); err == nil || !strings.Contains(err.Error(), "no-such-ipam") {
			t.Errorf("ADD: %v, want an error that names the plugin", err)
		}
	})
	t.Run("none", func(t *testing.T) {
		h := newHost(t)
		n := h.network(`{"cniVersion":"1.1.0","name":"net1","plugins":[{"type":"patchbay","switch":{"name":"prod","type":"private"}}]}`)
		c, r := h.attached(n, "one")
		if len(r.IPs) > 0 {
			t.Errorf("addresses without IPAM: %v", r.IPs)
		}
		ok(t, n.Check(c))
		ok(t, n.Del(c))
	})
}

// impossibleRoute fails in the kernel, after addresses were leased and set.
const impossibleRoute = `[{"dst":"198.51.100.0/24","gw":"203.0.113.1"}]`

func hostLocal(h *testHost, routes string) string {
	return fmt.Sprintf(`{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.0.0.0/24"}]],"routes":%s}`, filepath.Join(h.Dir, "host-local"), routes)
}

func noHostLocalLease(t *testing.T, h *testHost) {
	t.Helper()
	leases, err := filepath.Glob(filepath.Join(h.Dir, "host-local", "net1", "10.*"))
	ok(t, err)
	if len(leases) > 0 {
		t.Errorf("leases left: %v", leases)
	}
}

// TestPool: our own IPAM runs out, says so, and reuses what is freed.
func TestPool(t *testing.T) {
	h := newHost(t)
	n := h.network(single)
	first, _ := h.attached(n, "one")
	second := h.container("two")
	_, err := n.Add(second)
	if err == nil || !strings.Contains(err.Error(), "10.0.0.") {
		t.Errorf("ADD with no address left: %v, want an error that names the range", err)
	}
	ok(t, n.Del(second))
	ok(t, n.Del(first))

	broken := h.network(strings.ReplaceAll(single, `[{"dst":"0.0.0.0/0"}]`, impossibleRoute))
	if _, err := broken.Add(second); err == nil {
		t.Fatal("a route by an unreachable gateway was added")
	}
	if left := h.ports(); len(left) > 0 {
		t.Errorf("ports after a failed ADD: %v", left)
	}
	third, r := h.attached(n, "three") // before the DEL of the failed ADD
	if diff := cmp.Diff([]string{"10.0.0.2/30"}, addresses(r)); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	ok(t, broken.Del(second))
	ok(t, n.Del(third))
}

// TestRequested asks for a MAC and addresses in each way that a runtime has.
func TestRequested(t *testing.T) {
	const mac = "02:00:00:00:00:98"
	for _, x := range []struct {
		name string
		ask  func(c *host.Container)
		mac  string
		ips  []string
	}{
		{"capability mac", func(c *host.Container) { c.CapabilityArgs = map[string]any{"mac": mac} }, mac, []string{"10.0.0.2/24", "fd00::2/64"}},
		{"capability ips", func(c *host.Container) {
			c.CapabilityArgs = map[string]any{"ips": []string{"10.0.0.50/24", "fd00::50/64"}}
		}, "", []string{"10.0.0.50/24", "fd00::50/64"}},
		{"capability ipRanges", func(c *host.Container) {
			c.CapabilityArgs = map[string]any{"ipRanges": []any{[]any{map[string]any{"subnet": "10.0.5.0/24", "rangeStart": "10.0.5.200"}}}}
		}, "", []string{"10.0.5.200/24", "10.0.0.2/24", "fd00::2/64"}}, // before the list's own, as host-local has it
		{"args.cni, in the list", func(*host.Container) {}, "02:00:00:00:00:97", []string{"10.0.0.97/24", "fd00::2/64"}},
		{"CNI_ARGS", func(c *host.Container) {
			c.Args = [][2]string{{"IgnoreUnknown", "1"}, {"MAC", mac}, {"IP", "10.0.0.60"}, {"K8S_POD_NAME", "pod"}, {"K8S_POD_NAMESPACE", "default"}, {"FOO", "bar"}}
		}, mac, []string{"10.0.0.60/24", "fd00::2/64"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			h := newHost(t)
			list := internal("1.1.0")
			if strings.HasPrefix(x.name, "args.cni") {
				list = strings.Replace(list, `"ipam"`, `"args":{"cni":{"mac":"02:00:00:00:00:97","ips":["10.0.0.97"]}},"ipam"`, 1)
			}
			n := h.network(list)
			c := h.container("one")
			x.ask(c)
			r, err := n.Add(c)
			ok(t, err)
			if diff := cmp.Diff(x.ips, addresses(r)); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
			link := h.run(c.Netns, "ip", "link", "show", "eth0")
			if x.mac != "" && !strings.Contains(link, x.mac) {
				t.Errorf("eth0 lacks MAC %s: %s", x.mac, link)
			}
			reaches(t, c.Netns, "10.0.0.1")
			ok(t, n.Check(c))
			ok(t, n.Del(c))
		})
	}
	t.Run("taken", func(t *testing.T) {
		h := newHost(t)
		n := h.network(internal("1.1.0"))
		one, two := h.container("one"), h.container("two")
		one.CapabilityArgs = map[string]any{"mac": mac, "ips": []string{"10.0.0.50/24"}}
		_, err := n.Add(one)
		ok(t, err)
		holder := h.ports()[0].ID
		for key, value := range map[string]any{"mac": mac, "ips": []string{"10.0.0.50/24"}} {
			two.CapabilityArgs = map[string]any{key: value}
			if _, err := n.Add(two); err == nil || !strings.Contains(err.Error(), holder) {
				t.Errorf("%s of another: %v, want an error that names the holder", key, err)
			}
			ok(t, n.Del(two))
		}
		ok(t, n.Del(one))
	})
	t.Run("unknown argument", func(t *testing.T) {
		h := newHost(t)
		c := h.container("one")
		r := h.exec(config("1.1.0", ""), "CNI_COMMAND=ADD", "CNI_CONTAINERID=one", "CNI_NETNS="+c.NetNS, "CNI_IFNAME=eth0", "CNI_ARGS=FOO=bar")
		if r.Code != 4 || !strings.Contains(r.stdout, "FOO") {
			t.Errorf("want code 4 and FOO: %s", r.stdout)
		}
	})
}

// TestDAD: duplicate address detection is off for addresses of ours, on request it
// is on and ADD does not wait for its end.
func TestDAD(t *testing.T) {
	h := newHost(t)
	n := h.network(strings.Replace(internal("1.1.0"), `"ranges"`, `"dad":true,"ranges"`, 1))
	c, _ := h.attached(n, "one")
	out := h.run(c.Netns, "ip", "-6", "addr", "show", "dev", "eth0", "scope", "global")
	if !strings.Contains(out, "fd00::2/64") || !strings.Contains(out, "tentative") || strings.Contains(out, "nodad") {
		t.Errorf("want fd00::2, tentative and not nodad: %s", out)
	}
	ok(t, n.Del(c))
	without := h.network(internal("1.1.0"))
	c, _ = h.attached(without, "two")
	if out := h.run(c.Netns, "ip", "-6", "addr", "show", "dev", "eth0", "scope", "global"); !strings.Contains(out, "nodad") {
		t.Errorf("want nodad: %s", out)
	}
	ok(t, without.Del(c))
}

// routesInTables are routes with everything that a route can say.
const routesInTables = `[{"dst":"10.50.0.0/16","gw":"10.0.0.1","table":100,"mtu":1400,"advmss":1300,"priority":7},
	{"dst":"10.60.0.0/16","scope":253},{"dst":"fd50::/64","gw":"fd00::1","table":100,"mtu":1300}]`

// TestRoutes looks at routes in the kernel, given by our IPAM and by another.
func TestRoutes(t *testing.T) {
	const ranges = `"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]]`
	const addresses = `"addresses":[{"address":"10.0.0.77/24"},{"address":"fd00::77/64"}]`
	for name, ipam := range map[string]string{
		"ours":   `{"type":"patchbay",` + ranges + `,"routes":` + routesInTables + `}`,
		"static": `{"type":"static",` + addresses + `,"routes":` + routesInTables + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			n := h.network(strings.Replace(delegating(ipam), `["10.0.0.1/24"]`, `["10.0.0.1/24","fd00::1/64"]`, 1))
			c, _ := h.attached(n, "one")
			for _, x := range []struct {
				show string
				want []string
			}{
				{"-4 route show table 100", []string{"10.50.0.0/16", "via 10.0.0.1", "mtu 1400", "advmss 1300", "metric 7"}},
				{"-6 route show table 100", []string{"fd50::/64", "via fd00::1", "mtu 1300"}},
				{"-4 route show 10.60.0.0/16", []string{"scope link"}},
			} {
				out := h.run(c.Netns, append([]string{"ip"}, strings.Fields(x.show)...)...)
				for _, want := range x.want {
					if !strings.Contains(out, want) {
						t.Errorf("ip %s lacks %q: %s", x.show, want, out)
					}
				}
			}
			ok(t, n.Check(c))
			h.run(c.Netns, "ip", "route", "flush", "table", "100")
			if err := n.Check(c); err == nil || !strings.Contains(err.Error(), "10.50.0.0/16") {
				t.Errorf("CHECK without the route in table 100: %v", err)
			}
			ok(t, n.Del(c))
		})
	}
}

// TestReboot: leases of an earlier boot are nobody's.
func TestReboot(t *testing.T) {
	h := newHost(t)
	n := h.network(single)
	c, _ := h.attached(n, "one")
	ok(t, n.Del(c))
	files, err := filepath.Glob(filepath.Join(h.RunDir(), "*"))
	ok(t, err)
	if len(files) == 0 {
		t.Fatalf("no file in %s: the plugin ignores PATCHBAY_RUN_DIR", h.RunDir())
	}
	for _, f := range files {
		info, err := os.Stat(f)
		ok(t, err)
		if !info.IsDir() && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v, want 0600", f, info.Mode())
		}
		ok(t, os.RemoveAll(f)) // a new boot has an empty /run
	}
	again, _ := h.attached(n, "two")
	reaches(t, again.Netns, "10.0.0.1")
	ok(t, n.Del(again))
}
