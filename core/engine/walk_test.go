package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// walker takes a host through verbs at random. Every third fails at some step in the
// kernel, every fourth is killed at one.
type walker struct {
	*engine.Engine
	t      *testing.T
	random *rand.Rand
	struck *struck
	netns  []string // of the guests
	taps   taps
	bound  int // how often a VM's port was found whole
	trail  []string
	halved bool // the last verb was killed, and may have left a port half made
}

func newWalker(t *testing.T, k kernel.Kernel, seed uint64, netns []string) *walker {
	t.Helper()
	w := &walker{t: t, random: rand.New(rand.NewPCG(seed, 1)), struck: &struck{Kernel: k}, netns: netns}
	w.taps = tapsOf(t, k)
	w.Engine = engine.New(engine.Config{
		Kernel:   w.struck,
		Store:    store.New(store.Config{Dirs: store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)}, MachineID: "machine"}),
		Segments: vswitch.SegmentSizes{Root: 1, Spoofing: 2, Further: 1},
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("after %q", w.trail)
		}
	})
	return w
}

// struck is a kernel in which the n-th step fails, or the process is killed before it.
type struck struct {
	kernel.Kernel
	failIn, dieIn int
}

// errKilled is what a killed verb panics with: nothing that it would do about an
// error is done.
var errKilled = errors.New("killed")

func (k *struck) Apply(ctx context.Context, steps []plan.Step) error {
	for i, s := range steps {
		if k.dieIn--; k.dieIn == 0 {
			panic(errKilled)
		}
		if k.failIn--; k.failIn == 0 {
			return &kernel.StepError{Index: i, Step: s, Err: errors.New("broken")}
		}
		if err := k.Kernel.Apply(ctx, []plan.Step{s}); err != nil {
			return err
		}
	}
	return nil
}

// strike runs a verb with a failure or a kill in it; 0 is none.
func (k *struck) strike(failIn, dieIn int, verb func() error) (killed bool, err error) {
	k.failIn, k.dieIn = failIn, dieIn
	defer func() {
		k.failIn, k.dieIn = 0, 0
		if r := recover(); r == errKilled { //nolint:errorlint // what was thrown, as it was
			killed = true
		} else if r != nil {
			panic(r)
		}
	}()
	return false, verb()
}

// strike is struck's; a refusal is as good as a change.
func (w *walker) strike(failIn, dieIn int, verb func() error) (killed bool) {
	killed, _ = w.struck.strike(failIn, dieIn, verb)
	return killed
}

func walkSwitches() []string { return []string{"a", "b", "c"} }

// walk does one thing after the other and looks after each, and deletes all in the end.
func (w *walker) walk(steps int) {
	w.t.Helper()
	for range steps {
		w.step()
		if w.t.Failed() {
			return
		}
	}
	for i := range walkVMs {
		w.taps.unplug(fmt.Sprint("vnet", i))
		must(w.t, w.ReleaseDomain(context.Background(), w.vm(i, 0).ID))
	}
	for _, name := range walkSwitches() {
		if _, err := w.DeleteSwitch(context.Background(), engine.DeleteSwitchRequest{Name: name, Force: true}); err != nil && !errors.Is(err, vswitch.NotFound) {
			w.t.Fatal(err)
		}
	}
}

func (w *walker) step() {
	verb, do := w.verb()
	n := 1 + w.random.IntN(12)
	w.halved = false
	switch w.random.IntN(12) {
	case 0, 1, 2, 3:
		w.trail = append(w.trail, fmt.Sprintf("%s fails at %d", verb, n))
		w.strike(n, 0, do)
	case 4, 5, 6:
		w.trail = append(w.trail, fmt.Sprintf("%s dies at %d", verb, n))
		w.halved = w.strike(0, n, do) && !strings.HasPrefix(verb, "set ") && !strings.HasPrefix(verb, "add ")
	default:
		w.trail = append(w.trail, verb)
		w.strike(0, 0, do)
	}
	w.settled()
}

// verb chooses what to do.
func (w *walker) verb() (string, func() error) {
	ctx := context.Background()
	name, guest := walkSwitches()[w.random.IntN(3)], w.random.IntN(len(w.netns))
	switch w.random.IntN(14) {
	case 10, 11, 12, 13:
		return w.vmVerb(name)
	case 0:
		force := w.random.IntN(2) == 0
		return "delete " + name, func() error {
			_, err := w.DeleteSwitch(ctx, engine.DeleteSwitchRequest{Name: name, Force: force})
			return err
		}
	case 1:
		return fmt.Sprint("detach ", guest), func() error { return w.Detach(ctx, w.owner(guest)) }
	case 2:
		return "gc", func() error { _, err := w.GC(ctx, engine.GCRequest{Network: "net"}); return err }
	case 3, 4:
		req := engine.AttachRequest{
			Owner: w.owner(guest), Switch: name, MTU: []int{0, 0, 1300}[w.random.IntN(3)], MACSpoofing: w.random.IntN(4) == 0,
			VLAN: w.vlan(), Isolated: w.random.IntN(4) == 0, Policy: w.policy(),
		}
		return fmt.Sprintf("attach %d to %s", guest, name), func() error { _, err := w.Attach(ctx, req); return err }
	case 5:
		s := w.definition(name)
		return fmt.Sprintf("add %+v", s), func() error { _, err := w.AddSwitch(ctx, engine.AddSwitchRequest{Switch: s}); return err }
	case 6, 7:
		change := engine.PortChange{VLAN: w.vlan(), Isolated: []*bool{nil, ptr(true), ptr(false)}[w.random.IntN(3)], Policy: w.policy(), ACL: w.aclChange()}
		return fmt.Sprintf("put %d into %v with %v and %v", guest, change.VLAN, change.Policy.Apply(vswitch.Policy{}), change.ACL), func() error {
			_, err := w.SetPort(ctx, w.owner(guest).PortID(), change)
			return err
		}
	default:
		s := w.definition(name)
		change := engine.SwitchChange{
			PortDefaults: ptr(w.policy()), HostPolicy: ptr(w.policy()),
			Type: &s.Type, Uplink: &s.Uplink, MTU: &s.MTU, Gateway: &s.Gateway, Masquerade: &s.Masquerade, HostAccess: s.HostAccess, VLAN: &s.VLAN,
		}
		return fmt.Sprintf("set %+v", s), func() error { _, err := w.SetSwitch(ctx, name, change); return err }
	}
}

// policy names some settings, or none, as most do.
func (w *walker) policy() (c vswitch.PolicyChange) {
	if w.random.IntN(3) > 0 {
		return c
	}
	for _, flag := range []**bool{&c.DHCPGuard, &c.RouterGuard, &c.AddressGuard, &c.IEEEPriorityTag} {
		*flag = []*bool{nil, ptr(true), ptr(false)}[w.random.IntN(3)]
	}
	c.StormLimit = []*int{nil, ptr(0), ptr(10), ptr(1000)}[w.random.IntN(4)]
	c.Bandwidth, c.Mirror = w.limits().Bandwidth, w.mirror().Mirror
	lists := [][]string{nil, nil, nil, {}, {"deny out to 10.0.0.0/8"}, {"deny both any", "allow in tcp to port 80 weight 9 stateful", "deny in weight 1"}}
	if list := lists[w.random.IntN(len(lists))]; list != nil {
		c.ACL = ptr(aclRules(w.t, list...))
	}
	return c
}

// aclChange may well take away what is not there, or add what is.
func (w *walker) aclChange() *engine.ACLChange {
	rules := aclRules(w.t, "deny out to 10.0.0.0/8", "meter both any", "allow out udp weight 9 stateful idle 60")
	one := rules[w.random.IntN(len(rules)):][:1]
	return []*engine.ACLChange{nil, nil, {Add: one}, {Delete: one}}[w.random.IntN(4)]
}

// vlan is nil, or one that may well contradict another, or take the switch's own.
func (w *walker) vlan() *vswitch.PortVLAN {
	texts := []string{
		"", "", "untagged", "access 10", "access 20", "access 4094", "trunk 10-12,4094 native 20", "trunk 1-4094 native 1",
		"isolated 100 101", "community 100 102", "community 101 100", "promiscuous 100 101-102",
	}
	text := texts[w.random.IntN(len(texts))]
	if text == "" {
		return nil
	}
	v, err := vswitch.ParsePortVLAN(text)
	must(w.t, err)
	return &v
}

// limits are low enough for their burst to depend on the MTU, or none.
func (w *walker) limits() (c vswitch.PolicyChange) {
	rate := func() *vswitch.Bits {
		return []*vswitch.Bits{nil, nil, ptr(vswitch.Bits(0)), ptr(vswitch.Bits(1e6)), ptr(vswitch.Bits(1e9))}[w.random.IntN(5)]
	}
	c.Bandwidth.In.Max, c.Bandwidth.Out.Max = rate(), rate()
	c.Bandwidth.Min.Weight = []*int{nil, nil, ptr(0), ptr(10), ptr(100)}[w.random.IntN(5)]
	return c
}

// mirror makes most ports a source or a destination of mirroring.
func (w *walker) mirror() vswitch.PolicyChange {
	modes := []*vswitch.MirrorMode{nil, ptr(vswitch.MirrorNone), ptr(vswitch.MirrorSource), ptr(vswitch.MirrorDestination)}
	return vswitch.PolicyChange{Mirror: modes[w.random.IntN(len(modes))]}
}

func (w *walker) owner(i int) vswitch.Owner {
	o := owner(i)
	o.Netns = w.netns[i]
	return o
}

// definition is a valid one; the uplinks are too few for all.
func (w *walker) definition(name string) vswitch.Switch {
	s := vswitch.Switch{Name: name, Type: vswitch.SwitchTypes()[w.random.IntN(3)], MTU: []int{0, 1400, 2000}[w.random.IntN(3)]}
	switch s.Type {
	case vswitch.External:
		s.Uplink, s.HostAccess = []string{"nic0", "nic1"}[w.random.IntN(2)], ptr(w.random.IntN(2) == 0)
	case vswitch.Internal:
		if w.random.IntN(2) == 0 {
			s.Gateway = []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.%d.0.1/24", name[0]))}
			s.Masquerade.IPv4 = w.random.IntN(2) == 0
		}
	}
	if s.HostPort() {
		s.HostPolicy.Bandwidth.Min.Weight = []int{0, 0, 50}[w.random.IntN(3)]
	}
	s.PortDefaults.DHCPGuard, s.HostPolicy.RouterGuard = w.random.IntN(4) == 0, s.HostPort() && w.random.IntN(4) == 0
	if s.HostPort() {
		s.VLAN = []int{0, 0, 10, 4094}[w.random.IntN(4)]
	}
	return s
}

// settled repairs every switch as the next verb on it would, and then compares all
// with the records.
func (w *walker) settled() {
	ctx := context.Background()
	w.t.Helper()
	for _, name := range walkSwitches() {
		_, err := w.SetSwitch(ctx, name, engine.SwitchChange{})
		if err != nil && !errors.Is(err, vswitch.NotFound) {
			w.t.Errorf("%s cannot be settled: %v", name, err)
		}
	}
	w.vmsSettled()
	s, err := w.Status(ctx)
	must(w.t, err)
	for _, p := range s.Problems {
		if strings.Contains(p.Message, "netdev vnet") {
			continue // that of a VM whose port is gone
		}
		if p.Kind != vswitch.CapabilityMissing && p.Kind != vswitch.MirrorTarget {
			w.t.Errorf("status: %+v", p)
		}
	}
	for i := range w.netns {
		if _, known, err := w.Attached(ctx, w.owner(i)); err != nil || !known {
			continue
		}
		c, err := w.Check(ctx, w.owner(i))
		if whole := err == nil && len(c.Steps) == 0; whole {
			continue
		}
		if !w.halved {
			w.t.Errorf("port %d: %v, %v", i, c.Steps, err)
		} else if err := w.Detach(ctx, w.owner(i)); err != nil {
			w.t.Errorf("port %d is neither whole nor can it be detached: %v", i, err)
		}
	}
}

// TestWalk is for orders of events that nobody has thought of: whatever happens, the
// kernel is what the records say as soon as each switch has been settled, and in the
// end nothing is left.
func TestWalk(t *testing.T) {
	t.Parallel()
	bound := 0
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			l := newLab(t)
			pristine := l.kernel.String()
			w := newWalker(t, l.kernel, seed, []string{netns(0), netns(1), netns(2), netns(3), netns(4)})
			w.walk(40)
			bound += w.bound
			if diff := cmp.Diff(pristine, l.kernel.String()); diff != "" && !t.Failed() {
				t.Errorf("left:\n%s", diff)
			}
		})
	}
	if bound < 10 {
		t.Errorf("VMs had ports %d times", bound)
	}
}

// TestWalkOnLinux takes the walk through network namespaces of its own.
func TestWalkOnLinux(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			runtime.LockOSThread() // the thread is in another namespace from now on and ends with the test
			must(t, unix.Unshare(unix.CLONE_NEWNET))
			for _, nic := range []string{"nic0", "nic1"} {
				makePair(t, nic)
			}
			pristine := linksHere(t)
			newWalker(t, kernel.NewLinux(), seed, []string{newNetns(t), newNetns(t), newNetns(t)}).walk(60)
			if diff := cmp.Diff(pristine, linksHere(t)); diff != "" && !t.Failed() {
				t.Errorf("left:\n%s", diff)
			}
		})
	}
}

// newNetns makes a namespace that lasts as long as the test and returns its path.
func newNetns(t testing.TB) string {
	t.Helper()
	made := make(chan *os.File)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		ns, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		made <- ns
	}()
	ns := <-made
	t.Cleanup(func() { _ = ns.Close() })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
}

// makePair stands in for a NIC with somebody at its other end.
func makePair(t *testing.T, name string) {
	t.Helper()
	h, err := netlink.NewHandle()
	must(t, err)
	defer h.Close()
	must(t, h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1500}, PeerName: name + "-peer"}))
	peer, err := h.LinkByName(name + "-peer")
	must(t, err)
	must(t, h.LinkSetUp(peer))
}

// linksHere lists the netdevs with what a switch may have changed of them.
func linksHere(t *testing.T) (list []string) {
	t.Helper()
	h, err := netlink.NewHandle()
	must(t, err)
	defer h.Close()
	links, err := h.LinkList()
	must(t, err)
	for _, l := range links {
		a := l.Attrs()
		list = append(list, fmt.Sprintf("%s mtu %d master %d group %#x alias %q %s", a.Name, a.MTU, a.MasterIndex, a.Group, a.Alias, a.HardwareAddr))
	}
	return list
}

// TestWalkUnderTheHost is the walk on a host that lives on one of the NICs. It ends up
// on one of them, whole: a switch that changes its uplink takes the host along.
func TestWalkUnderTheHost(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			l := carrying(t)
			newWalker(t, l.kernel, seed, []string{netns(0), netns(1), netns(2)}).walk(30)
			if t.Failed() {
				return
			}
			l.wantHostOnOneOf("nic0", "nic1")
		})
	}
}

// wantHostOnOneOf fails unless NICs have together what the host has, and no more.
func (l *lab) wantHostOnOneOf(nics ...string) {
	l.t.Helper()
	want, got := make(map[string]bool), make(map[string]bool)
	for _, i := range hostThings().Items {
		want[i.Words] = true
	}
	for _, nic := range nics {
		for _, words := range l.on(nic) {
			got[words] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		l.t.Errorf("the host has not all of it, or more (-want +got):\n%s\n%s", diff, l.kernel)
	}
}
