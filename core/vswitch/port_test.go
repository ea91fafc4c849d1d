package vswitch_test

import (
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestOwner(t *testing.T) {
	web := vswitch.Owner{Kind: vswitch.OwnerContainer, Network: "lan", ID: "4f0c", Endpoint: "eth0", Netns: "/run/netns/a"}
	id := web.PortID()
	if want := "pbpl5tyrvetjkwk"; id != want {
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

func TestDoomedGroup(t *testing.T) {
	seen := map[uint32]bool{vswitch.UplinkGroup: true, vswitch.Group(vswitch.MaxSwitchNumber): true}
	for _, names := range [][]string{{"pb1"}, {"pb2"}, {"pb1", "pb2"}, {"pb1pb2"}, nil} {
		g := vswitch.DoomedGroup(names...)
		if g&vswitch.GroupMask != vswitch.GroupMark {
			t.Errorf("%v: group %#x is without our mark", names, g)
		}
		if g <= vswitch.Group(vswitch.MaxSwitchNumber) {
			t.Errorf("%v: group %#x can be a switch's", names, g)
		}
		if seen[g] {
			t.Errorf("%v: group %#x is another's", names, g)
		}
		seen[g] = true
	}
}
