package plan_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
)

// TestRandomWalkOnLinux takes the same walk as TestRandomWalk through a network
// namespace of its own: what the Fake accepts, Linux does, with the same result.
func TestRandomWalkOnLinux(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	enterNetns(t)
	makeNetdev(t, "nic0", nil)
	makeNetdev(t, "tap0", nil)
	paths := map[string]string{nsWeb: otherNetns(t), nsDB: otherNetns(t)}
	walkOnLinux(t, namedStates(), paths, 40) // a netdev takes the kernel some 20 ms to delete
}

// walkOnLinux goes from state to state in the namespace that the test is in, so many times.
func walkOnLinux(t *testing.T, states map[string]plan.State, paths map[string]string, times int) {
	t.Helper()
	linux := kernel.NewLinux()
	caps, err := linux.Capabilities(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("this kernel: %+v", caps)
	for name, s := range states {
		states[name] = asHere(s, paths, caps)
	}
	names := slices.Sorted(maps.Keys(states))
	random := rand.New(rand.NewPCG(5, 6))
	at := "nothing"
	for i := range times {
		to := names[random.IntN(len(names))]
		step(t, linux, fmt.Sprintf("%03d from %s to %s", i, at, to), states[to], states[at])
		at = to
	}
}

// step goes from have to want; it runs on the test's own thread, which is the
// one in the namespace.
func step(t *testing.T, linux *kernel.Linux, name string, want, have plan.State) {
	t.Helper()
	todo := steps(t, linux, want, have)
	if err := linux.Apply(context.Background(), todo); err != nil {
		t.Fatalf("%s: %v\nplan:\n%s", name, err, words(todo))
	}
	for _, scope := range []plan.State{plan.Union(want, have), want} {
		seen, err := linux.Observe(context.Background(), scope)
		if err != nil {
			t.Fatalf("%s: observe: %v", name, err)
		}
		if rest := plan.Diff(want, seen); len(rest) != 0 {
			t.Fatalf("%s: plan:\n%s\nthe second plan is not empty:\n%s", name, words(todo), words(rest))
		}
	}
}

// asHere is a state in the namespaces of this test, without what this kernel
// cannot do.
func asHere(s plan.State, paths map[string]string, caps kernel.Capabilities) plan.State {
	s = clone(s)
	if !caps.BridgeRules || !caps.NAT {
		s.Rules = plan.Rules{}
	}
	for name, p := range s.Ports {
		p.Locked = p.Locked && caps.PortLocked
		if p.Endpoint != nil && p.Endpoint.Netns != "" {
			p.Endpoint.Netns = paths[p.Endpoint.Netns]
		}
		s.Ports[name] = p
	}
	return s
}

// enterNetns puts the test's thread into a new network namespace; the thread
// ends with the test.
func enterNetns(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare: %v", err)
	}
}

// otherNetns makes a namespace that lasts as long as the test and returns its path.
func otherNetns(t *testing.T) string {
	t.Helper()
	made := make(chan *os.File)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			made <- nil
			return
		}
		ns, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		if err != nil {
			t.Error(err)
		}
		made <- ns
	}()
	ns := <-made
	if ns == nil {
		t.FailNow()
	}
	t.Cleanup(func() { _ = ns.Close() })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
}

// makeNetdev stands in for a netdev of somebody else; nil is any address.
func makeNetdev(t *testing.T, name string, mac net.HardwareAddr) {
	t.Helper()
	h, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1500, Flags: 1, HardwareAddr: mac}, PeerName: name + "-peer"}); err != nil {
		t.Fatalf("make %s: %v", name, err)
	}
}
