package config_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/config"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func aclRules(t *testing.T, texts ...string) (all []vswitch.ACLRule) {
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

// What is written is read as the same, and written again as the same bytes.
func TestFormat(t *testing.T) {
	no, prefer := false, vswitch.OffloadPrefer
	rules, rate := aclRules(t, "deny out tcp to 10.0.0.0/8 port 25 weight 10"), vswitch.Bits(1e7)
	trunk, err := vswitch.ParsePortVLAN("trunk 10-20 native 1")
	if err != nil {
		t.Fatal(err)
	}
	c := vswitch.Config{Version: 1, Switches: []vswitch.Switch{
		{Name: "lab", Type: vswitch.Private, MTU: 9000, Notes: "line one\nline: \"two\" \\ # \u0085\U0001F600 end "},
		{
			Name: "lan", Type: vswitch.Internal, Masquerade: vswitch.Masquerade{IPv4: true},
			Gateway: []netip.Prefix{netip.MustParsePrefix("10.0.10.1/24"), netip.MustParsePrefix("fd00:10::1/64")},
		},
		{Name: "no", Type: vswitch.Internal, VLAN: 7, PortDefaults: vswitch.Policy{DHCPGuard: true, StormLimit: 500}, HostPolicy: vswitch.Policy{RouterGuard: true}},
		{Name: "policed", Type: vswitch.Private, PortDefaults: vswitch.Policy{
			ACL: aclRules(t, "deny out tcp to 10.0.0.0/8 port 25 weight 10", "allow in from fd00::/8"), Mirror: vswitch.MirrorSource,
			Bandwidth: vswitch.Bandwidth{In: vswitch.Limit{Max: 1e7, Burst: 1e6}},
		}},
		{Name: "profiled", Type: vswitch.Private, PortProfiles: []vswitch.PortProfile{
			{Name: "db", Isolated: true, Policy: vswitch.PolicyChange{DHCPGuard: &no, ACL: &rules, Bandwidth: vswitch.BandwidthChange{In: vswitch.LimitChange{Max: &rate}}}},
			{Name: "web", Default: true, VLAN: &trunk, MACSpoofing: true, Policy: vswitch.PolicyChange{Offload: vswitch.OffloadChange{VMQ: vswitch.VMQChange{Mode: &prefer}}}},
		}},
		{Name: "wan", Type: vswitch.External, Uplink: "eth1.5@a", HostAccess: &no, MinBandwidth: vswitch.SharedUplink{Mode: "absolute", DefaultFlow: 1e8}, PortDefaults: vswitch.Policy{Bandwidth: vswitch.Bandwidth{Min: vswitch.Minimum{Rate: 2e8}}}},
		{Name: "1e3", Type: vswitch.External, Uplink: "null", SRIOV: true, PortDefaults: vswitch.Policy{Offload: vswitch.OffloadPolicy{
			VMQ: vswitch.VMQPolicy{Weight: vswitch.NumberOf(0)}, SRIOV: vswitch.SRIOVPolicy{Mode: vswitch.OffloadRequire, QueuePairs: vswitch.NumberOf(2)}, IPsec: vswitch.IPsecPolicy{MaxSAs: vswitch.NumberOf(16)},
		}}},
	}}
	c.Teams = []vswitch.Team{
		{Name: "t0", Members: []string{"eth2", "on"}},
		{Name: "t1", Mode: vswitch.TeamLACP, Members: []string{"a", "b"}, Hash: vswitch.HashMACAddresses, MinLinks: 2, LACPRate: vswitch.LACPSlow, Monitor: 50, UpDelay: 100, DownDelay: 50, Lab: true, Notes: "n: #"},
		{Name: "t2", Mode: vswitch.TeamActiveActive, Members: []string{"c", "d"}, Standby: "d"},
		{Name: "t3", Members: []string{"e", "f"}, Primary: "f", Reselect: vswitch.ReselectAlways},
	}
	effective := config.Effective{
		MTU:     map[string]int{"lan": 1500, "no": 1500, "wan": 9000, "1e3": 1500},
		MACPool: vswitch.MACRange{First: vswitch.MAC{0x0a, 0x50, 0x42, 1, 2, 0}, Last: vswitch.MAC{0x0a, 0x50, 0x42, 1, 2, 0xff}},
	}
	text := config.Format(c, effective)
	golden(t, "format.golden", string(text))
	read, err := config.Parse(config.Source{Name: "export.yaml", Text: text})
	if err != nil {
		t.Fatal(words(err))
	}
	if diff := cmp.Diff(normalized(c), normalized(read), comparable); diff != "" {
		t.Errorf("read again (-want +got):\n%s", diff)
	}
	if again := config.Format(read, effective); string(again) != string(text) {
		t.Errorf("written again:\n%s", cmp.Diff(string(text), string(again)))
	}
	c.MACPool = &vswitch.MACRange{First: vswitch.MAC{0x0a, 0x11}, Last: vswitch.MAC{0x0a, 0x11, 0, 0, 0, 9}}
	if read, err = config.Parse(config.Source{Text: config.Format(c, effective)}); err != nil || *read.MACPool != *c.MACPool {
		t.Errorf("the pool is read as %v: %v", read.MACPool, err)
	}
	if _, err := config.Parse(config.Source{Text: config.Format(vswitch.Config{}, config.Effective{})}); err != nil {
		t.Errorf("a host without switches: %v", err)
	}
}

func normalized(c vswitch.Config) vswitch.Config {
	var all []vswitch.Switch
	for _, s := range c.Switches {
		all = append(all, s.Normalized())
	}
	c.Switches = all
	var teams []vswitch.Team
	for _, t := range c.Teams {
		teams = append(teams, t.Normalized())
	}
	c.Teams = teams
	return c
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"version: 1\nswitches:\n- {name: lan, type: internal, gateway: [10.0.0.1/24], masquerade: true, notes: \"x\"}\n- {name: wan, uplink: eth0, hostAccess: no}\n",
		"version: 1\nswitches:\n- {name: lan, type: internal, portProfiles: [{name: web, default: true, vlan: access 7, policy: {dhcpGuard: true, acl: [allow in from any], bandwidth: {in: {max: 10M}}}, offload: {vmq: prefer}}]}\n",
		"version: 1\nmacPool: {first: 0a:50:42:10:00:00, last: 0a:50:42:10:00:ff}\n---\nversion: 1\n",
		"version: 1\nswitches: &a\n- *a\n", "- [", "%YAML 1.1\n---\n!!binary x", "version: 1\nswitches:\n- <<: {name: x}\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := config.Parse(config.Source{Name: "f", Text: []byte(text)})
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("accepted and not valid: %v", err)
		}
		out := config.Format(c, config.Effective{})
		read, err := config.Parse(config.Source{Name: "out", Text: out})
		if err != nil {
			t.Fatalf("what was written is not read: %v\n%s", err, out)
		}
		if diff := cmp.Diff(normalized(c), normalized(read), comparable); diff != "" {
			t.Fatalf("read again (-want +got):\n%s", diff)
		}
	})
}
