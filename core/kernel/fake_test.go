package kernel_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

const fakeNetns = "/run/netns/a"

// fakeHost has a NIC, the namespace fakeNetns, a bridge pb-lan and on it the pair
// pb1 - eth0, which is up with 10.0.0.2/24 and fd00::2/64.
func fakeHost(t testing.TB) *kernel.Fake {
	t.Helper()
	f := kernel.NewFake(kernel.FakeConfig{
		Netdevs: []kernel.Netdev{
			{Name: "lo", MTU: 65536, Loopback: true, Up: true},
			{Name: "nic0", MAC: vswitch.MAC{0x52, 0x54, 0, 0, 0, 1}, MTU: 1500, MaxMTU: 9000, Up: true, Carrier: true, Ethernet: true},
			{Name: "wlan0", MAC: vswitch.MAC{0x52, 0x54, 0, 0, 0, 2}, MTU: 1500, Ethernet: true, NoBridge: true},
			{Name: "docker0", Kind: "bridge", MTU: 1500, Ethernet: true},
			{Name: "nic1", MTU: 1500, Ethernet: true, Master: "docker0"},
		},
		Capabilities: kernel.Capabilities{PortLocked: true, BridgeRules: true, NAT: true},
		Netns:        []string{fakeNetns},
	})
	fakeApply(t, f, plan.CreateBridge{Bridge: fakeBridge()}, plan.CreateVeth{Port: fakePort()}, plan.SetPort{Port: fakePort()},
		plan.AddFDB{Port: "pb1", MAC: fakePort().FDB[0]}, plan.SetEndpoint{Port: "pb1", Endpoint: *fakePort().Endpoint},
		plan.AddAddress{At: fakeAt(), Address: fakeAddress("10.0.0.2/24")}, plan.AddAddress{At: fakeAt(), Address: fakeAddress("fd00::2/64")})
	return f
}

func fakeBridge() plan.Bridge {
	return plan.Bridge{Name: "pb-lan", MAC: vswitch.MAC{0x0e, 0, 0, 0, 0, 1}, MTU: 1500, Alias: "patchbay:bridge switch=lan", Up: true}
}

func fakePort() plan.Port {
	return plan.Port{
		Name: "pb1", Bridge: "pb-lan", Group: vswitch.Group(1), MTU: 1500, Up: true, MAC: vswitch.MAC{0x0e, 0, 0, 0, 0, 2}, Locked: true,
		FDB:      []vswitch.MAC{{2, 0, 0, 0, 0, 1}},
		Endpoint: &plan.Endpoint{Netns: fakeNetns, Name: "eth0", MAC: vswitch.MAC{2, 0, 0, 0, 0, 1}, MTU: 1500, Up: true},
	}
}

func fakeVeth(name, netns, endpoint string) plan.CreateVeth {
	p := fakePort()
	p.Name, p.Endpoint.Netns, p.Endpoint.Name = name, netns, endpoint
	return plan.CreateVeth{Port: p}
}

func fakeAt() plan.At { return plan.At{Port: "pb1", Netns: fakeNetns, Name: "eth0"} }

func fakeAddress(p string) plan.Address { return plan.Address{Prefix: netip.MustParsePrefix(p)} }

func fakeRoute(dst, gateway string) plan.AddRoute {
	r := vswitch.Route{Dst: netip.MustParsePrefix(dst)}
	if gateway != "" {
		r.Gateway = netip.MustParseAddr(gateway)
	}
	return plan.AddRoute{At: fakeAt(), Route: r}
}

func fakeApply(t testing.TB, f *kernel.Fake, steps ...plan.Step) {
	t.Helper()
	if err := f.Apply(t.Context(), steps); err != nil {
		t.Fatal(err)
	}
}

// fakeScope names pb-lan, pb1 and of its endpoint the addresses and routes given.
func fakeScope(addresses []plan.Address, routes ...vswitch.Route) plan.State {
	p := fakePort()
	p.Endpoint.Addresses, p.Endpoint.Routes = addresses, routes
	return plan.State{Bridges: map[string]plan.Bridge{"pb-lan": {}}, Ports: map[string]plan.Port{"pb1": p}}
}

func TestFakeRefusesWhatLinuxRefuses(t *testing.T) {
	nic := func(name, bridge string, mtu int) plan.SetPort {
		return plan.SetPort{Port: plan.Port{Name: name, Bridge: bridge, MTU: mtu, Up: true}}
	}
	scopeLink := fakeRoute("10.9.0.0/16", "10.0.0.1")
	link := 253
	scopeLink.Route.Scope = &link
	for _, c := range []struct {
		name   string
		before []plan.Step
		step   plan.Step
		want   error // an errno or a kind
	}{
		{name: "bridge exists", step: plan.CreateBridge{Bridge: fakeBridge()}, want: syscall.EEXIST},
		{name: "bridge's name is a NIC's", step: plan.CreateBridge{Bridge: plan.Bridge{Name: "nic0", MTU: 1500}}, want: syscall.EEXIST},
		{name: "bridge's name is too long", step: plan.CreateBridge{Bridge: plan.Bridge{Name: "pb-0123456789abc", MTU: 1500}}, want: syscall.EINVAL},
		{name: "bridge MTU", step: plan.SetBridge{Bridge: plan.Bridge{Name: "pb-lan", MTU: 67}}, want: syscall.EINVAL},
		{name: "no such bridge", step: plan.SetBridge{Bridge: plan.Bridge{Name: "pb-none", MTU: 1500}}, want: vswitch.NotFound},
		{name: "not a bridge", step: plan.DeleteBridge{Name: "nic0"}, want: syscall.EOPNOTSUPP},
		{name: "veth exists", step: fakeVeth("pb1", fakeNetns, "eth1"), want: syscall.EEXIST},
		{name: "veth exists, by kind", step: fakeVeth("pb1", fakeNetns, "eth1"), want: vswitch.AlreadyExists},
		{name: "endpoint exists", step: fakeVeth("pb2", fakeNetns, "eth0"), want: vswitch.EndpointExists},
		{name: "endpoint exists in the host", step: fakeVeth("pb2", "", "nic0"), want: vswitch.EndpointExists},
		{name: "namespace is gone", step: fakeVeth("pb2", "/run/netns/b", "eth0"), want: vswitch.NetnsNotFound},
		{name: "bridge is gone", before: []plan.Step{plan.DeleteBridge{Name: "pb-lan"}}, step: fakeVeth("pb2", fakeNetns, "eth1"), want: vswitch.NotFound},
		{name: "bridge is gone, by errno", before: []plan.Step{plan.DeleteBridge{Name: "pb-lan"}}, step: plan.SetPort{Port: fakePort()}, want: syscall.ENODEV},
		{name: "netdev is gone", step: nic("nic9", "pb-lan", 1500), want: vswitch.NotFound},
		{name: "netdev has another master", step: nic("nic1", "pb-lan", 1500), want: syscall.EBUSY},
		{name: "netdev too small for the MTU", step: nic("nic0", "pb-lan", 9001), want: syscall.EINVAL},
		{name: "loopback", step: nic("lo", "pb-lan", 65536), want: syscall.EINVAL},
		{name: "bridge on a bridge", step: nic("docker0", "pb-lan", 1500), want: syscall.EINVAL},
		{name: "wireless", step: nic("wlan0", "pb-lan", 1500), want: syscall.EOPNOTSUPP},
		{name: "FDB entry of no port", step: plan.AddFDB{Port: "nic0", MAC: vswitch.MAC{2}}, want: syscall.EOPNOTSUPP},
		{name: "FDB entry of no netdev", step: plan.AddFDB{Port: "pb9", MAC: vswitch.MAC{2}}, want: vswitch.NotFound},
		{name: "FDB entry of a multicast address", step: plan.AddFDB{Port: "pb1", MAC: vswitch.MAC{3}}, want: syscall.EINVAL},
		{name: "address on no endpoint", step: plan.AddAddress{At: plan.At{Port: "pb1", Netns: fakeNetns, Name: "eth9"}, Address: fakeAddress("10.0.0.9/24")}, want: vswitch.NotFound},
		{name: "address on another's endpoint", step: plan.AddAddress{At: plan.At{Port: "pb2", Netns: fakeNetns, Name: "eth0"}, Address: fakeAddress("10.0.0.9/24")}, want: vswitch.NotFound},
		{name: "IPv6 address with another length", step: plan.AddAddress{At: fakeAt(), Address: fakeAddress("fd00::2/80")}, want: syscall.EEXIST},
		{
			name: "IPv6 below its MTU", before: []plan.Step{plan.SetEndpoint{Port: "pb1", Endpoint: plan.Endpoint{Netns: fakeNetns, Name: "eth0", MTU: 1279}}},
			step: plan.AddAddress{At: fakeAt(), Address: fakeAddress("fd00::3/64")}, want: syscall.EINVAL,
		},
		{name: "IPv4 gateway out of reach", step: fakeRoute("0.0.0.0/0", "10.1.0.1"), want: syscall.ENETUNREACH},
		{name: "IPv4 gateway of a link route", step: scopeLink, want: syscall.ENETUNREACH},
		{name: "IPv6 gateway out of reach", step: fakeRoute("::/0", "fd01::1"), want: syscall.EHOSTUNREACH},
		{name: "route by an endpoint that is down", before: []plan.Step{fakeVeth("pb2", fakeNetns, "eth1")}, step: plan.AddRoute{
			At: plan.At{Port: "pb2", Netns: fakeNetns, Name: "eth1"}, Route: vswitch.Route{Dst: netip.MustParsePrefix("10.9.0.0/16")},
		}, want: syscall.ENETDOWN},
		{name: "rule without its table", step: plan.SetRules{Add: plan.Rules{Quiet: map[uint32]bool{1: true}}}, want: syscall.ENOENT},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := fakeHost(t)
			fakeApply(t, f, c.before...)
			before, steps := f.String(), f.Steps()
			err := f.Apply(t.Context(), []plan.Step{c.step})
			var stepErr *kernel.StepError
			if !errors.Is(err, c.want) || !errors.As(err, &stepErr) || stepErr.Index != 0 {
				t.Fatalf("got %v, want a StepError of step 0 that is %v", err, c.want)
			}
			if after := f.String(); after != before || f.Steps() != steps {
				t.Errorf("the failing step changed something:\n%s", cmp.Diff(before, after))
			}
		})
	}
}

func TestFakeForgivesWhatIsGone(t *testing.T) {
	f := fakeHost(t)
	before := f.String()
	gone := plan.At{Port: "pb9", Netns: "/run/netns/b", Name: "eth0"}
	fakeApply(t, f,
		plan.DeleteBridge{Name: "pb-none"}, plan.DeleteNetdev{Name: "pb9"}, plan.ReleasePort{Name: "pb9"}, plan.ReleasePort{Name: "nic0"},
		plan.DeleteFDB{Port: "pb9", MAC: vswitch.MAC{2}}, plan.DeleteFDB{Port: "nic0", MAC: vswitch.MAC{2}}, plan.DeleteFDB{Port: "pb1", MAC: vswitch.MAC{4}},
		plan.DeleteAddress{At: gone, Address: fakeAddress("10.0.0.2/24")}, plan.DeleteAddress{At: fakeAt(), Address: fakeAddress("10.0.0.9/24")},
		plan.DeleteRoute{At: gone, Route: fakeRoute("0.0.0.0/0", "").Route}, plan.DeleteRoute{At: fakeAt(), Route: fakeRoute("0.0.0.0/0", "").Route},
		plan.SetRules{Remove: plan.Rules{Guard: map[string]vswitch.MAC{"pb9": {2}}}}, plan.SetRules{Remove: plan.Rules{Base: true}},
	)
	if diff := cmp.Diff(before, f.String()); diff != "" {
		t.Error(diff)
	}
}

// TestFakeSideEffects are what Linux does that nobody asked for.
func TestFakeSideEffects(t *testing.T) {
	route4, route6 := fakeRoute("0.0.0.0/0", "10.0.0.1"), fakeRoute("::/0", "fd00::1")
	for _, c := range []struct {
		name  string
		do    func(t *testing.T, f *kernel.Fake)
		gone  []string // lines of String that are no longer there
		still []string
	}{
		{
			name: "last IPv4 address takes the routes", gone: []string{"inet 10.0.0.2/24", "route default via 10.0.0.1"}, still: []string{"route default via fd00::1"},
			do: func(t *testing.T, f *kernel.Fake) {
				fakeApply(t, f, route4, route6, plan.DeleteAddress{At: fakeAt(), Address: fakeAddress("10.0.0.2/24")})
			},
		},
		{
			name: "first IPv4 address takes the others of its subnet", gone: []string{"inet 10.0.0.2/24", "inet 10.0.0.3/24"}, still: []string{"inet 10.1.0.2/24", "route default via 10.0.0.1"},
			do: func(t *testing.T, f *kernel.Fake) {
				fakeApply(t, f, route4, plan.AddAddress{At: fakeAt(), Address: fakeAddress("10.0.0.3/24")}, plan.AddAddress{At: fakeAt(), Address: fakeAddress("10.1.0.2/24")},
					plan.DeleteAddress{At: fakeAt(), Address: fakeAddress("10.0.0.2/24")})
			},
		},
		{
			name: "second IPv4 address takes nothing", gone: []string{"inet 10.0.0.3/24"}, still: []string{"inet 10.0.0.2/24", "route default via 10.0.0.1"},
			do: func(t *testing.T, f *kernel.Fake) {
				fakeApply(t, f, route4, plan.AddAddress{At: fakeAt(), Address: fakeAddress("10.0.0.3/24")}, plan.DeleteAddress{At: fakeAt(), Address: fakeAddress("10.0.0.3/24")})
			},
		},
		{
			name: "going down takes routes and IPv6", gone: []string{"route default", "inet6 fd00::2/64"}, still: []string{"inet 10.0.0.2/24"},
			do: func(t *testing.T, f *kernel.Fake) {
				fakeApply(t, f, route4, route6)
				f.SetNetdevDown(fakeNetns, "eth0")
			},
		},
		{
			name: "small MTU takes IPv6", gone: []string{"route default via fd00::1", "inet6 fd00::2/64"}, still: []string{"inet 10.0.0.2/24", "route default via 10.0.0.1"},
			do: func(t *testing.T, f *kernel.Fake) {
				fakeApply(t, f, route4, route6, plan.SetEndpoint{Port: "pb1", Endpoint: plan.Endpoint{Netns: fakeNetns, Name: "eth0", MTU: 1000}})
			},
		},
		{
			name: "namespace takes the pair", gone: []string{"pb1", "eth0", "netns"}, still: []string{"pb-lan"},
			do: func(_ *testing.T, f *kernel.Fake) { f.RemoveNetns(fakeNetns) },
		},
		{
			name: "unmounted namespace lives on", gone: []string{"netns /"}, still: []string{"pb1: veth eth0@" + fakeNetns},
			do: func(_ *testing.T, f *kernel.Fake) { f.UnmountNetns(fakeNetns) },
		},
		{
			name: "bridge releases its ports", gone: []string{"pb-lan", "fdb", "locked on"}, still: []string{"pb1: veth", "nic0"},
			do: func(t *testing.T, f *kernel.Fake) {
				fakeApply(t, f, plan.SetPort{Port: plan.Port{Name: "nic0", Bridge: "pb-lan", MTU: 1500, Up: true}}, plan.DeleteBridge{Name: "pb-lan"})
			},
		},
		{
			name: "released port keeps what is its own", gone: []string{"group", "master pb-lan"}, still: []string{"nic0: 52:54:00:00:00:01 mtu 1500 up"},
			do: func(t *testing.T, f *kernel.Fake) {
				fakeApply(t, f, plan.DeleteNetdev{Name: "pb1"}, plan.SetPort{Port: plan.Port{Name: "nic0", Bridge: "pb-lan", Group: vswitch.Group(1), MTU: 1500, Up: true}}, plan.ReleasePort{Name: "nic0", Ungroup: true})
			},
		},
		{
			name: "unplugged", gone: []string{"nic0"}, still: []string{"pb-lan"},
			do: func(_ *testing.T, f *kernel.Fake) { f.RemoveNetdev("nic0") },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := fakeHost(t)
			c.do(t, f)
			text := f.String()
			for _, s := range c.gone {
				if strings.Contains(text, s) {
					t.Errorf("%q is still there:\n%s", s, text)
				}
			}
			for _, s := range c.still {
				if !strings.Contains(text, s) {
					t.Errorf("%q is gone:\n%s", s, text)
				}
			}
		})
	}
}

func TestFakeCapabilities(t *testing.T) {
	rules := map[string]plan.Rules{
		"base": {Base: true}, "quiet": {Quiet: map[uint32]bool{1: true}}, "router": {Router: map[uint32]vswitch.MAC{1: {2}}}, "host": {Host: map[vswitch.MAC]bool{{2}: true}},
		"guard": {Guard: map[string]vswitch.MAC{"pb1": {2}}}, "masquerade": {Masquerade: map[string]plan.Families{"pb1": {IPv4: true}}},
	}
	for name, r := range rules {
		t.Run(name, func(t *testing.T) {
			f := kernel.NewFake(kernel.FakeConfig{})
			if err := f.Apply(t.Context(), []plan.Step{plan.SetRules{Add: r}}); !errors.Is(err, vswitch.CapabilityMissing) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("without NAT", func(t *testing.T) {
		f := kernel.NewFake(kernel.FakeConfig{Capabilities: kernel.Capabilities{BridgeRules: true}})
		some := plan.Rules{Base: true, NoNAT: true, Quiet: map[uint32]bool{1: true}}
		fakeApply(t, f, plan.SetRules{Add: some}, plan.RequireRules{NoNAT: true})
		if seen, err := f.Observe(t.Context(), plan.State{Rules: some}); err != nil || !cmp.Equal(seen.Rules, some) {
			t.Errorf("observed %+v, %v", seen.Rules, err)
		}
		if seen, err := f.Observe(t.Context(), plan.State{Rules: plan.Rules{Base: true}}); err != nil || seen.Rules.Base {
			t.Errorf("one table passes for both, or %v", err)
		}
		if err := f.Apply(t.Context(), []plan.Step{plan.RequireRules{}}); !errors.Is(err, vswitch.Drifted) {
			t.Errorf("both tables: %v", err)
		}
		f.SetCapabilities(kernel.Capabilities{BridgeRules: true, NAT: true})
		masquerade := plan.Rules{Masquerade: map[string]plan.Families{"pbh-lan": {IPv4: true}}}
		if err := f.Apply(t.Context(), []plan.Step{plan.SetRules{Add: masquerade}}); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("an element of a table that is not there: %v", err)
		}
		fakeApply(t, f, plan.SetRules{Add: plan.Rules{Base: true}}, plan.SetRules{Add: masquerade}, plan.RequireRules{})
	})
	t.Run("locked", func(t *testing.T) {
		f := kernel.NewFake(kernel.FakeConfig{Netns: []string{fakeNetns}})
		fakeApply(t, f, plan.CreateBridge{Bridge: fakeBridge()}, plan.CreateVeth{Port: fakePort()}, plan.SetPort{Port: fakePort()})
		seen, err := f.Observe(t.Context(), fakeScope(nil))
		if err != nil || seen.Ports["pb1"].Locked {
			t.Errorf("locked without the capability, or %v", err)
		}
	})
}

func TestFakeFullBridge(t *testing.T) {
	f := kernel.NewFake(kernel.FakeConfig{})
	fakeApply(t, f, plan.CreateBridge{Bridge: fakeBridge()})
	for i := range 1023 {
		fakeApply(t, f, fakeVeth(fmt.Sprintf("pb%d", i), "", fmt.Sprintf("e%d", i)))
	}
	err := f.Apply(t.Context(), []plan.Step{fakeVeth("pb1023", "", "e1023")})
	if !errors.Is(err, vswitch.SwitchFull) || !errors.Is(err, syscall.EXFULL) {
		t.Fatalf("the 1024th port: %v", err)
	}
	fakeApply(t, f, plan.DeleteNetdev{Name: "pb0"}, fakeVeth("pb1023", "", "e1023"))
}
