package engine_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

const webUUID, dbUUID = "4a2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b01", "4a2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b02"

// vm and db are ports of two VMs.
func vm(port string) vswitch.Owner {
	return vswitch.Owner{Kind: vswitch.OwnerVM, ID: webUUID, Endpoint: port, Name: "web01"}
}

func db(port string) vswitch.Owner {
	return vswitch.Owner{Kind: vswitch.OwnerVM, ID: dbUUID, Endpoint: port, Name: "db01"}
}

var webMAC, dbMAC = vswitch.MAC{0x52, 0x54, 0, 0xaa, 0, 1}, vswitch.MAC{0x52, 0x54, 0, 0xaa, 0, 2}

// reserveWeb and reserveDB ask for a port on prod.
func reserveWeb(port string) engine.ReservePortRequest {
	return engine.ReservePortRequest{Owner: vm(port), Switch: "prod", MAC: webMAC}
}

func reserveDB(port string) engine.ReservePortRequest {
	return engine.ReservePortRequest{Owner: db(port), Switch: "prod", MAC: dbMAC}
}

// vnet is what libvirt makes of a NIC with webMAC, in the bridge of switch prod.
func vnet(name string, index int) kernel.Netdev {
	return kernel.Netdev{Name: name, Index: index, Kind: "tun", MAC: webMAC.TapMAC(), MTU: 1500, Master: "pb-prod", Ethernet: true, Up: true, Carrier: true}
}

func dbVnet(name string, index int) kernel.Netdev {
	n := vnet(name, index)
	n.MAC = dbMAC.TapMAC()
	return n
}

// moveTap is libvirt moving a tap into another bridge.
func (l *lab) moveTap(name, bridge string) {
	l.t.Helper()
	must(l.t, l.kernel.Apply(context.Background(), []plan.Step{
		plan.ReleasePort{Name: name},
		plan.SetPort{Port: plan.Port{Name: name, Bridge: bridge, MTU: 1500, Learning: true, Flood: true, Up: true}},
	}))
}

func (l *lab) mustReserve(req engine.ReservePortRequest) vswitch.Port {
	l.t.Helper()
	p, err := l.ReservePort(context.Background(), req)
	must(l.t, err)
	return p
}

func (l *lab) mustBind(req engine.BindPortRequest) vswitch.Port {
	l.t.Helper()
	p, err := l.BindPort(context.Background(), req)
	must(l.t, err)
	return p
}

// wantBound fails unless the port is as its record says, with that tap.
func (l *lab) wantBound(o vswitch.Owner, netdev string) vswitch.Port {
	l.t.Helper()
	c, err := l.Check(context.Background(), o)
	must(l.t, err)
	if len(c.Steps) > 0 || c.Port.Netdev != netdev {
		l.t.Errorf("%s has netdev %q and lacks %v:\n%s", o, c.Port.Netdev, c.Steps, l.kernel)
	}
	return c.Port
}

func (l *lab) wantNoPort(o vswitch.Owner) {
	l.t.Helper()
	if p, found, err := l.Attached(context.Background(), o); err != nil || found {
		l.t.Errorf("port %+v is there, %v", p, err)
	}
}

func TestVMPortLife(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	l.mustAdd(internal())
	before := l.kernel.String()
	if p := l.mustReserve(reserveWeb("p1")); p.VM.Stage != vswitch.VMReserved || p.Netdev != "" {
		t.Errorf("reserved: %+v", p)
	}
	if l.kernel.String() != before {
		t.Errorf("a reservation changed the kernel:\n%s", l.kernel)
	}
	l.kernel.AddNetdev(vnet("vnet0", 40))
	if p := l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0"}); p.VM.Stage != vswitch.VMActive || p.Netdev != "vnet0" {
		t.Errorf("bound: %+v", p)
	}
	steps := l.kernel.Steps()
	l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0"})
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

func TestReserveRefuses(t *testing.T) {
	ctx := context.Background()
	bare := allCapabilities()
	bare.VLANFiltering, bare.GuardRules = false, false
	ten := vswitch.AccessVLAN(10)
	for _, c := range []struct {
		name string
		edit func(*engine.ReservePortRequest)
		want vswitch.Kind
		says string
	}{
		{"no such switch", func(r *engine.ReservePortRequest) { r.Switch = "other" }, vswitch.NotFound, "no such switch"},
		{"no MAC address", func(r *engine.ReservePortRequest) { r.MAC = vswitch.MAC{} }, vswitch.MACInvalid, "all zero"},
		{"a group's address", func(r *engine.ReservePortRequest) { r.MAC[0] = 1 }, vswitch.MACInvalid, "multicast"},
		{"a NIC's address", func(r *engine.ReservePortRequest) { r.MAC = nics()[1].MAC }, vswitch.MACDuplicate, "nic0"},
		{"a container's address", func(r *engine.ReservePortRequest) { r.MAC = vswitch.MAC{2, 9, 9, 9, 9, 9} }, vswitch.MACDuplicate, "port pb"},
		{"another VM's address", func(r *engine.ReservePortRequest) { r.MAC = dbMAC }, vswitch.MACDuplicate, "vm " + dbUUID},
		{"an address held for another VM", func(r *engine.ReservePortRequest) { r.MAC = vswitch.MAC{0x52, 0x54, 0, 0xaa, 0, 3} }, vswitch.MACDuplicate, "held for vm mail01"},
		{"more than the switch's MTU", func(r *engine.ReservePortRequest) { r.MTU = 9000 }, vswitch.Invalid, "MTU 9000"},
		{"a VLAN without filtering", func(r *engine.ReservePortRequest) { r.VLAN = &ten }, vswitch.CapabilityMissing, "VLANs on ports"},
		{"guards without rules", func(r *engine.ReservePortRequest) { r.Policy.DHCPGuard = ptr(true) }, vswitch.CapabilityMissing, "guards"},
		{"a container", func(r *engine.ReservePortRequest) { r.Owner = owner(0) }, vswitch.Invalid, "not a VM"},
		{"no port", func(r *engine.ReservePortRequest) { r.Owner.Endpoint = "" }, vswitch.Invalid, "UUID of the libvirt port"},
		{"a domain that is none", func(r *engine.ReservePortRequest) { r.Owner.ID = "../x" }, vswitch.Invalid, "../x"},
		{"a name on two lines", func(r *engine.ReservePortRequest) { r.Owner.Name = "a\nb" }, vswitch.Invalid, "printable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLabWith(t, bare)
			l.mustAdd(internal())
			l.mustReserve(reserveDB("p1"))
			req := request(0)
			req.MAC = vswitch.MAC{2, 9, 9, 9, 9, 9}
			l.mustAttach(req)
			_, err := l.HoldMAC(ctx, engine.HoldMACRequest{Domain: vswitch.DomainRef{Name: "mail01"}, MAC: vswitch.MAC{0x52, 0x54, 0, 0xaa, 0, 3}})
			must(t, err)
			before := l.kernel.String()
			asked := reserveWeb("p1")
			c.edit(&asked)
			_, err = l.ReservePort(ctx, asked)
			wantKind(t, err, c.want)
			if text := fmt.Sprint(err, vswitch.HintOf(err)); !strings.Contains(text, c.says) {
				t.Errorf("error %q does not say %q", text, c.says)
			}
			if l.kernel.String() != before {
				t.Error("the kernel was changed")
			}
			if _, found, _ := l.Attached(ctx, asked.Owner); found && asked.Owner.Kind == vswitch.OwnerVM {
				t.Error("a port is left")
			}
		})
	}
}

// frugal is a kernel with so many netdevs that nobody should list them.
type frugal struct {
	mortal
	t *testing.T
}

func (f frugal) Netdevs(ctx context.Context) ([]kernel.Netdev, error) {
	f.t.Error("all netdevs are listed")
	return f.mortal.Netdevs(ctx)
}

// TestHostsAddresses: the host's addresses are known without a look at every port, also those of
// NICs that are in a bridge or a team.
func TestHostsAddresses(t *testing.T) {
	ctx := context.Background()
	l := newLab(t)
	l.mustAdd(internal())
	_, err := l.AddTeam(ctx, vswitch.Team{Name: "team0", Members: []string{"nic0"}})
	must(t, err)
	l.mustAdd(vswitch.Switch{Name: "wan", Type: vswitch.External, Uplink: "team0"})
	l.mustAdd(vswitch.Switch{Name: "other", Type: vswitch.External, Uplink: "nic1"})
	l.Engine = engine.New(engine.Config{Kernel: frugal{mortal{l.kernel}, t}, Store: l.store()})
	for _, mac := range []vswitch.MAC{nics()[1].MAC, nics()[2].MAC} {
		req := reserveWeb("p1")
		req.MAC = mac
		_, err = l.ReservePort(ctx, req)
		wantKind(t, err, vswitch.MACDuplicate)
		attach := request(0)
		attach.MAC = mac
		_, err = l.Attach(ctx, attach)
		wantKind(t, err, vswitch.MACDuplicate)
	}
	l.mustReserve(reserveWeb("p1"))
}

// TestAddressGuardOfVM: the addresses are those that the VM is defined with; without them the VM
// does not start, and nobody else has them.
func TestAddressGuardOfVM(t *testing.T) {
	ctx := context.Background()
	l := newLab(t)
	l.mustAdd(internal())
	req := reserveWeb("p1")
	req.Policy.AddressGuard = ptr(true)
	l.mustReserve(req)
	l.kernel.AddNetdev(vnet("vnet0", 40))
	bind := engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0"}
	_, err := l.BindPort(ctx, bind)
	wantKind(t, err, vswitch.Invalid)
	if hint := vswitch.HintOf(err); !strings.Contains(hint, "patchbay libvirt interface ... --address") {
		t.Errorf("hint %q", hint)
	}
	l.wantBound(vm("p1"), "") // as before

	attach := request(0)
	attach.Ranges, attach.Routes = ranges("10.0.0.0/29"), nil
	container := l.mustAttach(attach).Port
	taken := container.Addresses[0].Prefix.Addr()
	for _, c := range []struct {
		addresses string
		want      vswitch.Kind
	}{{taken.String(), vswitch.IPInUse}, {"10.0.0.1", vswitch.IPInUse}, {"10.0.0.300", vswitch.Invalid}, {"224.0.0.1", vswitch.Invalid}} {
		bind.Addresses = vswitch.AddressList(c.addresses)
		_, err = l.BindPort(ctx, bind)
		wantKind(t, err, c.want)
	}
	bind.Addresses = vswitch.AddressList("10.0.0.3 fd00::5")
	l.mustBind(bind)
	bind.Addresses = ""
	if p := l.mustBind(bind); len(p.Addresses) != 2 { // whoever does not know the definition changes nothing
		t.Errorf("addresses: %v", p.Addresses)
	}
	l.wantBound(vm("p1"), "vnet0")
	if text := l.kernel.String(); !strings.Contains(text, "10.0.0.3") || !strings.Contains(text, "fd00::5") {
		t.Errorf("it may speak for anybody:\n%s", text)
	}
	next := request(1)
	next.Ranges, next.Routes, next.Requested = ranges("10.0.0.0/29"), nil, []netip.Addr{netip.MustParseAddr("10.0.0.3")}
	_, err = l.Attach(ctx, next)
	wantKind(t, err, vswitch.IPInUse)
	must(t, l.ReleaseDomain(ctx, webUUID))
	l.mustAttach(next)
}

// A VM may have one address on several ports, and another VM may not have it as long as
// there is one.
func TestOneAddressOfOneVM(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	l.mustAdd(internal())
	for _, port := range []string{"p1", "p2", "p1"} {
		l.mustReserve(reserveWeb(port))
	}
	other := reserveDB("p1")
	other.MAC = webMAC
	for _, port := range []string{"p1", "p2"} {
		if _, err := l.ReservePort(ctx, other); vswitch.KindOf(err) != vswitch.MACDuplicate {
			t.Errorf("another VM has the address: %v", err)
		}
		must(t, l.ReleasePort(ctx, vm(port)))
	}
	l.mustReserve(other)
	must(t, l.ReleaseDomain(ctx, dbUUID))
	l.wantNoGuests()
}

func TestReserveAgain(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	l.mustAdd(internal())
	l.mustReserve(reserveWeb("p1"))
	again := reserveWeb("p1")
	again.MAC[5], again.Policy.DHCPGuard = 9, ptr(true)
	if p := l.mustReserve(again); p.MAC != again.MAC || !p.Policy.DHCPGuard {
		t.Errorf("the newest request does not count: %+v", p)
	}
	l.mustReserve(reserveWeb("p1"))
	if leases, err := l.MACs(ctx); err != nil || len(leases) != 2 { // the host's is the other one
		t.Errorf("leases: %+v, %v", leases, err)
	}
	l.kernel.AddNetdev(vnet("vnet0", 40))
	l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0"})
	_, err := l.SetPort(ctx, "web01", engine.PortChange{Policy: vswitch.PolicyChange{StormLimit: ptr(7)}})
	must(t, err)
	must(t, l.ReleasePort(ctx, vm("p1"))) // as domif-setlink does
	renamed := reserveWeb("p1")
	renamed.Owner.Name, renamed.Policy.DHCPGuard = "web02", ptr(true)
	p := l.mustReserve(renamed) // as libvirtd does when it is started again
	if p.VM.Stage != vswitch.VMActive || p.Owner.Name != "web02" || p.Policy.StormLimit != 7 || p.Policy.DHCPGuard {
		t.Errorf("what was bound has become %+v", p)
	}
	l.wantBound(vm("p1"), "vnet0")
	if _, err := l.ReservePort(ctx, again); vswitch.KindOf(err) != vswitch.Conflict {
		t.Errorf("another address for a port in use: %v", err)
	}
}

// prodAndLab are two switches, and a port of web01 on the first with its tap.
func prodAndLab(l *lab) {
	l.t.Helper()
	l.mustAdd(internal())
	l.mustAdd(vswitch.Switch{Name: "lab", Type: vswitch.Private})
	req := reserveWeb("p1")
	req.Policy = vswitch.PolicyChange{DHCPGuard: ptr(true), Bandwidth: vswitch.BandwidthChange{Out: vswitch.LimitChange{Max: ptr(vswitch.Bits(1e7))}}, ACL: ptr(aclRules(l.t, "deny out to 10.0.0.0/8"))}
	l.mustReserve(req)
	l.kernel.AddNetdev(vnet("vnet0", 40))
	l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0", Alias: "ua-web"})
}

func toLab(port string) engine.ReservePortRequest {
	req := reserveWeb(port)
	req.Switch = "lab"
	return req
}

// TestUpdateDevice is what `virsh update-device` does: to another network it reserves, moves
// the tap and releases; on the same network it reserves and releases.
func TestUpdateDevice(t *testing.T) {
	ctx := context.Background()
	t.Run("to another network", func(t *testing.T) {
		l := newLab(t)
		prodAndLab(l)
		l.mustReserve(toLab("p2"))
		l.moveTap("vnet0", "pb-lab")
		must(t, l.ReleasePort(ctx, vm("p1")))
		if p := l.wantBound(vm("p2"), "vnet0"); p.VM.Alias != "ua-web" {
			t.Errorf("the alias is lost: %+v", p)
		}
		l.wantNoPort(vm("p1"))
		must(t, l.ReleaseDomain(ctx, webUUID))
		l.kernel.RemoveNetdev("vnet0")
		l.mustDeleteAll("prod", "lab")
	})
	t.Run("with what its definition says", func(t *testing.T) {
		for name, req := range map[string]engine.ReservePortRequest{"another network": toLab("p2"), "another profile": reserveWeb("p2")} {
			l := newLab(t)
			prodAndLab(l)
			l.mustBind(engine.BindPortRequest{
				Owner: vm("p1"), Netdev: "vnet0", Team: ptr(true), Addresses: "10.88.7.7",
				Override: vswitch.Narrowing{Isolated: ptr(true), Policy: vswitch.PolicyChange{StormLimit: ptr(50), AddressGuard: ptr(true)}},
			})
			l.mustReserve(req)
			l.moveTap("vnet0", vswitch.BridgeName(req.Switch))
			must(t, l.ReleasePort(ctx, vm("p1")))
			p := l.wantBound(vm("p2"), "vnet0")
			if !p.Isolated || p.Policy.StormLimit != 50 || !p.Policy.AddressGuard || p.Policy.DHCPGuard || len(p.Addresses) != 1 || !p.VM.Team {
				t.Errorf("%s: %+v", name, p)
			}
			must(t, l.ReleaseDomain(ctx, webUUID))
		}
	})
	t.Run("where it does not fit", func(t *testing.T) {
		for name, policy := range map[string]vswitch.PolicyChange{"it asks for more": {StormLimit: ptr(5)}, "addresses are missing": {AddressGuard: ptr(true)}} {
			l := newLab(t)
			prodAndLab(l)
			l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0", Override: vswitch.Narrowing{Policy: vswitch.PolicyChange{StormLimit: ptr(50)}}})
			req := toLab("p2")
			req.Policy = policy
			l.mustReserve(req)
			l.moveTap("vnet0", "pb-lab")
			must(t, l.ReleasePort(ctx, vm("p1")))
			l.wantNoPort(vm("p1"))
			l.wantBound(vm("p2"), "")
			if n, err := l.kernel.Netdev(ctx, "vnet0"); err != nil || n.Master != "pb-lab" || n.Group != 0 {
				t.Errorf("%s: the tap is not shut: %+v, %v", name, n, err)
			}
		}
	})
	t.Run("to another network, bound first", func(t *testing.T) {
		l := newLab(t)
		prodAndLab(l)
		l.mustReserve(toLab("p2"))
		l.moveTap("vnet0", "pb-lab")
		l.mustBind(engine.BindPortRequest{Owner: vm("p2"), Netdev: "vnet0"})
		l.wantBound(vm("p2"), "vnet0")
		if p := l.wantBound(vm("p1"), ""); p.VM.Stage != vswitch.VMReserved {
			t.Errorf("who has lost its tap is %+v", p)
		}
		must(t, l.ReleasePort(ctx, vm("p1")))
		l.wantBound(vm("p2"), "vnet0")
	})
	t.Run("on the same network", func(t *testing.T) {
		l := newLab(t)
		prodAndLab(l)
		before := l.kernel.String()
		l.mustReserve(reserveWeb("temporary"))
		must(t, l.ReleasePort(ctx, vm("temporary")))
		l.wantBound(vm("p1"), "vnet0")
		if l.kernel.String() != before {
			t.Errorf("the kernel has changed:\n%s", l.kernel)
		}
	})
	t.Run("to a network of somebody else", func(t *testing.T) {
		l := newLab(t)
		prodAndLab(l)
		l.kernel.AddNetdev(kernel.Netdev{Name: "virbr0", Kind: "bridge", MTU: 1500, Up: true})
		l.moveTap("vnet0", "virbr0")
		must(t, l.ReleasePort(ctx, vm("p1")))
		l.wantNoPort(vm("p1"))
		if n, err := l.kernel.Netdev(ctx, "vnet0"); err != nil || n.Master != "virbr0" || n.Group != 0 {
			t.Errorf("the tap is %+v, %v", n, err)
		}
		l.mustDeleteAll("prod", "lab")
	})
}

func (l *lab) mustDeleteAll(switches ...string) {
	l.t.Helper()
	for _, name := range switches {
		must(l.t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: name}))
	}
	s, err := l.Status(context.Background())
	must(l.t, err)
	if strings.Contains(l.kernel.String(), "table") || s.Ports != 0 {
		l.t.Errorf("left %d ports:\n%s", s.Ports, l.kernel)
	}
}

// TestTapOfAnother: the tap of another VM has the name that one had which is gone. It gets
// nothing of that one's port, and keeps what is its own when that goes.
func TestTapOfAnother(t *testing.T) {
	ctx := context.Background()
	for _, late := range []string{"", "bind", "release", "release domain", "gc"} {
		t.Run(late, func(t *testing.T) {
			l := newLab(t)
			prodAndLab(l)
			l.kernel.RemoveNetdev("vnet0")
			l.kernel.AddNetdev(dbVnet("vnet0", 41))
			l.mustReserve(reserveDB("p1"))
			late := map[string]func(){
				"":               func() {},
				"bind":           func() { l.mustBind(engine.BindPortRequest{Owner: db("p1"), Netdev: "vnet0"}) },
				"release":        func() { must(t, l.ReleasePort(ctx, vm("p1"))) },
				"release domain": func() { must(t, l.ReleaseDomain(ctx, webUUID)) },
				"gc":             func() { _, err := l.GC(ctx, engine.GCRequest{}); must(t, err) },
			}[late]
			late()
			if n, err := l.kernel.Netdev(ctx, "vnet0"); err != nil || n.Master != "pb-prod" {
				t.Errorf("the other VM's tap is %+v, %v", n, err)
			}
			l.mustBind(engine.BindPortRequest{Owner: db("p1"), Netdev: "vnet0"})
			l.wantBound(db("p1"), "vnet0")
			l.wantNoPort(vm("p1"))
			if drawn := l.kernel.String(); strings.Contains(drawn, webMAC.String()) || strings.Contains(drawn, "deny") || strings.Contains(drawn, "dhcp") {
				t.Errorf("something is left of the other port:\n%s", drawn)
			}
		})
	}
}

func TestBindRefuses(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name string
		edit func(*lab, *engine.BindPortRequest)
		want vswitch.Kind
		says string
	}{
		{"no reservation", func(_ *lab, r *engine.BindPortRequest) { r.Owner.Endpoint = "p9" }, vswitch.NotFound, "not reserved"},
		{"no tap", func(_ *lab, r *engine.BindPortRequest) { r.Netdev = "vnet9" }, vswitch.NotFound, "vnet9"},
		{"no name", func(_ *lab, r *engine.BindPortRequest) { r.Netdev = "" }, vswitch.Invalid, "name"},
		{"a netdev of ours", func(_ *lab, r *engine.BindPortRequest) { r.Netdev = "pbp-prod" }, vswitch.InUse, "part of Patchbay"},
		{"an uplink", func(l *lab, r *engine.BindPortRequest) {
			l.mustAdd(vswitch.Switch{Name: "wan", Type: vswitch.External, Uplink: "nic0"})
			r.Netdev = "nic0"
		}, vswitch.InUse, "uplink"},
		{"another VM's tap", func(l *lab, r *engine.BindPortRequest) {
			l.mustReserve(reserveDB("p1"))
			l.kernel.AddNetdev(dbVnet("vnet1", 50))
			l.mustBind(engine.BindPortRequest{Owner: db("p1"), Netdev: "vnet1"})
			r.Netdev = "vnet1"
		}, vswitch.InUse, "vm db01"},
		{"a tap in another bridge", func(l *lab, _ *engine.BindPortRequest) {
			l.kernel.AddNetdev(kernel.Netdev{Name: "virbr0", Kind: "bridge", MTU: 1500})
			l.moveTap("vnet0", "virbr0")
		}, vswitch.InUse, "virbr0, not to pb-prod"},
		{"an override that widens", func(_ *lab, r *engine.BindPortRequest) {
			r.Override = vswitch.Narrowing{MACSpoofing: ptr(true), Policy: vswitch.PolicyChange{DHCPGuard: ptr(false)}}
		}, vswitch.Widens, "macSpoofing"},
		{"an override that the kernel cannot do", func(_ *lab, r *engine.BindPortRequest) {
			r.Override.Policy.AddressGuard = ptr(true)
		}, vswitch.Invalid, "no address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			l.mustAdd(internal())
			req := reserveWeb("p1")
			req.Policy.DHCPGuard = ptr(true)
			l.mustReserve(req)
			l.kernel.AddNetdev(vnet("vnet0", 40))
			bind := engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0"}
			c.edit(l, &bind)
			before := l.kernel.String()
			_, err := l.BindPort(ctx, bind)
			wantKind(t, err, c.want)
			if text := fmt.Sprint(err, vswitch.HintOf(err)); !strings.Contains(text, c.says) {
				t.Errorf("error %q does not say %q", text, c.says)
			}
			if p := l.wantBound(vm("p1"), ""); p.VM.Stage != vswitch.VMReserved {
				t.Errorf("the port is %+v", p)
			}
			if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
				t.Errorf("the kernel was changed:\n%s", diff)
			}
		})
	}
}

// An override is applied once, to what the port is then; what is changed later stays when the
// hook comes again.
func TestOverrideOnce(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	l.mustAdd(internal())
	l.mustReserve(reserveWeb("p1"))
	l.kernel.AddNetdev(vnet("vnet0", 40))
	bind := engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0"}
	l.mustBind(bind) // patchbayd, by the tap
	bind.Override.Policy = vswitch.PolicyChange{StormLimit: ptr(50), RouterGuard: ptr(true)}
	if p := l.mustBind(bind); p.Policy.StormLimit != 50 || !p.Policy.RouterGuard { // and then by the domain
		t.Errorf("the override is lost: %+v", p)
	}
	_, err := l.SetPort(ctx, "web01", engine.PortChange{Policy: vswitch.PolicyChange{StormLimit: ptr(5)}})
	must(t, err)
	for _, req := range []engine.BindPortRequest{bind, {Owner: vm("p1"), Netdev: "vnet0"}} {
		if p := l.mustBind(req); p.Policy.StormLimit != 5 || !p.Policy.RouterGuard {
			t.Errorf("bound again it is %+v", p.Policy)
		}
	}
	l.wantBound(vm("p1"), "vnet0")
}

func TestVMsOnManySegments(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	l.sizes = vswitch.SegmentSizes{Root: 2, Spoofing: 1, Further: 2}
	l.open()
	l.mustAdd(internal())
	pristine := l.kernel.String()
	port := func(i int) (vswitch.Owner, vswitch.MAC, string) {
		o := vm(fmt.Sprint("p", i))
		o.ID = fmt.Sprint("domain-", i)
		return o, vswitch.MAC{0x52, 0x54, 0, 0xbb, 0, byte(i)}, fmt.Sprint("vnet", i)
	}
	for i := range 7 {
		o, mac, tap := port(i)
		l.mustReserve(engine.ReservePortRequest{Owner: o, Switch: "prod", MAC: mac})
		n := vnet(tap, 40+i)
		n.MAC = mac.TapMAC()
		l.kernel.AddNetdev(n)
		l.mustBind(engine.BindPortRequest{Owner: o, Netdev: tap})
		l.wantBound(o, tap)
	}
	for i := range 7 {
		o, _, tap := port(i)
		l.wantBound(o, tap)
		l.kernel.RemoveNetdev(tap)
		must(t, l.ReleaseDomain(ctx, o.ID))
	}
	if diff := cmp.Diff(pristine, l.kernel.String()); diff != "" {
		t.Errorf("left:\n%s", diff)
	}
	l.wantNoGuests()
}

// TestSwitchesWithVMs: what changes a switch keeps its VMs, with and without taps.
func TestSwitchesWithVMs(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	prodAndLab(l)
	l.mustReserve(reserveDB("p1"))
	for _, change := range []engine.SwitchChange{
		{MTU: ptr(1400)},
		{Gateway: ptr(internal().Gateway[:0]), Masquerade: &vswitch.Masquerade{}},
		{Type: ptr(vswitch.External), Uplink: ptr("nic0")},
		{Uplink: ptr("nic1")},
		{HostAccess: ptr(false)},
		{Type: ptr(vswitch.Private), Uplink: ptr("")},
		{MTU: ptr(1500)},
	} {
		_, err := l.SetSwitch(ctx, "prod", change)
		must(t, err)
		l.wantBound(vm("p1"), "vnet0")
		l.wantBound(db("p1"), "")
	}
	err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod"})
	wantKind(t, err, vswitch.InUse)
	if !strings.Contains(err.Error(), "vm web01") || !strings.Contains(err.Error(), "vm db01") {
		t.Errorf("the error does not name who is in the way: %v", err)
	}
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod", Force: true}))
	l.wantNoPort(vm("p1"))
	l.wantNoPort(db("p1"))
	if n, err := l.kernel.Netdev(ctx, "vnet0"); err != nil || n.Master != "" || n.Group != 0 {
		t.Errorf("the tap is %+v, %v", n, err)
	}
	l.mustDeleteAll("lab")
}

func TestGCOfVMs(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name    string
		taps    bool
		age     time.Duration
		domains *[]string
		stays   string // which ports
	}{
		{"all there", true, time.Hour, nil, "vnet0"},
		{"taps gone", false, 0, nil, "reserved"},
		{"taps gone, long ago", false, time.Hour, nil, ""},
		{"taps gone, VM there", false, time.Hour, &[]string{webUUID}, "vnet0"},
		{"taps gone, libvirt asked", false, time.Hour, &[]string{dbUUID}, "reserved"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			prodAndLab(l)
			l.mustReserve(reserveDB("p1"))
			if !c.taps {
				l.kernel.RemoveNetdev("vnet0")
			}
			l.openAfter(c.age)
			_, err := l.GC(ctx, engine.GCRequest{Domains: c.domains})
			must(t, err)
			stays := ""
			if _, found, _ := l.Attached(ctx, vm("p1")); found {
				stays = "vnet0"
			}
			if _, found, _ := l.Attached(ctx, db("p1")); found {
				stays = "reserved"
			}
			if stays != c.stays {
				t.Errorf("%q stays, want %q", stays, c.stays)
			}
		})
	}
}

// openAfter is what a fresh process does some time later.
func (l *lab) openAfter(d time.Duration) {
	l.Engine = engine.New(engine.Config{
		Kernel: mortal{l.kernel}, Store: l.store(), Segments: l.sizes,
		Now: func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).Add(d) },
	})
}

// Many VMs start and stop at a time.
func TestManyVMsAtATime(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ctx := context.Background()
	s := internal()
	s.HostPolicy.DHCPGuard = true // so that there are tables for guards
	l.mustAdd(s)
	pristine := l.kernel.String()
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			o := vswitch.Owner{Kind: vswitch.OwnerVM, ID: fmt.Sprint("domain-", i), Endpoint: "p"}
			mac := vswitch.MAC{0x52, 0x54, 0, 0xcc, 0, byte(i)}
			for round := range 4 {
				if _, err := l.ReservePort(ctx, engine.ReservePortRequest{Owner: o, Switch: "prod", MAC: mac, Policy: vswitch.PolicyChange{DHCPGuard: ptr(true)}}); err != nil {
					t.Error(err)
					return
				}
				n := vnet(fmt.Sprint("vnet", i), 100*round+i)
				n.MAC = mac.TapMAC()
				l.kernel.AddNetdev(n)
				if _, err := l.BindPort(ctx, engine.BindPortRequest{Owner: o, Netdev: n.Name}); err != nil {
					t.Error(err)
				}
				l.kernel.RemoveNetdev(n.Name)
				if err := l.ReleasePort(ctx, o); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if diff := cmp.Diff(pristine, l.kernel.String()); diff != "" {
		t.Errorf("left:\n%s", diff)
	}
	l.wantNoGuests()
}

// TestRebindPastAnother: a port that gets another tap leaves alone the tap of another VM that
// has the name of its first one by now.
func TestRebindPastAnother(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	prodAndLab(l)
	l.kernel.RemoveNetdev("vnet0")
	l.kernel.AddNetdev(dbVnet("vnet0", 41))
	l.kernel.AddNetdev(vnet("vnet1", 42))
	l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet1"})
	l.wantBound(vm("p1"), "vnet1")
	if n, err := l.kernel.Netdev(ctx, "vnet0"); err != nil || n.Master != "pb-prod" {
		t.Errorf("the other VM's tap is %+v, %v", n, err)
	}
	l.mustReserve(reserveDB("p1"))
	l.mustBind(engine.BindPortRequest{Owner: db("p1"), Netdev: "vnet0"})
	l.wantBound(db("p1"), "vnet0")
	l.wantBound(vm("p1"), "vnet1")
	if c := strings.Count(l.kernel.String(), "deny out"); c != 1 {
		t.Errorf("the list of web01 is there %d times:\n%s", c, l.kernel)
	}
}
