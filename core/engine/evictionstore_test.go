package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// losing is a kernel that loses the disk once it has deleted a bridge.
type losing struct {
	*kernel.Fake
	bridge string
	disk   *brittleDisk
}

func (k losing) Apply(ctx context.Context, steps []plan.Step) error {
	err := k.Fake.Apply(ctx, steps)
	for _, s := range steps {
		if d, last := s.(plan.DeleteBridge); last && d.Name == k.bridge {
			k.disk.writable(false)
		}
	}
	return err
}

// brittleDisk is a file system of its own, seen by the test's thread alone, that can
// become one to read only, as ext4 does on an error of the disk.
type brittleDisk struct {
	t   *testing.T
	dir string
}

func newBrittleDisk(t *testing.T, dir string) *brittleDisk {
	t.Helper()
	runtime.LockOSThread() // the thread has mounts of its own from now on and ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNS))
	must(t, unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return &brittleDisk{t, dir}
}

func (d *brittleDisk) writable(yes bool) {
	d.t.Helper()
	flags := uintptr(unix.MS_REMOUNT)
	if !yes {
		flags |= unix.MS_RDONLY
	}
	must(d.t, unix.Mount("", d.dir, "", flags, ""))
}

// The last write of an eviction fails, when the guests are out and their records dropped:
// they have their ports again, with the addresses that they had.
func TestEvictionThatCannotBeWrittenIsUndone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts a file system")
	}
	for name, verb := range evictions() {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			disk := newBrittleDisk(t, l.dirs.State)
			l.mustAdd(ext("lan", "nic0", 0))
			var ports []vswitch.Port
			for i := range 3 {
				ports = append(ports, l.mustAttach(engine.AttachRequest{Owner: owner(i), Switch: "lan", Ranges: ranges("10.0.0.0/24")}).Port)
			}
			before := l.picture()
			err := verb(engine.New(engine.Config{Kernel: losing{l.kernel, vswitch.BridgeName("lan"), disk}, Store: l.store()}))
			if !errors.Is(err, unix.EROFS) {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(before, l.picture()); diff != "" {
				t.Errorf("the host changed:\n%s", diff)
			}
			for i, p := range ports {
				if after, err := l.Port(context.Background(), p.ID); err != nil || after.MAC != p.MAC || fmt.Sprint(after.Addresses) != fmt.Sprint(p.Addresses) {
					t.Errorf("port %d is %+v, %v", i, after.Port, err)
				}
			}
			// What shall be stays written, and nobody begins with it before it can be noted.
			notes := engine.SwitchChange{Notes: ptr("changed")}
			if _, err := l.SetSwitch(context.Background(), "lan", notes); !errors.Is(err, unix.EROFS) {
				t.Errorf("with the disk as it is, switch set: %v", err)
			}
			for i, p := range ports {
				if n, err := l.kernel.Netdev(context.Background(), p.Netdev); err != nil || n.Master != vswitch.BridgeName("lan") {
					t.Errorf("with the disk as it is, port %d is on %q, %v", i, n.Master, err)
				}
			}
			disk.writable(true)
			must(t, verb(l.Engine))
			l.wantNoGuests()
		})
	}
}
