package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(*lab, vswitch.Port)
		want string
	}{
		"well":           {func(*lab, vswitch.Port) {}, ""},
		"endpoint down":  {func(l *lab, p vswitch.Port) { l.kernel.SetNetdevDown(p.Owner.Netns, "eth0") }, "link set eth0"},
		"endpoint named": {func(l *lab, p vswitch.Port) { l.kernel.RenameNetdev(p.Owner.Netns, "eth0", "eth9") }, "ip link del " /* and made again */},
		"port gone":      {func(l *lab, p vswitch.Port) { l.kernel.RemoveNetdev(p.Netdev) }, "ip link add pb"},
		"host port gone": {func(l *lab, _ vswitch.Port) { l.kernel.RemoveNetdev("pbh-prod") }, "pbh-prod"},
		"port released": {func(l *lab, p vswitch.Port) {
			must(l.t, l.kernel.Apply(context.Background(), releasing(p.Netdev)))
		}, "master pb-prod"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			a := l.mustAttach(request(0))
			c.harm(l, a.Port)
			found, err := l.Check(context.Background(), owner(0))
			if err != nil {
				t.Fatal(err)
			}
			var words []string
			for _, s := range found.Steps {
				words = append(words, s.String())
			}
			if got := strings.Join(words, "\n"); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("the plan is\n%s\nwant one with %q", got, c.want)
			}
		})
	}
	t.Run("unknown", func(t *testing.T) {
		_, err := newLab(t).Check(context.Background(), owner(0))
		wantKind(t, err, vswitch.NotFound)
	})
}

func TestGCOfANetwork(t *testing.T) {
	l := newLab(t)
	for i := range 4 {
		l.mustAttach(request(i))
	}
	other := request(5)
	other.Owner.Network = "elsewhere"
	l.mustAttach(other)
	report, err := l.GC(context.Background(), engine.GCRequest{Network: "net", Valid: []vswitch.Owner{owner(1), owner(2)}})
	if err != nil {
		t.Fatal(err)
	}
	var removed, left []string
	for _, p := range report.Removed {
		removed = append(removed, p.Owner.ID)
	}
	ports, err := l.Ports(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ports {
		left = append(left, p.Owner.String())
	}
	if diff := cmp.Diff([]string{"host", "container c1", "container c2", "container c5"}, left); diff != "" {
		t.Errorf("left:\n%s", diff)
	}
	if len(removed) != 2 {
		t.Errorf("removed %v", removed)
	}
}

// stubborn is a kernel that cannot remove one netdev, nor any beside it.
type stubborn struct {
	*kernel.Fake
	netdev string
}

var errBroken = errors.New("broken")

func (k stubborn) Apply(ctx context.Context, steps []plan.Step) error {
	for i, s := range steps {
		if strings.Contains(s.String(), k.netdev) {
			return &kernel.StepError{Index: i, Step: s, Err: errBroken}
		}
	}
	return k.Fake.Apply(ctx, steps)
}

func TestGCGoesOnAfterErrors(t *testing.T) {
	l := newLab(t)
	var ports []vswitch.Port
	for i := range 3 {
		ports = append(ports, l.mustAttach(request(i)).Port)
	}
	store := store.New(store.Config{Dirs: l.dirs, BootID: l.boot, MachineID: "machine"})
	l.Engine = engine.New(engine.Config{Kernel: stubborn{l.kernel, ports[1].Netdev}, Store: store})
	report, err := l.GC(context.Background(), engine.GCRequest{Network: "net"})
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), ports[1].ID) || len(report.Removed) != 2 {
		t.Errorf("removed %d ports, %v", len(report.Removed), err)
	}
	if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod", Force: true}); !errors.Is(err, errBroken) {
		t.Errorf("a switch with a port that cannot be removed: %v", err)
	}
	if _, err := l.Port(context.Background(), ports[1].ID); err != nil {
		t.Errorf("the port that is still there is forgotten: %v", err)
	}
	l.open()
	if report, err = l.GC(context.Background(), engine.GCRequest{Network: "net"}); err != nil || len(report.Removed) != 1 {
		t.Errorf("removed %d ports, %v", len(report.Removed), err)
	}
	l.wantNoGuests()
}

// Without a runtime's list a port goes only when its namespace and its netdev are
// both gone.
func TestGCOfTheHost(t *testing.T) {
	l := newLab(t)
	for i := range 3 {
		l.mustAttach(request(i))
	}
	l.kernel.RemoveNetns(netns(0))  // dead
	l.kernel.UnmountNetns(netns(1)) // its path is gone, a process still lives in it
	report, err := l.GC(context.Background(), engine.GCRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Removed) != 1 || report.Removed[0].Owner.ID != "c0" {
		t.Errorf("removed %+v", report.Removed)
	}
}

// forgetNetns leaves a port's record as an earlier version wrote it, which did not know
// the number of the owner's namespace.
func (l *lab) forgetNetns(id string) {
	l.t.Helper()
	must(l.t, l.store().Update(func(tx *store.Tx) error {
		p, err := tx.Port(id)
		if err != nil || p.NetnsID == 0 {
			return fmt.Errorf("identity %d, %w", p.NetnsID, err)
		}
		p.NetnsID = 0
		return tx.PutPort(p)
	}))
}

// The path of a namespace that is gone leads to another one: the port goes, unless nobody
// wrote down which namespace it was.
func TestGCOfReplacedNamespaces(t *testing.T) {
	l := newLab(t)
	for i := range 3 {
		l.mustAttach(request(i))
	}
	l.forgetNetns(owner(1).PortID())
	for i := range 2 {
		l.kernel.RemoveNetns(netns(i))
		l.kernel.AddNetns(netns(i))
	}
	l.kernel.RemoveNetdev(owner(2).PortID()) // its namespace is the same: its owner lives
	report, err := l.GC(context.Background(), engine.GCRequest{})
	if err != nil || len(report.Removed) != 1 || report.Removed[0].Owner.ID != "c0" {
		t.Errorf("removed %+v, %v", report.Removed, err)
	}
	// What is attached again is where it is now.
	for i := range 3 {
		l.mustAttach(request(i))
	}
	report, err = l.GC(context.Background(), engine.GCRequest{})
	if err != nil || len(report.Removed) > 0 {
		t.Errorf("removed %+v, %v", report.Removed, err)
	}
	l.kernel.RemoveNetns(netns(1))
	l.kernel.AddNetns(netns(1))
	report, err = l.GC(context.Background(), engine.GCRequest{})
	if err != nil || len(report.Removed) != 1 || report.Removed[0].Owner.ID != "c1" {
		t.Errorf("removed %+v, %v", report.Removed, err)
	}
}

// TestGCOfNamespacesMountedAnewOnLinux is TestGCOfReplacedNamespaces on a real kernel.
func TestGCOfNamespacesMountedAnewOnLinux(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	ctx := context.Background()
	runtime.LockOSThread() // the thread is in another namespace from now on and ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	e := engine.New(engine.Config{
		Kernel: kernel.NewLinux(),
		Store:  store.New(store.Config{Dirs: store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)}, MachineID: "machine"}),
	})
	_, err := e.AddSwitch(ctx, engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "lab", Type: vswitch.Private}})
	must(t, err)
	var paths []string
	for i := range 2 {
		o := owner(i)
		o.Netns = filepath.Join(t.TempDir(), "ns")
		must(t, os.WriteFile(o.Netns, nil, 0o600))
		paths = append(paths, o.Netns)
		mountNewNetns(t, o.Netns)
		_, err := e.Attach(ctx, engine.AttachRequest{Owner: o, Switch: "lab"})
		must(t, err)
	}
	gc := func(want ...string) {
		t.Helper()
		report, err := e.GC(ctx, engine.GCRequest{})
		must(t, err)
		var removed []string
		for _, p := range report.Removed {
			removed = append(removed, p.Owner.ID)
		}
		if diff := cmp.Diff(want, removed); diff != "" {
			t.Errorf("removed:\n%s", diff)
		}
	}
	gc()
	h, err := netlink.NewHandle()
	must(t, err)
	defer h.Close()
	for i := range 2 { // both netdevs are gone, and one of the namespaces
		pair, err := h.LinkByName(owner(i).PortID())
		must(t, err)
		must(t, h.LinkDel(pair))
	}
	must(t, unix.Unmount(paths[0], unix.MNT_DETACH))
	mountNewNetns(t, paths[0])
	gc("c0")
	gc()
}

// mountNewNetns makes a network namespace that lives by a path.
func mountNewNetns(t *testing.T, path string) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	must(t, <-done)
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
}

// A netdev of ours that no record knows, as after the loss of the run directory.
func TestGCOfOrphans(t *testing.T) {
	l := newLab(t)
	before := func() string { l.mustAdd(internal()); return l.kernel.String() }()
	a := l.mustAttach(request(0))
	l.kernel.SetNetdevDown(netns(0), "eth0")
	l.boot = "another store"
	l.open()
	l.mustAdd(internal())
	report, err := l.GC(context.Background(), engine.GCRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{a.Port.Netdev}, report.Netdevs); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
		t.Errorf("left:\n%s", diff)
	}
}

func TestPortIsFoundByTheBeginningOfItsName(t *testing.T) {
	l := newLab(t)
	a := l.mustAttach(request(0))
	long := request(1)
	long.Owner.ID = "deadbeef00"
	l.mustAttach(long)
	for name, want := range map[string]string{a.Port.ID: "c0", a.Port.ID[:6]: "c0", "dead": "deadbeef00", "c0": "c0", "pbp-prod": "prod"} {
		if p, err := l.Port(context.Background(), name); err != nil || p.Owner.ID != want {
			t.Errorf("port %q is %s's, %v; want %s's", name, p.Owner.ID, err, want)
		}
	}
	_, err := l.Port(context.Background(), "pb")
	wantKind(t, err, vswitch.Conflict)
	_, err = l.Port(context.Background(), "nobody")
	wantKind(t, err, vswitch.NotFound)
	wantKind(t, l.DeletePort(context.Background(), "pbp-prod"), vswitch.InUse)
	if err := l.DeletePort(context.Background(), "dead"); err != nil {
		t.Error(err)
	}
}

func TestStatus(t *testing.T) {
	l := newLab(t)
	l.mustAttach(request(0))
	s, err := l.Status(context.Background())
	if err != nil || !s.Ready || len(s.Problems) > 0 || s.Switches != 1 || s.Ports != 1 || s.Pool.Used != 2 {
		t.Errorf("status %+v, %v", s, err)
	}
	l.kernel.RemoveNetdev("pbh-prod")
	if s, _ = l.Status(context.Background()); !s.Ready || len(s.Problems) != 1 || s.Problems[0].Kind != vswitch.Drifted {
		t.Errorf("a lost host port is not told: %+v", s)
	}
}

func TestStatusOfAFullPool(t *testing.T) {
	l := newLab(t)
	three := vswitch.MACRange{First: vswitch.MAC{2, 0, 0, 0, 0, 1}, Last: vswitch.MAC{2, 0, 0, 0, 0, 3}}
	if _, err := l.SetMACPool(context.Background(), three); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		l.mustAttach(request(i)) // with the host's port, three
	}
	s, _ := l.Status(context.Background())
	if s.Ready || len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Hint, "mac pool set") {
		t.Errorf("status %+v", s)
	}
	_, err := l.Attach(context.Background(), request(2))
	wantKind(t, err, vswitch.MACPoolExhausted)
	l.mustDetach(0)
	l.mustAttach(request(2)) // with the address that rests, since there is no other
}

func TestMACPoolRefusesStaticAddressInUse(t *testing.T) {
	l := newLab(t)
	req := request(0)
	req.MAC = vswitch.MAC{2, 0, 0, 0, 0, 0x42}
	a := l.mustAttach(req)
	_, err := l.SetMACPool(context.Background(), vswitch.MACRange{First: vswitch.MAC{2, 0, 0, 0, 0, 0}, Last: vswitch.MAC{2, 0, 0, 0, 0, 0xff}})
	wantKind(t, err, vswitch.MACPoolRange)
	for _, w := range []string{req.MAC.String(), a.Port.ID} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not named in: %v", w, err)
		}
	}
}

func TestTopology(t *testing.T) {
	l := newLab(t)
	l.mustAdd(vswitch.Switch{Name: "lan", Uplink: "nic0"})
	l.mustAttach(request(0))
	top, err := l.Topology(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range top.NICs {
		names = append(names, n.Name)
	}
	for _, s := range top.Switches {
		names = append(names, s.Name)
		for _, p := range s.Attached {
			names = append(names, p.Owner.String())
		}
	}
	if diff := cmp.Diff([]string{"nic0", "nic1", "lan", "host", "prod", "host", "container c0"}, names); diff != "" {
		t.Error(diff)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func releasing(netdev string) []plan.Step { return []plan.Step{plan.ReleasePort{Name: netdev}} }
