package engine_test

import (
	"context"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

const webUUID = "4a2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b01"

func vm(port string) vswitch.Owner {
	return vswitch.Owner{Kind: vswitch.OwnerVM, ID: webUUID, Endpoint: port, Name: "web01"}
}

var webMAC = vswitch.MAC{0x52, 0x54, 0, 0xaa, 0, 1}

// vnet is what libvirt makes of a NIC with webMAC, in the bridge of switch prod.
func vnet(name string, index int) kernel.Netdev {
	return kernel.Netdev{Name: name, Index: index, Kind: "tun", MAC: webMAC.TapMAC(), MTU: 1500, Master: "pb-prod", Ethernet: true, Up: true, Carrier: true}
}

func (l *lab) reserve(port string) vswitch.Port {
	l.t.Helper()
	p, err := l.ReservePort(context.Background(), engine.ReservePortRequest{Owner: vm(port), Switch: "prod", MAC: webMAC})
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

func (l *lab) bind(port, netdev string) vswitch.Port {
	l.t.Helper()
	p, err := l.BindPort(context.Background(), engine.BindPortRequest{Owner: vm(port), Netdev: netdev})
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

func TestVMPortLife(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	if _, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: internal()}); err != nil {
		t.Fatal(err)
	}
	before := l.kernel.String()
	if p := l.reserve("p1"); p.VM.Stage != vswitch.VMReserved || p.Netdev != "" {
		t.Errorf("reserved: %+v", p)
	}
	if l.kernel.String() != before {
		t.Errorf("a reservation changed the kernel:\n%s", l.kernel)
	}
	l.kernel.AddNetdev(vnet("vnet0", 40))
	if p := l.bind("p1", "vnet0"); p.VM.Stage != vswitch.VMActive || p.Netdev != "vnet0" {
		t.Errorf("bound: %+v", p)
	}
	steps := l.kernel.Steps()
	l.bind("p1", "vnet0")
	if now := l.kernel.Steps(); now != steps+1 { // it asks for the rules
		t.Errorf("binding again took %d steps", now-steps)
	}
	if err := l.ReleasePort(ctx, vm("p1")); err != nil {
		t.Fatal(err)
	}
	if p, err := l.Port(ctx, webUUID); err != nil || p.VM.Stage != vswitch.VMReleased || len(p.Drift) > 0 {
		t.Errorf("released with its tap: %+v, %v", p, err)
	}
	l.kernel.RemoveNetdev("vnet0")
	for range 2 {
		if err := l.ReleasePort(ctx, vm("p1")); err != nil {
			t.Fatal(err)
		}
		if err := l.ReleaseDomain(ctx, webUUID); err != nil {
			t.Fatal(err)
		}
	}
	if ports, err := l.Ports(ctx, "prod"); err != nil || len(ports) != 1 {
		t.Errorf("ports: %v, %v", ports, err)
	}
	if l.kernel.String() != before || strings.Contains(before, "vnet0") {
		t.Errorf("left behind:\n%s", l.kernel)
	}
}
