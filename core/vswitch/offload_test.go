package vswitch_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

var number = vswitch.NumberOf

func TestOffloadDefaultsAreHyperVs(t *testing.T) {
	var p vswitch.OffloadPolicy
	for feature, want := range map[vswitch.Feature]vswitch.Wish{
		vswitch.VMQ:   {Mode: vswitch.OffloadPrefer, Amount: 100},
		vswitch.SRIOV: {Mode: vswitch.OffloadOff},
		vswitch.IPsec: {Mode: vswitch.OffloadPrefer, Amount: 512},
		"rdma":        {Mode: vswitch.OffloadOff},
	} {
		if got := p.Wish(feature); got != want {
			t.Errorf("%s: %v, want %v", feature, got, want)
		}
	}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
}

func TestOffloadPolicy(t *testing.T) {
	for name, c := range map[string]struct {
		json  string
		text  string // of the policy, if it is valid
		kind  vswitch.Kind
		field string
	}{
		"nothing":                   {json: `{}`, text: "sriov off, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"null is left out":          {json: `{"vmq": {"weight": null}}`, text: "sriov off, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"zeros are off":             {json: `{"vmq": {"weight": 0}, "sriov": {"weight": 0}, "ipsec": {"maxSAs": 0}}`, text: "sriov off, vmq off, ipsec off"},
		"a weight is a wish":        {json: `{"sriov": {"weight": 7}}`, text: "sriov prefer weight 7, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"a mode without a weight":   {json: `{"sriov": {"mode": "require"}}`, text: "sriov require weight 100, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"a VF's shape":              {json: `{"sriov": {"weight": 1, "queuePairs": 4, "interruptModeration": "low"}}`, text: "sriov prefer weight 1 with 4 queue pairs moderation low, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"a standby beside a VF":     {json: `{"sriov": {"weight": 1, "failover": true}}`, text: "sriov prefer weight 1 with failover, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"a standby beside no VF":    {json: `{"sriov": {"failover": true}}`, kind: vswitch.Conflict, field: "sriov.failover"},
		"off with a zero":           {json: `{"ipsec": {"mode": "off", "maxSAs": 0}}`, text: "sriov off, vmq prefer weight 100, ipsec off"},
		"most of all":               {json: `{"vmq": {"weight": 100}, "ipsec": {"maxSAs": 4294967295}}`, text: "sriov off, vmq prefer weight 100, ipsec prefer up to 4294967295 SAs"},
		"weight beyond":             {json: `{"vmq": {"weight": 101}}`, kind: vswitch.Range, field: "vmq.weight"},
		"weight below":              {json: `{"sriov": {"weight": -1}}`, kind: vswitch.Range, field: "sriov.weight"},
		"SAs below":                 {json: `{"ipsec": {"maxSAs": -1}}`, kind: vswitch.Range, field: "ipsec.maxSAs"},
		"SAs beyond":                {json: `{"ipsec": {"maxSAs": 4294967296}}`, kind: vswitch.Range, field: "ipsec.maxSAs"},
		"unknown mode":              {json: `{"ipsec": {"mode": "on"}}`, kind: vswitch.Invalid, field: "ipsec.mode"},
		"off with a weight":         {json: `{"vmq": {"mode": "off", "weight": 5}}`, kind: vswitch.Conflict, field: "vmq.weight"},
		"required with weight 0":    {json: `{"sriov": {"mode": "require", "weight": 0}}`, kind: vswitch.Conflict, field: "sriov.weight"},
		"no queue pair":             {json: `{"sriov": {"weight": 1, "queuePairs": 0}}`, kind: vswitch.Range, field: "sriov.queuePairs"},
		"queue pairs of no VF":      {json: `{"sriov": {"queuePairs": 2}}`, kind: vswitch.Conflict, field: "sriov.queuePairs"},
		"moderation of no VF":       {json: `{"sriov": {"mode": "off", "interruptModeration": "high"}}`, kind: vswitch.Conflict, field: "sriov.interruptModeration"},
		"unknown moderation":        {json: `{"sriov": {"weight": 1, "interruptModeration": "max"}}`, kind: vswitch.Invalid, field: "sriov.interruptModeration"},
		"half a weight":             {json: `{"vmq": {"weight": 1.5}}`, kind: vswitch.Invalid},
		"a weight in words":         {json: `{"vmq": {"weight": "all"}}`, kind: vswitch.Invalid},
		"a weight beyond all words": {json: `{"vmq": {"weight": 1e99}}`, kind: vswitch.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			var p vswitch.OffloadPolicy
			err := json.Unmarshal([]byte(c.json), &p)
			if err == nil {
				err = p.Validate()
			}
			if c.kind != "" {
				var e *vswitch.Error
				if !errors.As(err, &e) || e.Kind != c.kind || e.Field != c.field {
					t.Fatalf("%v, want %s in %q", err, c.kind, c.field)
				}
				return
			}
			if err != nil || p.String() != c.text {
				t.Fatalf("%q (%v), want %q", p, err, c.text)
			}
			again := roundTrip(t, p)
			if again.String() != c.text {
				t.Errorf("as JSON and back: %q, want %q", again, c.text)
			}
		})
	}
}

func roundTrip(t *testing.T, p vswitch.OffloadPolicy) (again vswitch.OffloadPolicy) {
	t.Helper()
	data, err := json.Marshal(p)
	if err == nil {
		err = json.Unmarshal(data, &again)
	}
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// A policy with every field wrong is mended in one go.
func TestOffloadPolicyReportsAllProblems(t *testing.T) {
	p := vswitch.OffloadPolicy{
		VMQ:   vswitch.VMQPolicy{Weight: number(-1)},
		SRIOV: vswitch.SRIOVPolicy{Mode: "maybe", QueuePairs: number(0), Moderation: "max"},
		IPsec: vswitch.IPsecPolicy{MaxSAs: number(-1)},
	}
	joined, ok := p.Validate().(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 5 {
		t.Errorf("%v, want five problems", p.Validate())
	}
}

func TestSoftwareOnly(t *testing.T) {
	for name, c := range map[string]struct {
		port vswitch.Port
		want []string
	}{
		"a plain port":        {},
		"what a VF does":      {port: vswitch.Port{VLAN: vswitch.AccessVLAN(7), MACSpoofing: true, Policy: vswitch.Policy{Bandwidth: vswitch.Bandwidth{Out: vswitch.Limit{Max: 1e9}}}}},
		"a trunk":             {vswitch.Port{VLAN: vswitch.PortVLAN{Mode: vswitch.Trunk}}, []string{"vlan trunk"}},
		"a private VLAN":      {vswitch.Port{VLAN: vswitch.PortVLAN{Mode: vswitch.Community}}, []string{"vlan community"}},
		"limit to the owner":  {vswitch.Port{Policy: vswitch.Policy{Bandwidth: vswitch.Bandwidth{In: vswitch.Limit{Max: 1e9}}}}, []string{"bandwidth.in"}},
		"burst":               {vswitch.Port{Policy: vswitch.Policy{Bandwidth: vswitch.Bandwidth{Out: vswitch.Limit{Max: 1e9, Burst: 1e6}}}}, []string{"bandwidth.out.burst"}},
		"guards and all else": {vswitch.Port{Isolated: true, Policy: vswitch.Policy{DHCPGuard: true, RouterGuard: true, AddressGuard: true, StormLimit: 1, Mirror: vswitch.MirrorSource, ACL: []vswitch.ACLRule{{}}}}, []string{"acl", "addressGuard", "dhcpGuard", "isolated", "mirror", "routerGuard", "stormLimit"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, vswitch.SoftwareOnly(c.port)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEveryReasonHasWords(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range vswitch.Reasons() {
		cause, _ := r.Words()
		if cause == "" || seen[cause] || cause[:min(6, len(cause))] == "reason" {
			t.Errorf("%s says %q", r, cause)
		}
		seen[cause] = true
	}
}
