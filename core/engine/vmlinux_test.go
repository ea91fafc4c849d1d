package engine_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// hypervisor is a host with a switch and VMs on the real kernel, in a namespace of its own: it
// does with taps what libvirt and QEMU do.
type hypervisor struct {
	*engine.Engine
	t    *testing.T
	dirs store.Dirs
	vms  map[string]*os.File // by tap

	handle *netlink.Handle
}

func newHypervisor(t *testing.T, switches ...vswitch.Switch) *hypervisor {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	runtime.LockOSThread() // the thread is in another namespace from now on and ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	return hypervisorHere(t, switches...)
}

// hypervisorHere is newHypervisor in the namespace that there is.
func hypervisorHere(t *testing.T, switches ...vswitch.Switch) *hypervisor {
	t.Helper()
	h := &hypervisor{t: t, vms: make(map[string]*os.File), dirs: store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)}}
	h.Engine = engine.New(engine.Config{Kernel: kernel.NewLinux(), Store: store.New(store.Config{Dirs: h.dirs, MachineID: "machine"})})
	for _, s := range switches {
		_, err := h.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: s})
		must(t, err)
	}
	return h
}

// inOwnProcess runs the test once more in a process that is in a network namespace of its own,
// with all its threads, and reports whether this is that one.
func inOwnProcess(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	const mark = "PATCHBAY_TEST_OWN_NETNS"
	if os.Getenv(mark) != "" {
		return true
	}
	again := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), mark+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// links is a handle in the namespace of the calling thread.
func (h *hypervisor) links() *netlink.Handle {
	h.t.Helper()
	if h.handle == nil {
		var err error
		h.handle, err = netlink.NewHandle()
		must(h.t, err)
		h.t.Cleanup(h.handle.Close)
	}
	return h.handle
}

// plug makes a tap of a VM and puts it into a bridge, up, as libvirt does before QEMU runs.
func (h *hypervisor) plug(name string, mac vswitch.MAC, bridge string) {
	h.t.Helper()
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_ONE_QUEUE, Queues: 1, NonPersist: true}
	must(h.t, h.links().LinkAdd(tap))
	h.vms[name] = tap.Fds[0]
	must(h.t, unix.SetNonblock(int(tap.Fds[0].Fd()), true))
	h.t.Cleanup(func() { h.unplug(name) })
	fe := mac.TapMAC()
	must(h.t, h.links().LinkSetHardwareAddr(tap, fe[:]))
	h.move(name, bridge)
	must(h.t, h.links().LinkSetUp(tap))
}

// move puts a tap into another bridge.
func (h *hypervisor) move(name, bridge string) {
	h.t.Helper()
	tap, err := h.links().LinkByName(name)
	must(h.t, err)
	b, err := h.links().LinkByName(bridge)
	must(h.t, err)
	must(h.t, h.links().LinkSetMaster(tap, b))
}

// unplug is QEMU closing the tap, which goes with it.
func (h *hypervisor) unplug(name string) {
	if f := h.vms[name]; f != nil {
		_ = f.Close()
		delete(h.vms, name)
	}
}

const labEther = 0x88b5 // for experiments, IEEE 802

// send has a VM send a frame.
func (h *hypervisor) send(name string, from, to vswitch.MAC, text string) {
	h.t.Helper()
	frame := slices.Concat(to[:], from[:], []byte{labEther >> 8, labEther & 0xff}, []byte(text), make([]byte, 60))
	if _, err := unix.Write(int(h.vms[name].Fd()), frame); err != nil {
		h.t.Fatal(err)
	}
}

// heard are the texts that have reached a VM since it was asked last: bridges deliver at once.
func (h *hypervisor) heard(name string) (texts []string) {
	buf := make([]byte, 2048)
	for {
		n, err := unix.Read(int(h.vms[name].Fd()), buf)
		if err != nil || n <= 0 {
			return texts
		}
		if n > 14 && buf[12] == labEther>>8 && buf[13] == labEther&0xff {
			texts = append(texts, string(bytes.TrimRight(buf[14:n], "\x00")))
		}
	}
}

func (h *hypervisor) wantHeard(name string, want ...string) {
	h.t.Helper()
	if got := h.heard(name); !slices.Equal(got, want) {
		h.t.Errorf("%s has heard %q, want %q", name, got, want)
	}
}

func (h *hypervisor) mustReserve(req engine.ReservePortRequest) {
	h.t.Helper()
	_, err := h.ReservePort(context.Background(), req)
	must(h.t, err)
}

func (h *hypervisor) mustBind(o vswitch.Owner, tap string) vswitch.Port {
	h.t.Helper()
	p, err := h.BindPort(context.Background(), engine.BindPortRequest{Owner: o, Netdev: tap})
	must(h.t, err)
	c, err := h.Check(context.Background(), o)
	must(h.t, err)
	if len(c.Steps) > 0 {
		h.t.Errorf("bound, %s lacks %v", o, c.Steps)
	}
	return p
}

var everybody = vswitch.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func private(name string) vswitch.Switch { return vswitch.Switch{Name: name, Type: vswitch.Private} }

// TestTapsOnLinux: a tap is shut until it is bound, and then sends from its own address alone.
func TestTapsOnLinux(t *testing.T) {
	h := newHypervisor(t, private("prod"))
	ctx := context.Background()
	h.mustReserve(reserveWeb("p1"))
	h.mustReserve(reserveDB("p1"))
	h.plug("vnet0", webMAC, "pb-prod")
	h.plug("vnet1", dbMAC, "pb-prod")
	h.mustBind(vm("p1"), "vnet0")
	h.send("vnet0", webMAC, everybody, "to one who is not bound")
	h.send("vnet1", dbMAC, everybody, "of one who is not bound")
	h.send("vnet1", dbMAC, webMAC, "of one who is not bound, to one")
	h.wantHeard("vnet0")
	h.wantHeard("vnet1")
	s, err := h.Status(ctx)
	must(t, err)
	if last := s.Problems[len(s.Problems)-1]; !strings.Contains(last.Message, "vnet1") {
		t.Errorf("status does not tell of the tap that is not bound: %+v", s.Problems)
	}
	h.mustBind(db("p1"), "vnet1")
	h.send("vnet1", dbMAC, webMAC, "bound")
	h.send("vnet1", webMAC, everybody, "from another's address")
	h.send("vnet1", vswitch.MAC{2, 9, 9, 9, 9, 9}, webMAC, "from nobody's address")
	h.wantHeard("vnet0", "bound")
	h.send("vnet0", webMAC, dbMAC, "answer")
	h.wantHeard("vnet1", "answer")
	h.unplug("vnet1")
	must(t, h.ReleasePort(ctx, db("p1")))
	h.send("vnet0", webMAC, dbMAC, "to one who has gone")
	must(t, h.ReleaseDomain(ctx, webUUID))
	if n, err := h.links().LinkByName("vnet0"); err != nil || n.Attrs().MasterIndex != 0 || n.Attrs().Group != 0 {
		t.Errorf("the tap was not let go: %+v, %v", n, err)
	}
	_, err = h.DeleteSwitch(ctx, engine.DeleteSwitchRequest{Name: "prod"})
	must(t, err)
}

// TestUnusedTapOnLinux: a tap of ours that a program has open is in use, and goes when it is not.
func TestUnusedTapOnLinux(t *testing.T) {
	h := newHypervisor(t, private("prod"))
	ctx := context.Background()
	h.mustReserve(reserveWeb("p1"))
	must(t, h.MakeTap(ctx, engine.TapRequest{Domain: vm("p1").Domain(), Name: "pt-web", MAC: webMAC}))
	h.plug("pt-web", webMAC, "pb-prod")
	seen := h.mustBind(vm("p1"), "pt-web")
	for _, used := range []bool{true, false} {
		if !used {
			h.unplug("pt-web")
		}
		if gone, err := h.ReleaseUnused(ctx, seen, false); err != nil || gone == used {
			t.Errorf("in use: %v; gone: %v, %v", used, gone, err)
		}
		if _, err := h.links().LinkByName("pt-web"); (err == nil) != used {
			t.Errorf("in use: %v; its tap: %v", used, err)
		}
	}
}

// TestIncomingOnLinux: what is for a VM that still runs elsewhere does not come to its tap here
// until it speaks, or is said to be here.
func TestIncomingOnLinux(t *testing.T) {
	for _, how := range []string{"it speaks", "it is activated"} {
		t.Run(how, func(t *testing.T) {
			h := newHypervisor(t, private("prod"))
			ctx := context.Background()
			h.mustReserve(reserveDB("p1"))
			h.plug("vnet1", dbMAC, "pb-prod")
			h.mustBind(db("p1"), "vnet1")
			must(t, h.ExpectDomain(ctx, engine.ExpectDomainRequest{Domain: vm("").Domain()}))
			h.mustReserve(reserveWeb("p1"))
			h.plug("vnet0", webMAC, "pb-prod")
			if p := h.mustBind(vm("p1"), "vnet0"); p.VM.Stage != vswitch.VMIncoming {
				t.Fatalf("the port is %+v", p)
			}
			h.send("vnet1", dbMAC, webMAC, "while it is elsewhere")
			h.wantHeard("vnet0")
			h.send("vnet0", vswitch.MAC{2, 9, 9, 9, 9, 9}, everybody, "from nobody's address")
			h.wantHeard("vnet1")
			if how == "it speaks" {
				h.send("vnet0", webMAC, everybody, "here I am")
				h.wantHeard("vnet1", "here I am")
				h.send("vnet1", dbMAC, webMAC, "before anybody is told")
				h.wantHeard("vnet0", "before anybody is told")
			}
			_, err := h.ActivateDomain(ctx, webUUID)
			must(t, err)
			h.send("vnet1", dbMAC, webMAC, "when it is here")
			h.wantHeard("vnet0", "when it is here")
			h.send("vnet0", vswitch.MAC{2, 9, 9, 9, 9, 9}, everybody, "from nobody's address")
			h.wantHeard("vnet1")
		})
	}
}

// TestHotPlugOnLinux: patchbayd binds a tap by the kernel's word, lets it move to another switch,
// and cleans up when it has gone.
func TestHotPlugOnLinux(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	h := hypervisorHere(t, private("prod"), private("lab"))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	k := &keeper{lab: &lab{t: t}, more: make(chan struct{})}
	resident := engine.New(engine.Config{Kernel: kernel.NewLinux(), Store: store.New(store.Config{Dirs: h.dirs, MachineID: "machine"})})
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- resident.Keep(ctx, slog.New(slog.NewTextHandler(k, nil)), func() { close(ready) })
	}()
	<-ready
	h.mustReserve(reserveWeb("p1"))
	h.plug("vnet0", webMAC, "pb-prod")
	k.await("", "msg=bound", "vnet0")
	h.mustReserve(toLab("p2"))
	h.move("vnet0", "pb-lab")
	k.await("", "another port's now", "vnet0")
	h.unplug("vnet0")
	k.await("", "its tap is gone", "vnet0")
	for _, port := range []string{"p1", "p2"} {
		must(t, h.ReleasePort(ctx, vm(port)))
	}
	cancel()
	must(t, <-done)
}

// TestVMVerbsKilledOnLinux kills each verb at each step, does it again and looks.
func TestVMVerbsKilledOnLinux(t *testing.T) {
	ctx := context.Background()
	rich := reserveWeb("p1")
	rich.Policy = vswitch.PolicyChange{DHCPGuard: ptr(true), ACL: ptr(aclRules(t, "deny out to 10.0.0.0/8")), Bandwidth: vswitch.BandwidthChange{Out: vswitch.LimitChange{Max: ptr(vswitch.Bits(1e7))}}}
	bind := func(h *hypervisor, o vswitch.Owner) error {
		_, err := h.BindPort(ctx, engine.BindPortRequest{Owner: o, Netdev: "vnet0"})
		return err
	}
	for _, verb := range []struct {
		name    string
		prepare func(*hypervisor)
		do      func(*hypervisor) error
		port    vswitch.Owner // that is whole then, if any
	}{
		{"bind", func(h *hypervisor) { h.mustReserve(rich); h.plug("vnet0", webMAC, "pb-prod") }, func(h *hypervisor) error { return bind(h, vm("p1")) }, vm("p1")},
		{"bind two", func(h *hypervisor) {
			second := reserveWeb("p2")
			second.MAC = dbMAC
			h.mustReserve(second)
			h.mustReserve(rich)
			h.plug("vnet0", webMAC, "pb-prod")
			h.plug("vnet1", dbMAC, "pb-prod")
		}, func(h *hypervisor) error {
			_, err := h.BindPorts(ctx, []engine.BindPortRequest{{Owner: vm("p2"), Netdev: "vnet1"}, {Owner: vm("p1"), Netdev: "vnet0"}})
			return err
		}, vm("p1")},
		{"move", func(h *hypervisor) {
			h.mustReserve(rich)
			h.plug("vnet0", webMAC, "pb-prod")
			h.mustBind(vm("p1"), "vnet0")
			h.mustReserve(toLab("p2"))
			h.move("vnet0", "pb-lab")
		}, func(h *hypervisor) error { return h.ReleasePort(ctx, vm("p1")) }, vm("p2")},
		{"release", func(h *hypervisor) {
			h.mustReserve(rich)
			h.plug("vnet0", webMAC, "pb-prod")
			h.mustBind(vm("p1"), "vnet0")
		}, func(h *hypervisor) error { return h.ReleaseDomain(ctx, webUUID) }, vswitch.Owner{}},
		{"activate", func(h *hypervisor) {
			must(h.t, h.ExpectDomain(ctx, engine.ExpectDomainRequest{Domain: vm("").Domain()}))
			h.mustReserve(rich)
			h.plug("vnet0", webMAC, "pb-prod")
			h.mustBind(vm("p1"), "vnet0")
		}, func(h *hypervisor) error { _, err := h.ActivateDomain(ctx, webUUID); return err }, vm("p1")},
	} {
		t.Run(verb.name, func(t *testing.T) {
			h := newHypervisor(t, private("prod"), private("lab"))
			pristine := linksHere(t)
			for n, killed := 1, true; killed && n < 40 && !t.Failed(); n++ {
				verb.prepare(h)
				k := &struck{Kernel: kernel.NewLinux()}
				mortal := &hypervisor{t: t, Engine: engine.New(engine.Config{Kernel: k, Store: store.New(store.Config{Dirs: h.dirs, MachineID: "machine"})})}
				killed, _ = k.strike(0, n, func() error { return verb.do(mortal) })
				must(t, verb.do(h))
				if verb.port.ID != "" {
					c, err := h.Check(ctx, verb.port)
					must(t, err)
					if len(c.Steps) > 0 || c.Port.Netdev != "vnet0" {
						t.Errorf("killed at step %d, %s is %+v and lacks %v", n, verb.port, c.Port, c.Steps)
					}
				}
				for tap := range h.vms {
					h.unplug(tap)
				}
				must(t, h.ReleaseDomain(ctx, webUUID))
				if _, err := h.GC(ctx, engine.GCRequest{}); err != nil {
					t.Error(err)
				}
				if got := linksHere(t); !slices.Equal(got, pristine) {
					t.Errorf("killed at step %d it leaves\n%s\nwant\n%s", n, strings.Join(got, "\n"), strings.Join(pristine, "\n"))
				}
			}
		})
	}
}
