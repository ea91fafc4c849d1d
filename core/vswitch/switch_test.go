package vswitch_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// comparable lets go-cmp look into types of net/netip.
var comparable = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// kinds lists the kind of every problem in err, in order.
func kinds(err error) []vswitch.Kind {
	if err == nil {
		return nil
	}
	if _, one := err.(*vswitch.Error); !one { //nolint:errorlint // the tree is walked here, node by node
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			var all []vswitch.Kind
			for _, e := range joined.Unwrap() {
				all = append(all, kinds(e)...)
			}
			return all
		}
	}
	return []vswitch.Kind{vswitch.KindOf(err)}
}

// check fails unless err has exactly these problems, with these words in them.
func check(t *testing.T, err error, want []vswitch.Kind, says string) {
	t.Helper()
	if diff := cmp.Diff(want, kinds(err)); diff != "" {
		t.Errorf("kinds (-want +got):\n%s%v", diff, err)
	}
	if err != nil && !strings.Contains(err.Error(), says) {
		t.Errorf("error %q does not say %q", err, says)
	}
}

func is(all ...vswitch.Kind) []vswitch.Kind { return all }

func prefixes(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestSwitchValidate(t *testing.T) {
	yes, no := true, false
	invalid := is(vswitch.Invalid)
	internal := func(gateways ...string) vswitch.Switch {
		return vswitch.Switch{Name: "lan", Type: vswitch.Internal, Gateway: prefixes(gateways...)}
	}
	with := func(s vswitch.Switch, edit func(*vswitch.Switch)) vswitch.Switch { edit(&s); return s }
	many := make([]string, 17)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{10, byte(i), 0, 1}).String() + "/24"
	}
	for _, c := range []struct {
		name string
		s    vswitch.Switch
		want []vswitch.Kind
		says string
	}{
		{name: "private", s: vswitch.Switch{Name: "lab", Type: vswitch.Private}},
		{name: "internal", s: internal("10.0.0.1/24", "fd00::1/64")},
		{name: "external by uplink", s: vswitch.Switch{Name: "prod", Uplink: "eth0"}},
		{name: "external closed to the host", s: vswitch.Switch{Name: "prod", Type: vswitch.External, Uplink: "eth0", HostAccess: &no}},
		{name: "everything at its limit", s: vswitch.Switch{
			Name: strings.Repeat("n", 63), Type: vswitch.Internal, HostAccess: &yes, VLAN: 4094, MTU: 65535,
			Gateway: prefixes("10.0.0.1/31", "10.1.0.1/32", "fd00::1/127"), Notes: strings.Repeat("ü", 1024),
		}},
		{name: "smallest MTU", s: vswitch.Switch{Name: "lab", Type: vswitch.Private, MTU: 68}},

		{name: "no name", s: vswitch.Switch{Type: vswitch.Private}, want: invalid, says: "the name is empty"},
		{name: "name too long", s: vswitch.Switch{Name: strings.Repeat("n", 64), Type: vswitch.Private}, want: invalid, says: "1 to 63"},
		{name: "name begins with a dash", s: vswitch.Switch{Name: "-x", Type: vswitch.Private}, want: invalid, says: "beginning with"},
		{name: "name is no ASCII", s: vswitch.Switch{Name: "läb", Type: vswitch.Private}, want: invalid, says: "cannot be used"},
		{name: "name with a slash", s: vswitch.Switch{Name: "a/b", Type: vswitch.Private}, want: invalid, says: "cannot be used"},
		{name: "no type", s: vswitch.Switch{Name: "lab"}, want: invalid, says: "needs a type"},
		{name: "unknown type", s: vswitch.Switch{Name: "lab", Type: "bridge"}, want: invalid, says: `type "bridge" is unknown`},
		{name: "external without uplink", s: vswitch.Switch{Name: "prod", Type: vswitch.External}, want: invalid, says: "needs an uplink"},
		{name: "uplink is no netdev name", s: vswitch.Switch{Name: "prod", Uplink: "eth0/1"}, want: invalid, says: "uplink:"},
		{name: "internal with uplink", s: with(internal(), func(s *vswitch.Switch) { s.Uplink = "eth0" }), want: invalid, says: "one or the other"},
		{name: "internal without the host", s: with(internal(), func(s *vswitch.Switch) { s.HostAccess = &no }), want: invalid, says: "make it private"},
		{name: "private with the host", s: vswitch.Switch{Name: "lab", Type: vswitch.Private, HostAccess: &yes}, want: invalid, says: "make it internal"},
		{name: "private with uplink", s: vswitch.Switch{Name: "lab", Type: vswitch.Private, Uplink: "eth0"}, want: invalid, says: "one or the other"},

		{name: "VLAN too high", s: with(internal(), func(s *vswitch.Switch) { s.VLAN = 4095 }), want: is(vswitch.VLANRange), says: "outside 1-4094"},
		{name: "VLAN negative", s: with(internal(), func(s *vswitch.Switch) { s.VLAN = -1 }), want: is(vswitch.VLANRange), says: "outside 1-4094"},
		{name: "VLAN on private", s: vswitch.Switch{Name: "lab", Type: vswitch.Private, VLAN: 10}, want: is(vswitch.VLANNotApplicable), says: "set the VLAN on ports"},
		{name: "VLAN without host port", s: vswitch.Switch{Name: "prod", Uplink: "eth0", HostAccess: &no, VLAN: 10}, want: is(vswitch.VLANNotApplicable), says: "host access is off"},

		{name: "MTU too small", s: vswitch.Switch{Name: "lab", Type: vswitch.Private, MTU: 67}, want: invalid, says: "outside 68-65535"},
		{name: "MTU too large", s: vswitch.Switch{Name: "lab", Type: vswitch.Private, MTU: 65536}, want: invalid, says: "outside 68-65535"},
		{name: "MTU too small for IPv6", s: with(internal("fd00::1/64"), func(s *vswitch.Switch) { s.MTU = 1279 }), want: invalid, says: "IPv6's minimum"},

		{name: "gateway on external", s: vswitch.Switch{Name: "prod", Uplink: "eth0", Gateway: prefixes("10.0.0.1/24")}, want: invalid, says: "belong to an internal switch"},
		{name: "gateway on private", s: vswitch.Switch{Name: "lab", Type: vswitch.Private, Gateway: prefixes("10.0.0.1/24")}, want: invalid, says: "belong to an internal switch"},
		{name: "too many gateways", s: internal(many...), want: invalid, says: "the limit is 16"},
		{name: "gateway is missing", s: with(internal(), func(s *vswitch.Switch) { s.Gateway = []netip.Prefix{{}} }), want: invalid, says: "with its prefix length"},
		{name: "gateway is the network", s: internal("10.0.0.0/24"), want: invalid, says: "like 10.0.0.1/24"},
		{name: "gateway is the IPv6 network", s: internal("fd00::/64"), want: invalid, says: "like fd00::1/64"},
		{name: "gateway is the broadcast address", s: internal("10.0.0.255/24"), want: invalid, says: "broadcast"},
		{name: "gateway is multicast", s: internal("224.0.0.1/24"), want: invalid, says: "not an address that a host can have"},
		{name: "gateway is loopback", s: internal("::1/128"), want: invalid, says: "not an address that a host can have"},
		{name: "gateway is unspecified", s: internal("0.0.0.0/8"), want: invalid, says: "not an address that a host can have"},
		{name: "gateway of everything", s: internal("10.0.0.1/0"), want: invalid, says: "default route"},
		{name: "gateways share a subnet", s: internal("10.0.0.1/24", "10.0.0.129/25"), want: invalid, says: "share a subnet"},

		{name: "masquerade of what there is", s: with(internal("10.0.0.1/24"), func(s *vswitch.Switch) { s.Masquerade = vswitch.Masquerade{IPv4: true, IPv6: true} })},
		{name: "masquerade without gateway", s: with(internal(), func(s *vswitch.Switch) { s.Masquerade = vswitch.Masquerade{IPv4: true, IPv6: true} }), want: invalid, says: "needs a gateway"},
		{name: "masquerade of the other family", s: with(internal("10.0.0.1/24"), func(s *vswitch.Switch) { s.Masquerade.IPv6 = true }), want: invalid, says: "masquerade ipv6 needs"},

		{name: "notes too long", s: vswitch.Switch{Name: "lab", Type: vswitch.Private, Notes: strings.Repeat("ü", 1025)}, want: invalid, says: "1025 characters"},
		{
			name: "all at once", s: vswitch.Switch{Name: "?", Type: vswitch.Private, Uplink: "eth0", HostAccess: &yes, VLAN: 5000, MTU: 1, Gateway: prefixes("10.0.0.0/24"), Masquerade: vswitch.Masquerade{IPv6: true}, Notes: strings.Repeat("n", 1025)},
			want: is(vswitch.Invalid, vswitch.Invalid, vswitch.Invalid, vswitch.VLANRange, vswitch.VLANNotApplicable, vswitch.Invalid, vswitch.Invalid, vswitch.Invalid, vswitch.Invalid, vswitch.Invalid),
			says: "name",
		},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, c.s.Validate(), c.want, c.says) })
	}
}

func TestSwitchNormalized(t *testing.T) {
	for name, c := range map[string]struct {
		s        vswitch.Switch
		kind     vswitch.SwitchType
		hostPort bool
	}{
		"uplink makes external":  {vswitch.Switch{Uplink: "eth0"}, vswitch.External, true},
		"internal has the host":  {vswitch.Switch{Type: vswitch.Internal}, vswitch.Internal, true},
		"private has no host":    {vswitch.Switch{Type: vswitch.Private}, vswitch.Private, false},
		"host access is kept":    {vswitch.Switch{Uplink: "eth0", HostAccess: new(bool)}, vswitch.External, false},
		"type is not overridden": {vswitch.Switch{Type: vswitch.Internal, Uplink: "eth0"}, vswitch.Internal, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := c.s.Normalized()
			if n.Type != c.kind || n.HostAccess == nil || *n.HostAccess != c.hostPort || n.HostPort() != c.hostPort || c.s.HostPort() != c.hostPort {
				t.Errorf("got %+v", n)
			}
			if diff := cmp.Diff(n, n.Normalized(), comparable); diff != "" {
				t.Errorf("twice is not once:\n%s", diff)
			}
		})
	}
}

func TestGatewayFor(t *testing.T) {
	s := vswitch.Switch{Gateway: prefixes("10.0.0.1/24", "fd00::1/64")}
	for addr, want := range map[string]string{"10.0.0.77": "10.0.0.1", "fd00::77": "fd00::1", "10.0.1.1": "", "fd01::1": ""} {
		got, ok := s.GatewayFor(netip.MustParseAddr(addr))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("GatewayFor(%s) = %v, %v; want %q", addr, got, ok, want)
		}
	}
}

// FuzzSwitchJSON holds that no definition from outside panics, and that a valid
// one is read back as it was written.
func FuzzSwitchJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `[]`, `{"name":"lab","type":"private"}`, `{"name":"prod","uplink":"eth0","hostAccess":false,"mtu":9000}`,
		`{"name":"lan","type":"internal","vlan":7,"gateway":["10.0.0.1/24","fd00::1/64"],"masquerade":true,"notes":"of the \u00fcber kind"}`,
		`{"name":"lan","type":"internal","gateway":["10.0.0.1/24"],"masquerade":"ipv4"}`, `{"name":"lan","nane":"x"}`,
		`{"name":"lan"} {}`, `{"name":"lan","type":"internal","gateway":["::ffff:10.0.0.1/120","10.0.0.1"]}`, `{"name":"a","type":"private","name":"b"}`,
		`{"minBandwidth":{"defAultFlow":""}}`,
		`{"name":"w","uplink":"eth0","minBandwidth":{"mode":"absolute","defaultFlow":"1G"},"hostPolicy":{"bandwidth":{"min":{"rate":"10M"}}},"portDefaults":{"bandwidth":{"out":{"max":8000,"burst":"1M"}}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s vswitch.Switch
		if err := vswitch.UnmarshalStrict(data, &s); err != nil {
			if e := (*vswitch.Error)(nil); !errors.As(err, &e) { // of numbers and VLANs it is RANGE and others
				t.Fatalf("of no kind: %v", err)
			}
			return
		}
		if s.Validate() != nil {
			return
		}
		out, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again vswitch.Switch
		if err := vswitch.UnmarshalStrict(out, &again); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if diff := cmp.Diff(s.Normalized(), again.Normalized(), comparable); diff != "" {
			t.Fatalf("%s (-was +is):\n%s", out, diff)
		}
		if err := s.Normalized().Validate(); err != nil {
			t.Fatalf("valid before, but not with its defaults: %v", err)
		}
		for _, name := range []string{vswitch.BridgeName(s.Name), vswitch.HostPortName(s.Name), vswitch.HostPortSwitchEnd(s.Name)} {
			if err := vswitch.ValidateNetdevName(name); err != nil {
				t.Fatal(err)
			}
		}
	})
}
