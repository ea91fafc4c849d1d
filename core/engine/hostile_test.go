package engine_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// These tests are of what somebody tried in order to break the engine.

func TestRefusedAdoptionTouchesNothing(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	l.kernel.AddNetdev(kernel.Netdev{Name: "br9", Kind: "bridge", MTU: 1500, Ethernet: true})
	l.kernel.AddNetdev(kernel.Netdev{Name: "tap0", Kind: "tun", MTU: 1500, Ethernet: true, Up: true, Master: "br9"})
	before := l.kernel.String()
	req := request(0)
	req.Netdev = "tap0"
	_, err := l.Attach(context.Background(), req)
	wantKind(t, err, vswitch.InUse)
	if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
		t.Errorf("a refusal changed the kernel:\n%s", diff)
	}
	l.wantNoGuests()
}

func TestOwnNetdevsCannotBeAdopted(t *testing.T) {
	l := newLab(t)
	l.mustAdd(vswitch.Switch{Name: "lan", Uplink: "nic0"})
	guest := l.mustAttach(engine.AttachRequest{Owner: owner(1), Switch: "lan"})
	l.kernel.AddNetdev(kernel.Netdev{Name: "tap0", Kind: "tun", MTU: 1500, Ethernet: true, Up: true})
	l.mustAttach(engine.AttachRequest{Owner: owner(2), Switch: "lan", Netdev: "tap0"})
	before := l.kernel.String()
	for _, netdev := range []string{guest.Port.Netdev, "pbp-lan", "pbh-lan", "pb-lan", "nic0", "tap0"} {
		_, err := l.Attach(context.Background(), engine.AttachRequest{Owner: owner(0), Switch: "lan", Netdev: netdev})
		if err == nil {
			t.Errorf("%s was adopted", netdev)
		}
		l.mustDetach(0)
	}
	if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
		t.Errorf("refusals changed the kernel:\n%s", diff)
	}
}

// A netdev that has the name a switch needs is left alone.
func TestForeignNetdevWithASwitchsName(t *testing.T) {
	for _, name := range []string{"pb-lab", "pbh-lab", "pbp-lab"} {
		l := newLab(t)
		l.kernel.AddNetdev(kernel.Netdev{Name: name, Kind: "bridge", MTU: 1500, Ethernet: true})
		before := l.kernel.String()
		_, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "lab", Type: vswitch.Internal}})
		wantKind(t, err, vswitch.AlreadyExists)
		l.wantClean(before)
	}
}

// An owner attached to one switch asks for another, which is to be made, while the
// first is deleted by force: nobody waits for ever.
func TestAttachAgainstDeleteByForce(t *testing.T) {
	l := newLab(t)
	other := internal()
	other.Name, other.Gateway, other.Masquerade = "other", nil, vswitch.Masquerade{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			l.mustAdd(internal())
			parallel(2, func(i int) {
				if i == 0 {
					_, _ = l.Attach(context.Background(), engine.AttachRequest{Owner: owner(0), Switch: other.Name, Define: &other})
				} else {
					_ = l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod", Force: true})
				}
			})
			_ = l.deleteSwitch(engine.DeleteSwitchRequest{Name: other.Name, Force: true})
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("deadlock")
	}
}

func TestSwitchVerbsRefuseTheEmptyName(t *testing.T) {
	l := newLab(t)
	wantKind(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "", Force: true}), vswitch.Invalid)
	_, err := l.SetSwitch(context.Background(), "", engine.SwitchChange{})
	wantKind(t, err, vswitch.Invalid)
}

func TestTheSwitchsOwnAddressesAreNotLeased(t *testing.T) {
	l := newLab(t)
	req := request(0)
	req.Routes = nil
	req.Ranges = []vswitch.IPRangeSet{{{Subnet: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.254")}}}
	a := l.mustAttach(req)
	if got := a.Port.Addresses[0].Prefix.Addr(); got != netip.MustParseAddr("10.0.0.2") {
		t.Errorf("leased %s", got)
	}
	delegated := engine.AttachRequest{Owner: owner(1), Switch: "prod", Addresses: []vswitch.Address{{Prefix: netip.MustParsePrefix("10.0.0.1/24")}}}
	_, err := l.Attach(context.Background(), delegated)
	wantKind(t, err, vswitch.IPInUse)
	delegated.Addresses[0].Prefix = netip.MustParsePrefix("10.0.0.2/24")
	_, err = l.Attach(context.Background(), delegated)
	wantKind(t, err, vswitch.IPInUse) // ours is leased, whoever asks
	taken := []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}
	_, err = l.SetSwitch(context.Background(), "prod", engine.SwitchChange{Gateway: &taken, Masquerade: &vswitch.Masquerade{}})
	wantKind(t, err, vswitch.IPInUse)
}

func TestOverlappingGateways(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	other := internal()
	other.Name = "other"
	_, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: other})
	wantKind(t, err, vswitch.Conflict)
}

// A stranger flushes all rules: the next attach brings them back before anybody is
// attached without them.
func TestAttachRestoresFlushedRules(t *testing.T) {
	for _, locks := range []bool{true, false} {
		caps := allCapabilities()
		caps.PortLocked = locks
		l := newLabWith(t, caps)
		l.mustAttach(request(0))
		l.mustAttach(request(1))
		whole := l.kernel.String()
		flush := plan.SetRules{Remove: plan.Rules{Base: true}}
		must(t, l.kernel.Apply(context.Background(), []plan.Step{flush}))
		l.mustAttach(request(1))
		if diff := cmp.Diff(rulesIn(whole), rulesIn(l.kernel.String())); diff != "" {
			t.Errorf("ports locked %v:\n%s", locks, diff)
		}
	}
}

func rulesIn(picture string) string {
	_, rules, _ := strings.Cut(picture, "nft table")
	return rules
}

func TestAttachRepairsABridgeThatIsDown(t *testing.T) {
	l := newLab(t)
	l.mustAttach(request(0))
	l.kernel.SetNetdevDown("", "pb-prod")
	l.mustAttach(request(0)) // the same again
	if n, _ := l.kernel.Netdev(context.Background(), "pb-prod"); !n.Up {
		t.Error("the bridge is still down")
	}
}

// A NIC that the user has put elsewhere meanwhile stays there.
func TestDeleteLeavesAnUplinkThatMovedAway(t *testing.T) {
	l := newLab(t)
	l.mustAdd(vswitch.Switch{Name: "lan", Uplink: "nic0"})
	l.kernel.AddNetdev(kernel.Netdev{Name: "br0", Kind: "bridge", MTU: 1500, Ethernet: true})
	nic, _ := l.kernel.Netdev(context.Background(), "nic0")
	nic.Master = "br0"
	l.kernel.AddNetdev(nic)
	if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}); err != nil {
		t.Fatal(err)
	}
	if nic, _ = l.kernel.Netdev(context.Background(), "nic0"); nic.Master != "br0" {
		t.Errorf("the NIC was taken out of br0: %+v", nic)
	}
}

// The pool and the host's hardware never have an address in common.
func TestPoolAndNICs(t *testing.T) {
	l := newLab(t)
	for name, r := range map[string]vswitch.MACRange{
		"a NIC's":    {First: vswitch.MAC{0x52, 0x54, 0, 0, 0, 0}, Last: vswitch.MAC{0x52, 0x54, 0, 0, 0, 9}},
		"a VF's":     {First: vswitch.MAC{0x52, 0x54, 0, 0, 1, 0}, Last: vswitch.MAC{0x52, 0x54, 0, 0, 1, 9}},
		"a bridge's": {First: vswitch.MAC{0x0e, 0, 0, 0, 0, 0}, Last: vswitch.MAC{0x0e, 0, 0, 0, 0, 9}},
	} {
		_, err := l.SetMACPool(context.Background(), r)
		if err == nil {
			t.Errorf("a pool with %s address was accepted", name)
			continue
		}
		wantKind(t, err, vswitch.MACPoolRange)
	}
	l.kernel.AddNetdev(kernel.Netdev{Name: "nic9", MAC: vswitch.DefaultMACRange("machine").First, MTU: 1500, Ethernet: true, Up: true})
	_, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "lan", Uplink: "nic9"}})
	wantKind(t, err, vswitch.UplinkUnsupported)
}

// A change that fails gives back the host port's address, or keeps it, as before.
func TestFailedSetKeepsTheHostsAddress(t *testing.T) {
	on, off := true, false
	for name, c := range map[string]struct {
		from   bool
		change engine.SwitchChange
		leased int
	}{"off": {true, engine.SwitchChange{HostAccess: &off}, 1}, "on": {false, engine.SwitchChange{HostAccess: &on}, 0}} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.mustAdd(vswitch.Switch{Name: "lan", Uplink: "nic0", HostAccess: &c.from})
			l.kernel.FailAt(1, os.ErrInvalid)
			if _, err := l.SetSwitch(context.Background(), "lan", c.change); err == nil {
				t.Fatal("no error")
			}
			macs, err := l.MACs(context.Background())
			if err != nil || len(macs) != c.leased {
				t.Errorf("addresses held: %v, %v; want %d", macs, err, c.leased)
			}
		})
	}
}

// Losing the run directory does not cut off containers that live.
func TestGCWithoutRecords(t *testing.T) {
	l := newLab(t)
	a := l.mustAttach(request(0))
	l.boot = "another run directory"
	l.open()
	report, err := l.GC(context.Background(), engine.GCRequest{})
	if err != nil || len(report.Netdevs) > 0 {
		t.Errorf("removed %v of a container that is up, %v", report.Netdevs, err)
	}
	l.kernel.SetNetdevDown(netns(0), "eth0")
	if report, _ = l.GC(context.Background(), engine.GCRequest{}); len(report.Netdevs) != 1 || report.Netdevs[0] != a.Port.Netdev {
		t.Errorf("removed %v", report.Netdevs)
	}
}

func TestGCOfANetworkWithoutStore(t *testing.T) {
	l := newLab(t)
	l.mustAttach(request(0))
	kept := l.mustAttach(request(1))
	files, _ := filepath.Glob(filepath.Join(l.dirs.Run, "*.db"))
	for _, f := range files {
		must(t, os.WriteFile(f, []byte(strings.Repeat("garbage", 4096)), 0o600))
	}
	report, err := l.GC(context.Background(), engine.GCRequest{Network: "net", Valid: []vswitch.Owner{owner(1)}})
	wantKind(t, err, vswitch.StoreCorrupt)
	if len(report.Netdevs) != 1 || report.Netdevs[0] == kept.Port.Netdev {
		t.Errorf("removed %v", report.Netdevs)
	}
	l.kernel.SetNetdevDown(netns(1), "eth0")
	if report, _ = l.GC(context.Background(), engine.GCRequest{}); len(report.Netdevs) > 0 {
		t.Errorf("GC of the host removed %v on one proof", report.Netdevs)
	}
}

// STATUS before the first ADD of a boot must not make the switch look realised.
func TestStatusAfterReboot(t *testing.T) {
	l := newLab(t)
	l.mustAttach(request(0))
	l.kernel = kernel.NewFake(kernel.FakeConfig{Netdevs: nics(), Capabilities: allCapabilities(), Netns: []string{netns(0)}})
	l.boot = "boot-2"
	l.open()
	if _, err := l.Status(context.Background()); err != nil {
		t.Fatal(err)
	}
	a := l.mustAttach(request(0))
	if p, err := l.Port(context.Background(), a.Port.ID); err != nil || len(p.Drift) > 0 {
		t.Errorf("drift %v, %v", p.Drift, err)
	}
}

// A second network of a container brings a default route too: the first one's
// stays, and CHECK of the second does not complain.
func TestSecondDefaultRoute(t *testing.T) {
	l := newLab(t)
	l.mustAttach(request(0))
	second := vswitch.Switch{Name: "second", Type: vswitch.Internal, Gateway: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}}
	req := engine.AttachRequest{
		Owner: owner(0), Switch: "second", Define: &second, Ranges: ranges("10.1.0.0/24"),
		Routes: []vswitch.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0")}},
	}
	req.Owner.Network, req.Owner.Endpoint = "second", "net1"
	l.mustAttach(req)
	for _, o := range []vswitch.Owner{owner(0), req.Owner} {
		if found, err := l.Check(context.Background(), o); err != nil || len(found.Steps) > 0 {
			t.Errorf("%s: %v, %v", o.Endpoint, found.Steps, err)
		}
	}
}

func TestAnotherRequestIsAConflict(t *testing.T) {
	for name, change := range map[string]func(*engine.AttachRequest){
		"ranges": func(r *engine.AttachRequest) { r.Ranges = ranges("10.0.0.0/24"); r.Routes = r.Routes[:1] },
		"subnet": func(r *engine.AttachRequest) { r.Ranges[0][0].Subnet = netip.MustParsePrefix("10.7.0.0/24") },
		"routes": func(r *engine.AttachRequest) { r.Routes = r.Routes[:1] },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.mustAttach(request(0))
			req := request(0)
			change(&req)
			_, err := l.Attach(context.Background(), req)
			wantKind(t, err, vswitch.Conflict)
		})
	}
}

func TestSameDelegatedRequestAgain(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	req := engine.AttachRequest{
		Owner: owner(0), Switch: "prod", Ranges: ranges("fd00::/64"),
		Addresses: []vswitch.Address{{Prefix: netip.MustParsePrefix("10.0.0.7/24")}},
	}
	l.mustAttach(req)
	l.mustAttach(req)
	req.Addresses = []vswitch.Address{{Prefix: netip.MustParsePrefix("10.0.0.8/24")}}
	_, err := l.Attach(context.Background(), req)
	wantKind(t, err, vswitch.Conflict)
	req.Switch, req.Define = "else", ptr(internal())
	_, err = l.Attach(context.Background(), req)
	wantKind(t, err, vswitch.Invalid)
}

func TestHintSurvives(t *testing.T) {
	l := newLab(t)
	req := request(0)
	req.MAC = vswitch.MAC{0x52, 0x54, 0, 0, 0, 1}
	_, err := l.Attach(context.Background(), req)
	if hint := vswitch.HintOf(err); hint == "" || strings.Count(err.Error(), hint) != 1 {
		t.Errorf("hint %q of %v", hint, err)
	}
}

// A kernel without NAT has every switch but those that hide guests behind the host,
// and these do no harm to the others.
func TestKernelWithoutNAT(t *testing.T) {
	ctx := context.Background()
	l := newLab(t)
	l.mustAdd(internal())
	caps := allCapabilities()
	caps.NAT = false
	l.boot = "boot-2" // into another kernel
	l.kernel = kernel.NewFake(kernel.FakeConfig{Netdevs: nics(), Capabilities: caps})
	for i := range 8 {
		l.kernel.AddNetns(netns(i))
	}
	l.open()
	_, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: internal()})
	wantKind(t, err, vswitch.CapabilityMissing)
	if !strings.Contains(err.Error(), "CONFIG_NF_TABLES_INET") {
		t.Errorf("the symbol is not named: %v", err)
	}
	for i, s := range []vswitch.Switch{{Name: "bare", Type: vswitch.Internal}, {Name: "closed", Type: vswitch.Private}} {
		l.mustAdd(s)
		l.mustAttach(engine.AttachRequest{Owner: owner(i), Switch: s.Name})
		must(t, l.kernel.Apply(ctx, []plan.Step{plan.SetRules{Remove: plan.Rules{Base: true}}}))
		l.mustAdd(s)
		if got := l.kernel.String(); !strings.Contains(got, "nft table patchbay") {
			t.Errorf("switch %s was not mended:\n%s", s.Name, got)
		}
	}
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: internal().Name}))
	s, err := l.Status(ctx)
	must(t, err)
	if !s.Ready || len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Hint, "CONFIG_NF_TABLES_INET") {
		t.Errorf("status: %+v", s)
	}
}

// A module that was loaded after the first look is seen at the second.
func TestCapabilityThatCameLater(t *testing.T) {
	caps := allCapabilities()
	caps.NAT = false
	l := newLabWith(t, caps)
	_, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: internal()})
	wantKind(t, err, vswitch.CapabilityMissing)
	l.kernel.SetCapabilities(allCapabilities())
	l.mustAdd(internal())
}
