package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func netnsInode(t testing.TB) (inode uint64) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestCheckNetns(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		path string
		good bool
	}{
		"network namespace":     {"/proc/self/ns/net", true},
		"nothing there":         {filepath.Join(dir, "absent"), false},
		"empty path":            {"", false},
		"NUL in path":           {"/proc/self/ns/net\x00x", false},
		"endless path":          {strings.Repeat("/a", unix.PathMax), false},
		"file":                  {file, false},
		"FIFO without a writer": {fifo, false},
		"directory":             {dir, false},
		"device":                {"/dev/zero", false},
		"mount namespace":       {"/proc/self/ns/mnt", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := checkNetns(tt.path)
			if tt.good != (err == nil) {
				t.Fatalf("checkNetns(%.80q) = %v", tt.path, err)
			}
			if err != nil && (!errors.Is(err, vswitch.NetnsNotFound) || len(err.Error()) > 1000) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestInNetnsGoesThereAndBack(t *testing.T) {
	ns := newNS(t)
	var there uint64
	within(t, ns, func() error {
		there = netnsInode(t)
		return nil
	})
	var want unix.Stat_t
	if err := unix.Fstat(int(ns.Fd()), &want); err != nil {
		t.Fatal(err)
	}
	if there != want.Ino {
		t.Errorf("ran in namespace %d, want %d", there, want.Ino)
	}
	home := netnsInode(t)
	for range 50 { // on whatever threads there are by now
		within(t, ns, func() error { return nil })
		if got := netnsInode(t); got != home {
			t.Fatalf("a thread stayed in namespace %d", got)
		}
	}
}

func TestInNetnsReturnsTheError(t *testing.T) {
	ns := newNS(t)
	want := errors.New("from inside")
	if err := inNetns(ns, func() error { return fmt.Errorf("wrapped: %w", want) }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

func TestInNetnsThrowsAStrandedThreadAway(t *testing.T) {
	ns := newNS(t)
	var stranded int
	home := netnsInode(t)
	before := netnsDescriptors(t, home) // of whoever else has it open
	within(t, ns, func() error {
		stranded = unix.Gettid()
		for _, fd := range netnsDescriptors(t, home) {
			if !slices.Contains(before, fd) {
				return unix.Close(fd) // the way back
			}
		}
		return os.ErrNotExist
	})
	for range 200 {
		done := make(chan [2]uint64)
		go func() { done <- [2]uint64{uint64(unix.Gettid()), netnsInode(t)} }()
		if got := <-done; got[0] == uint64(stranded) || got[1] != home {
			t.Fatalf("thread %d in namespace %d is still in use", got[0], got[1])
		}
	}
}

// netnsDescriptors are the open descriptors of a namespace.
func netnsDescriptors(t *testing.T, inode uint64) (found []int) {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); to == fmt.Sprintf("net:[%d]", inode) {
			n, err := strconv.Atoi(fd.Name())
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, n)
		}
	}
	return found
}

func BenchmarkInNetns(b *testing.B) {
	ns := newNS(b)
	path := nsPath(ns)
	for b.Loop() {
		f, err := openNetns(path)
		if err != nil {
			b.Fatal(err)
		}
		within(b, f, func() error { return nil })
		_ = f.Close()
	}
}
