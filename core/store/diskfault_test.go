package store

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// These tests let the disk fail: each system call that changes a file returns an error
// once, without doing anything. The kernel asks us about every such call of one thread
// (seccomp user notification), so that bbolt and the Go runtime are as they are.

// changing are the system calls that fail, one at a time. The store has no use for
// write(2), which the testing package has.
func changing() []uint32 {
	calls := []uint32{
		unix.SYS_PWRITE64, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE,
		unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_MKDIRAT,
	}
	if runtime.GOARCH == "amd64" {
		const rename, mkdir = 82, 83 // other architectures have only those with a directory
		calls = append(calls, rename, mkdir)
	}
	return calls
}

// badDisk runs what it is given on one thread, whose n-th changing system call fails.
type badDisk struct {
	t               *testing.T
	run             chan func() error
	done            chan error
	n, errno, count atomic.Int64 // the detector of races does not see the kernel between us and the thread
}

// newBadDisk starts the thread. It never ends: one that the Go runtime started from it as
// it ends would be under the filter too.
func newBadDisk(t *testing.T) *badDisk {
	t.Helper()
	d := &badDisk{t: t, run: make(chan func() error), done: make(chan error)}
	listener := make(chan int)
	var tid uint32
	go func() {
		runtime.LockOSThread()
		tid = uint32(unix.Gettid())
		fd, err := filterThread(changing())
		if err != nil {
			t.Errorf("seccomp: %v", err)
		}
		listener <- fd
		for fn := range d.run {
			d.done <- fn()
		}
	}()
	fd := <-listener
	if fd < 0 {
		t.FailNow()
	}
	go func() {
		if err := answer(fd, tid, d.decide); err != nil {
			panic(err)
		}
	}()
	return d
}

func (d *badDisk) decide() syscall.Errno {
	if d.count.Add(1) == d.n.Load() {
		return syscall.Errno(d.errno.Load())
	}
	return 0
}

// failing lets the n-th call of fn fail with errno, and reports how many there were.
func (d *badDisk) failing(n int, errno syscall.Errno, fn func() error) (calls int, err error) {
	d.n.Store(int64(n))
	d.errno.Store(int64(errno))
	d.count.Store(0)
	d.run <- fn
	err = <-d.done
	return int(d.count.Load()), err
}

// filterThread has the calling thread's system calls reported on the descriptor that it
// returns.
func filterThread(calls []uint32) (fd int, err error) {
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // the number of the call
	for i, nr := range calls {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(calls) - i), K: nr})
	}
	program = append(program,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// notification and response are struct seccomp_notif and seccomp_notif_resp.
type notification struct {
	id          uint64
	pid, flags  uint32
	nr          int32
	arch        uint32
	instruction uint64
	args        [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// answer decides on each call of a thread, and lets those pass of others that the Go runtime
// has started from it.
func answer(fd int, tid uint32, decide func() syscall.Errno) error {
	for {
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno == unix.EINTR || errno == unix.ENOENT {
			continue
		} else if errno != 0 {
			return errno
		}
		r := response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if n.pid == tid {
			if errno := decide(); errno != 0 {
				r.errno, r.flags = -int32(errno), 0
			}
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return errno
		}
	}
}

// TestDiskFails: whatever call fails, and in which way, the transaction has done all or
// nothing, no record is lost, and the next one works.
func TestDiskFails(t *testing.T) {
	disk := newBadDisk(t)
	errnos := []syscall.Errno{syscall.EIO, syscall.ENOSPC}
	if testing.Short() {
		errnos = errnos[:1]
	}
	sw := func(name string) SwitchRecord { return SwitchRecord{Switch: vswitch.Switch{Name: name}, Number: 7} }
	for name, c := range map[string]struct {
		ports int // before
		verb  func(*Store) error
		gone  string // the port that goes, if it succeeds
		comes string
		sw    string // the switch that comes
		atMin int    // calls at least
	}{
		"first use":    {0, func(s *Store) error { return s.Update(func(tx *Tx) error { return attach(tx, "new", "prod") }) }, "", "new", "", 4},
		"first switch": {0, func(s *Store) error { return s.UpdateConfig(func(tx *Tx) error { return tx.PutSwitch(sw("lan")) }) }, "", "", "lan", 8},
		"attach":       {40, func(s *Store) error { return s.Update(func(tx *Tx) error { return attach(tx, "new", "prod") }) }, "", "new", "", 2},
		"detach":       {40, func(s *Store) error { return s.Update(func(tx *Tx) error { return tx.DeletePort("pb7") }) }, "pb7", "", "", 2},
		"switch and port": {40, func(s *Store) error {
			return s.UpdateConfig(func(tx *Tx) error { return errors.Join(tx.PutSwitch(sw("lan")), tx.DeletePort("pb7")) })
		}, "pb7", "", "lan", 6},
		"the file grows":    {40, manyPorts, "", "more-0", "", 3},
		"the second switch": {40, func(s *Store) error { return s.UpdateConfig(func(tx *Tx) error { return tx.PutSwitch(sw("lan")) }) }, "", "", "lan", 6},
	} {
		t.Run(name, func(t *testing.T) {
			for _, errno := range errnos {
				for n := 1; ; n++ {
					f := newFixture(t)
					if c.ports > 0 {
						f.updateConfig(t, func(tx *Tx) error { return tx.PutSwitch(sw("prod")) })
					}
					for i := range c.ports {
						f.update(t, func(tx *Tx) error { return attach(tx, fmt.Sprint("pb", i), "prod") })
					}
					before := checkConsistent(t, f.Store)
					calls, err := disk.failing(n, errno, func() error { return c.verb(f.Store) })
					after := checkConsistent(t, f.Store)
					have := switchesOf(t, f.Store)
					// Either all of it is there, or nothing.
					_, came := after[c.comes]
					_, stayed := after[c.gone]
					ran := fmt.Sprintf("%v at call %d of %d: %v", errno, n, calls, err)
					if err == nil && (c.comes != "" && !came || c.gone != "" && stayed || c.sw != "" && !slices.Contains(have, c.sw)) {
						t.Errorf("%s: not done", ran)
					}
					if err != nil && !errors.Is(err, vswitch.StoreUnavailable) {
						t.Errorf("%s: not told as what it is", ran)
					}
					delete(before, c.gone)
					for id := range before {
						if _, there := after[id]; !there {
							t.Errorf("%s: port %s is lost", ran, id)
						}
					}
					if c.ports > 0 && !slices.Contains(have, "prod") {
						t.Errorf("%s: the switch is lost", ran)
					}
					// The same again, and another, work.
					if c.comes == "" || !came {
						if err := c.verb(f.Store); err != nil {
							t.Errorf("%s; again: %v", ran, err)
						}
					}
					f.update(t, func(tx *Tx) error { return attach(tx, "next", "prod") })
					if final := checkConsistent(t, f.Store); len(slices.Collect(maps.Keys(final))) == 0 || t.Failed() {
						t.Fatal(ran)
					}
					if calls < n {
						if n <= c.atMin {
							t.Errorf("only %d calls", calls)
						}
						break
					}
				}
			}
		})
	}
}

// manyPorts needs more room than the file has.
func manyPorts(s *Store) error {
	return s.Update(func(tx *Tx) error {
		for i := range 60 {
			if err := attach(tx, fmt.Sprint("more-", i), "prod"); err != nil {
				return err
			}
		}
		return nil
	})
}

func switchesOf(t *testing.T, s *Store) (names []string) {
	t.Helper()
	err := s.View(func(tx *Tx) error {
		all, err := tx.Switches()
		for _, r := range all {
			names = append(names, r.Name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
