package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// losing is a kernel that loses a disk once it has deleted a bridge.
type losing struct {
	*kernel.Fake
	bridge string
	lose   func()
}

func (k losing) Apply(ctx context.Context, steps []plan.Step) error {
	err := k.Fake.Apply(ctx, steps)
	for _, s := range steps {
		if d, last := s.(plan.DeleteBridge); last && d.Name == k.bridge {
			k.lose()
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
				ports = append(ports, l.mustAttach(engine.AttachRequest{Owner: owner(i), Switch: "lan", Ranges: ranges("10.0.0.0/24"), Policy: watched(t)}).Port)
			}
			before := l.picture()
			err := verb(engine.New(engine.Config{Kernel: losing{l.kernel, vswitch.BridgeName("lan"), func() { disk.writable(false) }}, Store: l.store()}))
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

// full leaves no room for another page.
func (d *brittleDisk) full() {
	d.t.Helper()
	var s unix.Statfs_t
	must(d.t, unix.Statfs(d.dir, &s))
	must(d.t, unix.Mount("", d.dir, "", unix.MS_REMOUNT, fmt.Sprintf("size=%d", (s.Blocks-s.Bfree)*uint64(s.Bsize))))
}

// That the guests are gone cannot be noted: they are back, and nothing is said of records
// that were never dropped.
func TestEvictionThatCannotBeNotedIsUndone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts a file system")
	}
	l := newLab(t)
	disk := newBrittleDisk(t, l.dirs.Run)
	l.mustAdd(ext("lan", "nic0", 0))
	const guests = 80
	for i := range guests {
		o := owner(i % 8)
		o.Endpoint = fmt.Sprint("eth", i)
		l.mustAttach(engine.AttachRequest{Owner: o, Switch: "lan", Ranges: ranges("10.0.0.0/24"), Policy: vswitch.PolicyChange{DHCPGuard: ptr(true)}})
	}
	e := engine.New(engine.Config{Kernel: losing{l.kernel, vswitch.BridgeName("lan"), disk.full}, Store: l.store()})
	_, err := e.DeleteSwitch(context.Background(), engine.DeleteSwitchRequest{Name: "lan", Force: true})
	if !errors.Is(err, unix.ENOSPC) || errors.Is(err, vswitch.InUse) {
		t.Errorf("got %v", err)
	}
	must(t, unix.Mount("", disk.dir, "", unix.MS_REMOUNT, "size=4m"))
	l.wantHealthy()
	if s, err := l.Status(context.Background()); err != nil || s.Ports != guests {
		t.Errorf("%d ports, %v", s.Ports, err)
	}
	if got := strings.Count(l.kernel.String(), "dhcp { "); got != guests {
		t.Errorf("%d of %d guests are guarded", got, guests)
	}
}
