package vswitch_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestNarrowing(t *testing.T) {
	vlan := func(text string) vswitch.PortVLAN {
		v, err := vswitch.ParsePortVLAN(text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	acl := func(texts ...string) (rules []vswitch.ACLRule) {
		for _, text := range texts {
			r, err := vswitch.ParseACLRule(text)
			if err != nil {
				t.Fatal(err)
			}
			rules = append(rules, r)
		}
		return rules
	}
	bits := func(n int) *vswitch.Bits { b := vswitch.Bits(n); return &b }
	is := func(b bool) *bool { return &b }
	num := func(n int) *int { return &n }
	tens, access := vlan("trunk 10-20 native 10"), vlan("10")
	type policy = vswitch.PolicyChange
	type bandwidth = vswitch.BandwidthChange
	type limit = vswitch.LimitChange
	of := func(p policy) vswitch.Narrowing { return vswitch.Narrowing{Policy: p} }
	limited := vswitch.Port{Policy: vswitch.Policy{Bandwidth: vswitch.Bandwidth{Out: vswitch.Limit{Max: 10_000_000}}}}
	bursty := vswitch.Port{Policy: vswitch.Policy{Bandwidth: vswitch.Bandwidth{Out: vswitch.Limit{Max: 10_000_000, Burst: 50_000}}}}
	for _, c := range []struct {
		name string
		port vswitch.Port
		n    vswitch.Narrowing
		want vswitch.Port // where nothing widens
		says string       // else
	}{
		{name: "nothing", port: limited, want: limited},
		{name: "same VLAN", port: vswitch.Port{VLAN: access}, n: vswitch.Narrowing{VLAN: &access}, want: vswitch.Port{VLAN: access}},
		{name: "another VLAN", port: vswitch.Port{VLAN: access}, n: vswitch.Narrowing{VLAN: ptr(vlan("20"))}, says: "vlan"},
		{name: "a VLAN of untagged", n: vswitch.Narrowing{VLAN: &access}, says: "vlan"},
		{name: "untagged of a VLAN", port: vswitch.Port{VLAN: access}, n: vswitch.Narrowing{VLAN: &vswitch.PortVLAN{}}, says: "vlan"},
		{name: "fewer of a trunk", port: vswitch.Port{VLAN: tens}, n: vswitch.Narrowing{VLAN: ptr(vlan("trunk 12-13 native 10"))}, want: vswitch.Port{VLAN: vlan("trunk 12-13 native 10")}},
		{name: "one of a trunk", port: vswitch.Port{VLAN: tens}, n: vswitch.Narrowing{VLAN: ptr(vlan("15"))}, want: vswitch.Port{VLAN: vlan("15")}},
		{name: "more of a trunk", port: vswitch.Port{VLAN: tens}, n: vswitch.Narrowing{VLAN: ptr(vlan("trunk 10-21 native 10"))}, says: "vlan"},
		{name: "native from elsewhere", port: vswitch.Port{VLAN: tens}, n: vswitch.Narrowing{VLAN: ptr(vlan("trunk 12 native 9"))}, says: "vlan"},
		{name: "fewer secondaries", port: vswitch.Port{VLAN: vlan("promiscuous 100 101-103")}, n: vswitch.Narrowing{VLAN: ptr(vlan("promiscuous 100 102"))}, want: vswitch.Port{VLAN: vlan("promiscuous 100 102")}},
		{name: "community to promiscuous", port: vswitch.Port{VLAN: vlan("community 100 101")}, n: vswitch.Narrowing{VLAN: ptr(vlan("promiscuous 100 101"))}, says: "vlan"},
		{name: "isolated", n: vswitch.Narrowing{Isolated: is(true)}, want: vswitch.Port{Isolated: true}},
		{name: "not isolated", port: vswitch.Port{Isolated: true}, n: vswitch.Narrowing{Isolated: is(false)}, says: "isolated"},
		{name: "no spoofing", port: vswitch.Port{MACSpoofing: true}, n: vswitch.Narrowing{MACSpoofing: is(false)}},
		{name: "spoofing", n: vswitch.Narrowing{MACSpoofing: is(true)}, says: "macSpoofing"},
		{name: "guards", n: of(policy{DHCPGuard: is(true), RouterGuard: is(true)}), want: vswitch.Port{Policy: vswitch.Policy{DHCPGuard: true, RouterGuard: true}}},
		{name: "a guard off", port: vswitch.Port{Policy: vswitch.Policy{DHCPGuard: true}}, n: of(policy{DHCPGuard: is(false)}), says: "dhcpGuard"},
		{name: "a storm limit", n: of(policy{StormLimit: num(5)}), want: vswitch.Port{Policy: vswitch.Policy{StormLimit: 5}}},
		{name: "no storm limit", port: vswitch.Port{Policy: vswitch.Policy{StormLimit: 5}}, n: of(policy{StormLimit: num(0)}), says: "stormLimit"},
		{name: "a higher one", port: vswitch.Port{Policy: vswitch.Policy{StormLimit: 5}}, n: of(policy{StormLimit: num(6)}), says: "6 is more than 5"},
		{
			name: "deny besides", port: vswitch.Port{Policy: vswitch.Policy{ACL: acl("allow out tcp weight 5")}}, n: of(policy{ACL: ptr(acl("deny out udp weight 9", "allow out tcp weight 5")[:1])}),
			want: vswitch.Port{Policy: vswitch.Policy{ACL: acl("allow out tcp weight 5", "deny out udp weight 9")}},
		},
		{name: "allow besides", n: of(policy{ACL: ptr(acl("allow out tcp weight 5"))}), says: "only rules that deny or meter"},
		{name: "an empty list", port: vswitch.Port{Policy: vswitch.Policy{ACL: acl("deny out any")}}, n: of(policy{ACL: &[]vswitch.ACLRule{}}), want: vswitch.Port{Policy: vswitch.Policy{ACL: acl("deny out any")}}},
		{name: "a lower limit", port: limited, n: of(policy{Bandwidth: bandwidth{Out: limit{Max: bits(1_000_000)}}}), want: vswitch.Port{Policy: vswitch.Policy{Bandwidth: vswitch.Bandwidth{Out: vswitch.Limit{Max: 1_000_000}}}}},
		{name: "a higher limit", port: limited, n: of(policy{Bandwidth: bandwidth{Out: limit{Max: bits(20_000_000)}}}), says: "bandwidth.out.max"},
		{name: "no limit", port: limited, n: of(policy{Bandwidth: bandwidth{Out: limit{Max: bits(0)}}}), says: "bandwidth.out.max"},
		{name: "the other way", port: limited, n: of(policy{Bandwidth: bandwidth{In: limit{Max: bits(9000)}}}), want: vswitch.Port{Policy: vswitch.Policy{Bandwidth: vswitch.Bandwidth{In: vswitch.Limit{Max: 9000}, Out: vswitch.Limit{Max: 10_000_000}}}}},
		{name: "a burst of what passes", port: limited, n: of(policy{Bandwidth: bandwidth{Burst: bits(90_000)}}), want: vswitch.Port{Policy: vswitch.Policy{Bandwidth: vswitch.Bandwidth{Out: vswitch.Limit{Max: 10_000_000, Burst: 90_000}}}}},
		{name: "a greater burst", port: limited, n: of(policy{Bandwidth: bandwidth{Out: limit{Burst: bits(1_000_000)}}}), says: "bandwidth.out.burst"},
		{name: "the burst of a rate that is more", port: bursty, n: of(policy{Bandwidth: bandwidth{Out: limit{Burst: bits(0)}}}), says: "bandwidth.out.burst"},
		{name: "the burst of a lower rate", port: bursty, n: of(policy{Bandwidth: bandwidth{Out: limit{Max: bits(4_000_000), Burst: bits(0)}}}), want: vswitch.Port{Policy: vswitch.Policy{Bandwidth: vswitch.Bandwidth{Out: vswitch.Limit{Max: 4_000_000}}}}},
		{name: "less of a minimum", port: vswitch.Port{Policy: vswitch.Policy{Bandwidth: vswitch.Bandwidth{Min: vswitch.Minimum{Weight: 50}}}}, n: of(policy{Bandwidth: bandwidth{Min: vswitch.MinimumChange{Weight: num(10)}}}), want: vswitch.Port{Policy: vswitch.Policy{Bandwidth: vswitch.Bandwidth{Min: vswitch.Minimum{Weight: 10}}}}},
		{name: "a minimum", n: of(policy{Bandwidth: bandwidth{Min: vswitch.MinimumChange{Weight: num(1)}}}), says: "bandwidth.min"},
		{name: "a rate for a weight", port: vswitch.Port{Policy: vswitch.Policy{Bandwidth: vswitch.Bandwidth{Min: vswitch.Minimum{Weight: 50}}}}, n: of(policy{Bandwidth: bandwidth{Min: vswitch.MinimumChange{Rate: bits(9000)}}}), says: "bandwidth.min"},
		{name: "no priority", port: vswitch.Port{Policy: vswitch.Policy{IEEEPriorityTag: true}}, n: of(policy{IEEEPriorityTag: is(false)})},
		{name: "a priority", n: of(policy{IEEEPriorityTag: is(true)}), says: "ieeePriorityTag"},
		{name: "a mirror", n: of(policy{Mirror: ptr(vswitch.MirrorDestination)}), says: "mirror"},
		{name: "no mirror", port: vswitch.Port{Policy: vswitch.Policy{Mirror: vswitch.MirrorSource}}, n: of(policy{Mirror: ptr(vswitch.MirrorNone)}), says: "mirror"},
		{name: "all at once", port: vswitch.Port{Isolated: true}, n: vswitch.Narrowing{Isolated: is(false), MACSpoofing: is(true), Policy: policy{Mirror: ptr(vswitch.MirrorSource)}}, says: "macSpoofing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.n.Apply(c.port)
			if c.says != "" {
				if vswitch.KindOf(err) != vswitch.Widens || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got error %v, want WIDENS with %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmp.Comparer(vswitch.PortVLAN.Equal), cmp.Comparer(vswitch.Policy.Equal)); diff != "" {
				t.Errorf("narrowed (-want +got):\n%s", diff)
			}
			if again, err := c.n.Apply(got); err != nil || cmp.Diff(got, again, cmp.Comparer(vswitch.PortVLAN.Equal), cmp.Comparer(vswitch.Policy.Equal)) != "" {
				t.Errorf("applied again it is %+v, %v", again, err)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// TestNarrowingKnowsAll: what a policy gets that nobody has said how to narrow is refused.
func TestNarrowingKnowsAll(t *testing.T) {
	known := map[string]bool{"DHCPGuard": true, "RouterGuard": true, "AddressGuard": true, "StormLimit": true, "ACL": true, "Bandwidth": true, "IEEEPriorityTag": true, "Offload": true, "Mirror": true}
	for f := range reflect.TypeFor[vswitch.PolicyChange]().Fields() {
		if known[f.Name] {
			continue
		}
		var n vswitch.Narrowing
		field := reflect.ValueOf(&n.Policy).Elem().FieldByIndex(f.Index)
		if field.Kind() != reflect.Pointer {
			t.Errorf("say how %s is narrowed", f.Name)
			continue
		}
		field.Set(reflect.New(f.Type.Elem()))
		if _, err := n.Apply(vswitch.Port{}); vswitch.KindOf(err) != vswitch.Widens {
			t.Errorf("%s is accepted and ignored: %v", f.Name, err)
		}
	}
}
