package kernel

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// A tap is made once, opened by somebody else, and removed; what is not ours stays. The Fake
// answers as Linux does.
func TestTap(t *testing.T) {
	mac := vswitch.MAC{0xfe, 0x54, 0, 0, 0, 1}
	mine := plan.MakeTap{Name: "pt-web", Mark: "patchbay-tap: vm=a", MAC: mac, Queues: 2}
	other := mine
	other.Mark = "patchbay-tap: vm=b"
	script := []struct {
		step plan.Step
		kind vswitch.Kind
		left bool // the tap is there then
	}{
		{mine, "", true},
		{mine, "", true},
		{other, vswitch.AlreadyExists, true},
		{plan.DeleteTap{Name: "pt-web", Mark: other.Mark}, "", true},
		{plan.DeleteTap{Name: "pt-web", Mark: mine.Mark}, "", false},
		{plan.DeleteTap{Name: "pt-web", Mark: mine.Mark}, "", false},
		{plan.MakeTap{Name: "lo", Mark: mine.Mark, MAC: mac}, vswitch.AlreadyExists, false},
		{plan.DeleteTap{Name: "lo", Mark: mine.Mark}, "", false},
		{plan.MakeTap{Name: "pt-web", Mark: mine.Mark, MAC: mac}, "", true},
	}
	run := func(t *testing.T, k Kernel, within func(func() error) error) {
		for i, x := range script {
			err := within(func() error { return k.Apply(context.Background(), []plan.Step{x.step}) })
			if (x.kind == "") != (err == nil) || x.kind != "" && !errors.Is(err, x.kind) {
				t.Fatalf("step %d, %s: %v", i, x.step, err)
			}
			var n Netdev
			err = within(func() (err error) { n, err = k.Netdev(context.Background(), "pt-web"); return err })
			if x.left != (err == nil) || x.left && (n.Kind != "tun" || n.MAC != mac || n.Alias != mine.Mark || n.Up) {
				t.Fatalf("step %d leaves %+v, %v", i, n, err)
			}
		}
	}
	t.Run("Fake", func(t *testing.T) {
		f := NewFake(FakeConfig{Netdevs: []Netdev{{Name: "lo", Loopback: true}}})
		run(t, f, func(do func() error) error { return do() })
	})
	t.Run("Linux", func(t *testing.T) {
		ns := newNS(t)
		run(t, NewLinux(), func(do func() error) error { return inNetns(ns, do) })
		if err := inNetns(ns, func() error { return openAsQEMU("pt-web", 0) }); err != nil {
			t.Errorf("with one queue: %v", err)
		}
		many := plan.MakeTap{Name: "pt-many", Mark: mine.Mark, MAC: mac, Queues: 4}
		if err := inNetns(ns, func() error { return NewLinux().Apply(context.Background(), []plan.Step{many}) }); err != nil {
			t.Fatal(err)
		}
		if err := inNetns(ns, func() error { return openAsQEMU("pt-many", unix.IFF_MULTI_QUEUE) }); err != nil {
			t.Errorf("with many queues: %v", err)
		}
		if err := inNetns(ns, func() error {
			return NewLinux().Apply(context.Background(), []plan.Step{plan.DeleteTap{Name: "pt-many", Mark: mine.Mark}})
		}); err != nil {
			t.Error(err)
		}
		if left := sh(t, ns, "ip -o link show"); strings.Contains(left, "pt-many") {
			t.Errorf("left: %s", left)
		}
	})
}

// openAsQEMU opens a tap as libvirt does for a VM.
func openAsQEMU(name string, more int) error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	r.SetUint16(uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | more))
	return unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, r)
}
