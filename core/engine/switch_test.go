package engine_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestAddSwitchAgain(t *testing.T) {
	l := newLab(t)
	first := l.mustAdd(internal())
	before := l.kernel.String()
	if diff := cmp.Diff(first, l.mustAdd(internal()), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("the same definition again is another switch:\n%s", diff)
	}
	if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
		t.Errorf("the same definition again changed the kernel:\n%s", diff)
	}
	bare := vswitch.Switch{Name: "prod", Type: vswitch.Internal}
	l.mustAdd(bare) // says nothing that is not so
	other := internal()
	other.Masquerade = vswitch.Masquerade{IPv4: true}
	_, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: other})
	wantKind(t, err, vswitch.Conflict)
	if !strings.Contains(err.Error(), "masquerade is on, not ipv4") {
		t.Errorf("the conflict is not named: %v", err)
	}
}

func TestAddSwitchRepairs(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	whole := l.kernel.String()
	l.kernel.RemoveNetdev("pbh-prod")
	l.mustAdd(internal())
	if diff := cmp.Diff(whole, l.kernel.String()); diff != "" {
		t.Errorf("a lost host port was not made again:\n%s", diff)
	}
}

func TestExternalSwitch(t *testing.T) {
	l := newLab(t)
	pristine := l.kernel.String()
	jumbo := vswitch.Switch{Name: "lan", Uplink: "nic0", MTU: 9000}
	status := l.mustAdd(jumbo)
	if status.Type != vswitch.External || status.EffectiveMTU != 9000 || status.HostPortNetdev != "pbh-lan" {
		t.Errorf("an uplink alone makes an external switch, shared with the host: %+v", status)
	}
	nic, err := l.kernel.Netdev(context.Background(), "nic0")
	if err != nil || nic.Master != "pb-lan" || nic.MTU != 9000 {
		t.Errorf("the uplink is %+v, %v", nic, err)
	}
	_, err = l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "lan2", Uplink: "nic0"}})
	wantKind(t, err, vswitch.UplinkInUse)
	if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}); err != nil {
		t.Fatal(err)
	}
	l.wantClean(pristine)
}

func TestUplinkRefused(t *testing.T) {
	ethernet := func(change func(*kernel.Netdev)) kernel.Netdev {
		n := kernel.Netdev{Name: "nic9", MTU: 1500, MaxMTU: 2000, Ethernet: true, Up: true, Carrier: true}
		change(&n)
		return n
	}
	for name, c := range map[string]struct {
		nic    kernel.Netdev
		kind   vswitch.Kind
		reason string
	}{
		"missing":    {kernel.Netdev{Name: "other", MTU: 1500, Ethernet: true}, vswitch.UplinkNotFound, "no NIC nic9"},
		"loopback":   {ethernet(func(n *kernel.Netdev) { n.Loopback = true }), vswitch.UplinkUnsupported, "loopback"},
		"tunnel":     {ethernet(func(n *kernel.Netdev) { n.Ethernet = false }), vswitch.UplinkUnsupported, "Ethernet"},
		"wireless":   {ethernet(func(n *kernel.Netdev) { n.NoBridge = true }), vswitch.UplinkUnsupported, "wireless"},
		"bridge":     {ethernet(func(n *kernel.Netdev) { n.Kind = "bridge" }), vswitch.UplinkUnsupported, "bridge"},
		"VLAN":       {ethernet(func(n *kernel.Netdev) { n.Kind = "vlan" }), vswitch.UplinkUnsupported, "vlan"},
		"team":       {ethernet(func(n *kernel.Netdev) { n.Kind = "bond" }), vswitch.UplinkUnsupported, "bond"},
		"enslaved":   {ethernet(func(n *kernel.Netdev) { n.Master = "bond0" }), vswitch.UplinkInUse, "bond0"},
		"stacked on": {ethernet(func(*kernel.Netdev) {}), vswitch.UplinkInUse, "macvlan mv0 lies on it"},
		"ours":       {ethernet(func(n *kernel.Netdev) { n.Alias = vswitch.Alias("host", "x", "") }), vswitch.UplinkInUse, "Patchbay's own"},
		"small MTU":  {ethernet(func(n *kernel.Netdev) { n.MaxMTU = 1500 }), vswitch.Invalid, "more than the 1500"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.kernel.AddNetdev(kernel.Netdev{Name: "bond0", Kind: "bridge", MTU: 1500, Ethernet: true})
			l.kernel.AddNetdev(c.nic)
			if name == "stacked on" {
				l.kernel.AddNetdev(kernel.Netdev{Name: "mv0", Kind: "macvlan", Lower: "nic9", MTU: 1500, Ethernet: true})
			}
			before := l.kernel.String()
			_, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "lan", Uplink: "nic9", MTU: 1800}})
			wantKind(t, err, c.kind)
			if err != nil && !strings.Contains(err.Error(), c.reason) {
				t.Errorf("the reason %q is not in: %v", c.reason, err)
			}
			l.wantClean(before)
		})
	}
}

func TestCapabilityMissing(t *testing.T) {
	gateway := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}
	for name, c := range map[string]struct {
		s      vswitch.Switch
		lacks  func(*kernel.Capabilities)
		symbol string
	}{
		"VLAN":       {vswitch.Switch{Name: "s", Type: vswitch.Internal, VLAN: 7}, func(c *kernel.Capabilities) { c.VLANFiltering = false }, "CONFIG_BRIDGE_VLAN_FILTERING"},
		"private":    {vswitch.Switch{Name: "s", Type: vswitch.Private}, func(c *kernel.Capabilities) { c.BridgeRules = false }, "CONFIG_NF_TABLES_BRIDGE"},
		"masquerade": {vswitch.Switch{Name: "s", Type: vswitch.Internal, Gateway: gateway, Masquerade: vswitch.Masquerade{IPv4: true}}, func(c *kernel.Capabilities) { c.NAT = false }, "CONFIG_NFT_NAT"},
		"binding":    {vswitch.Switch{Name: "s", Type: vswitch.Internal}, func(c *kernel.Capabilities) { c.BridgeRules, c.PortLocked = false, false }, "Linux 5.18"},
	} {
		t.Run(name, func(t *testing.T) {
			caps := allCapabilities()
			c.lacks(&caps)
			l := newLabWith(t, caps)
			pristine := l.kernel.String()
			_, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: c.s})
			wantKind(t, err, vswitch.CapabilityMissing)
			if err != nil && !strings.Contains(err.Error(), c.symbol) {
				t.Errorf("%q is not named in: %v", c.symbol, err)
			}
			l.wantClean(pristine)
		})
	}
}

// Where the kernel cannot lock ports, rules bind them to their addresses.
func TestGuardWithoutLockedPorts(t *testing.T) {
	caps := allCapabilities()
	caps.PortLocked = false
	l := newLabWith(t, caps)
	pristine := l.kernel.String()
	a := l.mustAttach(request(0))
	spoofer := request(1)
	spoofer.MACSpoofing = true
	b := l.mustAttach(spoofer)
	picture := l.kernel.String()
	for _, bound := range []string{a.Port.Netdev + " . " + a.Port.MAC.String(), "pbp-prod . "} {
		if !strings.Contains(picture, bound) {
			t.Errorf("%q is in no rule:\n%s", bound, picture)
		}
	}
	if strings.Contains(picture, b.Port.Netdev+" . ") {
		t.Errorf("a port that may spoof is bound:\n%s", picture)
	}
	if port, err := l.Port(context.Background(), a.Port.ID); err != nil || len(port.Drift) > 0 {
		t.Errorf("a guarded port drifts from the start: %v, %v", port.Drift, err)
	}
	if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod", Force: true}); err != nil {
		t.Fatal(err)
	}
	l.wantClean(pristine)
}

func TestSetSwitch(t *testing.T) {
	on, off := true, false
	gateway := []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}
	notes := "moved"
	for name, c := range map[string]struct {
		from   vswitch.Switch
		change engine.SwitchChange
		want   func(engine.SwitchStatus) bool
		shows  []string
		hides  []string
		fails  vswitch.Kind
	}{
		"gateway": {
			from: internal(), change: engine.SwitchChange{Gateway: &gateway, Masquerade: &vswitch.Masquerade{IPv4: true}},
			shows: []string{"10.9.0.1/24"}, hides: []string{"10.0.0.1/24", "fd00::1"},
			want: func(s engine.SwitchStatus) bool { return len(s.Gateway) == 1 },
		},
		"masquerade off": {
			from: internal(), change: engine.SwitchChange{Masquerade: &vswitch.Masquerade{}}, hides: []string{"masquerade4 { pbh-prod"},
			want: func(s engine.SwitchStatus) bool { return s.Masquerade.IsZero() },
		},
		"host access off": {
			from: vswitch.Switch{Name: "prod", Uplink: "nic0"}, change: engine.SwitchChange{HostAccess: &off}, hides: []string{"pbh-prod"},
			want: func(s engine.SwitchStatus) bool { return s.HostPortNetdev == "" },
		},
		"host access on": {
			from: vswitch.Switch{Name: "prod", Uplink: "nic0", HostAccess: &off}, change: engine.SwitchChange{HostAccess: &on}, shows: []string{"pbh-prod"},
			want: func(s engine.SwitchStatus) bool { return s.HostPortNetdev == "pbh-prod" },
		},
		"notes": {
			from: internal(), change: engine.SwitchChange{Notes: &notes},
			want: func(s engine.SwitchStatus) bool { return s.Notes == notes },
		},
		"private to host":   {from: vswitch.Switch{Name: "prod", Type: vswitch.Private}, change: engine.SwitchChange{HostAccess: &on}, fails: vswitch.Invalid},
		"internal, no host": {from: internal(), change: engine.SwitchChange{HostAccess: &off}, fails: vswitch.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			pristine := l.kernel.String()
			l.mustAdd(c.from)
			before := l.kernel.String()
			s, err := l.SetSwitch(context.Background(), "prod", c.change)
			if c.fails != "" {
				wantKind(t, err, c.fails)
				if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
					t.Errorf("a refused change touched the kernel:\n%s", diff)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !c.want(s) {
				t.Errorf("the change is not in %+v", s)
			}
			picture := l.kernel.String()
			for _, w := range c.shows {
				if !strings.Contains(picture, w) {
					t.Errorf("%q is not in\n%s", w, picture)
				}
			}
			for _, w := range c.hides {
				if strings.Contains(picture, w) {
					t.Errorf("%q is still in\n%s", w, picture)
				}
			}
			if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod"}); err != nil {
				t.Fatal(err)
			}
			l.wantClean(pristine)
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestDeleteSwitchInUse(t *testing.T) {
	l := newLab(t)
	pristine := l.kernel.String()
	a := l.mustAttach(request(0))
	err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod"})
	wantKind(t, err, vswitch.InUse)
	for _, w := range []string{a.Port.ID, "container c0", "--force"} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in: %v", w, err)
		}
	}
	if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod", Force: true}); err != nil {
		t.Fatal(err)
	}
	l.wantClean(pristine)
	wantKind(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod", Force: true}), vswitch.NotFound)
}

// The rules of all switches share a table: it goes with the last of them.
func TestRulesGoWithTheLastSwitch(t *testing.T) {
	l := newLab(t)
	pristine := l.kernel.String()
	l.mustAdd(internal())
	one := l.kernel.String()
	l.mustAdd(vswitch.Switch{Name: "lab", Type: vswitch.Private})
	for _, step := range []struct{ name, want string }{{"lab", one}, {"prod", pristine}} {
		if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: step.name}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, l.kernel.String()); diff != "" {
			t.Errorf("after the deletion of %s:\n%s", step.name, diff)
		}
	}
}

// After a reboot the configuration is there and the kernel is empty: the first
// attach makes the switch again, with the MAC addresses that it had.
func TestReboot(t *testing.T) {
	l := newLab(t)
	before := l.mustAttach(request(0))
	hostMAC := macOf(t, l, "pbp-prod")
	l.kernel = kernel.NewFake(kernel.FakeConfig{Netdevs: nics(), Capabilities: allCapabilities(), Netns: []string{netns(0), netns(1)}})
	l.boot = "boot-2"
	l.open()
	l.wantNoGuests()
	req := request(1)
	req.Define = nil
	after := l.mustAttach(req)
	if after.Switch.BridgeMAC != before.Switch.BridgeMAC || macOf(t, l, "pbp-prod") != hostMAC {
		t.Error("the switch came back with other MAC addresses")
	}
	if after.Port.MAC == hostMAC {
		t.Errorf("%s is leased twice", hostMAC)
	}
}

func macOf(t *testing.T, l *lab, port string) vswitch.MAC {
	t.Helper()
	p, err := l.Port(context.Background(), port)
	if err != nil {
		t.Fatal(err)
	}
	return p.MAC
}

// An uplink that is gone after a reboot is named as such, not as a failed step.
func TestUplinkLost(t *testing.T) {
	l := newLab(t)
	l.mustAdd(vswitch.Switch{Name: "lan", Uplink: "nic0"})
	l.kernel = kernel.NewFake(kernel.FakeConfig{Capabilities: allCapabilities(), Netns: []string{netns(0)}})
	l.boot = "boot-2"
	l.open()
	req := engine.AttachRequest{Owner: owner(0), Switch: "lan"}
	_, err := l.Attach(context.Background(), req)
	wantKind(t, err, vswitch.UplinkNotFound)
}
