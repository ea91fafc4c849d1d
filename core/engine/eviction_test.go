package engine_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// These tests are of guests whose switch is deleted by force.

// evictions are verbs that delete switch lan, on nic0, together with its guests.
func evictions() map[string]func(*engine.Engine) error {
	apply := func(switches ...vswitch.Switch) func(*engine.Engine) error {
		req := configured(switches...)
		req.Prune, req.Force = true, true
		return func(e *engine.Engine) error { _, err := e.Apply(context.Background(), req); return err }
	}
	return map[string]func(*engine.Engine) error{
		"delete": func(e *engine.Engine) error {
			_, err := e.DeleteSwitch(context.Background(), engine.DeleteSwitchRequest{Name: "lan", Force: true})
			return err
		},
		"prune all":               apply(),
		"another takes the NIC":   apply(ext("new", "nic0", 1400), internal()),
		"another takes its place": apply(vswitch.Switch{Name: "new", Type: vswitch.Internal}),
	}
}

// crowded is a lab with guests of every sort on lan: on two segments, isolated, a netdev
// of somebody else, and one whose owner has ended.
func crowded(t *testing.T, caps kernel.Capabilities) *lab {
	l := newLabWith(t, caps)
	l.sizes = vswitch.SegmentSizes{Root: 3, Spoofing: 2, Further: 4}
	l.open()
	l.mustAdd(ext("lan", "nic0", 9000))
	l.kernel.AddNetdev(kernel.Netdev{Name: "tap0", Kind: "tun", MTU: 9000, Ethernet: true, Up: true})
	for i := range 6 {
		req := engine.AttachRequest{Owner: owner(i), Switch: "lan", Ranges: ranges("10.0.0.0/24"), Isolated: i == 1 && caps.PortLocked}
		if i == 2 {
			req = engine.AttachRequest{Owner: owner(i), Switch: "lan", Netdev: "tap0"}
		}
		l.mustAttach(req)
	}
	l.kernel.RemoveNetns(netns(4))
	return l
}

// A failure at any step leaves every guest attached who was.
func TestFailedEvictionIsUndone(t *testing.T) {
	t.Parallel()
	unlocked := allCapabilities()
	unlocked.PortLocked = false
	for name, verb := range evictions() {
		for _, caps := range []kernel.Capabilities{allCapabilities(), unlocked} {
			if !caps.PortLocked && name != "another takes the NIC" {
				continue
			}
			t.Run(fmt.Sprintf("%s, ports locked %v", name, caps.PortLocked), func(t *testing.T) {
				var before string
				var ports []vswitch.Port
				prepare := func(t *testing.T) *lab {
					l := crowded(t, caps)
					before = l.picture()
					var err error
					ports, err = l.Ports(context.Background(), "")
					must(t, err)
					return l
				}
				eachStepFails(t, prepare, func(l *lab) error { return verb(l.Engine) }, func(step int, l *lab) {
					if diff := cmp.Diff(before, l.picture()); diff != "" {
						t.Errorf("step %d leaves:\n%s", step, diff)
					}
					after, err := l.Ports(context.Background(), "")
					must(t, err)
					if diff := cmp.Diff(idsIn(ports), idsIn(after)); diff != "" {
						t.Errorf("step %d: other ports:\n%s", step, diff)
					}
				})
				l := prepare(t)
				l.kernel.UnmountNetns(netns(5)) // nobody can look at it any more
				must(t, verb(l.Engine))
				l.wantNoGuests()
			})
		}
	}
}

func idsIn(ports []vswitch.Port) (ids []string) {
	for _, p := range ports {
		ids = append(ids, p.ID+" on "+p.Switch)
	}
	return ids
}

// Killed at any step, the same verb again ends it.
func TestKilledEviction(t *testing.T) {
	t.Parallel()
	for name, verb := range evictions() {
		t.Run(name, func(t *testing.T) {
			whole := crowded(t, allCapabilities())
			must(t, verb(whole.Engine))
			for n := 1; ; n++ {
				l := crowded(t, allCapabilities())
				if !l.killed(n, func() error { return verb(l.Engine) }) {
					return
				}
				must(t, verb(l.Engine))
				l.wantNoGuests()
				if got, want := masked(l.picture()), masked(whole.picture()); got != want {
					t.Errorf("step %d reaches something else:\n%s", n, cmp.Diff(want, got))
				}
			}
		})
	}
}

// A guest who is detached while the verb that evicts him fails does not come back.
func TestGuestLeavesWhileEvictionFails(t *testing.T) {
	l := newLab(t)
	l.mustAdd(ext("lan", "nic0", 0))
	for i := range 2 {
		l.mustAttach(engine.AttachRequest{Owner: owner(i), Switch: "lan"})
	}
	o := owner(0)
	l.Engine = engine.New(engine.Config{Kernel: &departing{Fake: l.kernel, netdev: o.PortID(), leave: func() { l.mustDetach(0) }}, Store: l.store()})
	err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan", Force: true})
	if !errors.Is(err, errBroken) {
		t.Fatalf("got %v", err)
	}
	if _, found, err := l.Attached(context.Background(), o); found || err != nil {
		t.Errorf("the guest who left has a port: %v", err)
	}
	if _, err := l.kernel.Netdev(context.Background(), o.PortID()); !errors.Is(err, vswitch.NotFound) {
		t.Errorf("the netdev of the guest who left: %v", err)
	}
	l.wantHealthy()
	if c, err := l.Check(context.Background(), owner(1)); err != nil || len(c.Steps) > 0 {
		t.Errorf("the other one: %v, %v", c.Steps, err)
	}
}

// departing is a kernel that fails to delete a bridge, where a guest leaves.
type departing struct {
	*kernel.Fake
	netdev string
	leave  func()
}

func (k *departing) Apply(ctx context.Context, steps []plan.Step) error {
	for i, s := range steps {
		if _, last := s.(plan.DeleteBridge); last && k.leave != nil {
			leave := k.leave
			k.leave = nil
			leave()
			return &kernel.StepError{Index: i, Step: s, Err: errBroken}
		}
	}
	return k.Fake.Apply(ctx, steps)
}

// faltering fails at one step on a real kernel.
type faltering struct {
	*kernel.Linux
	left int // steps until then; 0: never
}

func (k *faltering) Apply(ctx context.Context, steps []plan.Step) error {
	for i, s := range steps {
		if k.left--; k.left == 0 {
			return &kernel.StepError{Index: i, Step: s, Err: errBroken}
		}
		if err := k.Linux.Apply(ctx, []plan.Step{s}); err != nil {
			return err
		}
	}
	return nil
}

// TestFailedEvictionKeepsConnectionsOnLinux lets the verbs fail at each step on a real kernel,
// while two guests talk by TCP.
func TestFailedEvictionKeepsConnectionsOnLinux(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	for name, verb := range evictions() {
		t.Run(name, func(t *testing.T) {
			runtime.LockOSThread() // the thread is in another namespace from now on and ends with the test
			must(t, unix.Unshare(unix.CLONE_NEWNET))
			k := &faltering{Linux: kernel.NewLinux()}
			e, guests := talkative(t, k)
			talk := connect(t, guests[0], guests[1])
			for n := 1; ; n++ {
				talk()
				k.left = n
				err := verb(e)
				if err == nil {
					t.Logf("%d steps", n-1)
					return // the guests are gone
				}
				if !errors.Is(err, errBroken) {
					t.Fatalf("step %d: %v", n, err)
				}
				for _, g := range guests {
					if c, err := e.Check(context.Background(), g.Owner); err != nil || len(c.Steps) > 0 {
						t.Fatalf("step %d leaves %v to do, %v", n, c.Steps, err)
					}
				}
			}
		})
	}
}

// talkative is a host with two guests on lan.
func talkative(t *testing.T, k kernel.Kernel) (*engine.Engine, []vswitch.Port) {
	t.Helper()
	ctx := context.Background()
	makePair(t, "nic0")
	e := engine.New(engine.Config{
		Kernel: k, Store: store.New(store.Config{Dirs: store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)}, MachineID: "machine"}),
	})
	_, err := e.Apply(ctx, configured(ext("lan", "nic0", 0)))
	must(t, err)
	var guests []vswitch.Port
	for i := range 2 {
		o := vswitch.Owner{Kind: vswitch.OwnerContainer, Network: "net", ID: fmt.Sprint("c", i), Endpoint: "eth0", Netns: newNetns(t)}
		a, err := e.Attach(ctx, engine.AttachRequest{Owner: o, Switch: "lan", Ranges: ranges("10.0.0.0/24")})
		must(t, err)
		guests = append(guests, a.Port)
	}
	return e, guests
}

// connect opens a connection from one guest to another; talk sends something there and
// back.
func connect(t *testing.T, from, to vswitch.Port) (talk func()) {
	t.Helper()
	var l net.Listener
	within(t, to.Owner.Netns, func() (err error) {
		l, err = net.Listen("tcp4", to.Addresses[0].Prefix.Addr().String()+":9")
		return err
	})
	t.Cleanup(func() { _ = l.Close() })
	var near net.Conn
	within(t, from.Owner.Netns, func() (err error) {
		near, err = net.DialTimeout("tcp4", l.Addr().String(), 5*time.Second)
		return err
	})
	far, err := l.Accept()
	must(t, err)
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return func() {
		t.Helper()
		word := []byte("word")
		for _, c := range [][2]net.Conn{{near, far}, {far, near}} {
			must(t, c[0].SetDeadline(time.Now().Add(patience)))
			must(t, c[1].SetDeadline(time.Now().Add(patience)))
			if _, err := c[0].Write(word); err != nil {
				t.Fatalf("the connection is lost: %v", err)
			}
			if _, err := c[1].Read(word); err != nil {
				t.Fatalf("the connection is lost: %v", err)
			}
		}
	}
}

// within runs fn in a network namespace.
func within(t *testing.T, netns string, fn func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := os.Open(netns)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			_ = ns.Close()
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	must(t, <-done)
}
