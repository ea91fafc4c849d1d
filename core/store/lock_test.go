package store

import (
	"fmt"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// lockAndWait takes port lock name, says so and keeps it until it is killed.
func lockAndWait(dirs Dirs, name string) error {
	if _, err := New(testConfig(dirs)).LockPort(name); err != nil {
		return err
	}
	fmt.Println("locked")
	signal.Ignore(syscall.SIGTERM) // also keeps the runtime from calling this a deadlock
	return syscall.Pause()
}

func TestLockPortExcludesGoroutines(t *testing.T) {
	f := newFixture(t)
	var wg sync.WaitGroup
	var holders, collisions atomic.Int32
	for range 8 {
		wg.Go(func() {
			for range 50 {
				unlock, err := f.LockPort("pb1")
				if err != nil {
					t.Error(err)
					return
				}
				if holders.Add(1) != 1 {
					collisions.Add(1)
				}
				runtime.Gosched()
				holders.Add(-1)
				unlock()
			}
		})
	}
	wg.Wait()
	if n := collisions.Load(); n != 0 {
		t.Fatalf("%d times an exclusive lock had two holders", n)
	}
}

func TestLockSwitchModes(t *testing.T) {
	f := newFixture(t)
	first, err := f.LockSwitch("prod", Shared)
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.LockSwitch("prod", Shared) // would wait for ever, were it not shared
	if err != nil {
		t.Fatal(err)
	}
	other, err := f.LockSwitch("test", Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	other()

	released := make(chan struct{})
	done := make(chan bool)
	go func() {
		unlock, err := f.LockSwitch("prod", Exclusive)
		if err != nil {
			t.Error(err)
		}
		select {
		case <-released:
			done <- true
		default:
			done <- false
		}
		unlock()
	}()
	first()
	close(released)
	second()
	if !<-done {
		t.Fatal("the exclusive lock was taken beside a shared one")
	}
}

func TestLockDiesWithProcess(t *testing.T) {
	base := t.TempDir()
	s := New(testConfig(dirsIn(base)))
	cmd, out := process(t, "lock", base, "pb1")
	if !out.Scan() {
		t.Fatal("the other process did not get the lock")
	}
	got := make(chan error)
	go func() {
		unlock, err := s.LockPort("pb1")
		if err == nil {
			unlock()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("got a lock that another process holds (%v)", err)
	default:
	}
	kill(cmd)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

func TestLockKindsNeverMeet(t *testing.T) {
	seen := map[uint64]bool{}
	for _, kind := range []uint64{transactionLock, switchLock, portLock} {
		offset := lockOffset(kind, "same")
		if seen[offset] || int64(offset) < 0 {
			t.Fatalf("offset %x of kind %d is taken or negative", offset, kind)
		}
		seen[offset] = true
	}
}
