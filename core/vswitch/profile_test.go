package vswitch_test

import (
	"errors"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestProfilesValidate(t *testing.T) {
	storm := -1
	access := vswitch.AccessVLAN(4095)
	for name, c := range map[string]struct {
		profiles []vswitch.PortProfile
		kind     vswitch.Kind
		field    string
	}{
		"two and a default": {profiles: []vswitch.PortProfile{{Name: "web", Default: true}, {Name: "db", Isolated: true}}},
		"no name":           {[]vswitch.PortProfile{{}}, vswitch.Invalid, "portProfiles[0].name"},
		"the same name":     {[]vswitch.PortProfile{{Name: "web"}, {Name: "web"}}, vswitch.AlreadyExists, "portProfiles[1].name"},
		"two defaults":      {[]vswitch.PortProfile{{Name: "web", Default: true}, {Name: "db", Default: true}}, vswitch.Conflict, "portProfiles[1].default"},
		"VLAN 4095":         {[]vswitch.PortProfile{{Name: "web", VLAN: &access}}, vswitch.VLANRange, "portProfiles[0].vlan"},
		"a policy":          {[]vswitch.PortProfile{{Name: "web", Policy: vswitch.PolicyChange{StormLimit: &storm}}}, vswitch.Range, "portProfiles[0].policy.stormLimit"},
		"a required VF":     {[]vswitch.PortProfile{{Name: "web", Offload: vswitch.OffloadWishes{SRIOV: vswitch.OffloadRequire}}}, vswitch.CapabilityMissing, "portProfiles[0].offload.sriov"},
		"an unknown wish":   {[]vswitch.PortProfile{{Name: "web", Offload: vswitch.OffloadWishes{VMQ: "please"}}}, vswitch.Invalid, "portProfiles[0].offload.vmq"},
		"more than any has": {make([]vswitch.PortProfile, vswitch.MaxPortProfiles+1), vswitch.Invalid, "portProfiles"},
	} {
		t.Run(name, func(t *testing.T) {
			err := vswitch.Switch{Name: "lan", Type: vswitch.Internal, PortProfiles: c.profiles}.Validate()
			var e *vswitch.Error
			if c.kind == "" && err == nil {
				return
			}
			if !errors.As(err, &e) || e.Kind != c.kind || e.Field != c.field {
				t.Errorf("%v, want %s in %s", err, c.kind, c.field)
			}
		})
	}
}

func TestProfileOf(t *testing.T) {
	s := vswitch.Switch{Name: "lan", PortProfiles: []vswitch.PortProfile{{Name: "db"}, {Name: "web", Default: true}}}
	for asked, want := range map[string]string{"db": "db", "web": "web", "": "web"} {
		if f, err := s.Profile(asked); err != nil || f.Name != want {
			t.Errorf("%q is %v, %v", asked, f, err)
		}
	}
	if _, err := s.Profile("webb"); !errors.Is(err, vswitch.NotFound) || vswitch.HintOf(err) != `did you mean "web"?` {
		t.Errorf("%v", err)
	}
	if f, err := (vswitch.Switch{}).Profile(""); err != nil || !f.Equal(vswitch.PortProfile{}) {
		t.Errorf("of none: %v, %v", f, err)
	}
}

func TestProfileString(t *testing.T) {
	off, rules, rate := false, rules(t, "deny out tcp to any port 25 weight 10"), vswitch.Bits(1e7)
	vlan := vswitch.AccessVLAN(7)
	f := vswitch.PortProfile{
		Name: "web", Default: true, Isolated: true, VLAN: &vlan,
		Policy:  vswitch.PolicyChange{DHCPGuard: &off, ACL: &rules, Bandwidth: vswitch.BandwidthChange{MaxIn: &rate}},
		Offload: vswitch.OffloadWishes{VMQ: vswitch.OffloadPrefer},
	}
	want := "default, isolated, vlan access 7, dhcpGuard false, acl [" + rules[0].String() + "], maxIn 10M, vmq prefer"
	if got := f.String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (vswitch.PortProfile{Name: "x"}).String(); got != "nothing of its own" {
		t.Errorf("%q", got)
	}
	other := f
	other.Policy.DHCPGuard = nil
	if f.Equal(other) || !f.Equal(f) {
		t.Error("equal to what says less")
	}
}

func rules(t *testing.T, texts ...string) (all []vswitch.ACLRule) {
	t.Helper()
	for _, text := range texts {
		r, err := vswitch.ParseACLRule(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

func TestOverrideNarrows(t *testing.T) {
	vlan := func(text string) *vswitch.PortVLAN {
		v, err := vswitch.ParsePortVLAN(text)
		if err != nil {
			t.Fatal(err)
		}
		return &v
	}
	yes, no := true, false
	n := func(n int) *int { return &n }
	bits := func(n vswitch.Bits) *vswitch.Bits { return &n }
	acl := func(texts ...string) *[]vswitch.ACLRule { r := rules(t, texts...); return &r }
	mirror := func(m vswitch.MirrorMode) *vswitch.MirrorMode { return &m }
	guarded := vswitch.Port{
		VLAN: *vlan("trunk 10-20 native 5"), Isolated: true,
		Policy: vswitch.Policy{
			DHCPGuard: true, RouterGuard: true, StormLimit: 100, ACL: *acl("deny out tcp to any port 25 weight 10"),
			Bandwidth: vswitch.Bandwidth{In: vswitch.Limit{Max: 1e7, Burst: 1e6}},
		},
	}
	free := vswitch.Port{MACSpoofing: true}
	policy := func(c vswitch.PolicyChange) vswitch.PortOverride { return vswitch.PortOverride{Policy: c} }
	for name, c := range map[string]struct {
		port     vswitch.Port
		override vswitch.PortOverride
		wider    string // the field that it would widen; "" for none
	}{
		"nothing":                    {port: guarded},
		"a VLAN of the trunk":        {port: guarded, override: vswitch.PortOverride{VLAN: vlan("access 10")}},
		"the native VLAN":            {port: guarded, override: vswitch.PortOverride{VLAN: vlan("access 5")}},
		"a part of the trunk":        {port: guarded, override: vswitch.PortOverride{VLAN: vlan("trunk 11-12 native 10")}},
		"a VLAN outside the trunk":   {guarded, vswitch.PortOverride{VLAN: vlan("access 21")}, "vlan"},
		"a longer trunk":             {guarded, vswitch.PortOverride{VLAN: vlan("trunk 10-21 native 5")}, "vlan"},
		"another native VLAN":        {guarded, vswitch.PortOverride{VLAN: vlan("trunk 10 native 6")}, "vlan"},
		"a VLAN of an untagged port": {free, vswitch.PortOverride{VLAN: vlan("access 5")}, "vlan"},
		"untagged of a trunk":        {guarded, vswitch.PortOverride{VLAN: vlan("untagged")}, "vlan"},
		"isolate":                    {port: free, override: vswitch.PortOverride{Isolated: &yes}},
		"mingle":                     {guarded, vswitch.PortOverride{Isolated: &no}, "isolated"},
		"lock":                       {port: free, override: vswitch.PortOverride{MACSpoofing: &no}},
		"spoof":                      {guarded, vswitch.PortOverride{MACSpoofing: &yes}, "macSpoofing"},
		"guard":                      {port: free, override: policy(vswitch.PolicyChange{DHCPGuard: &yes, RouterGuard: &yes})},
		"no DHCP guard":              {guarded, policy(vswitch.PolicyChange{DHCPGuard: &no}), "policy.dhcpGuard"},
		"no router guard":            {guarded, policy(vswitch.PolicyChange{RouterGuard: &no}), "policy.routerGuard"},
		"less of a storm":            {port: guarded, override: policy(vswitch.PolicyChange{StormLimit: n(99)})},
		"more of a storm":            {guarded, policy(vswitch.PolicyChange{StormLimit: n(101)}), "policy.stormLimit"},
		"any storm":                  {guarded, policy(vswitch.PolicyChange{StormLimit: n(0)}), "policy.stormLimit"},
		"a first list of rules":      {port: free, override: policy(vswitch.PolicyChange{ACL: acl("deny in from any")})},
		"the same rules":             {port: guarded, override: policy(vswitch.PolicyChange{ACL: acl("deny out tcp to any port 25 weight 10")})},
		"other rules":                {guarded, policy(vswitch.PolicyChange{ACL: acl("deny in from any")}), "policy.acl"},
		"no rules":                   {guarded, policy(vswitch.PolicyChange{ACL: acl()}), "policy.acl"},
		"less bandwidth":             {port: guarded, override: policy(vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{MaxIn: bits(8e6), MaxOut: bits(8e6)}})},
		"more bandwidth":             {guarded, policy(vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{MaxIn: bits(2e7)}}), "policy.bandwidth.maxIn"},
		"any bandwidth":              {guarded, policy(vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{MaxIn: bits(0)}}), "policy.bandwidth.maxIn"},
		"a larger burst":             {guarded, policy(vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{BurstIn: bits(2e6)}}), "policy.bandwidth.burstIn"},
		"be heard":                   {port: free, override: policy(vswitch.PolicyChange{Mirror: mirror(vswitch.MirrorSource)})},
		"hear others":                {free, policy(vswitch.PolicyChange{Mirror: mirror(vswitch.MirrorDestination)}), "policy.mirror"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.override.Apply(c.port)
			if c.wider == "" {
				if err != nil {
					t.Error(err)
				}
				if again, err := c.override.Apply(got); err != nil || !again.Policy.Equal(got.Policy) {
					t.Errorf("a second time: %v", err)
				}
				return
			}
			var e *vswitch.Error
			if !errors.As(err, &e) || e.Kind != vswitch.Conflict || e.Field != c.wider || e.Hint == "" {
				t.Errorf("%v, want a conflict of %s", err, c.wider)
			}
			if !got.Policy.Equal(c.port.Policy) || !got.VLAN.Equal(c.port.VLAN) || got.Isolated != c.port.Isolated {
				t.Error("the port is not as it was")
			}
		})
	}
}

func TestOverrideIsValidated(t *testing.T) {
	storm := -1
	_, err := vswitch.PortOverride{VLAN: &vswitch.PortVLAN{Mode: "both"}, Policy: vswitch.PolicyChange{StormLimit: &storm}}.Apply(vswitch.Port{})
	if !errors.Is(err, vswitch.Range) {
		t.Errorf("%v", err)
	}
}
