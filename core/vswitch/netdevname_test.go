package vswitch_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestNetdevNames(t *testing.T) {
	long := strings.Repeat("n", 63)
	for _, c := range []struct{ name, bridge, hostPort, switchEnd string }{
		{"lan", "pb-lan", "pbh-lan", "pbp-lan"},
		{"a", "pb-a", "pbh-a", "pbp-a"},
		{"exactly12chr", "pb-exactly12chr", "pbh-exact-a2ktw", "pbp-exact-a2ktw"},
		{"produc-6rmri", "pb-produc-43x4n", "pbh-produ-43x4n", "pbp-produ-43x4n"}, // the cut name of the next
		{"production.east", "pb-produc-6rmri", "pbh-produ-6rmri", "pbp-produ-6rmri"},
		{long, "pb-nnnnnn-wjtvi", "pbh-nnnnn-wjtvi", "pbp-nnnnn-wjtvi"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := []string{vswitch.BridgeName(c.name), vswitch.HostPortName(c.name), vswitch.HostPortSwitchEnd(c.name)}
			if diff := cmp.Diff([]string{c.bridge, c.hostPort, c.switchEnd}, got); diff != "" {
				t.Errorf("an upgrade would not find its netdevs (-want +got):\n%s", diff)
			}
		})
	}
	seen := make(map[string]string)
	for i := range 5000 {
		for _, name := range []string{fmt.Sprintf("switch%d", i), fmt.Sprintf("a-rather-long-name-%d", i), fmt.Sprintf("%d.%s", i, long[:50])} {
			owner := vswitch.Owner{Kind: vswitch.OwnerContainer, Network: "net", ID: name, Endpoint: "eth0"}
			for _, netdev := range []string{vswitch.BridgeName(name), vswitch.HostPortName(name), vswitch.HostPortSwitchEnd(name), owner.PortID()} {
				if err := vswitch.ValidateNetdevName(netdev); err != nil {
					t.Fatal(err)
				}
				if other, taken := seen[netdev]; taken {
					t.Fatalf("%s is a netdev of %s and of %s", netdev, name, other)
				}
				seen[netdev] = name
			}
		}
	}
}

func TestValidateNetdevName(t *testing.T) {
	for _, name := range []string{"e", "eth0", "enp3s0f0np0", "br-lan.100", "exactly15bytes_", "@!$"} {
		if err := vswitch.ValidateNetdevName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "sixteen-bytes-ab", "a/b", "a:b", "a b", "a\tb", "a\n", "a\x00", "é", "eth%d", strings.Repeat("x", 100000)} {
		if err := vswitch.ValidateNetdevName(name); err == nil || len(err.Error()) > 200 {
			t.Errorf("%.40q: %v", name, err)
		}
	}
}
