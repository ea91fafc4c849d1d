package network_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/network"
	"github.com/patchbay-net/patchbay/libvirt-hook/recorded"
)

func definition(t *testing.T, s vswitch.Switch, name string) string {
	t.Helper()
	text, err := network.Definition(s, name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func prod(t *testing.T) vswitch.Switch {
	t.Helper()
	no, storm, rate := false, 1000, vswitch.Bits(1e8)
	prefer, none := vswitch.OffloadPrefer, 0
	var acl []vswitch.ACLRule
	for _, text := range []string{"deny out tcp to any port 25 weight 10", "allow in from 10.0.0.0/8"} {
		r, err := vswitch.ParseACLRule(text)
		if err != nil {
			t.Fatal(err)
		}
		acl = append(acl, r)
	}
	trunk, err := vswitch.ParsePortVLAN("trunk 10-20,30 native 5")
	if err != nil {
		t.Fatal(err)
	}
	return vswitch.Switch{Name: "prod", Type: vswitch.Internal, PortProfiles: []vswitch.PortProfile{
		{Name: "plain"},
		{Name: "trunk", VLAN: &trunk, MACSpoofing: true, Policy: vswitch.PolicyChange{Offload: vswitch.OffloadChange{VMQ: vswitch.VMQChange{Mode: &prefer}, IPsec: vswitch.IPsecChange{MaxSAs: &none}}}},
		{Name: "web", Default: true, Isolated: true, Policy: vswitch.PolicyChange{
			DHCPGuard: &no, StormLimit: &storm, ACL: &acl, Bandwidth: vswitch.BandwidthChange{In: vswitch.LimitChange{Max: &rate}},
		}},
	}}
}

func TestDefinition(t *testing.T) {
	got := definition(t, prod(t), "prod-net")
	golden(t, "prod.xml", got)
}

// What is written is read as the same.
func TestDefinitionIsRead(t *testing.T) {
	s := prod(t)
	n, err := network.Parse([]byte(definition(t, s, "prod-net")))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Validate(); err != nil || !n.Ours() {
		t.Errorf("not as it should be: %v", err)
	}
	if n.Name != "prod-net" || n.Switch != "prod" || n.Bridge != "pb-prod" {
		t.Errorf("read as %+v", n)
	}
	for _, want := range s.PortProfiles {
		groups := []string{want.Name}
		if want.Default {
			groups = append(groups, "")
		}
		want.Default = false
		for _, group := range groups {
			got, err := n.Profile(group)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" || !got.Equal(want) {
				t.Errorf("portgroup %q (-want +got):\n%s", group, diff)
			}
		}
	}
	if _, err := n.Profile("other"); !errors.Is(err, vswitch.NotFound) {
		t.Errorf("a portgroup that is not there: %v", err)
	}
}

// A switch without profiles has ports like any other.
func TestNoProfiles(t *testing.T) {
	n, err := network.Parse([]byte(definition(t, vswitch.Switch{Name: "lab", Type: vswitch.Private}, "lab")))
	if err != nil || n.Validate() != nil {
		t.Fatal(err, n.Validate())
	}
	if f, err := n.Profile(""); err != nil || !f.Equal(vswitch.PortProfile{}) {
		t.Errorf("%v, %v", f, err)
	}
}

func TestUUIDStays(t *testing.T) {
	a, b := definition(t, vswitch.Switch{Name: "lab"}, "lab"), definition(t, vswitch.Switch{Name: "lab", PortProfiles: []vswitch.PortProfile{{Name: "x"}}}, "lab")
	uuid := func(text string) string {
		_, rest, _ := strings.Cut(text, "<uuid>")
		id, _, _ := strings.Cut(rest, "</uuid>")
		return id
	}
	if uuid(a) != uuid(b) || len(uuid(a)) != 36 {
		t.Errorf("%q, %q", uuid(a), uuid(b))
	}
}

func TestRefused(t *testing.T) {
	const ours = `<metadata><p:switch xmlns:p='` + network.Namespace + `' name='prod'>%</p:switch></metadata>`
	const bridge = `<forward mode='bridge'/><bridge name='pb-prod'/>`
	element := func(inside string) string { return strings.Replace(ours, "%", inside, 1) }
	for name, c := range map[string]struct {
		body string
		says []string
	}{
		"an attribute that is misspelled": {element(`<p:portProfile name='web' islated='yes'/>`) + bridge + `<portgroup name='web'/>`, []string{`portProfile web`, `"islated" is unknown`, `did you mean "isolated"?`}},
		"a guard that is misspelled":      {element(`<p:portProfile name='web'><p:policy dhcpgard='yes'/></p:portProfile>`) + bridge, []string{`portProfile web: policy`, `"dhcpgard" is unknown`, `did you mean "dhcpGuard"?`}},
		"an element that is unknown":      {element(`<p:portProfil name='web'/>`) + bridge, []string{`"portProfil" is unknown`}},
		"an element of somebody else":     {element(`<portProfile name='web'/>`) + bridge, []string{`"portProfile" is unknown`}},
		"neither yes nor no":              {element(`<p:portProfile name='web' isolated='perhaps'/>`) + bridge, []string{`portProfile web: isolated`, `"perhaps" is neither yes nor no`}},
		"no number":                       {element(`<p:portProfile name='web'><p:policy stormLimit='many'/></p:portProfile>`) + bridge, []string{`stormLimit`, `"many" is not a whole number`}},
		"a VLAN that is none":             {element(`<p:portProfile name='web' vlan='access 4095'/>`) + bridge, []string{`portProfile web: vlan`, `4095`}},
		"a rule that is none":             {element(`<p:portProfile name='web'><p:policy><p:acl>deny everything</p:acl></p:policy></p:portProfile>`) + bridge, []string{`policy: acl`, `everything`}},
		"an offload that is none":         {element(`<p:portProfile name='web'><p:policy><p:offload><p:sriov mode='perhaps'/></p:offload></p:policy></p:portProfile>`) + bridge, []string{`sriov.mode`, `"perhaps" is none of require, prefer, off`}},
		"a default":                       {element(`<p:portProfile name='web' default='yes'/>`) + bridge, []string{`default is said by the portgroup`, `<portgroup name='web' default='yes'/>`}},
		"text":                            {element(`web`) + bridge, []string{`text "web"`}},
		"twice the same":                  {element(`<p:portProfile name='web'/><p:portProfile name='web'/>`) + bridge, []string{`port profile web is defined twice`}},
		"two elements of ours":            {`<metadata><a:switch xmlns:a='` + network.Namespace + `' name='a'/><b:switch xmlns:b='` + network.Namespace + `' name='b'/></metadata>` + bridge, []string{`two elements switch`}},
		"another element of ours":         {`<metadata><a:switches xmlns:a='` + network.Namespace + `'/></metadata>` + bridge, []string{`"switches" is unknown`}},
		"no name":                         {`<metadata><a:switch xmlns:a='` + network.Namespace + `'/></metadata>` + bridge, []string{`the name is empty`}},
		"a portgroup without a profile":   {element(``) + bridge + `<portgroup name='web'/>`, []string{`portgroup web has no port profile`, `patchbay libvirt network prod`}},
		"a profile without a portgroup":   {element(`<p:portProfile name='web'/>`) + bridge, []string{`port profile web has no portgroup`}},
		"another bridge":                  {element(``) + `<forward mode='bridge'/><bridge name='br0'/>`, []string{`bridge is "br0", and that of switch prod is pb-prod`}},
		"a bridge of libvirt's":           {element(``) + `<bridge name='virbr7'/>`, []string{`forward mode is "", not bridge`}},
		"native VLAN":                     {element(``) + bridge + `<vlan><tag id='7'/></vlan>`, []string{`libvirt's own <vlan>`, `switch profile set`}},
		"native VLAN of a portgroup":      {element(`<p:portProfile name='web'/>`) + bridge + `<portgroup name='web'><vlan><tag id='7'/></vlan></portgroup>`, []string{`portgroup web: libvirt's own <vlan>`}},
		"native bandwidth":                {element(`<p:portProfile name='web'/>`) + bridge + `<portgroup name='web'><bandwidth><inbound average='1000'/></bandwidth></portgroup>`, []string{`portgroup web: libvirt's own <bandwidth>`, `--max-in`}},
		"native virtualport":              {element(``) + bridge + `<virtualport type='openvswitch'/>`, []string{`libvirt's own <virtualport>`}},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := network.Parse([]byte(`<network><name>net</name>` + c.body + `</network>`))
			if err == nil {
				err = n.Validate()
			}
			if err == nil {
				t.Fatal("accepted")
			}
			for _, says := range append(c.says, "libvirt network net: ") {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%v\ndoes not say %q", err, says)
				}
			}
		})
	}
}

// A network of somebody else is read, and nothing is asked of it.
func TestForeign(t *testing.T) {
	n, err := network.Parse([]byte(`<network><name>default</name><metadata><x:y xmlns:x='urn:x'>text</x:y></metadata><bridge name='virbr0'/><vlan><tag id='7'/></vlan></network>`))
	if err != nil || n.Ours() {
		t.Errorf("%+v, %v", n, err)
	}
}

// Every policy that a profile can have is written and read: what policies learn to say,
// networks do.
func TestProfileOfEveryPolicy(t *testing.T) {
	rule, err := vswitch.ParseACLRule("deny out tcp to any port 25 weight 10")
	if err != nil {
		t.Fatal(err)
	}
	byWeight := vswitch.PortProfile{Name: "all"}
	fill(t, reflect.ValueOf(&byWeight.Policy).Elem(), rule)
	byRate := byWeight // a minimum is one or the other
	byWeight.Policy.Bandwidth.Min.Rate, byRate.Policy.Bandwidth.Min.Weight = nil, nil
	wantProfile(t, byWeight)
	wantProfile(t, byRate)
}

// wantProfile demands that a profile is read as it was written.
func wantProfile(t *testing.T, f vswitch.PortProfile) {
	t.Helper()
	text := definition(t, vswitch.Switch{Name: "prod", PortProfiles: []vswitch.PortProfile{f}}, "prod")
	n, err := network.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	got, err := n.Profile("all")
	if diff := cmp.Diff(f, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// fill gives every field of a policy's change a value that says something.
func fill(t *testing.T, v reflect.Value, rule vswitch.ACLRule) {
	t.Helper()
	for i := range v.NumField() {
		field := v.Field(i)
		if field.Kind() == reflect.Struct {
			fill(t, field, rule)
			continue
		}
		value := reflect.New(field.Type().Elem())
		switch to := value.Interface().(type) {
		case *bool:
			*to = true
		case *int:
			*to = 7
		case *vswitch.Bits:
			*to = 1e7
		case *vswitch.MirrorMode:
			*to = vswitch.MirrorDestination
		case *vswitch.OffloadMode:
			*to = vswitch.OffloadPrefer
		case *vswitch.Moderation:
			*to = vswitch.ModerationLow
		case *[]vswitch.ACLRule:
			*to = []vswitch.ACLRule{rule}
		default:
			t.Fatalf("%s is of a type that this test does not know", v.Type().Field(i).Name)
		}
		field.Set(value)
	}
}

// Every recorded network and port is read, and is somebody else's.
func TestRecorded(t *testing.T) {
	ports := 0
	for _, version := range recorded.Versions() {
		for _, r := range recorded.Calls(t, version) {
			if r.Hook != "network" {
				continue
			}
			n, p, err := network.ParseHook(r.Stdin)
			if err != nil || n.Ours() || n.Name != r.Args[0] || len(n.UUID) != 36 {
				t.Errorf("%s: %+v, %v", r.Name(), n, err)
			}
			if about := strings.HasPrefix(r.Args[1], "port-"); about != (p != nil) {
				t.Errorf("%s: port %+v", r.Name(), p)
			} else if about {
				ports++
				if len(p.UUID) != 36 || len(p.OwnerUUID) != 36 || p.OwnerName == "" || p.MAC.IsZero() {
					t.Errorf("%s: %+v", r.Name(), p)
				}
			}
		}
	}
	if ports < 80 {
		t.Errorf("%d ports", ports)
	}
}

func TestPort(t *testing.T) {
	const start, end = `<networkport><uuid>72f87c96-1cef-45d4-997f-00552898ed44</uuid><owner><name>vm</name><uuid>x</uuid></owner><mac address='52:54:00:00:00:01'/>`, `</networkport>`
	const bridge = `<plug type='bridge' bridge='pb-prod'/>`
	p, err := network.ParsePort([]byte(start + `<group>web</group><port isolated='yes'/>` + bridge + end))
	if err != nil || p.Validate(false) != nil || !p.Isolated || p.Group != "web" || p.Bridge != "pb-prod" {
		t.Errorf("%+v, %v", p, err)
	}
	for inside, says := range map[string]string{
		bridge + `<vlan><tag id='7'/></vlan>`:                                  "libvirt's own <vlan>",
		bridge + `<bandwidth><inbound average='1'/></bandwidth>`:               "libvirt's own <bandwidth>",
		bridge + `<virtualport type='openvswitch'><parameters/></virtualport>`: "libvirt's own <virtualport>",
		bridge + `<rxfilters trustGuest='yes'/>`:                               "trustGuestRxFilters",
		`<plug type='hostdev-pci'/>`:                                           "not plugged into a bridge",
		``:                                                                     "not plugged into a bridge",
	} {
		p, err := network.ParsePort([]byte(start + inside + end))
		if err == nil {
			err = p.Validate(false)
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v does not say %q", inside, err, says)
		}
	}
	if p, err := network.ParsePort([]byte(start + bridge + `<rxfilters trustGuest='yes'/>` + end)); err != nil || p.Validate(true) != nil {
		t.Errorf("a port that may spoof: %v, %v", err, p.Validate(true))
	}
}

// Whatever stands in a network, reading ends; and what is read of ours is written as the same.
func FuzzParse(f *testing.F) {
	f.Add(`<network><name>n</name><metadata><p:switch xmlns:p='` + network.Namespace + `' name='prod'><p:portProfile name='web' vlan='trunk 1-9 native 1'><p:policy stormLimit='7'><p:acl>deny in from any</p:acl></p:policy></p:portProfile></p:switch></metadata><portgroup name='web'/></network>`)
	f.Add("<network><metadata>")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := network.Parse([]byte(text))
		if err != nil || !n.Ours() {
			return
		}
		written, err := network.Definition(vswitch.Switch{Name: n.Switch, PortProfiles: n.Profiles}, "n")
		if err != nil {
			t.Fatal(err)
		}
		again, err := network.Parse([]byte(written))
		if err != nil || again.Validate() != nil {
			t.Fatalf("what is written is refused: %v, %v\n%s", err, again.Validate(), written)
		}
		if diff := cmp.Diff(n.Profiles, again.Profiles); diff != "" {
			t.Errorf("(-read +written):\n%s", diff)
		}
	})
}

// Any profile that is valid is read as it was written.
func TestAnyProfileIsRead(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	tried := 0
	for range 3000 {
		f := anyProfile(t, r)
		s := vswitch.Switch{Name: "prod", Type: vswitch.Internal, PortProfiles: []vswitch.PortProfile{f}}
		if rate := f.Policy.Bandwidth.Min.Rate; rate != nil && *rate > 0 {
			s.MinBandwidth.Mode = vswitch.BandwidthAbsolute
		}
		if s.Validate() != nil {
			continue
		}
		tried++
		text := definition(t, s, "prod")
		n, err := network.Parse([]byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		got, err := n.Profile(f.Name)
		f.Default = false
		if diff := cmp.Diff(f, got); diff != "" || err != nil {
			t.Fatalf("%v (-want +got):\n%s\n%s", err, diff, text)
		}
	}
	if tried < 500 {
		t.Errorf("%d profiles only", tried)
	}
}

// anyProfile is one of chance; not each is valid.
func anyProfile(t *testing.T, r *rand.Rand) vswitch.PortProfile {
	t.Helper()
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	f := vswitch.PortProfile{
		Name: pick("web", "a.b-c_d", "7"), Default: r.IntN(2) == 0, Isolated: r.IntN(2) == 0, MACSpoofing: r.IntN(2) == 0,
	}
	if text := pick("", "untagged", "access 7", "trunk 1-9,4094 native 5", "isolated 100 101", "community 100 102", "promiscuous 100 101-103"); text != "" {
		v, err := vswitch.ParsePortVLAN(text)
		if err != nil {
			t.Fatal(err)
		}
		f.VLAN = &v
	}
	rule, err := vswitch.ParseACLRule(pick("deny in from any", "allow out tcp to 10.0.0.0/8 port 80-90 weight 7 stateful idle 60", "meter both remote fd00::/8", "deny out to any-mac", "allow in from 52:54:00:00:00:01"))
	if err != nil {
		t.Fatal(err)
	}
	fill(t, reflect.ValueOf(&f.Policy).Elem(), rule)
	forget(r, reflect.ValueOf(&f.Policy).Elem())
	return f
}

// forget takes back, by chance, what fill has given.
func forget(r *rand.Rand, v reflect.Value) {
	for i := range v.NumField() {
		switch field := v.Field(i); {
		case field.Kind() == reflect.Struct:
			forget(r, field)
		case r.IntN(2) == 0:
			field.SetZero()
		case r.IntN(3) == 0: // given, and nothing
			field.Set(reflect.New(field.Type().Elem()))
			if list := field.Elem(); list.Kind() == reflect.Slice {
				list.Set(reflect.MakeSlice(list.Type(), 0, 0))
			}
		}
	}
}

// The network does not tell in which mode its switch promises bandwidth: what the switch takes
// is read again, be it a weight or a rate.
func TestMinimumsOfProfiles(t *testing.T) {
	weight, rate := 5, vswitch.Bits(1e8)
	for mode, minimum := range map[vswitch.BandwidthMode]vswitch.MinimumChange{"": {Weight: &weight}, "absolute": {Rate: &rate}} {
		s := vswitch.Switch{Name: "wan", Uplink: "nic0", MinBandwidth: vswitch.SharedUplink{Mode: mode}}
		s.PortProfiles = []vswitch.PortProfile{{Name: "web", Policy: vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{Min: minimum}}}}
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		text, err := network.Definition(s, "wan")
		if err != nil {
			t.Fatal(err)
		}
		n, err := network.Parse([]byte(text))
		if err != nil || n.Validate() != nil || !vswitch.SameProfiles(n.Profiles, s.PortProfiles) {
			t.Errorf("mode %q: %+v, %v, %v", mode, n, err, n.Validate())
		}
	}
}
