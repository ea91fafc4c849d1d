package vswitch_test

import (
	"errors"
	"strings"
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
		"a required VF":     {[]vswitch.PortProfile{{Name: "web", Policy: vswitch.PolicyChange{Offload: vswitch.OffloadChange{SRIOV: vswitch.SRIOVChange{Mode: ptr(vswitch.OffloadRequire)}}}}}, "", ""},
		"an unknown wish":   {[]vswitch.PortProfile{{Name: "web", Policy: vswitch.PolicyChange{Offload: vswitch.OffloadChange{VMQ: vswitch.VMQChange{Mode: ptr(vswitch.OffloadMode("please"))}}}}}, vswitch.Invalid, "portProfiles[0].policy.offload.vmq.mode"},
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
		Policy: vswitch.PolicyChange{
			DHCPGuard: &off, ACL: &rules, Bandwidth: vswitch.BandwidthChange{In: vswitch.LimitChange{Max: &rate}},
			Offload: vswitch.OffloadChange{VMQ: vswitch.VMQChange{Mode: ptr(vswitch.OffloadPrefer)}},
		},
	}
	want := "default, isolated, vlan access 7, dhcpGuard false, acl [" + rules[0].String() + "], bandwidth.in.max 10M, offload.vmq.mode prefer"
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

// A minimum that no port of the switch could have is refused with the profile, not with each
// port.
func TestProfileOfTheSwitchsMode(t *testing.T) {
	weight, rate := 5, vswitch.Bits(1e8)
	for mode, wrong := range map[vswitch.BandwidthMode]vswitch.MinimumChange{"": {Rate: &rate}, "absolute": {Weight: &weight}, "none": {Weight: &weight}} {
		s := vswitch.Switch{Name: "wan", Uplink: "nic0", MinBandwidth: vswitch.SharedUplink{Mode: mode}}
		s.PortProfiles = []vswitch.PortProfile{{Name: "web"}, {Name: "db", Policy: vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{Min: wrong}}}}
		err := s.Validate()
		var found *vswitch.Error
		if !errors.As(err, &found) || vswitch.KindOf(err) != vswitch.BandwidthMismatch || !strings.Contains(found.Field, "portProfiles[1].policy") {
			t.Errorf("mode %q: %v", mode, err)
		}
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
