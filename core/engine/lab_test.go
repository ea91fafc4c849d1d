package engine_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// lab is an engine on a fake kernel with a real store.
type lab struct {
	*engine.Engine
	t      *testing.T
	kernel *kernel.Fake
	dirs   store.Dirs
	boot   string
	sizes  vswitch.SegmentSizes
}

func allCapabilities() kernel.Capabilities {
	return kernel.Capabilities{PortLocked: true, VLANFiltering: true, BridgeRules: true, NAT: true, Bonding: true, MemberRules: true, GuardRules: true, ACLRules: true, PriorityReset: true, Limits: true, Shares: true, Mirroring: true}
}

func nics() []kernel.Netdev {
	return []kernel.Netdev{
		{Name: "lo", Loopback: true, Up: true},
		{Name: "nic0", MAC: vswitch.MAC{0x52, 0x54, 0, 0, 0, 1}, MTU: 1500, MaxMTU: 9000, Ethernet: true, Up: true, Carrier: true, Speed: 1000},
		{
			Name: "nic1", MAC: vswitch.MAC{0x52, 0x54, 0, 0, 0, 2}, MTU: 1500, Ethernet: true, Up: true, Carrier: true, Speed: 1000,
			VFs: []vswitch.MAC{{0x52, 0x54, 0, 0, 1, 0}},
		},
	}
}

// patience is how long to wait for what must come: machines may be twenty times as slow as
// this takes at other times.
const patience = time.Minute

func newLab(t *testing.T) *lab { return newLabWith(t, allCapabilities()) }

func newLabWith(t *testing.T, caps kernel.Capabilities) *lab {
	t.Helper()
	l := &lab{
		t: t, boot: "boot-1", dirs: store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)},
		kernel: kernel.NewFake(kernel.FakeConfig{Netdevs: nics(), Capabilities: caps}),
	}
	for i := range 8 {
		l.kernel.AddNetns(netns(i))
	}
	// Forwarding stays on when a gateway goes: others may count on it.
	forwarding := plan.SetForwarding{Families: plan.Families{IPv4: true, IPv6: true}}
	if err := l.kernel.Apply(context.Background(), []plan.Step{forwarding}); err != nil {
		t.Fatal(err)
	}
	l.open()
	return l
}

// withoutManagers is a root without network managers. Those of the machine have no say
// on a fake kernel, and it takes a while to look for one among all processes.
const withoutManagers = "/nonexistent"

// open is what a fresh process does.
func (l *lab) open() {
	l.Engine = engine.New(engine.Config{
		Kernel:   mortal{l.kernel},
		Store:    l.store(),
		HostRoot: withoutManagers,
		Segments: l.sizes,
		Now:      func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) },
	})
}

func (l *lab) store() *store.Store {
	return store.New(store.Config{Dirs: l.dirs, BootID: l.boot, MachineID: "machine"})
}

func (l *lab) deleteSwitch(req engine.DeleteSwitchRequest) error {
	_, err := l.DeleteSwitch(context.Background(), req)
	return err
}

// mortal takes the calling goroutine with it when the kernel dies, as kill -9 takes
// the process: whatever a verb would do about the error is not done.
type mortal struct{ *kernel.Fake }

func (m mortal) Apply(ctx context.Context, steps []plan.Step) error {
	err := m.Fake.Apply(ctx, steps)
	if errors.Is(err, kernel.ErrDied) {
		runtime.Goexit()
	}
	return err
}

// dies runs a verb and reports whether it was killed.
func dies(verb func() error) (killed bool) {
	killed = true
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = verb()
		killed = false
	}()
	<-done
	return killed
}

// eachStepFails lets the verb fail at its first step, then at its second and so on, each
// time in a lab of its own, until there are no more, and has looked at what it leaves.
func eachStepFails(t *testing.T, prepare func(*testing.T) *lab, verb func(*lab) error, left func(step int, l *lab)) {
	t.Helper()
	for n := 1; ; n++ {
		l := prepare(t)
		before := l.kernel.Steps()
		l.kernel.FailAt(n, errBroken)
		err := verb(l)
		l.kernel.FailAt(0, nil)
		if err == nil && l.kernel.Steps()-before < n {
			if n < 3 {
				t.Errorf("the verb has only %d steps", n-1)
			}
			return
		}
		if !errors.Is(err, errBroken) {
			t.Fatalf("step %d: got error %v", n, err)
		}
		if left(n, l); t.Failed() {
			return
		}
	}
}

func netns(i int) string { return fmt.Sprintf("/run/netns/c%d", i) }

func owner(i int) vswitch.Owner {
	return vswitch.Owner{Kind: vswitch.OwnerContainer, Network: "net", ID: fmt.Sprintf("c%d", i), Endpoint: "eth0", Netns: netns(i)}
}

// internal is an Internal switch with both families and masquerade.
func internal() vswitch.Switch {
	return vswitch.Switch{
		Name: "prod", Type: vswitch.Internal, Masquerade: vswitch.Masquerade{IPv4: true, IPv6: true},
		Gateway: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")},
	}
}

func ranges(subnets ...string) (sets []vswitch.IPRangeSet) {
	for _, s := range subnets {
		sets = append(sets, vswitch.IPRangeSet{{Subnet: netip.MustParsePrefix(s)}})
	}
	return sets
}

// request asks for a port on prod, which it defines.
func request(i int) engine.AttachRequest {
	s := internal()
	return engine.AttachRequest{
		Owner: owner(i), Switch: s.Name, Define: &s,
		Ranges: ranges("10.0.0.0/24", "fd00::/64"),
		Routes: []vswitch.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0")}, {Dst: netip.MustParsePrefix("::/0")}},
	}
}

func (l *lab) mustAdd(s vswitch.Switch) engine.SwitchStatus {
	l.t.Helper()
	status, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: s})
	if err != nil {
		l.t.Fatal(err)
	}
	return status
}

func (l *lab) mustAttach(req engine.AttachRequest) engine.Attachment {
	l.t.Helper()
	a, err := l.Attach(context.Background(), req)
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

func (l *lab) mustDetach(i int) {
	l.t.Helper()
	if err := l.Detach(context.Background(), owner(i)); err != nil {
		l.t.Fatal(err)
	}
}

// wantClean fails if a switch, a port, a lease, a netdev or a rule is left.
func (l *lab) wantClean(pristine string) {
	l.t.Helper()
	ctx := context.Background()
	if got := l.kernel.String(); got != pristine {
		l.t.Errorf("the kernel is not as it was:\n%s\nwant\n%s", got, pristine)
	}
	switches, err := l.Switches(ctx)
	if err != nil || len(switches) != 0 {
		l.t.Errorf("switches left: %v, %v", switches, err)
	}
	l.wantNoGuests()
}

// wantNoGuests fails if a guest's port or an address is left in the store.
func (l *lab) wantNoGuests() {
	l.t.Helper()
	ctx := context.Background()
	macs, err := l.MACs(ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, m := range macs {
		if m.Owner != "host" {
			l.t.Errorf("MAC address %s is still held by %s", m.MAC, m.Port)
		}
	}
	s, err := l.Status(ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	if s.Ports != 0 {
		l.t.Errorf("%d ports are left", s.Ports)
	}
}

func wantKind(t *testing.T, err error, kind vswitch.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got error %v, want one of kind %s", err, kind)
	}
	var v *vswitch.Error
	if err != nil && (!errors.As(err, &v) || v.Op == "") {
		t.Errorf("error %v does not name its verb", err)
	}
}
