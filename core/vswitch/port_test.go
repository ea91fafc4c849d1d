package vswitch_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestNetdevNames(t *testing.T) {
	long := strings.Repeat("n", 63)
	for _, c := range []struct{ name, bridge, hostPort, switchEnd string }{
		{"lan", "pb-lan", "pbh-lan", "pbp-lan"},
		{"a", "pb-a", "pbh-a", "pbp-a"},
		{"exactly12chr", "pb-exactly12chr", "pbh-exact-jrhfz", "pbp-exact-jrhfz"},
		{"produc-n3zsg", "pb-produc-7gqnx", "pbh-produ-7gqnx", "pbp-produ-7gqnx"}, // the cut name of the next
		{"production.east", "pb-produc-n3zsg", "pbh-produ-n3zsg", "pbp-produ-n3zsg"},
		{long, "pb-nnnnnn-vx3mh", "pbh-nnnnn-vx3mh", "pbp-nnnnn-vx3mh"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := []string{vswitch.BridgeName(c.name), vswitch.HostPortName(c.name), vswitch.HostPortSwitchEnd(c.name)}
			if diff := cmp.Diff([]string{c.bridge, c.hostPort, c.switchEnd}, got); diff != "" {
				t.Errorf("an upgrade would not find its netdevs (-want +got):\n%s", diff)
			}
		})
	}
	seen := make(map[string]string)
	for i := range 5000 {
		for _, name := range []string{fmt.Sprintf("switch%d", i), fmt.Sprintf("a-rather-long-name-%d", i), fmt.Sprintf("%d.%s", i, long[:50])} {
			owner := vswitch.Owner{Kind: vswitch.OwnerContainer, Network: "net", ID: name, Endpoint: "eth0"}
			for _, netdev := range []string{vswitch.BridgeName(name), vswitch.HostPortName(name), vswitch.HostPortSwitchEnd(name), owner.PortID()} {
				if err := vswitch.ValidateNetdevName(netdev); err != nil {
					t.Fatal(err)
				}
				if other, taken := seen[netdev]; taken {
					t.Fatalf("%s is a netdev of %s and of %s", netdev, name, other)
				}
				seen[netdev] = name
			}
		}
	}
}

func TestValidateNetdevName(t *testing.T) {
	for _, name := range []string{"e", "eth0", "enp3s0f0np0", "br-lan.100", "exactly15bytes_", "@!$"} {
		if err := vswitch.ValidateNetdevName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "sixteen-bytes-ab", "a/b", "a:b", "a b", "a\tb", "a\n", "a\x00", "é", "eth%d", strings.Repeat("x", 100000)} {
		if err := vswitch.ValidateNetdevName(name); err == nil || len(err.Error()) > 200 {
			t.Errorf("%.40q: %v", name, err)
		}
	}
}

func TestOwner(t *testing.T) {
	web := vswitch.Owner{Kind: vswitch.OwnerContainer, Network: "lan", ID: "4f0c", Endpoint: "eth0", Netns: "/run/netns/a"}
	id := web.PortID()
	if want := "pbnkqqvwd2i22il"; id != want {
		t.Errorf("PortID is %s, was %s: an upgrade would lose its ports", id, want)
	}
	moved := web
	moved.Netns = ""
	if moved.PortID() != id {
		t.Error("PortID depends on the namespace, which DEL does not know")
	}
	for name, edit := range map[string]func(*vswitch.Owner){
		"kind":     func(o *vswitch.Owner) { o.Kind = vswitch.OwnerVM },
		"network":  func(o *vswitch.Owner) { o.Network = "lan2" },
		"id":       func(o *vswitch.Owner) { o.ID = "4f0d" },
		"endpoint": func(o *vswitch.Owner) { o.Endpoint = "eth1" },
		"shifted":  func(o *vswitch.Owner) { o.Network, o.ID = "lan4", "f0c" },
	} {
		other := web
		edit(&other)
		if other.PortID() == id {
			t.Errorf("PortID does not depend on the %s", name)
		}
	}
	host := vswitch.Owner{Kind: vswitch.OwnerHost, ID: "lan"}
	if host.PortID() != "pbp-lan" || host.String() != "host" || web.String() != "container 4f0c" {
		t.Errorf("got %s, %s, %s", host.PortID(), host, web)
	}
}

func TestOwnerValidate(t *testing.T) {
	owner := func(edit func(*vswitch.Owner)) vswitch.Owner {
		o := vswitch.Owner{Kind: vswitch.OwnerContainer, Network: "lan", ID: "4f0c", Endpoint: "eth0"}
		edit(&o)
		return o
	}
	bad := is(vswitch.Invalid)
	for _, c := range []struct {
		name string
		o    vswitch.Owner
		want []vswitch.Kind
		says string
	}{
		{name: "container", o: owner(func(*vswitch.Owner) {})},
		{name: "host", o: vswitch.Owner{Kind: vswitch.OwnerHost, ID: "lan"}},
		{name: "VM needs no interface", o: vswitch.Owner{Kind: vswitch.OwnerVM, ID: "db1"}},
		{name: "longest id", o: owner(func(o *vswitch.Owner) { o.ID = strings.Repeat("i", 253) })},
		{name: "long network name", o: owner(func(o *vswitch.Owner) { o.Network = strings.Repeat("n", 253) })},
		{name: "no id", o: owner(func(o *vswitch.Owner) { o.ID = "" }), want: bad, says: "container id"},
		{name: "id too long", o: owner(func(o *vswitch.Owner) { o.ID = strings.Repeat("i", 254) }), want: bad, says: "up to 253"},
		{name: "id leaves the directory", o: owner(func(o *vswitch.Owner) { o.ID = "../etc" }), want: bad, says: "container id"},
		{name: "id with a new line", o: owner(func(o *vswitch.Owner) { o.ID = "a\n" }), want: bad, says: "container id"},
		{name: "no network", o: owner(func(o *vswitch.Owner) { o.Network = "" }), want: bad, says: "network"},
		{name: "interface too long", o: owner(func(o *vswitch.Owner) { o.Endpoint = "sixteen-bytes-ab" }), want: bad, says: "interface"},
		{name: "all at once", o: vswitch.Owner{Kind: vswitch.OwnerContainer}, want: is(vswitch.Invalid, vswitch.Invalid, vswitch.Invalid), says: "interface"},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, c.o.Validate(), c.want, c.says) })
	}
}

func TestAlias(t *testing.T) {
	for _, c := range []struct{ role, name, rest, want string }{
		{"bridge", "lan", "", "patchbay:bridge switch=lan"},
		{"port", "lan", "container=4f0c", "patchbay:port switch=lan container=4f0c"},
	} {
		if got := vswitch.Alias(c.role, c.name, c.rest); got != c.want || !strings.HasPrefix(got, vswitch.AliasPrefix) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got := vswitch.Alias("port", "lan", strings.Repeat("x", 300)); len(got) != 255 {
		t.Errorf("%d bytes, Linux takes 255", len(got))
	}
}

func TestGroup(t *testing.T) {
	for _, n := range []uint16{0, 1, 0xffff} {
		if g := vswitch.Group(n); g&vswitch.GroupMask != vswitch.GroupMark || g&^vswitch.GroupMask != uint32(n) {
			t.Errorf("Group(%d) = %#x", n, g)
		}
	}
}

func TestErrorText(t *testing.T) {
	cause := errors.New("no space left on device")
	for _, c := range []struct {
		e    *vswitch.Error
		want string
	}{
		{&vswitch.Error{Kind: vswitch.NotFound}, "not found"},
		{&vswitch.Error{Kind: vswitch.NotFound, Op: "detach", Object: "port pb1"}, "detach port pb1: not found"},
		{&vswitch.Error{Kind: vswitch.StoreUnavailable, Op: "attach", Err: cause}, "attach: no space left on device"},
		{&vswitch.Error{Kind: vswitch.Invalid, Object: "switch lan", Err: cause, Hint: "free some"}, "switch lan: no space left on device; free some"},
		{&vswitch.Error{Kind: vswitch.MACPoolExhausted, Hint: "run `x`"}, "mac pool exhausted; run `x`"},
	} {
		if got := c.e.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
		wrapped := fmt.Errorf("outer: %w", c.e)
		if !errors.Is(wrapped, c.e.Kind) || vswitch.KindOf(wrapped) != c.e.Kind || vswitch.HintOf(wrapped) != c.e.Hint || errors.Is(wrapped, vswitch.Conflict) {
			t.Errorf("%q loses its kind or hint", c.want)
		}
		if c.e.Err != nil && !errors.Is(wrapped, cause) {
			t.Errorf("%q loses its cause", c.want)
		}
	}
	if vswitch.KindOf(cause) != vswitch.KernelFailed || vswitch.HintOf(cause) != "" || vswitch.KindOf(fmt.Errorf("x: %w", vswitch.InUse)) != vswitch.InUse {
		t.Error("KindOf of an error without a kind, or of a bare kind")
	}
}

func TestUnmarshalStrict(t *testing.T) {
	bad := is(vswitch.Invalid)
	for _, c := range []struct {
		in   string
		want []vswitch.Kind
		says string
	}{
		{in: `{"name":"lan","type":"internal"}`},
		{in: ` {"name":"lan"} ` + "\n"},
		{in: `{"nane":"lan"}`, want: bad, says: `key "nane": unknown; did you mean "name"?`},
		{in: `{"Name":"lan"}`, want: bad, says: `did you mean "name"?`},
		{in: `{"hostaccess":true}`, want: bad, says: `did you mean "hostAccess"?`},
		{in: `{"bandwidth":1}`, want: bad, says: "known keys: name, type, uplink, hostAccess, vlan, mtu, gateway, masquerade, notes"},
		{in: `{"nane":"lan","typo":"x","zzzzzzzz":1}`, want: is(vswitch.Invalid, vswitch.Invalid, vswitch.Invalid), says: "typo"},
		{in: `{"name":1}`, want: bad, says: "name"},
		{in: `[]`, want: bad, says: "array"},
		{in: `{"name":"lan"} {}`, want: bad, says: "more than one"},
		{in: `{"name":"lan"`, want: bad, says: "EOF"},
		{in: ``, want: bad, says: "EOF"},
		{in: `{"` + strings.Repeat("k", 100000) + `":1}`, want: bad, says: "known keys"},
	} {
		t.Run(fmt.Sprintf("%.40s", c.in), func(t *testing.T) {
			var s vswitch.Switch
			err := vswitch.UnmarshalStrict([]byte(c.in), &s)
			check(t, err, c.want, c.says)
			if err != nil && len(err.Error()) > 600 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestNearest(t *testing.T) {
	known := vswitch.JSONKeys(new(vswitch.Switch))
	for word, want := range map[string]string{
		"name": "name", "gateways": "gateway", "GATEWAY": "gateway", "mtuu": "mtu", "masqerade": "masquerade", "hostAcces": "hostAccess",
		"completelyDifferent": "", "": "", strings.Repeat("name", 1000): "",
	} {
		if got := vswitch.Nearest(word, known); got != want {
			t.Errorf("Nearest(%.40q) = %q, want %q", word, got, want)
		}
	}
	if err := vswitch.CheckKeys(json.RawMessage(`"text"`), known); err != nil {
		t.Errorf("not an object: %v", err)
	}
}
