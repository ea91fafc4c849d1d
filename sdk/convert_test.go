package sdk

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/patchbay-net/patchbay/core/vswitch"
	sdkv1 "github.com/patchbay-net/patchbay/sdk/proto/patchbay/sdk/v1"
)

// FuzzAnswers reads anything as a plugin's answers. What passes the checks is the same when
// it is sent again.
func FuzzAnswers(f *testing.F) {
	capability := vswitch.Capability{Capacity: 7, Foreign: 1, QueuePairs: 2, Moderation: true, VMs: vswitch.NoACS}
	description, err := toDescription(Description{
		Name: "x", Version: "1", Features: vswitch.Features(), Extensions: Extensions(),
		Schema: Schema{{Key: "a", Type: Integer, Doc: "d", Default: 3, Min: 1, Max: 4}, {Key: "b", Type: Strings, Doc: "d", Choices: []string{"c"}, Default: []string{"c"}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range []proto.Message{
		description,
		toInventory(Inventory{NICs: []NIC{{ID: "a", Netdev: "eth0", Capabilities: vswitch.Capabilities{SRIOV: capability}}}}),
		&sdkv1.ListGrantsResponse{Grants: []*sdkv1.Grant{toGrant(Grant{Ref: Ref{"p", vswitch.SRIOV}, NIC: "a", Generation: 3, VF: &VF{Index: 1, PCIAddr: "b"}, Amount: 2, Reason: vswitch.LimitReached})}},
		&sdkv1.ListGrantsResponse{Grants: []*sdkv1.Grant{toGrant(Grant{Ref: Ref{"p", vswitch.IPsec}, NIC: "a", Generation: 3, Amount: 2, SAs: 3, SAsHeld: 2})}},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d sdkv1.DescribeResponse
		if proto.Unmarshal(data, &d) == nil {
			again(t, &d, fromDescription, checkDescription, toDescription)
		}
		var i sdkv1.WatchInventoryResponse
		if proto.Unmarshal(data, &i) == nil {
			again(t, &i, sure(fromInventory), checkInventory, sure(toInventory))
		}
		var g sdkv1.ListGrantsResponse
		if proto.Unmarshal(data, &g) == nil && len(g.GetGrants()) > 0 {
			again(t, g.GetGrants()[0], sure(fromGrant), func(g Grant) error { return checkGrants([]Grant{g}) }, sure(toGrant))
		}
	})
}

func sure[A, B any](f func(A) B) func(A) (B, error) {
	return func(a A) (B, error) { return f(a), nil }
}

func again[W, V any](t *testing.T, wire W, from func(W) (V, error), check func(V) error, to func(V) (W, error)) {
	t.Helper()
	v, err := from(wire)
	if err != nil || check(v) != nil {
		return
	}
	sent, err := to(v)
	if err != nil {
		t.Fatal(err)
	}
	got, err := from(sent)
	if err != nil || check(got) != nil {
		t.Fatalf("%v, %v", err, check(got))
	}
	if diff := cmp.Diff(v, got); diff != "" {
		t.Error(diff)
	}
}
