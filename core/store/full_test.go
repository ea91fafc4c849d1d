package store

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// inMountNamespace runs the rest of the calling test in a process with a mount
// namespace of its own, and reports whether this is that process.
func inMountNamespace(t *testing.T) bool {
	t.Helper()
	const inner = "PATCHBAY_STORE_TEST_MOUNTS"
	if os.Getenv(inner) != "" {
		if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), inner+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("needs CAP_SYS_ADMIN for a mount namespace (CLONE_NEWNS)")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("did not run:\n%s", out)
	}
	return false
}

func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestFullFileSystem(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	f := newFixture(t)
	mountTmpfs(t, f.dirs.Run, "size=512k,mode=0700")
	widePool(t, f)
	var err error
	n := 0
	for ; err == nil && n < 10_000; n++ {
		err = f.Update(func(tx *Tx) error { return attach(tx, fmt.Sprint("pb", n), "prod") })
	}
	wantKind(t, err, vswitch.StoreUnavailable)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), f.dirs.Run) || !strings.Contains(vswitch.HintOf(err), "df ") {
		t.Fatal(err)
	}
	wantEqual(t, len(checkConsistent(t, f.Store)), n-1)
	if err := syscall.Mount("", f.dirs.Run, "", syscall.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	f.update(t, func(tx *Tx) error { return attach(tx, "after", "prod") })
	wantEqual(t, len(checkConsistent(t, f.Store)), n)
}

func TestFullFileSystemAtFirstUse(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	f := newFixture(t)
	mountTmpfs(t, f.dirs.Run, "size=8k,mode=0700")
	err := f.Update(func(tx *Tx) error { return attach(tx, "pb1", "prod") })
	wantKind(t, err, vswitch.StoreUnavailable)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	f.view(t, func(tx *Tx) error { _, err := tx.Ports(); return err })
}

func TestReadOnlyFileSystem(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	f := newFixture(t)
	base := filepath.Dir(f.dirs.Run)
	mountTmpfs(t, base, "mode=0700")
	widePool(t, f)
	f.updateConfig(t, func(tx *Tx) error { return tx.PutSwitch(SwitchRecord{Switch: vswitch.Switch{Name: "prod"}}) })
	f.update(t, func(tx *Tx) error { return attach(tx, "pb1", "prod") })
	for _, locks := range []string{"with lock file", "without lock file"} {
		if err := syscall.Mount("", base, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, len(checkConsistent(t, f.Store)), 1)
		f.view(t, func(tx *Tx) error { _, err := tx.Switch("prod"); return err })
		if err := f.Preview(func(tx *Tx) error { return attach(tx, "pb2", "prod") }); err != nil {
			t.Fatal(err)
		}
		if unlock, err := f.AwaitSwitch(""); err != nil {
			t.Fatal(err)
		} else {
			unlock()
		}
		for name, transact := range map[string]func(func(*Tx) error) error{"Update": f.Update, "UpdateConfig": f.UpdateConfig} {
			err := transact(func(tx *Tx) error { return attach(tx, "pb2", "prod") })
			wantKind(t, err, vswitch.StoreUnavailable)
			if !errors.Is(err, syscall.EROFS) {
				t.Fatalf("%s, %s: %v", name, locks, err)
			}
		}
		if err := syscall.Mount("", base, "", syscall.MS_REMOUNT, ""); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(f.lockPath); err != nil && locks == "with lock file" {
			t.Fatal(err)
		}
	}
}

func TestUnavailable(t *testing.T) {
	for name, prepare := range map[string]func(f *fixture) error{
		"run is a file":   func(f *fixture) error { return os.WriteFile(f.dirs.Run, nil, 0o600) },
		"state is a file": func(f *fixture) error { return os.WriteFile(f.dirs.State, nil, 0o600) },
		"run dangles":     func(f *fixture) error { return os.Symlink("/proc/self/nothing/here", f.dirs.Run) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			if err := prepare(f); err != nil {
				t.Fatal(err)
			}
			err := f.UpdateConfig(func(*Tx) error { return nil })
			wantKind(t, err, vswitch.StoreUnavailable)
			if vswitch.HintOf(err) == "" || !strings.Contains(err.Error(), filepath.Dir(f.dirs.Run)) {
				t.Error(err)
			}
		})
	}
}

func TestUnavailableHints(t *testing.T) {
	for errno, hint := range map[syscall.Errno]string{
		syscall.EACCES: "run as root", syscall.ENOSPC: "df /x", syscall.EROFS: "for writing",
		syscall.EIO: "dmesg", syscall.EMFILE: "limit", syscall.ENOTDIR: "check /x",
	} {
		err := unavailable("/x", fmt.Errorf("commit: %w", errno))
		if !strings.Contains(err.Error(), "/x") || !strings.Contains(vswitch.HintOf(err), hint) || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
	}
}
