package vswitch_test

import (
	"errors"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

type (
	change = vswitch.OffloadChange
	vmq    = vswitch.VMQChange
	sriov  = vswitch.SRIOVChange
	ipsec  = vswitch.IPsecChange
)

// What is asked for last is meant: the part that contradicts it and was not named goes.
func TestOffloadChange(t *testing.T) {
	vf := vswitch.OffloadPolicy{SRIOV: vswitch.SRIOVPolicy{Mode: vswitch.OffloadRequire, Weight: number(7), QueuePairs: number(2)}}
	standby := vswitch.OffloadPolicy{SRIOV: vswitch.SRIOVPolicy{Weight: number(7), Failover: true}}
	for name, c := range map[string]struct {
		is   vswitch.OffloadPolicy
		c    change
		want string
	}{
		"nothing":               {vf, change{}, "sriov require weight 7 with 2 queue pairs, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"a weight turns on":     {vswitch.OffloadPolicy{}, change{SRIOV: sriov{Weight: ptr(5)}}, "sriov prefer weight 5, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"a weight keeps":        {vf, change{SRIOV: sriov{Weight: ptr(5)}}, "sriov require weight 5 with 2 queue pairs, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"a standby":             {vf, change{SRIOV: sriov{Failover: ptr(true)}}, "sriov require weight 7 with 2 queue pairs with failover, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"a standby that stays":  {standby, change{SRIOV: sriov{Weight: ptr(5)}}, "sriov prefer weight 5 with failover, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"off forgets a standby": {standby, change{SRIOV: sriov{Weight: ptr(0)}}, "sriov off, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"0 turns off":           {vf, change{SRIOV: sriov{Weight: ptr(0)}}, "sriov off, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"off forgets a weight":  {vf, change{SRIOV: sriov{Mode: ptr(vswitch.OffloadOff)}}, "sriov off, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"prefer after 0":        {vswitch.OffloadPolicy{IPsec: vswitch.IPsecPolicy{MaxSAs: number(0)}}, change{IPsec: ipsec{Mode: ptr(vswitch.OffloadPrefer)}}, "sriov off, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
		"a weight after off":    {vswitch.OffloadPolicy{VMQ: vswitch.VMQPolicy{Mode: vswitch.OffloadOff}}, change{VMQ: vmq{Weight: ptr(3)}}, "sriov off, vmq prefer weight 3, ipsec prefer up to 512 SAs"},
		"both at once":          {vf, change{SRIOV: sriov{Mode: ptr(vswitch.OffloadPrefer), Weight: ptr(9)}}, "sriov prefer weight 9 with 2 queue pairs, vmq prefer weight 100, ipsec prefer up to 512 SAs"},
	} {
		t.Run(name, func(t *testing.T) {
			got := vswitch.PolicyChange{Offload: c.c}.Apply(vswitch.Policy{Offload: c.is}).Offload
			if got.String() != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if err := got.Validate(); err != nil {
				t.Error(err)
			}
			again := vswitch.PolicyChange{Offload: c.c}.Apply(vswitch.Policy{Offload: got}).Offload
			if again != got {
				t.Errorf("once more it is %s", again)
			}
		})
	}
}

// A contradiction within one change is refused, not guessed at.
func TestOffloadChangeContradicts(t *testing.T) {
	for _, c := range []change{
		{VMQ: vmq{Mode: ptr(vswitch.OffloadOff), Weight: ptr(5)}},
		{VMQ: vmq{Mode: ptr(vswitch.OffloadRequire), Weight: ptr(0)}},
		{SRIOV: sriov{QueuePairs: ptr(2)}},
		{SRIOV: sriov{Failover: ptr(true)}},
	} {
		if err := (vswitch.PolicyChange{Offload: c}).Apply(vswitch.Policy{}).Validate(); vswitch.KindOf(err) != vswitch.Conflict {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestNarrowedOffloads(t *testing.T) {
	is := vswitch.Policy{Offload: vswitch.OffloadPolicy{
		VMQ: vswitch.VMQPolicy{Weight: number(50)}, SRIOV: vswitch.SRIOVPolicy{Mode: vswitch.OffloadPrefer, QueuePairs: number(2)},
	}}
	for name, c := range map[string]struct {
		c      change
		widens bool
	}{
		"a lower weight":     {c: change{VMQ: vmq{Weight: ptr(10)}}},
		"off":                {c: change{VMQ: vmq{Weight: ptr(0)}, SRIOV: sriov{Mode: ptr(vswitch.OffloadOff)}, IPsec: ipsec{MaxSAs: ptr(0)}}},
		"fewer queue pairs":  {c: change{SRIOV: sriov{QueuePairs: ptr(1)}}},
		"a greater weight":   {change{VMQ: vmq{Weight: ptr(51)}}, true},
		"a mode above":       {change{VMQ: vmq{Mode: ptr(vswitch.OffloadRequire)}}, true},
		"more SAs":           {change{IPsec: ipsec{MaxSAs: ptr(513)}}, true},
		"more queue pairs":   {change{SRIOV: sriov{QueuePairs: ptr(3)}}, true},
		"another moderation": {change{SRIOV: sriov{Moderation: ptr(vswitch.ModerationLow)}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := vswitch.Narrowing{Policy: vswitch.PolicyChange{Offload: c.c}}.Apply(vswitch.Port{Policy: is})
			if widens := vswitch.KindOf(err) == vswitch.Widens; widens != c.widens || err != nil && !widens {
				t.Fatal(err)
			}
			if want := (vswitch.PolicyChange{Offload: c.c}).Apply(is); !c.widens && !got.Policy.Equal(want) {
				t.Errorf("%s, want %s", got.Policy, want)
			}
		})
	}
}

// VFs are of an uplink, and the host has that itself.
func TestSwitchWithSRIOV(t *testing.T) {
	wantsVF := vswitch.Policy{Offload: vswitch.OffloadPolicy{SRIOV: vswitch.SRIOVPolicy{Mode: vswitch.OffloadPrefer}}}
	for name, c := range map[string]struct {
		s     vswitch.Switch
		field string
	}{
		"external":   {vswitch.Switch{Name: "wan", Uplink: "eth1", SRIOV: true}, ""},
		"internal":   {vswitch.Switch{Name: "lan", Type: vswitch.Internal, SRIOV: true}, "sriov"},
		"the host's": {vswitch.Switch{Name: "wan", Uplink: "eth1", SRIOV: true, HostPolicy: wantsVF}, "hostPolicy.offload.sriov"},
		"guests'":    {vswitch.Switch{Name: "wan", Uplink: "eth1", SRIOV: true, PortDefaults: wantsVF}, ""},
	} {
		var e *vswitch.Error
		err := c.s.Validate()
		if c.field == "" && err != nil || c.field != "" && (!errors.As(err, &e) || e.Field != c.field) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
