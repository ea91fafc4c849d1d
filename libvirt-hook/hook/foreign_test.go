package hook_test

import (
	"fmt"
	"testing"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// A bridge may be called as ours are and be somebody else's: its network and domains are left alone.
func TestForeignBridge(t *testing.T) {
	l := newLab(t)
	const port, uuid = "5b2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b01", "bbbbbbbb-0000-4000-8000-000000000077"
	mac := vswitch.MAC{0x52, 0x54, 0, 0, 0, 0x77}
	l.kernel.AddNetdev(kernel.Netdev{Name: "pb-lan", Index: 60, Kind: "bridge", MTU: 1500, Up: true})
	l.kernel.AddNetdev(kernel.Netdev{Name: "vnet9", Index: 61, Kind: "tun", MAC: mac.TapMAC(), MTU: 1500, Master: "pb-lan", Ethernet: true, Up: true, Carrier: true})
	const network = `<hookData><network><name>mynet</name><forward mode='bridge'/><bridge name='pb-lan'/></network>%s</hookData>`
	networkPort := fmt.Sprintf(`<networkport><uuid>%s</uuid><owner><name>x</name><uuid>%s</uuid></owner><mac address='%s'/><plug type='bridge' bridge='pb-lan'/></networkport>`, port, uuid, mac)
	const nic = `<interface type='bridge'><mac address='%s'/><source network='mynet' portid='%s' bridge='pb-lan'/><target dev='vnet9'/><alias name='%s'/></interface>`
	one := fmt.Sprintf(nic, mac, port, "net0")
	const vm = `<domain type='kvm'><name>x</name><uuid>%s</uuid><devices>%s</devices></domain>`
	for _, c := range []struct {
		driver, object, operation, stdin string
	}{
		{"network", "mynet", "start", fmt.Sprintf(network, "")},
		{"network", "mynet", "port-created", fmt.Sprintf(network, networkPort)},
		{"qemu", "x", "start", fmt.Sprintf(vm, uuid, one)},
		{"qemu", "x", "start", fmt.Sprintf(vm, uuid, one+fmt.Sprintf(nic, "52:54:00:00:00:78", "5b2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b02", "net1"))},
	} {
		if says := l.serve(c.driver, []string{c.object, c.operation, "begin", "-"}, c.stdin); says != "" {
			t.Errorf("%s %s: %s", c.driver, c.operation, says)
		}
	}
}
