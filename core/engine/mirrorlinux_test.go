package engine_test

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// A source that becomes none is copied to nobody, also where a stranger has flushed the
// table that tells of its filters; nor is a source whose last destination becomes none.
func TestMirrorsEndWithoutTheirTableOnLinux(t *testing.T) {
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
	_, err := e.AddSwitch(ctx, engine.AddSwitchRequest{Switch: policed()})
	must(t, err)
	destination, source := mirroring(0, vswitch.MirrorDestination), mirroring(1, vswitch.MirrorSource)
	destination.Owner.Netns, source.Owner.Netns = newNetns(t), newNetns(t)
	for _, req := range []engine.AttachRequest{destination, source} {
		_, err := e.Attach(ctx, req)
		must(t, err)
	}
	h, err := netlink.NewHandle()
	must(t, err)
	defer h.Close()
	filters := func(netdev string) (n int) {
		l, err := h.LinkByName(netdev)
		must(t, err)
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			all, err := h.FilterList(l, parent)
			must(t, err)
			n += len(all)
		}
		return n
	}
	flush := func() {
		t.Helper()
		if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	set := func(name string, mode vswitch.MirrorMode) {
		t.Helper()
		_, err := e.SetPort(ctx, name, engine.PortChange{Policy: vswitch.PolicyChange{Mirror: &mode}})
		must(t, err)
	}
	host, guest := vswitch.HostPortSwitchEnd("lan"), source.Owner.PortID()
	for _, name := range []string{guest, host} {
		set(name, vswitch.MirrorSource)
		if filters(name) == 0 {
			t.Fatalf("%s has no filters to end", name)
		}
		flush()
		set(name, vswitch.MirrorNone)
		if n := filters(name); n > 0 {
			t.Errorf("%s is none any more and has %d filters", name, n)
		}
	}
	set(guest, vswitch.MirrorSource)
	set(host, vswitch.MirrorDestination)
	for _, last := range []string{host, destination.Owner.PortID()} {
		flush()
		set(last, vswitch.MirrorNone)
	}
	if n := filters(guest); n > 0 {
		t.Errorf("nobody is a destination any more, and the source has %d filters", n)
	}
	set(host, vswitch.MirrorDestination)
	flush()
	set(host, vswitch.MirrorNone)
	if n := filters(guest); n > 0 {
		t.Errorf("the host is no destination any more, and the source has %d filters", n)
	}
}
