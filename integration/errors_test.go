package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// config is a plugin's own configuration, as a runtime writes it to its standard
// input; more is added to it.
func config(version, more string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":"net1","type":"patchbay",
		"switch":{"name":"prod","type":"internal","gateway":["10.0.0.1/24"]},
		"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.0.0.0/24"}]]}%s}`, version, more)
}

// TestErrorCodes asks for every failure that the specification numbers.
func TestErrorCodes(t *testing.T) {
	h := newHost(t)
	c := h.container("one")
	taken := h.container("taken")
	h.run(taken.Netns, "ip", "link", "add", "eth0", "type", "bridge")
	noNetns := filepath.Join(t.TempDir(), "file")
	ok(t, os.WriteFile(noNetns, nil, 0o600))
	good := config("1.1.0", "")
	env := func(overrides ...string) []string {
		return append([]string{"CNI_COMMAND=ADD", "CNI_CONTAINERID=one", "CNI_NETNS=" + c.NetNS, "CNI_IFNAME=eth0"}, overrides...)
	}
	const ours = 100 // codes from here on are the plugin's own
	for _, x := range []struct {
		name  string
		stdin string
		env   []string
		code  int
		says  []string
	}{
		{"unknown version", config("9.0.0", ""), env(), 1, []string{"9.0.0"}},
		{"STATUS before it existed", config("1.0.0", ""), env("CNI_COMMAND=STATUS"), 1, []string{"STATUS"}},
		{"GC before it existed", config("1.0.0", ""), env("CNI_COMMAND=GC"), 1, []string{"GC"}},
		{"CHECK before it existed", config("0.3.1", ""), env("CNI_COMMAND=CHECK"), 1, []string{"CHECK"}},
		{"another plugin's key", config("1.1.0", `,"bandwidth":{"ingressRate":1000}`), env(), 2, []string{"bandwidth.ingressRate", "1000"}},
		{"a VLAN that there is not", config("1.1.0", `,"vlan":4095`), env(), 7, []string{"VLAN", "4095"}},
		{"misspelt key", config("1.1.0", `,"macSpofing":true`), env(), 2, []string{"macSpofing", "macSpoofing"}},
		{"misspelt key of the switch", strings.ReplaceAll(good, `"gateway"`, `"gatway"`), env(), 2, []string{"gatway", "gateway"}},
		{"misspelt key of ipam", strings.ReplaceAll(good, `"ranges"`, `"range"`), env(), 2, []string{"range", "ranges"}},
		{"no namespace", good, env("CNI_NETNS=/nowhere/netns"), 3, []string{"/nowhere/netns"}},
		{"a file as namespace", good, env("CNI_NETNS=" + noNetns), 3, []string{noNetns}},
		{"no interface name", good, env("CNI_IFNAME="), 4, []string{"CNI_IFNAME"}},
		{"long interface name", good, env("CNI_IFNAME=abcdefghijklmnop"), 4, []string{"interface name"}},
		{"bad interface name", good, env("CNI_IFNAME=a/b"), 4, []string{"interface name"}},
		{"interface name for all", good, env("CNI_IFNAME=all"), 4, []string{`"all"`}},
		{"interface name by default", good, env("CNI_IFNAME=default"), 4, []string{`"default"`}},
		{"pattern as interface name", good, env("CNI_IFNAME=eth%d"), 4, []string{"eth%d"}},
		{"bad container id", good, env("CNI_CONTAINERID=../x"), 4, []string{"containerID", "../x"}},
		{"no container id", good, env("CNI_CONTAINERID="), 4, []string{"CNI_CONTAINERID"}},
		{"no namespace given", good, env("CNI_NETNS="), 4, []string{"CNI_NETNS"}},
		{"unknown command", good, env("CNI_COMMAND=FROB"), 4, []string{"CNI_COMMAND"}},
		{"bad MAC in CNI_ARGS", good, env("CNI_ARGS=MAC=nonsense"), 4, []string{"nonsense"}},
		{"no JSON", `{`, env(), 6, nil},
		{"list", `[]`, env(), 6, []string{"an array"}},
		{"name is a number", strings.ReplaceAll(good, `"net1"`, `1`), env(), 6, []string{"name: here is a number"}},
		{"version is a number", strings.ReplaceAll(good, `"1.1.0"`, `1`), env(), 6, []string{"cniVersion: here is a number"}},
		{"mtu is a string", config("1.1.0", `,"mtu":"big"`), env(), 6, []string{"mtu: here is a string, expected is a whole number"}},
		{"null in prevResult", config("1.1.0", `,"prevResult":{"cniVersion":"1.1.0","interfaces":[null]}`), env(), 6, []string{"interfaces[0]"}},
		{"null in an old prevResult", config("0.4.0", `,"prevResult":{"ips":[null]}`), env(), 6, []string{"ips[0]"}},
		{"null in CHECK's prevResult", config("1.1.0", `,"prevResult":{"cniVersion":"1.1.0","routes":[null]}`), env("CNI_COMMAND=CHECK"), 6, []string{"routes[0]"}},
		{"the plugin's own namespace", good, env("CNI_NETNS=/proc/thread-self/ns/net"), 8, []string{"CNI_NETNS"}},
		{"ipam without type", strings.ReplaceAll(good, `"type":"patchbay","ranges"`, `"ranges"`), env(), 7, []string{"type", "ranges"}},
		{"GC of nobody", config("1.1.0", `,"cni.dev/valid-attachments":[{"containerID":"one"}]`), env("CNI_COMMAND=GC"), 7, []string{"ifname"}},
		{"no name", strings.ReplaceAll(good, `"name":"net1",`, ``), env(), 7, []string{"name"}},
		{"no switch", `{"cniVersion":"1.1.0","name":"net1","type":"patchbay"}`, env(), 7, []string{"switch"}},
		{"bad gateway", strings.ReplaceAll(good, `10.0.0.1/24`, `10.0.0.0/24`), env(), 7, []string{"10.0.0.0/24"}},
		{"CHECK without prevResult", good, env("CNI_COMMAND=CHECK"), 7, []string{"prevResult"}},
		{"interface exists", good, []string{"CNI_COMMAND=ADD", "CNI_CONTAINERID=taken", "CNI_NETNS=" + taken.NetNS, "CNI_IFNAME=eth0"}, 4, []string{"eth0"}},
		{"no such uplink", strings.ReplaceAll(good, `"name":"prod","type":"internal","gateway":["10.0.0.1/24"]`, `"name":"lan","uplink":"nic9"`), env(), ours, []string{"nic9"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := h.exec(x.stdin, x.env...)
			if r.code == 0 {
				t.Fatalf("success: %s", r.stdout)
			}
			if r.Code != x.code && (x.code != ours || r.Code < ours || r.Code == 999) {
				t.Errorf("code %d, want %d: %s", r.Code, x.code, r.stdout)
			}
			if strings.Contains(r.Msg, " Go ") || strings.Contains(r.Msg, "json:") {
				t.Errorf("the message is Go's: %s", r.stdout)
			}
			for _, word := range x.says {
				if !strings.Contains(r.Msg+" "+r.Detail, word) {
					t.Errorf("the message lacks %q: %s", word, r.stdout)
				}
			}
		})
	}
	if left := h.ports(); len(left) > 0 {
		t.Errorf("ports after nothing but failures: %v", left)
	}
}

// TestVersionVerb needs no configuration at all.
func TestVersionVerb(t *testing.T) {
	h := newHost(t)
	for _, stdin := range []string{"", `{"cniVersion":"1.1.0"}`} {
		r := h.exec(stdin, "CNI_COMMAND=VERSION")
		var missing []string
		for _, v := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
			if !strings.Contains(r.stdout, `"`+v+`"`) {
				missing = append(missing, v)
			}
		}
		if r.code != 0 || len(missing) > 0 {
			t.Errorf("VERSION with %q: exit %d, lacks %v: %s", stdin, r.code, missing, r.stdout)
		}
	}
}

// TestDisagreement: a network that defines a switch otherwise than it is.
func TestDisagreement(t *testing.T) {
	h := newHost(t)
	n := h.network(internal("1.1.0"))
	c, _ := h.attached(n, "one")
	two := h.container("two")
	r := h.exec(config("1.1.0", ""), "CNI_COMMAND=ADD", "CNI_CONTAINERID=two", "CNI_NETNS="+two.NetNS, "CNI_IFNAME=eth0")
	if r.code == 0 || r.Code == 999 || !strings.Contains(r.stdout, "gateway") {
		t.Errorf("want an error that names the gateway: %s", r.stdout)
	}
	if names := slices.Collect(ids(h.ports())); !slices.Equal(names, []string{"one"}) {
		t.Errorf("ports of %v, want of one", names)
	}
	ok(t, n.Del(c))
}
