package engine_test

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// homeHere is the netdev that has the host's address, all of its routes, and the rules.
func homeHere(t *testing.T) (netdev string, routes []string) {
	t.Helper()
	h, err := netlink.NewHandle()
	must(t, err)
	defer h.Close()
	all, err := h.AddrList(nil, netlink.FAMILY_ALL)
	must(t, err)
	for _, a := range all {
		if !a.IP.Equal(net.IPv4(192, 0, 2, 1)) && !a.IP.Equal(net.ParseIP("2001:db8::1")) {
			continue
		}
		l, err := h.LinkByIndex(a.LinkIndex)
		must(t, err)
		if netdev != "" && netdev != l.Attrs().Name {
			t.Errorf("the host is on %s and on %s", netdev, l.Attrs().Name)
		}
		if netdev = l.Attrs().Name; l.Attrs().MasterIndex != 0 {
			t.Errorf("the host is on %s, which is in a bridge", netdev)
		}
		found, err := h.RouteList(l, netlink.FAMILY_ALL)
		must(t, err)
		for _, r := range found {
			routes = append(routes, r.Dst.String()+" via "+r.Gw.String())
		}
	}
	rules, err := h.RuleList(netlink.FAMILY_V4)
	must(t, err)
	for _, r := range rules {
		switch r.IifName {
		case "":
		case netdev:
			routes = append(routes, "rule by its name")
		default:
			routes = append(routes, "rule by the name of "+r.IifName)
		}
	}
	slices.Sort(routes)
	return netdev, slices.Compact(routes)
}

// TestKilledHandoverOnLinux kills the handover of a NIC that carries the host on a real
// kernel, before every third step, and goes on with the old switch or the new one alone.
// All steps and verbs: see TestAnythingAfterAKilledHandover.
func TestKilledHandoverOnLinux(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	ctx := context.Background()
	renamed := handovers()["renamed"]
	given := handovers()["given up"]
	set := func(name string) func(*engine.Engine) error {
		return func(e *engine.Engine) error {
			_, err := e.SetSwitch(ctx, name, engine.SwitchChange{Notes: ptr("changed")})
			return err
		}
	}
	del := func(name string) func(*engine.Engine) error {
		return func(e *engine.Engine) error {
			_, err := e.DeleteSwitch(ctx, engine.DeleteSwitchRequest{Name: name})
			return err
		}
	}
	for name, c := range map[string]struct {
		req  engine.ApplyRequest
		next func(*engine.Engine) error
		end  string
		from int
	}{
		"renamed, then the old one is set":      {renamed, set("lan"), "pbh-alpha", 1},
		"given up, then the old one is set":     {given, set("lan"), "pbh-office", 2},
		"given up, then the new one is set":     {given, set("office"), "pbh-office", 3},
		"given up, then the new one is deleted": {given, del("office"), "nic0", 1},
	} {
		t.Run(name, func(t *testing.T) {
			runtime.LockOSThread() // the thread is in another namespace from now on and ends with the test
			must(t, unix.Unshare(unix.CLONE_NEWNET))
			makePair(t, "nic0")
			settleHost(t, "nic0")
			home, routes := homeHere(t)
			for n := c.from; ; n += 3 {
				k := &struck{Kernel: kernel.NewLinux()}
				s := store.New(store.Config{Dirs: store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)}, MachineID: "machine"})
				e := engine.New(engine.Config{Kernel: k, Store: s})
				_, err := e.AddSwitch(ctx, engine.AddSwitchRequest{Switch: lan(true)})
				must(t, err)
				killed, err := k.strike(0, n, func() error { _, err := e.Apply(ctx, c.req); return err })
				must(t, err)
				if killed {
					if err := c.next(e); err != nil && !errors.Is(err, vswitch.NotFound) {
						t.Errorf("%v", err)
					}
					at, has := homeHere(t)
					if diff := cmp.Diff(routes, has); diff != "" || at != c.end {
						t.Errorf("the host is on %s; its routes (-want +got):\n%s", at, diff)
					}
				}
				nothing := configured()
				nothing.Prune = true
				_, err = e.Apply(ctx, nothing)
				must(t, err)
				if at, has := homeHere(t); at != home || !slices.Equal(has, routes) {
					t.Errorf("in the end the host is on %s with %v", at, has)
				}
				if t.Failed() {
					t.Fatalf("killed before step %d", n)
				}
				if !killed {
					t.Logf("about %d steps", n-1)
					return
				}
			}
		})
	}
}

// settleHost gives a netdev addresses and a way out.
func settleHost(t *testing.T, name string) {
	t.Helper()
	h, err := netlink.NewHandle()
	must(t, err)
	defer h.Close()
	l, err := h.LinkByName(name)
	must(t, err)
	must(t, h.LinkSetUp(l))
	for _, a := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
		addr, err := netlink.ParseAddr(a)
		must(t, err)
		addr.Flags = unix.IFA_F_NODAD
		must(t, h.AddrAdd(l, addr))
	}
	rule := netlink.NewRule()
	rule.IifName, rule.Table, rule.Priority = name, 100, 1001
	must(t, h.RuleAdd(rule))
	for _, gateway := range []string{"192.0.2.254", "2001:db8::fe"} {
		must(t, h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(gateway)}))
	}
}
